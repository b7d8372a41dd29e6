"""What happens to runs from outside the task that executes them: leases, stopping, taking over, ending."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from conversations import audit, journal, runs, threads
from conversations.commit import Changes
from conversations.hub import Batch, StoredEvent, batch_of
from conversations.models import Run, RunEvent, StageRun
from conversations.models.chat import RunQuerySet
from conversations.pipeline import events
from conversations.pipeline.events import STAGES, Cancelled, Event, Failed, StageComplete, StageLetter

if TYPE_CHECKING:
    from conversations.models import Caller

#: How often a run is claimed before it is given up.
MAX_ATTEMPTS = 3


# -- Leases ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Held:
    """What the rows say of the runs that an owner executes."""

    #: Run -> attempt, of those that are still the owner's.
    attempts: dict[UUID, int]
    #: Run -> when it was asked to stop.
    cancels: dict[UUID, datetime]


@threads.write_turn()
@transaction.atomic
def renew(*, owner: str, run_ids: Collection[UUID]) -> Held:
    """Makes the owner's leases last LEASE_S again. Three queries, whatever the number of runs."""
    own = Run.objects.filter(pk__in=run_ids, owner=owner, status=Run.Status.RUNNING)
    # In the order in which events are written: two that lock rows crosswise deadlock.
    list(own.select_for_update(no_key=True).order_by("pk").values_list("pk"))
    own.update(lease_until=runs.lease_end())
    rows = list(own.values_list("pk", "attempt", "cancel_requested_at"))
    return Held(
        attempts={run_id: attempt for run_id, attempt, _ in rows},
        cancels={run_id: asked_at for run_id, _, asked_at in rows if asked_at is not None},
    )


@threads.write_turn()
@transaction.atomic
def release(*, owner: str) -> list[UUID]:
    """Gives back what a stopping owner did not end: any process may take it at once. The runs' ids."""
    own = Run.objects.filter(owner=owner, status=Run.Status.RUNNING)
    run_ids = list(own.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))
    own.filter(pk__in=run_ids).update(status=Run.Status.QUEUED, owner="", lease_until=None)
    return run_ids


def expire_all() -> int:
    """Ends every lease: for the one process of a data folder, which starts. How many runs were left."""
    return Run.objects.filter(status=Run.Status.RUNNING).update(lease_until=None)


@threads.write_turn()
@transaction.atomic
def requeue_expired(*, but: Collection[UUID]) -> list[UUID]:
    """Puts the runs without a living owner back into the queue, at once; their ids, oldest first.

    Not those that are to be ended instead: given up, or asked to stop.
    """
    lost = _expired(but).filter(cancel_requested_at=None, attempt__lt=MAX_ATTEMPTS).order_by("created_at")
    # What another process looks at in this moment is its own.
    run_ids = list(lost.select_for_update(skip_locked=True, no_key=True).values_list("pk", flat=True))
    Run.objects.filter(pk__in=run_ids).update(status=Run.Status.QUEUED, owner="", lease_until=None)
    return run_ids


def expired(*, but: Collection[UUID]) -> list[UUID]:
    """Runs without a living owner, oldest first."""
    return list(_expired(but).order_by("created_at").values_list("pk", flat=True))


@threads.write_turn()
@transaction.atomic
def end_expired(*, run_id: UUID) -> Batch | None:
    """Ends a run without a living owner that was asked to stop or is given up; None for any other."""
    run = _expired(()).select_for_update(of=("self",), no_key=True, skip_locked=True).filter(pk=run_id).first()
    if run is None:
        return None
    if run.cancel_requested_at is not None:
        return _batch(run, _cancelled(run))
    if run.attempt < MAX_ATTEMPTS:
        return None
    message = f"The server stopped {run.attempt} times while it worked on this request, which was then given up."
    return _batch(run, _failed(run, "interrupted", message))


def _expired(but: Collection[UUID]) -> RunQuerySet:
    over = Q(lease_until__lt=Now()) | Q(lease_until=None)
    return Run.objects.filter(over, status=Run.Status.RUNNING).exclude(pk__in=but)


# -- Stopping --------------------------------------------------------------------------------------------------------


@threads.write_turn()
@transaction.atomic
def request_cancel(*, run: Run, user: Caller, origin: audit.Origin | None) -> Batch | None:
    """Asks for the run's end. A waiting run ends here and now, by the batch; of a running one its owner is to be told.

    Raises runs.AlreadyEnded.
    """
    run = Run.objects.select_for_update(of=("self",), no_key=True).get(pk=run.pk)
    if run.is_finished:
        raise runs.AlreadyEnded
    is_first = run.cancel_requested_at is None
    if is_first:
        run.cancel_requested_at = timezone.now()
        run.save(update_fields=["cancel_requested_at"])
    ending = _batch(run, _cancelled(run)) if run.status == Run.Status.QUEUED else None
    if is_first:
        audit.record(actor=user, action="run.cancel", object_type="run", object_id=run.pk, origin=origin)
    return ending


def _cancelled(run: Run) -> list[StoredEvent]:
    """Ends a run that nobody executes as stopped."""
    now = timezone.now()
    rows = list(StageRun.objects.filter(run=run).order_by("attempt"))
    newest = {row.stage: row.status for row in rows}
    ran = [letter for letter in STAGES if newest.get(letter) == StageRun.Status.COMPLETED]
    rest = [letter for letter in STAGES if letter not in ran]
    event = Cancelled(
        message=_text_so_far(run),
        total_duration_ms=_milliseconds(now - run.created_at),
        stop_ms=_milliseconds(now - (run.cancel_requested_at or now)),
        ran=ran,
        not_run=sorted(rest, key=lambda letter: newest.get(letter) == StageRun.Status.SKIPPED),
    )
    changes = Changes()
    journal.end_run(changes, event, blocks=[])
    changes.write(run.pk)
    return _append(run, [event], now)


# -- Ending without its task -----------------------------------------------------------------------------------------


@threads.write_turn()
@transaction.atomic
def abandon(*, run: Run, code: str, message: str) -> list[StoredEvent]:
    """Ends a run in `failed` whose own events could not be stored; its last events.

    None when it has ended already, or is another owner's by now.
    """
    found = Run.objects.select_for_update(of=("self",), no_key=True).get(pk=run.pk)
    if found.is_finished or (found.owner, found.attempt) != (run.owner, run.attempt):
        return []
    return _failed(found, code, message)


def _failed(run: Run, code: str, message: str) -> list[StoredEvent]:
    now = timezone.now()
    changes = Changes()
    ending: list[StageComplete] = []
    open_stage = StageRun.objects.filter(run=run, status=StageRun.Status.RUNNING).order_by("-started_at").first()
    if open_stage is not None:
        ending.append(_failed_stage(open_stage, now, message))
        journal.end_stage(changes, ending[0], open_stage.attempt, open_stage.output)
    failed = Failed(
        error={"code": code, "message": message},
        stage=ending[0].stage if ending else None,
        message=_text_so_far(run),
        total_duration_ms=_milliseconds(now - run.created_at),
    )
    journal.end_run(changes, failed, blocks=[])
    changes.write(run.pk)
    return _append(run, [*ending, failed], now)


def _failed_stage(stage: StageRun, now: datetime, message: str) -> StageComplete:
    letter = cast("StageLetter", stage.stage)
    return StageComplete(
        stage=letter,
        name=STAGES[letter],
        status="failed",
        duration_ms=_milliseconds(now - stage.started_at),
        message=message,
    )


def _append(run: Run, new: list[Event], now: datetime) -> list[StoredEvent]:
    """Stores events after the run's newest one."""
    stored = [StoredEvent(seq=seq, event=event) for seq, event in enumerate(new, start=run.last_seq + 1)]
    RunEvent.objects.bulk_create(
        RunEvent(run=run, seq=s.seq, type=s.event.type, data=events.to_dict(s.event), at=now) for s in stored
    )
    Run.objects.filter(pk=run.pk).update(last_seq=stored[-1].seq)
    return stored


def _batch(run: Run, stored: list[StoredEvent]) -> Batch:
    return batch_of(runs.fence_of(run), stored)


def _milliseconds(duration: timedelta) -> float:
    return round(duration / timedelta(milliseconds=1), 1)


def _text_so_far(run: Run) -> str:
    """The answer's tokens put together; each replaces from its offset."""
    text = ""
    for token in RunEvent.objects.filter(run=run, type="token").order_by("seq").values_list("data", flat=True):
        text = text[: token["offset"]] + token["text"]
    return text
