"""Conversations, messages and runs: asking, claiming, reading. What events change is in `journal`, what happens to
runs from outside in `recovery`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Any, Literal, cast
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Exists, F, Max, OuterRef, Value
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from conversations import statements, threads
from conversations.hub import Fence, StoredEvent
from conversations.models import Conversation, Message, Run, RunEvent, StageRun
from conversations.models.chat import RunQuerySet
from conversations.pipeline import events
from conversations.pipeline.earlier import Earlier, StageRecord
from conversations.pipeline.events import StageLetter, StageStart, Start

#: Characters of one request (HTTP contract, "Asking").
MAX_REQUEST = 8000
#: Unfinished runs of one user (HTTP contract, "Asking").
MAX_UNFINISHED = 20
#: Seconds for which a claimed run is its owner's, who renews them each second.
LEASE_S = 4.0
#: Error code of a run whose tool may or may not have done its work (`pipeline.earlier`).
OUTCOME_UNKNOWN = "outcome_unknown"
_TITLE = 80
#: Stage runs that the expected duration is the median of.
_HISTORY = 50


class InvalidRequest(ValueError):
    """What the user sent can't be taken; `field` names it, the message says what to do."""

    def __init__(self, field: str | None, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class TooManyRuns(Exception):
    """You have 20 requests that are not finished. Wait for one of them."""

    retry_after_s = 5

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class AlreadyEnded(Exception):
    """The run has ended already."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class NotResumable(Exception):
    """Only a run that failed or was stopped can be gone on with."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)


# -- Asking ----------------------------------------------------------------------------------------------------------


def check_text(field: str, text: str) -> str:
    """The text as it came. Raises InvalidRequest for NUL and lone surrogates, which databases and files can't hold."""
    if "\x00" in text:
        raise InvalidRequest(field, f"“{field}” has a NUL character; remove it.")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise InvalidRequest(field, f"“{field}” has half a surrogate pair; send valid Unicode.")
    return text


def check_request(field: str, text: str) -> str:
    """The request as it came. Raises InvalidRequest when it is blank, too long or holds what can't be stored."""
    check_text(field, text)
    if not text.strip():
        raise InvalidRequest(field, "The request is empty; write what you want to know.")
    if len(text) > MAX_REQUEST:
        raise InvalidRequest(field, f"The request has {len(text):,} characters; {MAX_REQUEST:,} is the most.")
    return text


def open_conversation(*, owner: AbstractBaseUser, session_name: str | None = None) -> Conversation:
    """A new conversation; with a `session_name` the owner's one of that name, made on first use."""
    if session_name is None:
        return Conversation.objects.create(owner_id=owner.pk)
    return Conversation.objects.get_or_create(owner_id=owner.pk, session_name=session_name)[0]


def check_resumable(run: Run) -> None:
    """Raises NotResumable."""
    if run.status not in (Run.Status.FAILED, Run.Status.CANCELLED):
        raise NotResumable
    if run.error_code == OUTCOME_UNKNOWN:
        raise NotResumable("A tool had begun that must not be repeated; check there, then ask again.")


@transaction.atomic
def post_message(
    *,
    conversation: Conversation,
    user: AbstractBaseUser,
    text: str,
    context: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
    resumes: Run | None = None,
) -> Run:
    """Stores the ask, the place of its answer, a queued run and its first event; and the conversation, if it is new."""
    now = timezone.now()
    is_new = conversation._state.adding
    if not is_new:
        # Locked, so that two posts at once get two places.
        conversation = Conversation.objects.select_for_update(no_key=True).get(pk=conversation.pk)
    position = conversation.n_messages + 1
    conversation.n_messages += 2
    conversation.title = conversation.title or _title(text)
    conversation.updated_at = now
    if is_new:
        conversation.save(force_insert=True)
    else:
        conversation.save(update_fields=["n_messages", "title", "updated_at"])
    ask, answer = Message.objects.bulk_create(
        Message(conversation=conversation, position=position + n, role=role, text=said, created_at=now)
        for n, (role, said) in enumerate(((Message.Role.ASK, text), (Message.Role.ANSWER, "")))
    )
    run = Run.objects.create(
        conversation=conversation,
        ask=ask,
        answer=answer,
        position=position,
        user_id=user.pk,
        context=dict(context or {}),
        idempotency_key=idempotency_key,
        resumes=resumes,
        last_seq=1,
        created_at=now,
    )
    started = StoredEvent(seq=1, event=start_event(run))
    statements.insert_events([(run.pk, 1, Start.type, started.fields, now)])
    return run


def start_event(run: Run) -> Start:
    """The run's first event; its number is 1."""
    return Start(request_id=str(run.pk), conversation_id=str(run.conversation_id), message="Request stored")


def _title(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TITLE else line[: _TITLE - 1].rstrip() + "…"


# -- Executing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A run that this owner executes now, and what was done of it before."""

    run: Run
    fence: Fence
    earlier: Earlier


@threads.write_turn()
@transaction.atomic
def claim(*, run_id: UUID, owner: str, engine: str) -> Claim | None:
    """Takes a queued run by one conditional UPDATE; None when another has it or an earlier one of its conversation
    still goes.

    What a lost attempt wrote of the answer goes from the log: its numbers are missing then.
    """
    now = timezone.now()
    taken = _whose_turn_it_is().filter(pk=run_id).update(
        status=Run.Status.RUNNING,
        owner=owner,
        attempt=F("attempt") + 1,
        engine=engine,
        started_at=Coalesce("started_at", Value(now)),
        lease_until=lease_end(),
    )  # fmt: skip
    if not taken:
        return None
    run = Run.objects.select_related("ask").get(pk=run_id)
    if run.attempt > 1:
        _forget_lost(run)
    return Claim(run=run, fence=fence_of(run), earlier=earlier_of(run))


def _whose_turn_it_is() -> RunQuerySet:
    """Queued runs without an unfinished one before them in their conversation."""
    before = Run.objects.unfinished().filter(conversation=OuterRef("conversation"), position__lt=OuterRef("position"))
    return Run.objects.filter(~Exists(before), status=Run.Status.QUEUED)


def lease_end() -> CombinedExpression:
    """By the database's clock, which all processes share."""
    return Now() + timedelta(seconds=LEASE_S)


def _forget_lost(run: Run) -> None:
    """The stage that a lost attempt was in begins anew: what it wrote of the answer goes."""
    open_stages = StageRun.objects.filter(run=run, status=StageRun.Status.RUNNING)
    for letter in open_stages.values_list("stage", flat=True):
        began = RunEvent.objects.filter(run=run, type=StageStart.type, data__stage=letter).aggregate(seq=Max("seq"))
        lost = ("token", "export") if letter == "D" else ("token",)
        RunEvent.objects.filter(run=run, type__in=lost, seq__gt=began["seq"] or 0).delete()
    open_stages.update(status=StageRun.Status.STOPPED, message="the server stopped")


def earlier_of(run: Run) -> Earlier:
    """What earlier attempts of the run have done, and before them the run that it resumes, but for its answer."""
    if run.attempt == 1 and run.resumes_id is None:
        return Earlier()
    rows = list(StageRun.objects.filter(run=run).order_by("attempt"))
    records = {row.stage: _record(row, is_own=True) for row in rows}
    if run.resumes_id is not None:
        inherited = StageRun.objects.filter(run=run.resumes_id).exclude(stage="D").order_by("attempt")
        records = {row.stage: _record(row, is_own=False) for row in inherited} | records
    return Earlier(
        records=cast("dict[StageLetter, StageRecord]", records),
        attempts=cast("dict[StageLetter, int]", {row.stage: row.attempt for row in rows}),
    )


def _record(row: StageRun, *, is_own: bool) -> StageRecord:
    ended: dict[str, Literal["completed", "skipped"]] = {
        StageRun.Status.COMPLETED: "completed",
        StageRun.Status.SKIPPED: "skipped",
    }
    return StageRecord(
        status=ended.get(row.status, "unfinished"),
        output=row.output,
        duration_ms=row.duration_ms or 0,
        is_own=is_own,
    )


def fence_of(run: Run) -> Fence:
    return Fence(
        run_id=run.pk,
        conversation_id=run.conversation_id,
        user_id=run.user_id,
        owner=run.owner,
        attempt=run.attempt,
    )


def next_queued(conversation_id: UUID) -> UUID | None:
    """The oldest waiting run of the conversation."""
    run: UUID | None = (
        Run.objects.filter(conversation=conversation_id, status=Run.Status.QUEUED)
        .order_by("position")
        .values_list("pk", flat=True)
        .first()
    )
    return run


def all_queued() -> list[UUID]:
    """Every waiting run whose turn it is, oldest first."""
    return list(_whose_turn_it_is().order_by("created_at", "position").values_list("pk", flat=True))


def expected_durations() -> dict[str, float]:
    """Stage letter -> median milliseconds of its newest completed stage runs; stages without history are absent."""
    found: dict[str, float] = {}
    for letter in events.STAGES:
        newest = (
            StageRun.objects.filter(stage=letter, status=StageRun.Status.COMPLETED, duration_ms__isnull=False)
            .order_by("-started_at")
            .values_list("duration_ms", flat=True)[:_HISTORY]
        )
        if durations := [duration for duration in newest if duration is not None]:
            found[letter] = round(median(durations), 1)
    return found


# -- Reading ---------------------------------------------------------------------------------------------------------


def summary(run: Run) -> dict[str, Any]:
    """The run object of the HTTP contract. One query for the stages; `ask` and `answer` should be loaded."""
    error = {"code": run.error_code, "message": run.error_message} if run.status == Run.Status.FAILED else None
    return {
        "run_id": str(run.pk),
        "conversation_id": str(run.conversation_id),
        "request": run.ask.text,
        "status": run.status,
        "resumes": str(run.resumes_id) if run.resumes_id else None,
        "stages": _stages(run),
        "message": run.answer.text,
        "response": run.response,
        "error": error,
        "total_duration_ms": run.total_duration_ms,
    }


def _stages(run: Run) -> list[dict[str, Any]]:
    """The newest attempt of each stage that began or was skipped, in their order."""
    newest: dict[str, StageRun] = {}
    for stage in run.stages.order_by("attempt"):
        newest[stage.stage] = stage
    return [
        {
            "stage": letter,
            "name": name,
            "status": newest[letter].status,
            "attempt": newest[letter].attempt,
            "duration_ms": newest[letter].duration_ms,
        }
        for letter, name in events.STAGES.items()
        if letter in newest
    ]
