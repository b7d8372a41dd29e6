"""The bootstrap script on a small checkout whose locks name no package, so that nothing needs a network."""

from __future__ import annotations

import ast
import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "bootstrap.py"

#: Stands where uv would: notes each call, and fails when told to.
UV = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls"
test ! -e "$(dirname "$0")/fails"
"""


class Checkout:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "bin"
        self.environment = {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(root)}
        for folder in (root / "scripts", self.bin):
            folder.mkdir(parents=True)
        shutil.copy(SCRIPT, root / "scripts")
        self.write_lock("requirements.lock", "# none\n")
        self.write_lock("requirements-dev.lock", "# none either\n")

    def write_lock(self, name: str, text: str) -> None:
        (self.root / name).write_text(text, encoding="utf-8")

    def with_uv(self) -> None:
        (self.bin / "uv").write_text(UV, encoding="utf-8")
        (self.bin / "uv").chmod(0o755)

    @property
    def installed(self) -> list[str]:
        """The lock file of each install so far."""
        calls = self.bin / "calls"
        return [Path(line.split()[-1]).name for line in calls.read_text().splitlines()] if calls.exists() else []

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(self.root / "scripts" / "bootstrap.py"), *arguments]

    def start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            check=False,
            env=self.environment,
            cwd=self.root,
            capture_output=True,
            text=True,
        )


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    checkout = Checkout(tmp_path / "checkout")
    checkout.with_uv()
    return checkout


def test_the_command_is_run_by_the_environments_python(checkout: Checkout) -> None:
    started = checkout.start("--", "-c", "import sys; print(sys.prefix)")
    assert started.stdout == f"{checkout.root / '.venv'}\n"


def test_without_uv_pip_installs(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "checkout")
    # A PATH without any uv of this machine.
    checkout.environment["PATH"] = str(checkout.bin)
    started = checkout.start("--", "-c", "import pip; print('pip')")
    assert (started.stdout, started.returncode) == ("pip\n", 0), started.stderr


def test_the_second_start_installs_nothing_and_says_nothing(checkout: Checkout) -> None:
    checkout.start("--", "-c", "")
    again = checkout.start("--", "-c", "print('ready')")
    assert (again.stdout, again.stderr) == ("ready\n", "")
    assert checkout.installed == ["requirements.lock"]


def test_what_it_says_itself_goes_to_stderr(checkout: Checkout) -> None:
    started = checkout.start("--", "-c", "print('token')")
    assert started.stdout == "token\n"
    assert "Installing requirements.lock" in started.stderr


def test_arguments_reach_the_command_as_they_are(checkout: Checkout) -> None:
    started = checkout.start("--", "-c", "import sys; print(sys.argv[1:])", "--dev", "a b", "--", "$HOME")
    assert started.stdout == "['--dev', 'a b', '--', '$HOME']\n"


def test_the_commands_exit_status_is_passed_on(checkout: Checkout) -> None:
    assert checkout.start("--", "-c", "raise SystemExit(7)").returncode == 7


def test_a_changed_lock_is_installed(checkout: Checkout) -> None:
    checkout.start("--", "-c", "")
    checkout.write_lock("requirements.lock", "# another\n")
    checkout.start("--", "-c", "")
    assert checkout.installed == ["requirements.lock", "requirements.lock"]


def test_an_environment_for_development_also_runs_the_product(checkout: Checkout) -> None:
    checkout.start("--dev")
    checkout.start("--", "-c", "")
    assert checkout.installed == ["requirements-dev.lock"]


def test_an_environment_for_development_stays_one_when_the_lock_changes(checkout: Checkout) -> None:
    checkout.start("--dev")
    checkout.write_lock("requirements.lock", "# another\n")
    checkout.start("--", "-c", "")
    assert checkout.installed == ["requirements-dev.lock", "requirements-dev.lock"]


def test_a_failed_install_runs_nothing_and_is_redone_from_the_start(checkout: Checkout) -> None:
    (checkout.bin / "fails").touch()
    failed = checkout.start("--", "-c", "print('never')")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "Could not install requirements.lock" in failed.stderr

    (checkout.root / ".venv" / "half-installed").touch()
    (checkout.bin / "fails").unlink()
    assert checkout.start("--", "-c", "print('now')").stdout == "now\n"
    assert not (checkout.root / ".venv" / "half-installed").exists()


def test_two_starts_at_once_install_once(checkout: Checkout) -> None:
    (checkout.root / ".venv").mkdir()
    with (checkout.root / ".venv" / "opschat.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        both = [
            subprocess.Popen(
                checkout.command("--", "-c", "print('ready')"),
                env=checkout.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for process in both:
            assert process.stderr is not None
            assert "Waiting for another start" in process.stderr.readline()
    assert [process.communicate()[0] for process in both] == ["ready\n", "ready\n"]
    assert checkout.installed == ["requirements.lock"]


def test_an_environment_whose_python_is_gone_is_made_anew(checkout: Checkout) -> None:
    checkout.start("--", "-c", "")
    python = checkout.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert checkout.start("--", "-c", "print('ready')").stdout == "ready\n"
    assert len(checkout.installed) == 2


def test_a_checkout_without_its_lock_is_refused_in_a_sentence(checkout: Checkout) -> None:
    (checkout.root / "requirements.lock").unlink()
    refused = checkout.start("--", "-c", "")
    assert refused.returncode == 1
    assert "the checkout is not complete" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_folder_that_cannot_be_written_is_refused_in_a_sentence(checkout: Checkout) -> None:
    # A file in the environment's place refuses everyone, root as well.
    (checkout.root / ".venv").touch()
    refused = checkout.start("--", "-c", "")
    assert refused.returncode == 1
    assert "Use a checkout in a folder of your own" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_it_parses_on_python_3_8_so_that_an_old_python_is_told_so() -> None:
    ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 8))
