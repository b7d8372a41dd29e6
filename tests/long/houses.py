"""What the fault tests run against: one embedded server, or web servers and workers on PostgreSQL and Valkey."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import psycopg
from psycopg import sql

from tests.environment import without_settings
from tests.long import people
from tests.long.faults import TELL
from tests.long.people import Person
from tests.server import ROOT, Server
from tests.servers import Postgres, Valkey

#: Seconds within which a worker must end that is told to.
STOPS_WITHIN_S = 10.0
#: Seconds for a worker's start on a busy machine.
STARTS_WITHIN_S = 60.0
SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.long.settings_faults", "DEMO": "0", "OPSCHAT_MAX_RUNS": "150"}


class Ear:
    """Hears the datagrams of `faults`."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    async def hear(self, *, within_s: float) -> dict[str, Any]:
        async with asyncio.timeout(within_s):
            told: dict[str, Any] = json.loads(await asyncio.get_running_loop().sock_recv(self._socket, 1000))
        return told

    async def hear_of(self, run_ids: Collection[str], *, attempt: int = 1, within_s: float = 60) -> dict[str, Any]:
        """Until each of the runs is held, or has ended before that: what was told of each."""
        heard: dict[str, Any] = {}
        while missing := set(run_ids) - heard.keys():
            try:
                told = await self.hear(within_s=within_s)
            except TimeoutError:
                raise AssertionError(f"Nothing was heard of attempt {attempt} of {sorted(missing)}") from None
            if told["attempt"] == attempt:
                heard[told["run"]] = told
        return heard

    async def held(self, run_ids: Collection[str], *, attempt: int = 1) -> list[str]:
        """Waits as `hear_of`; those that did not end."""
        told = await self.hear_of(run_ids, attempt=attempt)
        return [run_id for run_id in run_ids if not told[run_id]["has_ended"]]

    def close(self) -> None:
        self._socket.close()


@dataclass(kw_only=True)
class Worker:
    """`manage.py worker` as a process."""

    name: str
    folder: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> Self:
        """Returns when it says that it works."""
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "worker"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        said = self.process.stdout.readline() if self.process.stdout else b""
        assert b"executes up to" in said, self.log
        return self

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        """Asks it to end, and it must in time, with status 0."""
        if self.process is None:
            return
        self.send(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop within {STOPS_WITHIN_S:.0f} s:\n{self.log}") from None
        self._close()
        assert status == 0, self.log

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self._close()

    def _close(self) -> None:
        assert self.process is not None
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None


@dataclass(kw_only=True)
class House:
    """The processes of one test, on data of their own."""

    folder: Path
    ear: Ear
    webs: list[Server] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    variables: Mapping[str, str] = field(default_factory=dict)
    database: str = ""

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def urls(self) -> list[str]:
        return [web.url for web in self.webs]

    @property
    def processes(self) -> list[Server | Worker]:
        return [*self.webs, *self.workers]

    @property
    def log(self) -> str:
        return "".join(process.log for process in self.processes)

    @property
    def n_changes(self) -> dict[str, int]:
        """Key of each call of the tool that changes something -> how often it was made."""
        path = self.data / "calls"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return {key: lines.count(key) for key in lines}

    def add_web(self, *, program: str | None = None) -> Server:
        web = Server(
            folder=self.folder / f"web{len(self.webs)}",
            prepared=False,
            program=program,
            variables={**self.variables, "OPSCHAT_DATA_DIR": str(self.data)},
        )
        self.webs.append(web)
        return web

    def add_worker(self) -> Worker:
        environment = {**without_settings(os.environ), "PYTHONUNBUFFERED": "1", **self.variables}
        environment["OPSCHAT_DATA_DIR"] = str(self.data)
        worker = Worker(name=f"worker{len(self.workers)}", folder=self.folder, environment=environment)
        self.workers.append(worker)
        return worker

    async def started(self, *processes: Server | Worker) -> None:
        """All at once."""
        await asyncio.gather(*(asyncio.to_thread(process.start) for process in processes))

    async def stopped(self, *processes: Server | Worker) -> None:
        await asyncio.gather(*(asyncio.to_thread(process.stop) for process in processes))

    def query(self, text: str, *values: Any) -> list[Any]:
        """Rows of the PostgreSQL database."""
        with psycopg.connect(self.database) as connection:
            return connection.execute(text, values).fetchall()

    def kill(self) -> None:
        for process in self.processes:
            process.kill()


def embedded(folder: Path, prepared: Path, ear: Ear, *, program: str | None = None) -> House:
    """One server that executes by itself; not started."""
    shutil.copytree(prepared, folder / "data")
    variables = {**SETTINGS, TELL: str(ear.port)}
    house = House(folder=folder, ear=ear, variables=variables, people=people.people(folder / "data"))
    house.add_web(program=program)
    return house


@dataclass(frozen=True, kw_only=True)
class Site:
    """PostgreSQL and Valkey, and the data that each house begins with."""

    postgres: Postgres
    valkey: Valkey
    prepared: Path
    template: str

    def house(self, folder: Path, ear: Ear, *, dropped: float | None = None) -> House:
        """Without processes. `dropped`: the part of the bus' messages that are lost."""
        shutil.copytree(self.prepared, folder / "data")
        database = made_database(self.postgres.url, template=self.template)
        variables = {**SETTINGS, TELL: str(ear.port), "DATABASE_URL": database, "REDIS_URL": self.valkey.url}
        if dropped is not None:
            variables["OPSCHAT_TEST_DROPPED"] = str(dropped)
        return House(
            folder=folder, ear=ear, variables=variables, people=people.people(folder / "data"), database=database
        )


def made_database(url: str, *, template: str = "template0") -> str:
    """Its address."""
    name = f"long_{uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
    return f"{url.rpartition('/')[0]}/{name}"


def prepared(folder: Path, **addresses: str) -> Path:
    """A data folder with tables and people."""
    environment = {**without_settings(os.environ), **SETTINGS, **addresses, "OPSCHAT_DATA_DIR": str(folder)}
    people.prepare(environment)
    return folder
