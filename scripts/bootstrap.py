#!/usr/bin/env python3
"""Makes the environment in `.venv` when it is missing or out of date, then becomes the command.

    python3 scripts/bootstrap.py [--dev] [-- COMMAND ARGS...]

COMMAND is what the environment's Python is given: `manage.py serve`, `-m pytest`. Packages come from the lock files,
each checked against its hash: with uv when it is on PATH, else with pip. A stamp of the lock makes the next start
install nothing. Needs the standard library of Python 3.11 alone; parses on 3.8, so that an old Python is told so in a
sentence. All that it says goes to stderr: stdout belongs to the command.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator, NoReturn, Sequence

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
#: What is installed, in one line; missing while it is not known to be complete.
STAMP = VENV / "opschat.stamp"
#: Exists while an install is going on, and after one that was interrupted.
UNFINISHED = VENV / "opschat.unfinished"
#: Held by whoever installs, and by its pip or uv.
LOCK = VENV / "opschat.lock"


class Refused(Exception):
    """The environment can't be made; the message says what to do."""


def main(argv: Sequence[str]) -> None:
    if sys.version_info < OLDEST:
        raise Refused(
            f"opschat needs Python {version(OLDEST)} or newer; {sys.executable} is {version(sys.version_info[:3])}.\n"
            "Install a newer one, and if it is not found by itself: make run PYTHON=/path/to/python3"
        )
    ours, command = split(argv)
    parser = argparse.ArgumentParser(usage="bootstrap.py [--dev] [-- COMMAND ARGS...]")
    parser.add_argument("--dev", action="store_true", help="also what tests and checks need")
    ensure(dev=parser.parse_args(ours).dev)
    if command:
        become(command)


def split(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Our own arguments, and the command after the first `--`."""
    if "--" not in argv:
        return argv, ()
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


def become(command: Sequence[str]) -> NoReturn:
    """Replaces this process, so that signals reach the command and its exit status is ours."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(PYTHON, [str(PYTHON), *command])  # noqa: S606  the caller's own command


def ensure(*, dev: bool) -> None:
    if is_installed(dev=dev):
        return
    with only_one() as lock:
        # Another start may have done it while this one waited.
        if not is_installed(dev=dev):
            install(dev=dev or was_dev(), lock=lock)


def is_installed(*, dev: bool) -> bool:
    """The development lock holds everything of the other one, so it serves both."""
    if not os.access(PYTHON, os.X_OK):
        return False
    wanted = {stamp(dev=True)} if dev else {stamp(dev=True), stamp(dev=False)}
    return read_stamp() in wanted


def was_dev() -> bool:
    """Once made for development, an environment stays so: `make run` after an update takes no tool away."""
    return read_stamp().startswith("dev ")


def stamp(*, dev: bool) -> str:
    digest = hashlib.sha256()
    for name in ("requirements.lock", "requirements-dev.lock") if dev else ("requirements.lock",):
        try:
            digest.update((ROOT / name).read_bytes())
        except OSError as error:
            raise Refused(f"Can't read {ROOT / name} ({error.strerror}): the checkout is not complete.") from error
    return f"{'dev' if dev else 'runtime'} {digest.hexdigest()} {this_python()}"


def read_stamp() -> str:
    try:
        return STAMP.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def this_python() -> str:
    return f"{sys.implementation.name} {version(sys.version_info[:2])}"


def version(numbers: Sequence[int]) -> str:
    return ".".join(map(str, numbers))


@contextlib.contextmanager
def only_one() -> Iterator[int]:
    """Waits until no other start installs; gives the lock's file descriptor."""
    try:
        VENV.mkdir(exist_ok=True)
        lock = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise Refused(f"Can't write in {VENV} ({error.strerror}). Use a checkout in a folder of your own.") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another start that is installing …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def install(*, dev: bool, lock: int) -> None:
    if UNFINISHED.exists() or venv_python() != this_python():
        clear()
    STAMP.unlink(missing_ok=True)
    UNFINISHED.touch()
    if not os.access(PYTHON, os.X_OK):
        # Never with pip: Debian's Python has no ensurepip unless python3-venv is installed, and uv needs none.
        run([sys.executable, "-m", "venv", "--without-pip", VENV], lock=lock, failed="Could not make the environment.")
    file = ROOT / ("requirements-dev.lock" if dev else "requirements.lock")
    say(f"Installing {file.name} into {VENV} (needed once) …")
    run(
        [*installer(lock=lock), file],
        lock=lock,
        failed=f"Could not install {file.name}: see the lines above. What was begun is redone by the next start.",
    )
    STAMP.write_text(stamp(dev=dev) + "\n", encoding="ascii")
    UNFINISHED.unlink()


def venv_python() -> str:
    """The environment's own version, in the words of `this_python`; empty when there is none or it does not start."""
    script = "import sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2])"
    try:
        return subprocess.run(
            [PYTHON, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def clear() -> None:
    """Empties the environment but for the lock, which is held."""
    for path in VENV.iterdir():
        if path == LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def installer(*, lock: int) -> list[str | Path]:
    """The command that installs exactly what the lock file named after it says."""
    uv = shutil.which("uv")
    if uv:
        return [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", PYTHON]
    # Without dependencies: a lock names them all, and uv's sync adds none either.
    return [*pip(lock=lock), "install", "--quiet", "--no-deps", "--require-hashes", "--requirement"]


def pip(*, lock: int) -> list[str | Path]:
    inside: list[str | Path] = [PYTHON, "-m", "pip"]
    if subprocess.run([*inside, "--version"], check=False, capture_output=True).returncode == 0:
        return inside
    if importlib.util.find_spec("ensurepip"):
        run([PYTHON, "-m", "ensurepip"], lock=lock, failed="Could not set up pip.", quiet=True)
        return inside
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "--python", PYTHON]
    raise Refused("Neither uv nor pip is there. Install one: uv, or on Debian and Ubuntu `apt install python3-venv`.")


def run(command: Sequence[str | Path], *, lock: int, failed: str, quiet: bool = False) -> None:
    """The child shares the lock: if this process is killed, the next start still waits for it."""
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    environment |= {"PIP_ROOT_USER_ACTION": "ignore", "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    output = subprocess.DEVNULL if quiet else sys.stderr
    if subprocess.run(command, check=False, stdout=output, env=environment, pass_fds=(lock,)).returncode != 0:
        raise Refused(failed)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Refused as refused:
        sys.exit(str(refused))
    except KeyboardInterrupt:
        sys.exit(130)
