"""The journal of a run: what each event changes in Message, Run and StageRun, in one transaction with it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.utils import timezone

from conversations.event_log import EventWriter, RowChange
from conversations.hub import Fence
from conversations.models import Message, Run, StageRun
from conversations.pipeline.earlier import Earlier
from conversations.pipeline.events import (
    Cancelled,
    Complete,
    Event,
    Failed,
    StageComplete,
    StageLetter,
    StageStart,
)


class RunJournal:
    """The orchestrator's journal of one claimed run: events to the writer, each with the rows it changes."""

    def __init__(self, writer: EventWriter, fence: Fence, earlier: Earlier) -> None:
        self._writer = writer
        self._fence = fence
        self._earlier = earlier

    def record(
        self, event: Event, *, stage_input: dict[str, Any] | None = None, stage_output: dict[str, Any] | None = None
    ) -> None:
        change = self._change(event, stage_input or {}, stage_output or {})
        self._writer.record(self._fence.run_id, event, change)

    def note(self, stage: StageLetter, output: dict[str, Any]) -> None:
        run_id, attempt, kept = self._fence.run_id, self._earlier.next_attempt(stage), dict(output)
        self._writer.change(run_id, lambda: _note(run_id, stage, attempt, kept))

    async def flush(self) -> None:
        await self._writer.flush(self._fence.run_id)

    def _change(self, event: Event, stage_input: dict[str, Any], stage_output: dict[str, Any]) -> RowChange | None:
        run_id = self._fence.run_id
        if isinstance(event, StageStart):
            return lambda: _start_stage(run_id, event, stage_input)
        if isinstance(event, StageComplete):
            attempt = self._earlier.next_attempt(event.stage)
            return lambda: end_stage(run_id, event, attempt, stage_output)
        if isinstance(event, Complete):
            return lambda: _succeed(run_id, event)
        if isinstance(event, Failed):
            return lambda: fail(run_id, event)
        if isinstance(event, Cancelled):
            return lambda: cancel(run_id, event)
        return None


def _start_stage(run_id: UUID, event: StageStart, stage_input: dict[str, Any]) -> None:
    StageRun.objects.create(
        run_id=run_id,
        stage=event.stage,
        attempt=event.attempt,
        status=StageRun.Status.RUNNING,
        input=stage_input,
        message=event.message,
        started_at=timezone.now(),
    )


def _note(run_id: UUID, stage: str, attempt: int, output: dict[str, Any]) -> None:
    StageRun.objects.filter(run=run_id, stage=stage, attempt=attempt).update(output=output)


def end_stage(run_id: UUID, event: StageComplete, attempt: int, output: dict[str, Any]) -> None:
    """Ends the stage run, or makes a skipped one, which never started."""
    values = {
        "status": event.status,
        "output": output,
        "message": event.message,
        "duration_ms": event.duration_ms,
    }
    if not StageRun.objects.filter(run=run_id, stage=event.stage, attempt=attempt).update(**values):
        StageRun.objects.create(run_id=run_id, stage=event.stage, attempt=attempt, started_at=timezone.now(), **values)


def _succeed(run_id: UUID, event: Complete) -> None:
    stages = StageRun.objects.filter(run=run_id, stage="D").order_by("-attempt").values_list("output", flat=True)
    blocks = stages[0].get("blocks", [])
    _end(run_id, event, blocks=blocks, status=Run.Status.SUCCEEDED, response=event.response)


def fail(run_id: UUID, event: Failed) -> None:
    code, message = event.error["code"][:40], event.error["message"]
    _end(run_id, event, status=Run.Status.FAILED, error_code=code, error_message=message)


def cancel(run_id: UUID, event: Cancelled) -> None:
    """The stage that it stopped in told no end."""
    StageRun.objects.filter(run=run_id, status=StageRun.Status.RUNNING).update(status=StageRun.Status.STOPPED)
    _end(run_id, event, status=Run.Status.CANCELLED)


def _end(run_id: UUID, event: Complete | Failed | Cancelled, *, blocks: list[Any] | None = None, **values: Any) -> None:
    Message.objects.filter(answered_run=run_id).update(text=event.message, blocks=blocks or [])
    Run.objects.filter(pk=run_id).update(
        **values, lease_until=None, finished_at=timezone.now(), total_duration_ms=event.total_duration_ms
    )
