"""The real product as a process: `manage.py serve` on a free port with a data folder of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests import databases
from tests.databases import ROOT
from tests.environment import without_settings
from tests.people import PASSWORD
from tests.ports import free_port

__all__ = ["ROOT", "Server", "accepts", "free_port", "running"]

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


@dataclass(kw_only=True)
class Server:
    """Can be stopped and started again on the same data and port."""

    #: Database, exports and the log; kept over restarts.
    folder: Path
    #: Begins with the sample data and the demo accounts; else with nothing, as the first start of all.
    prepared: bool = True
    #: More variables of the environment.
    variables: Mapping[str, str] = field(default_factory=dict)
    #: What `serve --server` is given; None: nothing, so that the default serves.
    program: str | None = None
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.variables = {**databases.begin(self.data, prepared=self.prepared), **self.variables}

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What all its processes printed so far."""
        path = self.folder / "server.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    @property
    def environment(self) -> dict[str, str]:
        return {
            **without_settings(os.environ),
            "PYTHONUNBUFFERED": "1",
            "OPSCHAT_DATA_DIR": str(self.data),
            "OPSCHAT_DEMO_PASSWORD": PASSWORD,
            "PORT": str(self.port),
            **self.variables,
        }

    @property
    def command(self) -> list[str]:
        chosen = ["--server", self.program] if self.program else []
        return [sys.executable, "manage.py", "serve", *chosen]

    def start(self) -> Self:
        """Returns when it accepts connections. Raises AssertionError with the log when it does not come up."""
        databases.check_it_may_start()
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_it_accepts(self.process)
        return self

    def _wait_until_it_accepts(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if accepts(self.port):
                return
            try:
                status = process.wait(timeout=0.05)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"The server ended with {status} before it answered:\n{self.log}")
        self.kill()
        raise AssertionError(f"The server did not answer within {START_TIMEOUT_S:.0f} s:\n{self.log}")

    def stop(self) -> None:
        """Asks it to end (SIGTERM). Raises AssertionError with the log unless it does, with status 0."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"The server did not stop within {STOP_TIMEOUT_S:.0f} s:\n{self.log}") from None
        self.process = None
        assert status == 0, f"The server ended with {status}:\n{self.log}"

    def kill(self) -> None:
        """Ends it as a crash would (SIGKILL)."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def token_of(self, username: str) -> str:
        return databases.token_of(self.data, username) or self.manage("create_token", username).strip()

    def manage(self, *arguments: str) -> str:
        """What a management command on the same data prints. Raises CalledProcessError."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout


@contextmanager
def running(folder: Path, *, program: str | None = None, prepared: bool = True, **variables: str) -> Iterator[Server]:
    """A started server that must stop cleanly at the end."""
    server = Server(folder=folder, variables=variables, program=program, prepared=prepared)
    try:
        yield server.start()
        server.stop()
    finally:
        server.kill()


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
