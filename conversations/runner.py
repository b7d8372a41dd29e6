"""Runs messages: `submit` is the only entry; EmbeddedRunner claims and executes runs in the server's event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core.files import locks
from django.db import DatabaseError, transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from conversations import audit, runs, threads
from conversations.event_log import EventWriter, LeaseLost
from conversations.exports import RunExports
from conversations.hub import Batch, StoredEvent, batch_of, hub
from conversations.models import Conversation, Run
from conversations.pipeline.engine import Engine
from conversations.pipeline.orchestrator import Job, Orchestrator
from conversations.pipeline.tools import registry

logger = logging.getLogger(__name__)

#: Seconds for which the expected durations are kept.
_EXPECTED_AGE_S = 30.0
#: Seconds between two tries of what a run can't go without, at first and at most.
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 5.0

T = TypeVar("T")


# -- Submitting ------------------------------------------------------------------------------------------------------


@transaction.atomic
def submit(
    *,
    user: AbstractBaseUser,
    text: str,
    conversation: Conversation | None = None,
    session_name: str | None = None,
    context: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
    origin: audit.Origin | None = None,
) -> Run:
    """Stores the message and queues its run: one transaction, after which the run starts when it is its turn.

    The same user and `idempotency_key` get the run made first. Without `conversation` one is opened (or found, by
    `session_name`). Raises runs.InvalidRequest and runs.TooManyRuns.
    """
    runs.check_request("request", text)
    # One submit of a user at a time: what is counted and looked up below stays true until the commit.
    get_user_model().objects.select_for_update().get(pk=user.pk)
    if known := _known(user, idempotency_key):
        return known
    if Run.objects.unfinished().filter(user=user.pk).count() >= runs.MAX_UNFINISHED:
        raise runs.TooManyRuns
    run = runs.post_message(
        conversation=conversation or runs.open_conversation(owner=user, session_name=session_name),
        user=user,
        text=text,
        context=context,
        idempotency_key=idempotency_key,
    )
    audit.record(
        actor=user,
        action="run.submit",
        object_type="run",
        object_id=run.pk,
        origin=origin,
        detail={"conversation": str(run.conversation_id)},
    )
    transaction.on_commit(lambda: _enqueue(run))
    return run


def _known(user: AbstractBaseUser, idempotency_key: str | None) -> Run | None:
    """The run that this key made before."""
    if idempotency_key is None:
        return None
    run: Run | None = Run.objects.filter(user=user.pk, idempotency_key=idempotency_key).first()
    return run


def _enqueue(run: Run) -> None:
    """Gives the stored run to this process's runner. Without one it waits for `execute` (a shell, a test)."""
    if current is not None:
        start = StoredEvent(seq=1, event=runs.start_event(run))
        current.take(batch_of(runs.fence_of(run), [start]))


# -- Executing -------------------------------------------------------------------------------------------------------


@cache
def engine() -> Engine:
    """The engine that the settings name."""
    made: Engine = import_string(settings.OPSCHAT_ENGINES[settings.OPSCHAT_ENGINE])()
    return made


class EmbeddedRunner:
    """Executes runs as tasks of the server's event loop: at most `max_runs` at once, one at a time per conversation."""

    def __init__(self, *, max_runs: int, engine: Engine) -> None:
        self.owner = f"{socket.gethostname()[:30]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._engine = engine
        self._slots = asyncio.Semaphore(max_runs)
        self._writer = EventWriter(hub)
        self._tasks: set[asyncio.Task[None]] = set()
        self._expected: dict[str, float] = {}
        self._expected_at = float("-inf")
        self._loop = asyncio.get_running_loop()
        self._is_stopping = False
        self._writer.start()

    def take(self, started: Batch) -> None:
        """Shows a stored run's first event and starts the run when it is its turn. From any thread."""
        self._loop.call_soon_threadsafe(self._take, started)

    def _take(self, started: Batch) -> None:
        hub.publish(started)
        self._spawn(started.run_id)

    async def take_waiting(self) -> None:
        """Starts what was stored while this process had no runner yet. A run that is taken twice is claimed once."""
        for run_id in await threads.reading(runs.all_queued):
            self._spawn(run_id)

    def _spawn(self, run_id: UUID) -> None:
        task = self._loop.create_task(self._run(run_id), name=f"run-{run_id}")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("%s could not be executed", task.get_name(), exc_info=error)

    async def _run(self, run_id: UUID) -> None:
        async with self._slots:
            await self.execute(run_id)

    async def execute(self, run_id: UUID) -> bool:
        """Claims and executes the run, then starts the next one of its conversation.

        False: nothing was done, because another owner has the run or an earlier one of the conversation still goes.
        """
        claim = await self._until_stored(
            lambda: runs.claim(run_id=run_id, owner=self.owner, engine=self._engine.name), f"claim of run {run_id}"
        )
        if claim is None:
            return False
        self._writer.open(claim.fence, last_seq=claim.run.last_seq)
        try:
            await self._orchestrate(claim)
        finally:
            self._writer.close(run_id)
        following = await self._until_stored(
            lambda: runs.next_queued(claim.fence.conversation_id), f"look for the run after {run_id}"
        )
        if following is not None:
            self._spawn(following)
        return True

    async def _orchestrate(self, claim: runs.Claim) -> None:
        """The run's way to its end, whatever happens on it."""
        try:
            await (await self._orchestrator(claim)).run()
        except LeaseLost:
            logger.warning("Run %s has another owner now", claim.run.pk)
        except asyncio.CancelledError:
            if self._is_stopping:
                # What was recorded is still stored; the next start ends the run.
                with suppress(Exception):
                    await self._writer.flush(claim.run.pk)
                raise
            logger.exception("Run %s was cancelled from within", claim.run.pk)
            await self._abandon(claim, code="internal_error", message="The work on this request broke off.")
        except Exception:
            logger.exception("The events of run %s could not be stored", claim.run.pk)
            message = "The server could not store this run's results. The server's log has the details."
            await self._abandon(claim, code="storage_failed", message=message)

    async def _orchestrator(self, claim: runs.Claim) -> Orchestrator:
        run = claim.run
        return Orchestrator(
            job=Job(
                run_id=str(run.pk),
                user_id=run.user_id,
                text=run.ask.text,
                context=run.context,
                attempt=run.attempt,
                created_at=run.created_at,
                expected_ms=await self._expected_ms(),
            ),
            engine=self._engine,
            registry=registry,
            journal=runs.RunJournal(self._writer, claim.fence),
            exports=RunExports(run=run, user=run.user),
            in_thread=threads.thinking,
            tool_thread=threads.working,
            now=timezone.now,
        )

    async def _abandon(self, claim: runs.Claim, *, code: str, message: str) -> None:
        """The run's own way to its end is broken: ends it by a write of its own."""
        with suppress(Exception):  # What was recorded before goes first, if it can be stored at all.
            await self._writer.flush(claim.run.pk)
        ending = await self._until_stored(
            lambda: runs.abandon(run=claim.run, code=code, message=message), f"end of run {claim.run.pk}"
        )
        if ending:
            hub.publish(batch_of(claim.fence, ending))

    async def _until_stored(self, work: Callable[[], T], what: str) -> T:
        """Does database work that no run can go without, again and again while the database can't."""
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                return await threads.reading(work)
            except DatabaseError:
                logger.exception("The %s failed; trying again in %.1f s", what, wait_s)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    async def _expected_ms(self) -> dict[str, float]:
        if time.monotonic() - self._expected_at > _EXPECTED_AGE_S:
            self._expected_at = time.monotonic()
            self._expected = await threads.reading(runs.expected_durations)
        return self._expected

    async def stop(self) -> None:
        """Stops every run where it is, stores what was recorded, ends the writer. The runs' rows stay `running`."""
        self._is_stopping = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._writer.stop()


# -- This process's runner -------------------------------------------------------------------------------------------

#: The runner of this process, while a server runs in it.
current: EmbeddedRunner | None = None
#: Why the last start failed; a server that can't execute runs must not serve.
failure: Exception | None = None
_lock: IO[str] | None = None


class AlreadyRunning(RuntimeError):
    """Another opschat server runs on this data folder. Stop it first, or set OPSCHAT_DATA_DIR to another folder."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


async def start() -> None:
    """Starts this process's runner in the running event loop; does nothing when it has one.

    Ends what a dead process left unfinished. One process executes runs on one data folder: raises AlreadyRunning.
    Whatever it raises is also kept in `failure`, for the server's command.
    """
    global failure  # noqa: PLW0603  a process has one runner, started and stopped by its server
    try:
        await _start()
    except Exception as error:
        failure = error
        raise


async def _start() -> None:
    global current, _lock  # noqa: PLW0603  as above
    if current is not None:
        return
    _lock = _locked(settings.DATA_DIR / "runner.lock")
    n_left = await threads.reading(runs.abandon_interrupted)
    if n_left:
        logger.warning("%d runs were left unfinished by a server that stopped; they are marked as interrupted", n_left)
    hub.open()
    current = EmbeddedRunner(max_runs=settings.OPSCHAT_MAX_RUNS, engine=engine())
    await current.take_waiting()


async def stop() -> None:
    """Stops this process's runner; does nothing when it has none."""
    global current, _lock  # noqa: PLW0603  as above
    if current is None:
        return
    runner, current = current, None
    hub.close()
    await runner.stop()
    if _lock is not None:
        with suppress(OSError):
            _lock.close()
        _lock = None


def _locked(path: Path) -> IO[str]:
    """The lock file, open and locked; the operating system frees it when the process ends, however it ends."""
    file = path.open("a", encoding="utf-8")
    if not locks.lock(file, locks.LOCK_EX | locks.LOCK_NB):
        file.close()
        raise AlreadyRunning
    return file
