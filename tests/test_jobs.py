"""The workers' queue, on a real PostgreSQL: jobs come and go with the transaction, and dead workers leave none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import psycopg
import pytest
from procrastinate import App, PsycopgConnector
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from conversations import jobs
from tests.servers import Postgres, postgres

#: Seconds for what takes milliseconds, or a second where the database was away, on a busy machine.
SOON_S = 30.0


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[Postgres]:
    with postgres() as started:
        yield started


@pytest.fixture
def database(postgres_server: Postgres) -> str:
    """The address of an empty database."""
    name = f"jobs_{uuid4().hex}"
    with psycopg.connect(postgres_server.url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return postgres_server.url.rpartition("/")[0] + f"/{name}"


@asynccontextmanager
async def opened(database: str) -> AsyncIterator[App]:
    """procrastinate's tables in the database, and an app on them."""
    app = App(connector=PsycopgConnector(conninfo=database, min_size=1, max_size=4))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        yield app


class Executor:
    """Says what it was given, and holds it until it may go."""

    def __init__(self) -> None:
        self.given: asyncio.Queue[UUID] = asyncio.Queue()
        self.ended: asyncio.Queue[UUID] = asyncio.Queue()
        self.go = asyncio.Event()

    async def execute(self, run_id: UUID) -> None:
        self.given.put_nowait(run_id)
        await self.go.wait()
        self.ended.put_nowait(run_id)


@asynccontextmanager
async def working(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Executor]:
    """A worker's queue on this database, as `manage.py worker` has it on Django's."""
    params = conninfo_to_dict(database)
    monkeypatch.setattr("procrastinate.contrib.django.utils.connector_params", lambda: params)
    executor = Executor()
    work = asyncio.create_task(jobs.work(executor.execute, n_at_once=10))
    try:
        async with asyncio.timeout(SOON_S):
            yield executor
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def deferred(app: App, run_id: UUID) -> None:
    await app.configure_task("execute_run", queue="runs").defer_async(run_id=str(run_id))


async def until_empty(app: App) -> None:
    while list(await app.job_manager.list_jobs_async()):
        pass


async def test_a_job_is_executed_once_and_leaves_nothing(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = uuid4()
    async with opened(database) as app, working(database, monkeypatch) as executor:
        executor.go.set()
        await deferred(app, run_id)
        assert await executor.ended.get() == run_id
        await until_empty(app)
        assert executor.given.qsize() == 1


async def test_a_run_that_fails_is_not_tried_again_by_the_queue(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(database) as app, working(database, monkeypatch) as executor:
        await app.configure_task("execute_run", queue="runs").defer_async(run_id="no UUID")
        await until_empty(app)
        assert executor.given.empty()


async def test_what_is_executed_goes_on_when_the_queue_ends(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = uuid4()
    async with opened(database) as app:
        async with working(database, monkeypatch) as executor:
            await deferred(app, run_id)
            assert await executor.given.get() == run_id
        executor.go.set()
        async with asyncio.timeout(SOON_S):
            assert await executor.ended.get() == run_id
        await until_empty(app)


async def test_a_worker_outlives_a_restart_of_its_database(
    postgres_server: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = uuid4(), uuid4()
    async with asyncio.timeout(60), opened(database) as app, working(database, monkeypatch) as executor:
        await deferred(app, before)
        assert await executor.given.get() == before
        await asyncio.to_thread(postgres_server.restart)
        await deferred(app, after)
        assert await executor.given.get() == after
        executor.go.set()
        assert {await executor.ended.get(), await executor.ended.get()} == {before, after}


async def test_jobs_of_dead_workers_are_removed_and_those_of_the_living_stay(database: str) -> None:
    async with opened(database) as app:
        dead, living = [await app.job_manager.register_worker() for _ in range(2)]
        for worker in (dead, living):
            await deferred(app, uuid4())
            job = await app.job_manager.fetch_job(queues=["runs"], worker_id=worker)
            assert job is not None
        await app.connector.execute_query_async(
            "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 minute' WHERE id = %(dead)s",
            dead=dead,
        )
        assert await jobs.sweep(app) == 1
        assert [job.worker_id for job in await app.job_manager.list_jobs_async()] == [living]
        assert await jobs.sweep(app) == 0
