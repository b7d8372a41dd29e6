"""Rules of the house that no tool says."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 400
FORBIDDEN_NAMES = {"utils", "helpers", "services", "constants", "signals"}

PYTHON_FILES = sorted(
    path
    for path in ROOT.rglob("*.py")
    if not any(part.startswith(".") or part in ("migrations", "node_modules") for part in path.relative_to(ROOT).parts)
)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def locked(name: str) -> dict[str, str]:
    """Package -> version of a lock file."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0].lower() for line in requirements}


def test_no_python_file_is_longer_than_400_lines() -> None:
    n_lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PYTHON_FILES}
    assert {str(path.relative_to(ROOT)): n for path, n in n_lines.items() if n > MAX_LINES} == {}


def test_every_module_is_named_after_what_it_does() -> None:
    assert [path for path in PYTHON_FILES if FORBIDDEN_NAMES & {path.stem, path.parent.name}] == []


def test_env_example_lists_exactly_the_variables_that_the_settings_read() -> None:
    read = re.findall(
        r"""\benv(?:\.\w+)?\(\s*["'](\w+)["']""", (ROOT / "opschat/settings.py").read_text(encoding="utf-8")
    )
    listed = re.findall(r"^#?([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(set(read))


def test_the_changelogs_newest_version_is_the_projects(project: dict[str, Any]) -> None:
    versions = re.findall(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == project["project"]["version"] == settings.VERSION


def test_the_locks_hold_everything_that_the_project_asks_for(project: dict[str, Any]) -> None:
    runtime, dev = locked("requirements.lock"), locked("requirements-dev.lock")
    assert names(project["project"]["dependencies"]) <= runtime.keys()
    assert names(project["dependency-groups"]["dev"]) <= dev.keys()


def test_tests_run_on_the_versions_that_people_get() -> None:
    assert locked("requirements.lock").items() <= locked("requirements-dev.lock").items()


def test_tests_write_in_a_temporary_folder() -> None:
    assert settings.DATA_DIR.name.startswith("opschat-test-")
    assert not settings.DATA_DIR.is_relative_to(ROOT)


def test_ci_and_the_workflow_run_what_the_readme_says() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make lint test" in readme or {"make lint", "make test"} <= set(re.findall(r"make \w+", readme))
    assert "make lint test" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "run: .ci/run" in (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")


def test_make_without_a_goal_lists_every_goal_that_people_use() -> None:
    listed = subprocess.run(["make", "--no-print-directory", "-C", ROOT], capture_output=True, text=True, check=True)
    assert re.findall(r"^  make ([\w-]+)\t", listed.stdout, re.MULTILINE) == [
        "help",
        "run",
        "test",
        "test-long",
        "lint",
        "bench",
        "bench-exports",
        "manage",
        "lock",
    ]
