"""Every write to Conversation, Message, Run and StageRun.

Changes that belong to an event are handed to the event log as a function, so that both commit in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any, cast
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from conversations.event_log import EventWriter, RowChange
from conversations.hub import Fence, StoredEvent
from conversations.models import Conversation, Message, Run, RunEvent, StageRun
from conversations.pipeline import events
from conversations.pipeline.events import Complete, Event, Failed, StageComplete, StageLetter, StageStart, Start

#: Characters of one request (HTTP contract, "Asking").
MAX_REQUEST = 8000
#: Unfinished runs of one user (HTTP contract, "Asking").
MAX_UNFINISHED = 20
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


@transaction.atomic
def post_message(
    *,
    conversation: Conversation,
    user: AbstractBaseUser,
    text: str,
    context: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Run:
    """Stores the ask, the place of its answer, a queued run and its first event."""
    now = timezone.now()
    # Locks the conversation, so that two posts at once get two places.
    Conversation.objects.filter(pk=conversation.pk).update(n_messages=F("n_messages") + 2, updated_at=now)
    conversation.refresh_from_db()
    position = conversation.n_messages - 1
    if not conversation.title:
        conversation.title = _title(text)
        conversation.save(update_fields=["title"])
    ask = Message.objects.create(
        conversation=conversation, position=position, role=Message.Role.ASK, text=text, created_at=now
    )
    answer = Message.objects.create(
        conversation=conversation, position=position + 1, role=Message.Role.ANSWER, created_at=now
    )
    run = Run.objects.create(
        conversation=conversation,
        ask=ask,
        answer=answer,
        position=position,
        user_id=user.pk,
        context=dict(context or {}),
        idempotency_key=idempotency_key,
        last_seq=1,
        created_at=now,
    )
    RunEvent.objects.create(run=run, seq=1, type=Start.type, data=events.to_dict(start_event(run)), at=now)
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
    """A run that this owner executes now."""

    run: Run
    fence: Fence


@transaction.atomic
def claim(*, run_id: UUID, owner: str, engine: str) -> Claim | None:
    """Takes a queued run by one conditional UPDATE; None when another has it or an earlier one of its conversation
    still goes."""
    earlier = Run.objects.unfinished().filter(conversation=OuterRef("conversation"), position__lt=OuterRef("position"))
    taken = Run.objects.filter(~Exists(earlier), pk=run_id, status=Run.Status.QUEUED).update(
        status=Run.Status.RUNNING, owner=owner, attempt=F("attempt") + 1, engine=engine, started_at=timezone.now()
    )
    if not taken:
        return None
    run = Run.objects.select_related("ask", "conversation", "user").get(pk=run_id)
    return Claim(run=run, fence=fence_of(run))


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
    """Every waiting run, oldest first."""
    return list(
        Run.objects.filter(status=Run.Status.QUEUED).order_by("created_at", "position").values_list("pk", flat=True)
    )


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


class RunJournal:
    """The orchestrator's journal of one claimed run: events to the writer, each with the rows it changes."""

    def __init__(self, writer: EventWriter, fence: Fence) -> None:
        self._writer = writer
        self._fence = fence
        #: Nothing may follow it.
        self.is_ended = False

    def record(
        self, event: Event, *, stage_input: dict[str, Any] | None = None, stage_output: dict[str, Any] | None = None
    ) -> None:
        change = self._change(event, stage_input or {}, stage_output or {})
        self._writer.record(self._fence.run_id, event, change)
        self.is_ended = self.is_ended or event.type in events.TERMINAL

    async def flush(self) -> None:
        await self._writer.flush(self._fence.run_id)

    def _change(self, event: Event, stage_input: dict[str, Any], stage_output: dict[str, Any]) -> RowChange | None:
        fence = self._fence
        if isinstance(event, StageStart):
            return lambda: _start_stage(fence, event, stage_input)
        if isinstance(event, StageComplete):
            return lambda: _end_stage(fence, event, stage_output)
        if isinstance(event, Complete):
            return lambda: _succeed(fence.run_id, event)
        if isinstance(event, Failed):
            return lambda: _fail(fence.run_id, event)
        return None


def _start_stage(fence: Fence, event: StageStart, stage_input: dict[str, Any]) -> None:
    StageRun.objects.create(
        run_id=fence.run_id,
        stage=event.stage,
        attempt=fence.attempt,
        status=StageRun.Status.RUNNING,
        input=stage_input,
        message=event.message,
        started_at=timezone.now(),
    )


def _end_stage(fence: Fence, event: StageComplete, output: dict[str, Any]) -> None:
    """Ends the stage run, or makes a skipped one, which never started."""
    StageRun.objects.update_or_create(
        run_id=fence.run_id,
        stage=event.stage,
        attempt=fence.attempt,
        defaults={
            "status": event.status,
            "output": output,
            "message": event.message,
            "duration_ms": event.duration_ms,
        },
        create_defaults={
            "status": event.status,
            "output": output,
            "message": event.message,
            "duration_ms": event.duration_ms,
            "started_at": timezone.now(),
        },
    )


def _succeed(run_id: UUID, event: Complete) -> None:
    blocks = StageRun.objects.filter(run=run_id, stage="D").order_by("-attempt").values_list("output", flat=True)[0]
    Message.objects.filter(answered_run=run_id).update(text=event.message, blocks=blocks.get("blocks", []))
    Run.objects.filter(pk=run_id).update(
        status=Run.Status.SUCCEEDED,
        response=event.response,
        finished_at=timezone.now(),
        total_duration_ms=event.total_duration_ms,
    )


def _fail(run_id: UUID, event: Failed) -> None:
    Message.objects.filter(answered_run=run_id).update(text=event.message)
    Run.objects.filter(pk=run_id).update(
        status=Run.Status.FAILED,
        error_code=event.error["code"][:40],
        error_message=event.error["message"],
        finished_at=timezone.now(),
        total_duration_ms=event.total_duration_ms,
    )


# -- Ending without its task -----------------------------------------------------------------------------------------


@transaction.atomic
def abandon(*, run: Run, code: str, message: str) -> list[StoredEvent]:
    """Ends an unfinished run in `failed` from outside its task; its last events, none when it has ended already.

    Used for runs whose process died and for runs whose own events could not be stored.
    """
    now = timezone.now()
    run = Run.objects.select_for_update().get(pk=run.pk)
    if run.is_finished:
        return []
    ending: list[StageComplete] = []
    open_stage = StageRun.objects.filter(run=run, status=StageRun.Status.RUNNING).order_by("-started_at").first()
    if open_stage is not None:
        ending.append(_failed_stage(open_stage, now, message))
        _end_stage(fence_of(run), ending[0], open_stage.output)
    failed = Failed(
        error={"code": code, "message": message},
        stage=ending[0].stage if ending else None,
        message=_text_so_far(run),
        total_duration_ms=_milliseconds(now - run.created_at),
    )
    _fail(run.pk, failed)
    return _append(run, [*ending, failed], now)


def _failed_stage(stage: StageRun, now: datetime, message: str) -> StageComplete:
    letter = cast("StageLetter", stage.stage)
    return StageComplete(
        stage=letter,
        name=events.STAGES[letter],
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


def _milliseconds(duration: timedelta) -> float:
    return round(duration / timedelta(milliseconds=1), 1)


def abandon_interrupted() -> int:
    """At the start of the one process that executes runs: ends what a dead one left unfinished. Returns how many."""
    left = list(Run.objects.unfinished().order_by("created_at"))
    for run in left:
        abandon(
            run=run,
            code="interrupted",
            message="The server stopped while this request was waiting or running. Ask again to repeat it.",
        )
    return len(left)


def _text_so_far(run: Run) -> str:
    """The answer's tokens put together; each replaces from its offset."""
    text = ""
    for token in RunEvent.objects.filter(run=run, type="token").order_by("seq").values_list("data", flat=True):
        text = text[: token["offset"]] + token["text"]
    return text


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
