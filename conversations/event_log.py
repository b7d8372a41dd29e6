"""The event log: rows first, then live. EventWriter stores and hands to the hub, `tail` follows one run.

The row is the truth and a live batch is a hint: a viewer joins the hub first, then reads the rows after its cursor,
then follows; whatever the hub did not bring is read from the rows. This module owns the fence, `last_seq` and the
numbers of events.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from conversations import metrics, threads
from conversations.hub import HEARTBEAT_S, Batch, Fence, Hub, StoredEvent, batch_of, hub, topic_of_run
from conversations.models import Run, RunEvent
from conversations.pipeline import events
from conversations.pipeline.events import TERMINAL, Event, Token

logger = logging.getLogger(__name__)

#: Seconds between two group commits while events keep coming; the first of a quiet period goes at once.
TICK_S = 0.03

#: A change of rows that commits together with an event.
RowChange = Callable[[], None]


class LeaseLost(Exception):
    """Another owner has the run now; nothing more may be written for it."""


# -- EventWriter -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Entry:
    #: None: only rows change.
    event: Event | None
    change: RowChange | None
    at: datetime


@dataclass(kw_only=True)
class _OpenRun:
    """What the writer knows of a run that it writes for."""

    fence: Fence
    last_seq: int
    pending: list[_Entry] = field(default_factory=list)
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

        Raises LeaseLost, or the database's error, when earlier events of this run could not be stored.
        """
        self._add(run_id, _Entry(event=event, change=change, at=timezone.now()))
        if event.type in TERMINAL:
            self._hurry.set()

    def change(self, run_id: UUID, change: RowChange) -> None:
        """Adds a row change that no event tells, in order with the events; otherwise as `record`."""
        self._add(run_id, _Entry(event=None, change=change, at=timezone.now()))

    def _add(self, run_id: UUID, entry: _Entry) -> None:
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
            await self._commit()
            # Not wait_for: before Python 3.12 it may swallow a cancel that comes with the event.
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._hurry.wait()

    async def _commit(self) -> None:
        work = [_Work.of(run) for _, run in sorted(self._runs.items()) if run.pending and run.error is None]
        if not work:
            return
        began = time.perf_counter()
        await threads.writing(_store_together, work)
        metrics.observe_commit(time.perf_counter() - began, sum(len(item.rows) for item in work))
        for item in work:
            self._finish(item)
        self._hub.publish(*(batch_of(item.run.fence, item.events) for item in work if not item.error and item.events))

    def _finish(self, item: _Work) -> None:
        run = item.run
        del run.pending[: item.n_entries]
        run.error = item.error
        if item.error is None:
            run.last_seq = item.last_seq
        elif not isinstance(item.error, LeaseLost):
            logger.error("Events of run %s could not be stored", run.fence.run_id, exc_info=item.error)
        if not run.pending or run.error is not None:
            run.stored.set()


@dataclass(kw_only=True)
class _Work:
    """One run's part of a group commit, handed to the writer's thread."""

    run: _OpenRun
    n_entries: int
    events: list[StoredEvent]
    rows: list[RunEvent]
    changes: list[RowChange]
    error: Exception | None = None

    @property
    def last_seq(self) -> int:
        return self.events[-1].seq if self.events else self.run.last_seq

    @classmethod
    def of(cls, run: _OpenRun) -> _Work:
        entries = list(run.pending)
        stored: list[StoredEvent] = []
        rows: list[RunEvent] = []
        for seq, (event, at) in enumerate(_merged(entries), start=run.last_seq + 1):
            stored.append(StoredEvent(seq=seq, event=event))
            rows.append(RunEvent(run_id=run.fence.run_id, seq=seq, type=event.type, data=events.to_dict(event), at=at))
        changes = [entry.change for entry in entries if entry.change is not None]
        return cls(run=run, n_entries=len(entries), events=stored, rows=rows, changes=changes)


def _merged(entries: Iterable[_Entry]) -> list[tuple[Event, datetime]]:
    """Tokens that follow each other become one, as the contract allows within one tick."""
    merged: list[tuple[Event, datetime]] = []
    pieces: list[str] = []
    for entry in entries:
        if entry.event is None:
            continue
        if isinstance(entry.event, Token) and merged and isinstance(merged[-1][0], Token):
            pieces.append(entry.event.text)
            continue
        _join(merged, pieces)
        merged.append((entry.event, entry.at))
    _join(merged, pieces)
    return merged


def _join(merged: list[tuple[Event, datetime]], pieces: list[str]) -> None:
    if pieces and isinstance(token := merged[-1][0], Token):
        merged[-1] = replace(token, text=token.text + "".join(pieces)), merged[-1][1]
        pieces.clear()


def _store_together(work: list[_Work]) -> None:
    """One transaction for all; when it fails, one each, so that a run's bad row is its own trouble only."""
    try:
        with transaction.atomic():
            _store(work)
    except Exception:
        for item in work:
            _store_alone(item)


def _store_alone(item: _Work) -> None:
    item.error = None
    try:
        with transaction.atomic():
            _store([item])
    except Exception as error:
        item.error = error


def _store(work: list[_Work]) -> None:
    rows: list[RunEvent] = []
    for item in work:
        fence = item.run.fence
        alive = Run.objects.filter(
            pk=fence.run_id, owner=fence.owner, attempt=fence.attempt, status=Run.Status.RUNNING
        ).update(last_seq=item.last_seq)
        if not alive:
            item.error = LeaseLost(str(fence.run_id))
            continue
        rows += item.rows
        for change in item.changes:
            change()
    RunEvent.objects.bulk_create(rows)


def hold(fence: Fence) -> None:
    """In a transaction: keeps the run its owner's until the commit. Raises LeaseLost when it isn't any more."""
    own = Run.objects.select_for_update(of=("self",)).filter(
        pk=fence.run_id, owner=fence.owner, attempt=fence.attempt, status=Run.Status.RUNNING
    )
    if own.first() is None:
        raise LeaseLost(str(fence.run_id))


# -- Reading ---------------------------------------------------------------------------------------------------------


def stored_after(run_id: UUID, after: int) -> list[StoredEvent]:
    """The run's events with a number above `after`, in order. One query."""
    rows = RunEvent.objects.filter(run_id=run_id, seq__gt=after).order_by("seq").values_list("seq", "type", "data")
    return [StoredEvent(seq=seq, event=events.from_dict(kind, data)) for seq, kind, data in rows]


async def catch_up(run_id: UUID, cursor: int, batch: Batch | None) -> list[StoredEvent]:
    """What comes after the cursor: from the batch when it fits, else from the rows."""
    if batch is not None:
        fresh = [stored for stored in batch.events if stored.seq > cursor]
        if not fresh or fresh[0].seq == cursor + 1:
            return fresh
    return await threads.reading(stored_after, run_id, cursor)


async def tail(run_id: UUID, *, after: int) -> AsyncIterator[list[StoredEvent]]:
    """A run's events after a number, then live, up to its terminal event; an empty list each HEARTBEAT_S of silence.

    Ends at once, with nothing, when the run has ended and `after` is its last event or beyond; ends too when the
    server stops.
    """
    with hub.subscribe(topic_of_run(run_id)) as viewer:
        cursor = after
        # Asked before the rows are read: a run that ends in between has its last events among them.
        has_ended = await threads.reading(_has_ended, run_id)
        batch: Batch | None = None
        fresh = await catch_up(run_id, cursor, None)
        if not fresh and has_ended:
            return
        while True:
            if fresh:
                cursor = fresh[-1].seq
            yield fresh
            if batch is not None:
                metrics.observe_lag(time.time() - batch.committed_at)
            if (fresh and fresh[-1].is_terminal) or hub.is_closed:
                return
            batch = await viewer.next(timeout_s=HEARTBEAT_S)
            if viewer.lagged:
                viewer.lagged, batch = False, None
            # A cursor beyond the end would otherwise wait for ever.
            has_ended = batch is None and await threads.reading(_has_ended, run_id)
            fresh = await catch_up(run_id, cursor, batch)
            if has_ended and not fresh:
                return


def _has_ended(run_id: UUID) -> bool:
    return not Run.objects.unfinished().filter(pk=run_id).exists()


def as_wire(run_id: UUID, stored: StoredEvent) -> dict[str, Any]:
    """The event as the HTTP contract shows it."""
    return {"type": stored.event.type, "run_id": str(run_id), **events.to_dict(stored.event)}
