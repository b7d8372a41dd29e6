"""Executes claimed runs in the event loop: their leases, their end whatever happens, and runs that lost their owner."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from django.db import DatabaseError
from django.utils import timezone

from conversations import exports, files, metrics, recovery, runs, threads
from conversations.commit import LeaseLost
from conversations.event_log import EventWriter
from conversations.exports import RunExports
from conversations.hub import batch_of, hub, topic_of_executors
from conversations.journal import RunJournal
from conversations.pipeline.engine import Engine
from conversations.pipeline.job import Job
from conversations.pipeline.orchestrator import Orchestrator
from conversations.pipeline.tools import registry

logger = logging.getLogger(__name__)

#: Seconds between two looks at the rows of the runs that are executed: renews leases, sees who asked for a stop.
BEAT_S = 1.0
#: Seconds between two looks for runs whose owner was lost.
RECONCILE_S = 1.0
#: Seconds from the start to the first look for expired exports, and between two of them.
FIRST_EXPIRY_S, EXPIRY_S = 60.0, 24 * 3600.0
#: Every so many of these looks also finds queued runs that nobody was told of.
_LOST_KICKS_EVERY = 10
#: Seconds for which the expected durations are kept.
_EXPECTED_AGE_S = 30.0
#: Seconds between two tries of what a run can't go without, at first and at most.
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 5.0

T = TypeVar("T")


@dataclass(kw_only=True)
class _Going:
    """A run while it is executed."""

    claim: runs.Claim
    orchestrator: Orchestrator
    task: asyncio.Task[None] | None = None
    #: When its user asked for the end.
    cancel_asked_at: datetime | None = None
    is_lost: bool = False

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()


class Executor:
    """One process's executor of runs. Make and use it on the event loop; `stop` it before the loop ends.

    `enqueue` is called in a worker thread with a run that waits and whose turn it may be.
    """

    def __init__(self, *, engine: Engine, enqueue: Callable[[UUID], None]) -> None:
        self.owner = f"{socket.gethostname()[:30]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._engine = engine
        self._enqueue = enqueue
        self._writer = EventWriter(hub)
        self._going: dict[UUID, _Going] = {}
        self._expected: dict[str, float] = {}
        self._expected_at = float("-inf")
        self._is_stopping = False
        self._loops = [asyncio.create_task(work(), name=work.__name__) for work in (self._beats, self._reconciles)]
        self._loops.append(asyncio.create_task(self._tidies(), name="tidy"))
        for loop in self._loops:
            loop.add_done_callback(_log_death)
        self._writer.start()

    # -- One run -----------------------------------------------------------------------------------------------------

    async def execute(self, run_id: UUID) -> bool:
        """Claims and executes the run, then enqueues the next one of its conversation.

        False: nothing was done, because another owner has the run or an earlier one of the conversation still goes.
        Cancelling it gives the run back, to be taken by another process.
        """
        claim = await self._until_stored(
            lambda: runs.claim(run_id=run_id, owner=self.owner, engine=self._engine.name), f"claim of run {run_id}"
        )
        if claim is None:
            return False
        if self._is_stopping:
            await self._give_back()
            return False
        await self._finish(claim)
        conversation_id = claim.fence.conversation_id
        await self._until_stored(lambda: self._enqueue_next(conversation_id), f"look for the run after {run_id}")
        return True

    async def _finish(self, claim: runs.Claim) -> None:
        run_id = claim.run.pk
        self._writer.open(claim.fence, last_seq=claim.run.last_seq)
        try:
            going = _Going(claim=claim, orchestrator=await self._orchestrator(claim))
            self._going[run_id] = going
            going.task = asyncio.create_task(self._orchestrate(going), name=f"run-{run_id}")
            await going.task
        finally:
            self._going.pop(run_id, None)
            self._writer.close(run_id)

    def _enqueue_next(self, conversation_id: UUID) -> None:
        following = runs.next_queued(conversation_id)
        if following is not None:
            self._enqueue(following)

    async def _orchestrate(self, going: _Going) -> None:
        """The run's way to its end, whatever happens on it."""
        run_id = going.claim.run.pk
        try:
            await going.orchestrator.run()
        except LeaseLost:
            logger.warning("Run %s has another owner now", run_id)
        except asyncio.CancelledError:
            await self._cancelled(going)
        except Exception:
            await self._not_stored(going)

    async def _cancelled(self, going: _Going) -> None:
        """Somebody asked for the end, another process has the run, or this one stops."""
        run_id = going.claim.run.pk
        if going.is_lost:
            logger.warning("Run %s was taken over by another process", run_id)
        elif going.cancel_asked_at is not None:
            await self._end_cancelled(going, going.cancel_asked_at)
        elif self._is_stopping or _is_asked_to_end():
            # What was recorded is still stored; whoever takes the run goes on from it.
            with suppress(Exception):
                await self._writer.flush(run_id)
            raise asyncio.CancelledError
        else:
            logger.exception("Run %s was cancelled from within", run_id)
            await self._abandon(going.claim, code="internal_error", message="The work on this request broke off.")

    async def _end_cancelled(self, going: _Going, asked_at: datetime) -> None:
        try:
            going.orchestrator.cancel(asked_at=asked_at)
            await self._writer.flush(going.claim.run.pk)
            metrics.observe_cancel((timezone.now() - asked_at).total_seconds())
        except LeaseLost:
            logger.warning("Run %s has another owner now", going.claim.run.pk)
        except Exception:
            await self._not_stored(going)

    async def _not_stored(self, going: _Going) -> None:
        logger.exception("The events of run %s could not be stored", going.claim.run.pk)
        message = "The server could not store this run's results. The server's log has the details."
        await self._abandon(going.claim, code="storage_failed", message=message)

    async def _orchestrator(self, claim: runs.Claim) -> Orchestrator:
        run = claim.run
        return Orchestrator(
            job=Job(
                run_id=str(run.pk),
                user_id=run.user_id,
                text=run.ask.text,
                context=run.context,
                created_at=run.created_at,
                expected_ms=await self._expected_ms(),
                earlier=claim.earlier,
            ),
            engine=self._engine,
            registry=registry,
            journal=RunJournal(self._writer, claim.fence, claim.earlier),
            exports=await self._exports(claim),
            in_thread=threads.thinking,
            tool_thread=threads.working,
            now=timezone.now,
        )

    async def _exports(self, claim: runs.Claim) -> RunExports:
        first = 0
        if claim.run.attempt > 1:
            first = await threads.executing(exports.discard_unannounced, claim.run)
        return RunExports(run=claim.run, fence=claim.fence, first_position=first)

    async def _abandon(self, claim: runs.Claim, *, code: str, message: str) -> None:
        """The run's own way to its end is broken: ends it by a write of its own."""
        with suppress(Exception):  # What was recorded before goes first, if it can be stored at all.
            await self._writer.flush(claim.run.pk)
        ending = await self._until_stored(
            lambda: recovery.abandon(run=claim.run, code=code, message=message), f"end of run {claim.run.pk}"
        )
        if ending:
            hub.publish(batch_of(claim.fence, ending))

    async def _until_stored(self, work: Callable[[], T], what: str) -> T:
        """Does database work that no run can go without, again and again while the database can't."""
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                return await threads.executing(work)
            except DatabaseError:
                logger.exception("The %s failed; trying again in %.1f s", what, wait_s)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    async def _expected_ms(self) -> dict[str, float]:
        if time.monotonic() - self._expected_at > _EXPECTED_AGE_S:
            self._expected_at = time.monotonic()
            self._expected = await threads.executing(runs.expected_durations)
        return self._expected

    # -- All runs ----------------------------------------------------------------------------------------------------

    async def _beats(self) -> None:
        with hub.subscribe(topic_of_executors()) as told:
            while True:
                if hub.is_closed:
                    await asyncio.sleep(BEAT_S)
                elif not told.lagged:
                    await told.next(timeout_s=BEAT_S)
                told.lagged = False
                if self._going:
                    await self._survived(self._beat(), "The leases could not be renewed")

    async def _beat(self) -> None:
        looked_at = list(self._going.values())
        run_ids = [going.claim.run.pk for going in looked_at]
        held = await threads.executing(lambda: recovery.renew(owner=self.owner, run_ids=run_ids))
        for going in looked_at:
            self._check(going, held)

    def _check(self, going: _Going, held: recovery.Held) -> None:
        """Stops the task of a run that is somebody else's now, or whose user asked for its end."""
        run = going.claim.run
        if going.orchestrator.is_ended or going.is_lost or going.cancel_asked_at is not None:
            return
        if held.attempts.get(run.pk) != run.attempt:
            going.is_lost = True
            going.stop()
        elif run.pk in held.cancels:
            going.cancel_asked_at = held.cancels[run.pk]
            going.stop()

    async def _tidies(self) -> None:
        """At the start what a killed process had begun to write, then, each day, what has expired."""
        await self._sweep()
        wait_s = FIRST_EXPIRY_S
        while True:
            await asyncio.sleep(wait_s)
            wait_s = EXPIRY_S
            await self._expire()

    async def _expire(self) -> None:
        """Other processes do the same: what one has deleted is no more for the others."""
        try:
            found = await threads.working(lambda: exports.expire(is_over=lambda: self._is_stopping))
        except (DatabaseError, OSError):
            logger.exception("What has expired could not be deleted; it goes with the next try, in a day")
            return
        if found.n_exports or found.n_orphans:
            logger.info("%d expired exports and %d files of none deleted", found.n_exports, found.n_orphans)

    async def _sweep(self) -> None:
        """Files of exports that a killed process had begun, maybe this one's predecessor."""
        try:
            n_left = await threads.working(files.sweep)
        except OSError:
            logger.exception("Half-written files could not be looked for")
            return
        if n_left:
            logger.warning("%d half-written files of a process that was killed are removed", n_left)

    async def _reconciles(self) -> None:
        n_looks = 0
        while True:
            await self._survived(self.reconcile(), "Lost runs could not be looked for")
            if n_looks % _LOST_KICKS_EVERY == 0:
                await self._survived(self.take_waiting(), "Waiting runs could not be looked for")
            n_looks += 1
            await asyncio.sleep(RECONCILE_S)

    async def reconcile(self) -> None:
        """Re-queues or ends the runs whose owner let the lease expire, but for its own: those are only late."""
        own = list(self._going)
        run_ids = await threads.executing(lambda: recovery.requeue_expired(but=own))
        if run_ids:
            logger.warning("%d runs had lost their owner; they are gone on with", len(run_ids))
            await threads.executing(self._enqueue_all, run_ids)
        for run_id in await threads.executing(lambda: recovery.expired(but=own)):
            ending = await threads.executing(lambda run_id=run_id: recovery.end_expired(run_id=run_id))
            if ending is not None:
                logger.warning("Run %s had lost its owner; it is ended", run_id)
                hub.publish(ending)
                await threads.executing(self._enqueue_next, ending.conversation_id)

    def _enqueue_all(self, run_ids: Iterable[UUID]) -> None:
        for run_id in run_ids:
            self._enqueue(run_id)

    async def take_waiting(self) -> None:
        """Enqueues what waits although it is its turn: stored while nobody was there, or told to somebody who died."""
        await threads.executing(lambda: self._enqueue_all(runs.all_queued()))

    async def _survived(self, work: Awaitable[None], failure: str) -> None:
        """Goes on after the database's failures: they pass, and this is what repairs their consequences."""
        try:
            await work
        except DatabaseError:
            logger.exception("%s; trying again", failure)

    async def stop(self) -> None:
        """Stops every run where it is, stores what was recorded, gives the runs back, ends the writer."""
        self._is_stopping = True
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        going = [going.task for going in self._going.values() if going.task is not None]
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)
        await self._writer.stop()
        await self._give_back()

    async def _give_back(self) -> None:
        """What was claimed and not ended: another process may go on with it at once."""
        with suppress(DatabaseError):
            run_ids = await threads.executing(lambda: recovery.release(owner=self.owner))
            await threads.executing(self._enqueue_all, run_ids)


def _log_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        logger.critical("%s has died", task.get_name(), exc_info=error)


def _is_asked_to_end() -> bool:
    """Somebody has cancelled this task; a CancelledError without it was raised by something inside."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
