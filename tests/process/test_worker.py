"""Many processes on one PostgreSQL and one Valkey: two servers, two workers, and what happens when one of them goes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg import sql

from tests.process.clients import api_of, ask
from tests.server import ROOT, START_TIMEOUT_S, Server
from tests.servers import Postgres, Valkey, postgres, valkey

# They start a database of their own.
pytestmark = pytest.mark.one_database

#: Seconds in which a worker has ended that was told to stop.
STOP_WITHIN_S = 10.0
#: Pieces of an answer, and what they are.
N_PIECES = 100
TEXT = "".join(f"w{n} " for n in range(N_PIECES))
REQUEST = f"bench {N_PIECES} 40"


@dataclass(kw_only=True)
class Worker(Server):
    """`manage.py worker`; it listens to nothing."""

    @property
    def command(self) -> list[str]:
        return [sys.executable, "manage.py", "worker"]

    def _wait_until_it_accepts(self, process: subprocess.Popen[bytes]) -> None:
        begun = self.log.count("runs at once")
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.log.count("runs at once") == begun:
            assert process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)


@dataclass(kw_only=True)
class Installation:
    postgres: Postgres
    valkey: Valkey
    folder: Path
    variables: dict[str, str]

    def make(self, kind: type[Server]) -> Server:
        """With a log of its own, and the data folder of all."""
        made = kind(folder=self.folder / uuid4().hex, prepared=False, variables=self.variables)
        made.variables = {**made.variables, **self.variables}
        return made

    @contextmanager
    def started(self, *kinds: type[Server]) -> Iterator[list[Server]]:
        """Processes that must stop cleanly at the end, but for those that were killed."""
        made = [self.make(kind) for kind in kinds]
        try:
            with ThreadPoolExecutor() as together:
                list(together.map(lambda process: process.start(), made))
            yield made
            for process in made:
                process.stop()
        finally:
            for process in made:
                process.kill()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("installation")
    with postgres() as database, valkey() as redis:
        name = f"many_{uuid4().hex}"
        with psycopg.connect(database.url, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        variables = {
            "DATABASE_URL": database.url.rpartition("/")[0] + f"/{name}",
            "REDIS_URL": redis.url,
            "OPSCHAT_DATA_DIR": str(folder / "data"),
            "OPSCHAT_ENGINE": "paced",
        }
        yield Installation(postgres=database, valkey=redis, folder=folder, variables=variables)


@pytest.fixture(scope="module")
def servers(installation: Installation) -> Iterator[list[Server]]:
    """Two, which start together on an empty database: one of them makes the tables."""
    with installation.started(Server, Server) as made:
        yield made


@pytest.fixture(scope="module")
def apis(servers: list[Server]) -> Iterator[list[httpx.Client]]:
    """alice at each server."""
    made = [api_of(server) for server in servers]
    yield made
    for api in made:
        api.close()


class Stream:
    """A run asked at one server, read piece by piece."""

    def __init__(self, api: httpx.Client) -> None:
        self._opened = api.stream("POST", "/pipeline/stream", json={"request": REQUEST}, timeout=60)
        self._lines = self._opened.__enter__().iter_lines()
        self.events: list[dict[str, Any]] = []

    def until(self, kind: str) -> dict[str, Any]:
        for line in self._lines:
            if line.startswith("data: "):
                self.events.append(json.loads(line[6:]))
                if self.events[-1]["type"] == kind:
                    return self.events[-1]
        raise AssertionError(f"The stream ended without {kind}: {self.events[-3:]}")

    @property
    def run_id(self) -> str:
        run_id: str = self.events[0]["run_id"]
        return run_id

    def text(self) -> str:
        text = ""
        for event in self.events:
            if event["type"] == "token":
                text = text[: event["offset"]] + event["text"]
        return text

    def rest(self) -> str:
        """The answer, which must be what the stream said."""
        message: str = self.until("complete")["message"]
        assert self.text() == message
        self._opened.__exit__(None, None, None)
        return message


@pytest.fixture(scope="module")
def workers(installation: Installation, servers: list[Server]) -> Iterator[list[Server]]:
    with installation.started(Worker, Worker) as made:
        yield made
        logs = [worker.log for worker in made]
    assert not any("Traceback" in log for log in logs), logs


@pytest.fixture
def asked(workers: list[Server], apis: list[httpx.Client]) -> Stream:
    """A run that has begun to answer."""
    stream = Stream(apis[0])
    stream.until("token")
    return stream


def executing(installation: Installation, workers: list[Server], run_id: str) -> Server:
    """The worker that has the run."""
    with psycopg.connect(installation.variables["DATABASE_URL"]) as connection:
        row = connection.execute("SELECT owner FROM conversations_run WHERE id = %s", [run_id]).fetchone()
    assert row is not None
    (owner,) = [worker for worker in workers if worker.process and f":{worker.process.pid}:" in row[0]]
    return owner


def test_what_is_asked_at_one_server_is_executed_by_a_worker_and_seen_at_the_other(
    installation: Installation, asked: Stream, apis: list[httpx.Client]
) -> None:
    with apis[1].stream("GET", f"/pipeline/runs/{asked.run_id}/stream") as other:
        seen = [json.loads(line[6:]) for line in other.iter_lines() if line.startswith("data: ")]
    assert asked.rest() == TEXT
    assert seen[0]["type"] == "start"
    assert seen[-1]["type"] == "complete"
    assert seen[-1]["message"] == TEXT


@pytest.mark.whole
def test_a_worker_that_is_stopped_ends_soon_and_another_goes_on(
    installation: Installation, workers: list[Server], asked: Stream
) -> None:
    stopped = executing(installation, workers, asked.run_id)
    begun = time.monotonic()
    stopped.stop()
    assert time.monotonic() - begun < STOP_WITHIN_S
    assert asked.rest() == TEXT
    stopped.start()


def test_a_run_whose_worker_was_killed_is_ended_by_another(
    installation: Installation, workers: list[Server], asked: Stream
) -> None:
    killed = executing(installation, workers, asked.run_id)
    killed.kill()
    assert asked.rest() == TEXT
    killed.start()


@pytest.mark.whole
def test_redis_may_stop_and_start_while_runs_go_on(
    installation: Installation, workers: list[Server], asked: Stream, apis: list[httpx.Client]
) -> None:
    worker = executing(installation, workers, asked.run_id)
    installation.valkey.stop()
    try:
        # Without Redis, a second late.
        assert asked.rest() == TEXT
    finally:
        installation.valkey.start()
    assert ask(apis[1], REQUEST)["message"] == TEXT
    assert worker.log.count("Redis takes no messages") == 1


@pytest.mark.whole
def test_a_restart_of_postgres_costs_no_later_request(
    installation: Installation, workers: list[Server], apis: list[httpx.Client]
) -> None:
    installation.postgres.restart()
    for api in apis * 4:
        assert ask(api, "bench 1 1")["message"] == "w0 "


def test_a_job_is_enqueued_with_its_message_and_not_without(installation: Installation, servers: list[Server]) -> None:
    code = """
from uuid import uuid4
from django.db import transaction
from conversations import jobs
from procrastinate.contrib.django.models import ProcrastinateJob
run_id, count = uuid4(), ProcrastinateJob.objects.filter(status="todo").count
try:
    with transaction.atomic():
        jobs.defer(uuid4())
        raise ValueError
except ValueError:
    print("undone:", count())
with transaction.atomic():
    jobs.defer(run_id)
    jobs.defer(run_id)
    print("twice:", count())
from procrastinate.contrib.django.utils import connector_params
print("pool" in connector_params())
"""
    said = servers[0].manage("shell", "--verbosity=0", "-c", code).split("\n")
    assert said[:3] == ["undone: 0", "twice: 1", "False"]


@pytest.mark.whole
def test_threads_replace_a_connection_that_the_server_ended(installation: Installation, servers: list[Server]) -> None:
    code = """
import asyncio
from conversations import threads
from conversations.models import Run
from threading import Barrier
async def all_threads(pool, size):
    together = Barrier(size)
    def ask():
        together.wait()
        return Run.objects.count() >= 0
    return await asyncio.gather(*(pool(ask) for _ in range(size)))
async def main():
    await all_threads(threads.reading, 4)
    print("asked", flush=True)
    input()
    print(all(await all_threads(threads.reading, 4)))
asyncio.run(main())
"""
    shell = subprocess.Popen(
        [sys.executable, "manage.py", "shell", "--verbosity=0", "-c", code],
        cwd=ROOT,
        env=servers[0].environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert shell.stdout is not None
    assert shell.stdout.readline() == "asked\n"
    installation.postgres.restart()
    said, _ = shell.communicate("\n", timeout=START_TIMEOUT_S)
    assert said == "True\n"


@pytest.mark.whole
def test_a_worker_needs_postgres_and_redis(tmp_path: Path) -> None:
    alone = Server(folder=tmp_path, prepared=False)
    refused = subprocess.run(
        [sys.executable, "manage.py", "worker"],
        cwd=ROOT,
        env=alone.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "A worker needs DATABASE_URL (PostgreSQL) and REDIS_URL" in refused.stderr
