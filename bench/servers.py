"""The servers under test, each a process of its own on core 0, started on a fresh copy of the same data."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psycopg

ROOT = Path(__file__).resolve().parent.parent
N_PEOPLE = 1000
_START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 15.0


def environment(data: Path, port: int, **variables: str) -> dict[str, str]:
    """Nothing of the caller's settings; runs at once as many as a worker would have."""
    prefixes, names = ("OPSCHAT_", "DJANGO_"), ("DATABASE_URL", "REDIS_URL", "HOST", "DEMO", "PORT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes) and name not in names}
    ours = {
        "DJANGO_SETTINGS_MODULE": "bench.product_settings",
        "OPSCHAT_DATA_DIR": str(data),
        "OPSCHAT_ENGINE": "paced",
        "OPSCHAT_MAX_RUNS": "150",
        "DEMO": "0",
        "PORT": str(port),
        "PYTHONUNBUFFERED": "1",
    }
    return {**kept, **ours, **variables}


def on_core(core: int, command: Sequence[str]) -> list[str]:
    """The command bound to one core, where there are two and `taskset` is at hand."""
    is_possible = (os.cpu_count() or 1) > 1 and shutil.which("taskset")
    return ["taskset", "-c", str(core), *command] if is_possible else list(command)


def leave_core_0() -> None:
    """This process and what it starts, unless bound otherwise, run on the other cores, where there are any."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, set(cores[1:]))


@dataclass(kw_only=True)
class Data:
    """Prepared data, of which each start gets a copy: the demo's assets, and people with all they need to ask.

    With `postgres`, the URL of a server without the database's name, the rows are there; else in the folder.
    """

    folder: Path
    postgres: str = ""
    people: list[dict[str, str]] = field(default_factory=list)

    def prepare(self, *, n_people: int = N_PEOPLE) -> Self:
        self.folder.mkdir(parents=True)
        variables = {"DEMO": "1"}
        if self.postgres:
            _sql(self.postgres, "CREATE DATABASE bench_template")
            variables["DATABASE_URL"] = f"{self.postgres}/bench_template"
        for arguments in (("migrate", "--verbosity=0"), ("seed_demo",)):
            _python(environment(self.folder, 0, **variables), "manage.py", *arguments)
        made = _python(environment(self.folder, 0, **variables), "-m", "bench.people", "make", str(n_people))
        self.people = json.loads(made)
        return self

    def copy(self, folder: Path) -> dict[str, str]:
        """The variables that lead to the copy."""
        shutil.copytree(self.folder, folder)
        if not self.postgres:
            return {}
        name = f"bench_{folder.parent.name}"
        _sql(self.postgres, f"CREATE DATABASE {name} TEMPLATE bench_template")
        return {"DATABASE_URL": f"{self.postgres}/{name}"}


def _sql(server: str, statement: str) -> None:
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(statement.encode())


def _python(variables: Mapping[str, str], *arguments: str, asked: str | None = None) -> str:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=variables, input=asked,
        stdout=subprocess.PIPE, check=True, text=True,
    ).stdout  # fmt: skip


@dataclass(kw_only=True)
class Target:
    """What is under test: one server, or several and workers. Its processes share core 0."""

    name: str
    #: Of the servers; a command for each, and those of workers.
    ports: Sequence[int]
    commands: Sequence[Sequence[str]]
    variables: dict[str, str] = field(default_factory=dict)
    data: Data | None = None
    #: Processes that work for it without being it: PostgreSQL, Valkey.
    others: Sequence[int] = ()
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    folder: Path = Path()

    @property
    def pids(self) -> list[int]:
        """Of the servers, then of the workers."""
        return [process.pid for process in self.processes]

    @property
    def people(self) -> list[dict[str, str]]:
        return self.data.people if self.data else [{}]

    def port_of(self, client: int) -> int:
        """Where this client asks."""
        return self.ports[client % len(self.ports)]

    def start(self, folder: Path) -> None:
        """On a new copy of the data. Raises RuntimeError when it does not come up, or a stranger has its port."""
        taken = [port for port in self.ports if accepts(port)]
        if taken:
            raise RuntimeError(f"Port {taken[0]} is taken; a stranger would be measured.")
        folder.mkdir(parents=True)
        self.folder = folder
        if self.data is not None:
            self.variables |= self.data.copy(folder / "data")
        self.launch()

    def launch(self) -> None:
        """On the data as they are."""
        for at, command in enumerate(self.commands):
            self.add(command, self.ports[at] if at < len(self.ports) else 0)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not all(accepts(port) for port in self.ports):
            if any(process.poll() is not None for process in self.processes) or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self.name} did not start:\n{self.log}")
            time.sleep(0.005)

    def add(self, command: Sequence[str], port: int) -> None:
        with (self.folder / "log").open("ab") as log:
            environment = self.environment(port)
            self.processes.append(
                subprocess.Popen(on_core(0, command), cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
            )

    def environment(self, port: int = 0) -> dict[str, str]:
        return {**environment(self.folder / "data", port), **self.variables}

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def kill(self) -> None:
        """As a crash would."""
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()

    def recorded(self, run_ids: Sequence[str]) -> dict[str, list[list[Any]]]:
        """When the pieces of these runs were recorded, see `people.recorded`."""
        asked = _python(self.environment(), "-m", "bench.people", "recorded", asked=json.dumps(list(run_ids)))
        found: dict[str, list[list[Any]]] = json.loads(asked)
        return found


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def seed(port: int, python: str) -> Target:
    command = [python, "-m", "uvicorn", "bench.seed:app", "--port", str(port), "--log-level", "warning"]
    return Target(name="seed", ports=[port], commands=[[*command, "--no-access-log"]])


SERVE = (sys.executable, "manage.py", "serve", "--server")
WORK = (sys.executable, "manage.py", "worker")


def embedded(program: str, port: int, data: Data) -> Target:
    """opschat in one process on SQLite."""
    return Target(name=f"{program}, SQLite", ports=[port], commands=[[*SERVE, program]], data=data)


def distributed(program: str, ports: Sequence[int], data: Data, valkey: str, others: Sequence[int]) -> Target:
    """opschat as a server for each port and one worker, on PostgreSQL and Valkey."""
    commands = [*([*SERVE, program] for _ in ports), list(WORK)]
    name = f"{len(ports)} {program} + worker, PostgreSQL + Valkey"
    return Target(name=name, ports=ports, commands=commands, variables={"REDIS_URL": valkey}, data=data, others=others)
