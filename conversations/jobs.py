"""The workers' queue: procrastinate, in the database that holds the runs.

A job carries a run's id and is a kick: whether the run is executed is decided by its row (`runs.claim`). So a job may
be lost, or come twice: every job that has ended is deleted, whatever became of it, and none is ever tried again.
Only where settings.DISTRIBUTED: elsewhere procrastinate need not be installed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import transaction

if TYPE_CHECKING:
    from procrastinate import App

logger = logging.getLogger(__name__)

_TASK = "execute_run"
_QUEUE = "runs"
#: Seconds between a worker's signs of life; without one for so many seconds its jobs are removed.
_HEARTBEAT_S = 1
_STALLED_S = 10
#: Seconds between two looks for jobs when no notification came, and between two for jobs of dead workers.
_POLL_S = 1
_SWEEP_S = 5
#: Seconds before a worker that lost its database tries again.
_PAUSE_S = 1

#: Executes the run with this id.
Execute = Callable[[UUID], Awaitable[object]]


def defer(run_id: UUID) -> None:
    """Enqueues the run, in the transaction that is open; does nothing when it waits in the queue already."""
    from procrastinate.contrib.django import app  # noqa: PLC0415  see above
    from procrastinate.exceptions import AlreadyEnqueued  # noqa: PLC0415

    job = app.configure_task(_TASK, queue=_QUEUE, queueing_lock=str(run_id))
    # A savepoint: the refusal would else end the caller's transaction.
    with suppress(AlreadyEnqueued), transaction.atomic():
        job.defer(run_id=str(run_id))


async def work(execute: Execute, *, n_at_once: int) -> None:
    """Executes what is enqueued, until it is cancelled. Begins anew when the database was away.

    What is executed goes on when its job ends, by a cancel or with the connection: its end is the executor's affair.
    """
    while True:
        try:
            await _work(execute, n_at_once)
            said = "has lost its connection"
        except Exception as error:
            said = f"has no connection ({error})"
            logger.debug("The queue failed", exc_info=True)
        logger.warning("The worker's queue %s; trying again in %d s", said, _PAUSE_S)
        await asyncio.sleep(_PAUSE_S)


async def _work(execute: Execute, n_at_once: int) -> None:
    app = _app(execute)
    async with app.open_async():
        sweeping = asyncio.create_task(_sweep_always(app))
        try:
            await app.run_worker_async(
                queues=[_QUEUE],
                concurrency=n_at_once,
                update_heartbeat_interval=_HEARTBEAT_S,
                stalled_worker_timeout=_STALLED_S,
                fetch_job_polling_interval=_POLL_S,
                shutdown_graceful_timeout=0,
                delete_jobs="always",
                install_signal_handlers=False,
            )
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)


def _app(execute: Execute) -> App:
    """An app of its own: Django's would hop to a thread before and after each job, to look after connections there."""
    from procrastinate import App, PsycopgConnector  # noqa: PLC0415  see above
    from procrastinate.contrib.django.utils import connector_params  # noqa: PLC0415

    app = App(connector=PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=4))
    going: set[asyncio.Future[object]] = set()

    @app.task(name=_TASK, queue=_QUEUE, retry=False)
    async def execute_run(run_id: str) -> None:
        run = asyncio.ensure_future(execute(UUID(run_id)))
        going.add(run)
        run.add_done_callback(going.discard)
        await asyncio.shield(run)

    return app


async def _sweep_always(app: App) -> None:
    while True:
        await asyncio.sleep(_SWEEP_S)
        try:
            await sweep(app)
        except Exception as error:
            logger.warning("Jobs of dead workers could not be looked for: %s", error)


async def sweep(app: App) -> int:
    """Removes the jobs that dead workers left behind; their runs are found by their leases. How many."""
    from procrastinate.exceptions import ConnectorException  # noqa: PLC0415  see above
    from procrastinate.jobs import Status  # noqa: PLC0415

    n_removed = 0
    for job in await app.job_manager.get_stalled_jobs(queue=_QUEUE, seconds_since_heartbeat=_STALLED_S):
        assert job.id is not None  # noqa: S101  narrows the type, never false
        with suppress(ConnectorException):  # Another worker has removed it.
            await app.job_manager.finish_job_by_id_async(job_id=job.id, status=Status.ABORTED, delete_job=True)
            n_removed += 1
    await app.job_manager.prune_stalled_workers(_STALLED_S)
    return n_removed
