"""The event log: rows first, then live. EventWriter stores and hands to the hub, `tail` follows one run.

The row is the truth and a live batch is a hint: a viewer joins the hub first, then reads the rows after its cursor,
then follows; whatever the hub did not bring is read from the rows. This module and `commit` own the fence, `last_seq`
and the numbers of events.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

from django.utils import timezone

from conversations import commit, metrics, threads
from conversations.commit import Entry, LeaseLost, Part, RowChange
from conversations.hub import HEARTBEAT_S, Batch, Fence, Hub, StoredEvent, Subscription, batch_of, hub, topic_of_run
from conversations.models import Run, RunEvent
from conversations.pipeline import events
from conversations.pipeline.events import TERMINAL, Event, Token

logger = logging.getLogger(__name__)

#: Seconds between two group commits while events keep coming; the first of a quiet period goes at once.
TICK_S = 0.03
#: The same while commits are slow: fewer of them carry more.
_LONGEST_TICK_S = 0.08
#: A commit that took no longer is no load.
_SHORT_S = 0.005
#: Seconds after which a viewer of a new run that was told nothing looks at the rows.
_FIRST_LOOK_S = 1.0


# -- EventWriter -----------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _OpenRun:
    """What the writer knows of a run that it writes for."""

    fence: Fence
    last_seq: int
    pending: list[Entry] = field(default_factory=list)
    #: So many of the pending are being stored at the moment.
    n_taken: int = 0
    #: Set when this run's events could not be stored.
    error: Exception | None = None
    stored: asyncio.Event = field(default_factory=asyncio.Event)


class EventWriter:
    """Stores the events of this process's runs: one thread, one transaction a tick, runs in order of their id.

    The order by id keeps two processes from locking the same rows crosswise (measured: PostgreSQL reports deadlocks).
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._runs: dict[UUID, _OpenRun] = {}
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        #: Why it stores nothing any more.
        self._death: Exception | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work(), name="event-writer")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Stores what was recorded, then ends. Nothing may be recorded any more."""
        for run_id in list(self._runs):
            with suppress(Exception):  # What could not be stored has been logged; the others shall not suffer.
                await self.flush(run_id)
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._fail_all(RuntimeError("The event writer has stopped"))

    def _fail_all(self, error: Exception) -> None:
        """Nobody may wait for what will never be stored."""
        self._death = error
        for run in self._runs.values():
            run.error = run.error or error
            run.stored.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The runs of a writer that has died end by a write of their own."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        logger.critical("The event writer has died", exc_info=error)
        self._fail_all(RuntimeError("The event writer has died"))

    def open(self, fence: Fence, *, last_seq: int) -> None:
        """Begins to write for a claimed run whose newest event is `last_seq`."""
        self._runs[fence.run_id] = _OpenRun(fence=fence, last_seq=last_seq, error=self._death)

    def close(self, run_id: UUID) -> None:
        self._runs.pop(run_id, None)

    def record(self, run_id: UUID, event: Event, change: RowChange | None = None) -> None:
        """Adds an event and the row change that shall commit with it. Never waits.

        Tokens that follow each other become one, as the contract allows within one tick. Raises LeaseLost, or the
        database's error, when earlier events of this run could not be stored.
        """
        if isinstance(event, Token) and change is None and self._append(run_id, event):
            return
        self._add(run_id, Entry(event, change, timezone.now()))
        if event.type in TERMINAL:
            self._hurry.set()

    def change(self, run_id: UUID, change: RowChange) -> None:
        """Adds a row change that no event tells, in order with the events; otherwise as `record`."""
        self._add(run_id, Entry(None, change, timezone.now()))

    def _append(self, run_id: UUID, token: Token) -> bool:
        """Adds the text to a token that waits to be stored; False when none does."""
        run = self._runs[run_id]
        if run.error is not None or len(run.pending) <= run.n_taken or run.pending[-1].pieces is None:
            return False
        run.pending[-1].pieces.append(token.text)
        return True

    def _add(self, run_id: UUID, entry: Entry) -> None:
        run = self._runs[run_id]
        if run.error is not None:
            raise run.error
        run.pending.append(entry)
        run.stored.clear()
        self._wake.set()

    async def flush(self, run_id: UUID) -> None:
        """Returns when everything recorded for the run is stored; raises as `record` does."""
        run = self._runs[run_id]
        while run.pending and run.error is None:
            self._hurry.set()
            await run.stored.wait()
        if run.error is not None:
            raise run.error

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._hurry.clear()
            took_s = await self._commit()
            await self._pause(took_s)

    async def _pause(self, took_s: float) -> None:
        """Till the next tick, or till somebody is in a hurry: but then too for half the time, or many who end one
        after the other leave no time to anything else."""
        rest_s = min(took_s, _LONGEST_TICK_S)
        if rest_s > _SHORT_S:
            await asyncio.sleep(rest_s)
        # Not wait_for: before Python 3.12 it may swallow a cancel that comes with the event.
        with suppress(TimeoutError):
            async with asyncio.timeout(max(TICK_S, min(2 * took_s, _LONGEST_TICK_S)) - rest_s):
                await self._hurry.wait()

    async def _commit(self) -> float:
        """The seconds that storing took."""
        open_runs = [run for _, run in sorted(self._runs.items()) if run.pending and run.error is None]
        if not open_runs:
            return 0.0
        parts = [self._taken(run) for run in open_runs]
        began = time.perf_counter()
        await threads.writing(commit.store_together, parts)
        took_s = time.perf_counter() - began
        metrics.observe_commit(took_s, sum(len(part.events) for part in parts))
        for run, part in zip(open_runs, parts, strict=True):
            self._finish(run, part)
        self._hub.publish(*(batch_of(part.fence, part.events) for part in parts if not part.error and part.events))
        return took_s

    def _taken(self, run: _OpenRun) -> Part:
        run.n_taken = len(run.pending)
        return Part(fence=run.fence, last_seq=run.last_seq, entries=list(run.pending))

    def _finish(self, run: _OpenRun, part: Part) -> None:
        del run.pending[: run.n_taken]
        run.n_taken = 0
        run.error = run.error or part.error
        if part.error is None:
            run.last_seq = part.last_seq
        elif not isinstance(part.error, LeaseLost):
            logger.error("Events of run %s could not be stored", run.fence.run_id, exc_info=part.error)
        if not run.pending or run.error is not None:
            run.stored.set()


# -- Reading ---------------------------------------------------------------------------------------------------------


def stored_after(run_id: UUID, after: int) -> list[StoredEvent]:
    """The run's events with a number above `after`, in order. One query."""
    rows = RunEvent.objects.filter(run_id=run_id, seq__gt=after).order_by("seq").values_list("seq", "type", "data")
    return [StoredEvent(seq=seq, event=events.from_dict(kind, data)) for seq, kind, data in rows]


async def catch_up(run_id: UUID, cursor: int, batches: Sequence[Batch]) -> list[StoredEvent]:
    """What comes after the cursor: from the run's batches when they bring it without a gap, else from the rows."""
    fresh = following(cursor, batches)
    return await threads.reading(stored_after, run_id, cursor) if fresh is None else fresh


def following(cursor: int, batches: Sequence[Batch]) -> list[StoredEvent] | None:
    """The batches' events after the cursor. None: there is a gap, or there are no batches to tell."""
    fresh: list[StoredEvent] = []
    for batch in batches:
        for stored in batch.events:
            if stored.seq <= cursor:
                continue
            if stored.seq != cursor + 1:
                return None
            cursor = stored.seq
            fresh.append(stored)
    return fresh if batches else None


async def tail(run_id: UUID, *, after: int, is_new: bool = False) -> AsyncIterator[list[StoredEvent]]:
    """A run's events after a number, then live, up to its terminal event; an empty list each HEARTBEAT_S of silence.

    `is_new`: a moment ago nothing beyond `after` was stored; the rows are read only if soon nothing was told.
    Ends at once, with nothing, when the run has ended and `after` is its last event or beyond; ends too when the
    server stops.
    """
    with hub.subscribe(topic_of_run(run_id)) as viewer:
        cursor = after
        batches = await _soon(viewer) if is_new else []
        while True:
            fresh, is_over = await _look(run_id, cursor, batches)
            if fresh:
                cursor = fresh[-1].seq
            # Without batches the rows were asked: silence is told, what came twice is not.
            if fresh or not (batches or is_over):
                yield fresh
            if batches:
                metrics.observe_lag(time.time() - batches[0].committed_at)
            if is_over or hub.is_closed:
                return
            batches = await _told(viewer, HEARTBEAT_S)


async def _soon(viewer: Subscription) -> list[Batch]:
    """What was committed before the viewer joined was told to nobody: the next batch shows the gap, or silence does."""
    return await _told(viewer, _FIRST_LOOK_S)


async def _told(viewer: Subscription, timeout_s: float) -> list[Batch]:
    """All batches that wait, or none: then the rows have to be looked at."""
    batch = await viewer.next(timeout_s=timeout_s)
    batches = [] if batch is None else [batch, *viewer.rest()]
    if viewer.lagged:
        viewer.lagged, batches = False, []
    return batches


async def _look(run_id: UUID, cursor: int, batches: Sequence[Batch]) -> tuple[list[StoredEvent], bool]:
    """What comes after the cursor, and whether nothing comes after that."""
    fresh = following(cursor, batches)
    if fresh is None:
        return await threads.reading(_look_at_rows, run_id, cursor)
    return fresh, bool(fresh) and fresh[-1].is_terminal


def _look_at_rows(run_id: UUID, cursor: int) -> tuple[list[StoredEvent], bool]:
    fresh = stored_after(run_id, cursor)
    if fresh or Run.objects.unfinished().filter(pk=run_id).exists():
        return fresh, bool(fresh) and fresh[-1].is_terminal
    # It may have ended between the two queries. A cursor beyond the end would otherwise wait for ever.
    return stored_after(run_id, cursor), True


def as_wire(run_id: UUID, stored: StoredEvent) -> str:
    """The event as the HTTP contract shows it: JSON. Every kind of event has fields."""
    return f'{{"type":"{stored.event.type}","run_id":"{run_id}",{stored.fields[1:]}'
