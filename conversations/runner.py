"""Runs messages: `submit` is the only entry; `cancel` and `resume`; and who executes: this process, or the workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core.files import locks
from django.db import connection, transaction
from django.utils.module_loading import import_string

from conversations import audit, jobs, recovery, runs, threads
from conversations.execution import Executor
from conversations.hub import StoredEvent, batch_of, hub, topic_of_executors
from conversations.models import Conversation, Run
from conversations.pipeline.engine import Engine

logger = logging.getLogger(__name__)

# -- Submitting ------------------------------------------------------------------------------------------------------


@threads.write_turn()
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
    if known := _known(user, idempotency_key):
        return known
    run = runs.post_message(
        conversation=conversation or _conversation(user, session_name),
        user=user,
        text=text,
        context=context,
        idempotency_key=idempotency_key,
    )
    _queued(run, user, "run.submit", origin, {"conversation": str(run.conversation_id)})
    return run


@threads.write_turn()
@transaction.atomic
def resume(*, run: Run, user: AbstractBaseUser, origin: audit.Origin | None = None) -> Run:
    """A new run that goes on with a failed or cancelled one: its ask stands again at the end of the conversation.

    What the old run completed is reused, but for its answer. Resuming twice gives the same new run. Raises
    runs.NotResumable and runs.TooManyRuns.
    """
    key = f"resume:{run.pk}"
    if known := _known(user, key):
        return known
    run = Run.objects.select_related("ask", "conversation").get(pk=run.pk)
    runs.check_resumable(run)
    resumed = runs.post_message(
        conversation=run.conversation,
        user=user,
        text=run.ask.text,
        context=run.context,
        idempotency_key=key,
        resumes=run,
    )
    _queued(resumed, user, "run.resume", origin, {"conversation": str(run.conversation_id), "resumes": str(run.pk)})
    return resumed


def cancel(*, run: Run, user: AbstractBaseUser, origin: audit.Origin | None = None) -> None:
    """Asks for the run's end: the `cancelled` event confirms it. A waiting run has ended when this returns.

    Raises runs.AlreadyEnded.
    """
    ending = recovery.request_cancel(run=run, user=user, origin=origin)
    if ending is None:
        hub.look_again(topic_of_executors())
        return
    hub.publish_soon(ending)
    following = runs.next_queued(run.conversation_id)
    if following is not None:
        enqueue(following)


def _conversation(user: AbstractBaseUser, session_name: str | None) -> Conversation:
    """The one of that name; without a name a new one, which is stored with its first message."""
    if session_name is None:
        return Conversation(owner_id=user.pk)
    return runs.open_conversation(owner=user, session_name=session_name)


def _known(user: AbstractBaseUser, idempotency_key: str | None) -> Run | None:
    """The run that this key made before. Raises runs.TooManyRuns when there is none and no room for another."""
    # One submit of a user at a time: what is counted and looked up here stays true until the commit. SQLite has one
    # writer at a time, and we are it.
    if connection.features.has_select_for_update:
        get_user_model().objects.select_for_update(no_key=True).get(pk=user.pk)
    if idempotency_key is not None:
        run: Run | None = Run.objects.filter(user=user.pk, idempotency_key=idempotency_key).first()
        if run is not None:
            return run
    if Run.objects.unfinished().filter(user=user.pk).count() >= runs.MAX_UNFINISHED:
        raise runs.TooManyRuns
    return None


def _queued(
    run: Run, user: AbstractBaseUser, action: str, origin: audit.Origin | None, detail: Mapping[str, Any]
) -> None:
    """Tells of a run that was stored, and lets it begin."""
    started = batch_of(runs.fence_of(run), [StoredEvent(seq=1, event=runs.start_event(run))])
    transaction.on_commit(lambda: hub.publish_soon(started))
    enqueue(run.pk)
    audit.record(actor=user, action=action, object_type="run", object_id=run.pk, origin=origin, detail=detail)


def enqueue(run_id: UUID) -> None:
    """Gives a stored run to whoever executes: this process's runner, or the workers. In a transaction: with its commit.

    Without a runner it waits (a shell, a test) until one looks for what waits.
    """
    if settings.DISTRIBUTED:
        jobs.defer(run_id)
    else:
        transaction.on_commit(lambda: current.enqueue(run_id) if current is not None else None)


# -- Executing -------------------------------------------------------------------------------------------------------


@cache
def engine() -> Engine:
    """The engine that the settings name."""
    made: Engine = import_string(settings.OPSCHAT_ENGINES[settings.OPSCHAT_ENGINE])()
    return made


class EmbeddedRunner:
    """Executes runs as tasks of the server's event loop: at most `max_runs` at once, one at a time per conversation."""

    def __init__(self, *, max_runs: int, engine: Engine) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(max_runs)
        self._tasks: dict[UUID, asyncio.Task[None]] = {}
        self._is_stopping = False
        self.executor = Executor(engine=engine, enqueue=self.enqueue)

    def enqueue(self, run_id: UUID) -> None:
        """Starts the run when it is its turn. From any thread; a run that is enqueued twice is executed once."""
        self._loop.call_soon_threadsafe(self._spawn, run_id)

    def _spawn(self, run_id: UUID) -> None:
        if run_id in self._tasks or self._is_stopping:
            return
        task = self._loop.create_task(self._run(run_id), name=f"turn-{run_id}")
        self._tasks[run_id] = task
        task.add_done_callback(lambda task: self._done(run_id, task))

    def _done(self, run_id: UUID, task: asyncio.Task[None]) -> None:
        del self._tasks[run_id]
        if not task.cancelled() and (error := task.exception()):
            logger.error("Run %s could not be executed", run_id, exc_info=error)

    async def _run(self, run_id: UUID) -> None:
        async with self._slots:
            await self.executor.execute(run_id)

    async def stop(self) -> None:
        """Stops every run where it is; the next start goes on with them."""
        self._is_stopping = True
        await self.executor.stop()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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

    Goes on with what a dead process left. One process executes runs on one data folder: raises AlreadyRunning.
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
    if settings.DISTRIBUTED:
        from conversations import bus  # noqa: PLC0415  it needs redis, half a second of each command

        hub.open()
        await bus.start()
        return
    if current is not None:
        return
    _lock = _locked(settings.DATA_DIR / "runner.lock")
    if connection.vendor == "sqlite":
        # The lock says that no other process executes: whose leases there are is dead.
        n_left = await threads.reading(recovery.expire_all)
        if n_left:
            logger.warning("%d runs were left unfinished by a server that stopped; going on with them", n_left)
    hub.open()
    current = EmbeddedRunner(max_runs=settings.OPSCHAT_MAX_RUNS, engine=engine())


async def stop() -> None:
    """Stops this process's runner; does nothing when it has none."""
    global current, _lock  # noqa: PLW0603  as above
    if settings.DISTRIBUTED:
        from conversations import bus  # noqa: PLC0415  as above

        hub.close()
        await bus.stop()
        return
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
