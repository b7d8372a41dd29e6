"""Runs every check that needs no test, all of them even when one fails. Exit status 1 when any failed."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CHECKS: dict[str, Sequence[str]] = {
    "ruff check": ("-m", "ruff", "check", "."),
    "ruff format": ("-m", "ruff", "format", "--check", "--quiet", "."),
    "mypy": ("-m", "mypy"),
    "import-linter": ("-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-logo"),
    "migrations": ("manage.py", "makemigrations", "--check", "--dry-run"),
}
DEPLOY = ("manage.py", "check", "--deploy", "--fail-level", "WARNING")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="opschat-lint-") as folder:
        plain = environment(folder)
        production = {
            **plain,
            "OPSCHAT_URL": "https://ops.example.net",
            "OPSCHAT_SECRET_KEY": secrets.token_urlsafe(64),
        }
        failed = [name for name, command in CHECKS.items() if not passes(name, command, plain)]
        if not passes("check --deploy", DEPLOY, production):
            failed.append("check --deploy")
    print(f"lint: {', '.join(failed)} failed" if failed else "lint: all passed")
    return 1 if failed else 0


def environment(data_dir: str) -> dict[str, str]:
    """The caller's environment without its settings of opschat: checks must not depend on them, nor touch its data."""
    ours = ("HOST", "PORT", "DEMO", "DJANGO_SETTINGS_MODULE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPSCHAT_") and name not in ours}
    return {**kept, "OPSCHAT_DATA_DIR": data_dir}


def passes(name: str, command: Sequence[str], variables: Mapping[str, str]) -> bool:
    print(f"== {name}", flush=True)
    return subprocess.run([sys.executable, *command], check=False, cwd=ROOT, env=variables).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
