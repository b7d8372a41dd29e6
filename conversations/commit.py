"""One group commit: the events of several runs, and what they change beside the log, in one transaction.

Changes are put together first: a run that passes through its stages within one tick costs a statement a table, not two
a stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from django.db import transaction

from conversations import statements, threads
from conversations.hub import Fence, StoredEvent
from conversations.models import Message, Run, StageRun
from conversations.pipeline.events import Event, Token

T = TypeVar("T")


class LeaseLost(Exception):
    """Another owner has the run now; nothing more may be written for it."""


# -- What is recorded ------------------------------------------------------------------------------------------------


class Changes:
    """What the events of one run change in its rows; of several values of a field the last counts."""

    def __init__(self) -> None:
        self.run: dict[str, Any] = {}
        self.answer: dict[str, Any] = {}
        #: Stage runs that begin, by stage and attempt, and those that began before.
        self._new_stages: dict[tuple[str, int], dict[str, Any]] = {}
        self._stages: dict[tuple[str, int], dict[str, Any]] = {}
        #: No stage runs on.
        self.stops_stages = False

    def begin_stage(self, stage: str, attempt: int, **values: Any) -> None:
        self._new_stages[stage, attempt] = values

    def change_stage(self, stage: str, attempt: int, **values: Any) -> None:
        key = stage, attempt
        known = self._new_stages[key] if key in self._new_stages else self._stages.setdefault(key, {})
        known.update(values)

    def new_stages(self, run_id: UUID) -> list[StageRun]:
        return [
            StageRun(run_id=run_id, stage=stage, attempt=attempt, **values)
            for (stage, attempt), values in self._new_stages.items()
        ]

    def write_beside(self, run_id: UUID) -> None:
        """Everything but the run's own row and the stage runs that begin."""
        for (stage, attempt), values in self._stages.items():
            StageRun.objects.filter(run=run_id, stage=stage, attempt=attempt).update(**values)
        if self.stops_stages:
            running = StageRun.objects.filter(run=run_id, status=StageRun.Status.RUNNING)
            running.update(status=StageRun.Status.STOPPED)
        if self.answer:
            Message.objects.filter(answered_run=run_id).update(**self.answer)

    def write(self, run_id: UUID) -> None:
        """Everything, for a run that nobody executes."""
        if self.run:
            Run.objects.filter(pk=run_id).update(**self.run)
        StageRun.objects.bulk_create(self.new_stages(run_id))
        self.write_beside(run_id)


#: A change of rows that commits together with an event.
RowChange = Callable[[Changes], None]


class Entry:
    """An event, or None where only rows change; what changes with it; and when. Text that follows a token is added."""

    __slots__ = ("at", "change", "event", "pieces")

    def __init__(self, event: Event | None, change: RowChange | None, at: datetime) -> None:
        self.event = event
        self.change = change
        self.at = at
        self.pieces = [event.text] if isinstance(event, Token) else None

    @property
    def whole(self) -> Event | None:
        if isinstance(self.event, Token) and self.pieces is not None and len(self.pieces) > 1:
            return replace(self.event, text="".join(self.pieces))
        return self.event


@dataclass(kw_only=True)
class Part:
    """One run's part of a group commit, handed to the writer's thread."""

    fence: Fence
    last_seq: int
    entries: list[Entry]
    events: list[StoredEvent] = field(default_factory=list)
    #: When each was recorded.
    recorded_at: list[datetime] = field(default_factory=list)
    changes: Changes = field(default_factory=Changes)
    error: Exception | None = None

    def __post_init__(self) -> None:
        for entry in self.entries:
            if (event := entry.whole) is not None:
                self._number(event, entry.at)
            if entry.change is not None:
                entry.change(self.changes)

    def _number(self, event: Event, at: datetime) -> None:
        self.last_seq += 1
        self.events.append(StoredEvent(seq=self.last_seq, event=event))
        self.recorded_at.append(at)

    def rows(self) -> Iterator[tuple[UUID, int, str, str, datetime]]:
        """The events as `statements.insert_events` takes them."""
        for stored, at in zip(self.events, self.recorded_at, strict=True):
            yield self.fence.run_id, stored.seq, stored.event.type, stored.fields, at


# -- Storing ---------------------------------------------------------------------------------------------------------


def store_together(parts: list[Part]) -> None:
    """One transaction for all; when it fails, one each, so that a run's bad row is its own trouble only.

    `parts` in the order of their runs' ids: two processes that lock rows crosswise deadlock.
    """
    try:
        _in_transaction(parts)
    except Exception:
        for part in parts:
            _store_alone(part)


def _store_alone(part: Part) -> None:
    part.error = None
    try:
        _in_transaction([part])
    except Exception as error:
        part.error = error


@threads.write_turn()
@transaction.atomic
def _in_transaction(parts: list[Part]) -> None:
    _store(parts)


def _store(parts: list[Part]) -> None:
    alive = [part for part in parts if _is_held(part)]
    statements.insert_events([row for part in alive for row in part.rows()])
    StageRun.objects.bulk_create(_all(part.changes.new_stages(part.fence.run_id) for part in alive))
    for part in alive:
        part.changes.write_beside(part.fence.run_id)


def _is_held(part: Part) -> bool:
    """Writes the run's own row, under the fence."""
    fence = part.fence
    if part.changes.run:
        own = Run.objects.filter(pk=fence.run_id, owner=fence.owner, attempt=fence.attempt, status=Run.Status.RUNNING)
        is_held = own.update(**part.changes.run, last_seq=part.last_seq) > 0
    else:
        is_held = statements.advance(
            run_id=fence.run_id, owner=fence.owner, attempt=fence.attempt, last_seq=part.last_seq
        )
    if is_held:
        return True
    part.error = LeaseLost(str(part.fence.run_id))
    return False


def _all(lists: Iterable[list[T]]) -> list[T]:
    return [item for items in lists for item in items]


def hold(fence: Fence) -> None:
    """In a transaction: keeps the run its owner's until the commit. Raises LeaseLost when it isn't any more."""
    own = Run.objects.select_for_update(of=("self",), no_key=True).filter(
        pk=fence.run_id, owner=fence.owner, attempt=fence.attempt, status=Run.Status.RUNNING
    )
    if own.first() is None:
        raise LeaseLost(str(fence.run_id))
