"""The journal of a run: what each of its events changes in Message, Run and StageRun, in one transaction with it."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from conversations.commit import Changes, RowChange
from conversations.event_log import EventWriter
from conversations.hub import Fence
from conversations.models import Run, StageRun
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

Json = dict[str, Any]


class RunJournal:
    """The orchestrator's journal of one claimed run: events to the writer, each with the rows it changes."""

    def __init__(self, writer: EventWriter, fence: Fence, earlier: Earlier) -> None:
        self._writer = writer
        self._fence = fence
        self._earlier = earlier
        #: Where exports stand in the answer, from stage D's output.
        self._blocks: list[Any] = (earlier.output_of("D") or {}).get("blocks", [])

    def record(self, event: Event, *, stage_input: Json | None = None, stage_output: Json | None = None) -> None:
        change = self._change(event, stage_input or {}, stage_output or {})
        self._writer.record(self._fence.run_id, event, change)

    def note(self, stage: StageLetter, output: Json) -> None:
        attempt, kept = self._earlier.next_attempt(stage), dict(output)
        self._writer.change(self._fence.run_id, lambda rows: rows.change_stage(stage, attempt, output=kept))

    async def flush(self) -> None:
        await self._writer.flush(self._fence.run_id)

    def _change(self, event: Event, stage_input: Json, stage_output: Json) -> RowChange | None:
        if isinstance(event, StageStart):
            return lambda rows: _begin_stage(rows, event, stage_input)
        if isinstance(event, StageComplete):
            if event.stage == "D":
                self._blocks = stage_output.get("blocks", [])
            attempt = self._earlier.next_attempt(event.stage)
            return lambda rows: end_stage(rows, event, attempt, stage_output)
        if isinstance(event, Complete | Failed | Cancelled):
            blocks = self._blocks if isinstance(event, Complete) else []
            return lambda rows: end_run(rows, event, blocks=blocks)
        return None


def _begin_stage(rows: Changes, event: StageStart, stage_input: Json) -> None:
    rows.begin_stage(
        event.stage,
        event.attempt,
        status=StageRun.Status.RUNNING,
        input=stage_input,
        message=event.message,
        started_at=timezone.now(),
    )


def end_stage(rows: Changes, event: StageComplete, attempt: int, output: Json) -> None:
    """Ends the stage run, or makes a skipped one, which never started."""
    if event.status == "skipped":
        rows.begin_stage(event.stage, attempt, started_at=timezone.now())
    rows.change_stage(
        event.stage,
        attempt,
        status=event.status,
        output=output,
        message=event.message,
        duration_ms=event.duration_ms,
    )


def end_run(rows: Changes, event: Complete | Failed | Cancelled, *, blocks: list[Any]) -> None:
    """`blocks`: where exports stand in the answer."""
    rows.answer.update(text=event.message, blocks=blocks)
    rows.run.update(
        lease_until=None, finished_at=timezone.now(), total_duration_ms=event.total_duration_ms, **_ending(event)
    )
    # The stage that it stopped in told no end.
    rows.stops_stages = isinstance(event, Cancelled)


def _ending(event: Complete | Failed | Cancelled) -> Json:
    if isinstance(event, Complete):
        return {"status": Run.Status.SUCCEEDED, "response": event.response}
    if isinstance(event, Failed):
        code, message = event.error["code"][:40], event.error["message"]
        return {"status": Run.Status.FAILED, "error_code": code, "error_message": message}
    return {"status": Run.Status.CANCELLED}
