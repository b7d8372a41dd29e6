"""What the page shows of a run: read from its rows, moved on by its events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from django.db.models import prefetch_related_objects
from django.utils import timezone

from conversations import runner
from conversations.models import Export, Message, Run, RunEvent, StageRun
from conversations.pipeline import events
from conversations.pipeline.events import STAGES, StageLetter

#: What a run can go on from.
RESUMABLE = (Run.Status.FAILED, Run.Status.CANCELLED)

StageStatus = Literal["waiting", "running", "completed", "skipped", "failed", "stopped", "not_run"]


@dataclass(frozen=True, kw_only=True)
class StageState:
    letter: StageLetter
    status: StageStatus = "waiting"
    message: str = ""
    #: 0-100 while the stage tells how far it is.
    percent: int | None = None
    started_at: datetime | None = None
    duration_ms: float | None = None
    #: 2 and more: begun again after a crash.
    attempt: int = 1
    #: Code points of the answer before the stage began.
    offset: int | None = None

    @property
    def name(self) -> str:
        return STAGES[self.letter]

    @property
    def is_reused(self) -> bool:
        """The run that this one resumes has done it."""
        return self.status == "completed" and self.message.startswith(events.REUSED)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a page has been sent of a run; `frame` draws what changed since."""

    seq: int
    status: str
    stages: dict[StageLetter, StageState]
    doing: tuple[str, str]
    text: str


@dataclass(kw_only=True)
class RunState:
    """Everything the page shows of one run."""

    run_id: UUID
    conversation_id: UUID
    ask: Message
    answer: Message
    engine: str
    created_at: datetime
    status: str = Run.Status.QUEUED
    #: The newest event that this state has seen.
    seq: int = 0
    stages: dict[StageLetter, StageState] = field(default_factory=lambda: {s: StageState(letter=s) for s in STAGES})
    #: The answer so far, markdown.
    text: str = ""
    #: Name of the file written last.
    filename: str = ""
    total_duration_ms: float | None = None
    error_code: str = ""
    error_message: str = ""
    #: Somebody has asked to stop it, as far as the rows knew when they were read.
    is_stopping: bool = False
    #: The run that this one goes on with.
    resumes: Run | None = None
    #: Another run goes on with this one.
    is_resumed: bool = False
    response: dict[str, Any] = field(default_factory=dict)
    #: By their id, in the order in which they were stored; known when the run has ended.
    exports: dict[str, Export] = field(default_factory=dict)
    #: The rows hold more than the events told: read them before drawing the end.
    is_behind_rows: bool = False

    @classmethod
    def of_runs(cls, runs: Iterable[Run]) -> list[RunState]:
        """States of the runs, in their order, in a constant number of queries.

        A finished run is read from its rows, an unfinished one is replayed from its events.
        """
        rows = list(runs)
        prefetch_related_objects(rows, "ask", "answer", "stages", "exports__files", "resumes")
        prefetch_related_objects([run for run in rows if run.status in RESUMABLE], "resumed_by")
        open_ids = [run.pk for run in rows if not run.is_finished]
        log: dict[UUID, list[RunEvent]] = defaultdict(list)
        if open_ids:
            for row in RunEvent.objects.filter(run__in=open_ids).order_by("run", "seq"):
                log[row.run_id].append(row)
        shown = exports_shown([run for run in rows if run.is_finished])
        return [
            cls._finished(run, shown[run.pk]) if run.is_finished else cls._replayed(run, log[run.pk]) for run in rows
        ]

    @classmethod
    def just_stored(cls, run: Run) -> Self:
        """The run as its first event tells it, however far it is: the rest comes from who follows the events."""
        state = cls._blank(run)
        state.seq = 1
        return state

    @classmethod
    def _blank(cls, run: Run) -> Self:
        return cls(
            run_id=run.pk,
            conversation_id=run.conversation_id,
            ask=run.ask,
            answer=run.answer,
            # A run that waits will be answered by the engine of this server.
            engine=run.engine or runner.engine().name,
            created_at=run.created_at,
            is_stopping=run.cancel_requested_at is not None,
            resumes=run.resumes,
        )

    @classmethod
    def _finished(cls, run: Run, exports: dict[str, Export]) -> Self:
        state = cls._blank(run)
        state.is_resumed = run.status in RESUMABLE and bool(run.resumed_by.all())
        state._take_rows(run, exports)
        return state

    @classmethod
    def _replayed(cls, run: Run, log: Sequence[RunEvent]) -> Self:
        state = cls._blank(run)
        for row in log:
            state.apply(row.seq, events.from_dict(row.type, row.data), at=row.at)
        # Above the newest row there may have been tokens of an attempt that was lost.
        state.seq = max(state.seq, run.last_seq)
        if state.is_finished:
            # The run ended between the two queries.
            state.read_rows()
        return state

    def read_rows(self) -> None:
        """Reads the finished run again: exports and their places in the text are in no event."""
        run = (
            Run.objects.select_related("ask", "answer", "conversation")
            .prefetch_related("stages", "exports__files")
            .get(pk=self.run_id)
        )
        self._take_rows(run, exports_shown([run])[run.pk])

    def _take_rows(self, run: Run, exports: dict[str, Export]) -> None:
        self.answer = run.answer
        self.engine = run.engine or self.engine
        self.status = run.status
        self.seq = max(self.seq, run.last_seq)
        self.text = run.answer.text
        self.total_duration_ms = run.total_duration_ms
        self.error_code, self.error_message = run.error_code, run.error_message
        self.response = run.response or {}
        self.exports = exports
        self.is_behind_rows = False
        latest = {row.stage: row for row in sorted(run.stages.all(), key=lambda row: row.attempt)}
        self.stages = {letter: self._ended_stage(letter, latest.get(letter)) for letter in STAGES}

    def _ended_stage(self, letter: StageLetter, row: StageRun | None) -> StageState:
        if row is None:
            return StageState(letter=letter, status="not_run")
        status: Any = row.status
        if status not in ("completed", "skipped", "failed"):
            status = "failed" if self.status == Run.Status.FAILED else "stopped"
        return StageState(
            letter=letter, status=status, message=row.message, duration_ms=row.duration_ms, attempt=row.attempt
        )

    @property
    def is_finished(self) -> bool:
        return self.status not in Run.UNFINISHED

    @property
    def current_stage(self) -> StageState | None:
        return next((s for s in self.stages.values() if s.status == "running"), None)

    @property
    def doing(self) -> tuple[str, str]:
        """What the running stage says, and its name; two empty texts between stages."""
        stage = self.current_stage
        return (stage.name, stage.message) if stage else ("", "")

    def mark(self) -> Mark:
        return Mark(seq=self.seq, status=self.status, stages=dict(self.stages), doing=self.doing, text=self.text)

    def apply(self, seq: int, event: events.Event, *, at: datetime | None = None) -> None:
        """Moves the state on by one event; one that it has seen already changes nothing. `at`: when it happened."""
        if seq <= self.seq:
            return
        self.seq = seq
        match event:
            case events.StageStart() | events.StageProgress() | events.StageComplete():
                self._move_stage(event, at or timezone.now())
            case events.Token():
                self.text = self.text[: event.offset] + event.text
            case events.ExportStored():
                self.filename = event.filename
            case events.Complete() | events.Failed() | events.Cancelled():
                self._end(event)
            case events.Start():
                pass

    def _move_stage(self, event: events.StageStart | events.StageProgress | events.StageComplete, at: datetime) -> None:
        if isinstance(event, events.StageStart):
            self._begin_stage(event, at)
        elif isinstance(event, events.StageProgress):
            self._change(event.stage, percent=event.percent, message=event.message)
        else:
            self._change(event.stage, status=event.status, duration_ms=event.duration_ms, message=event.message)

    def _begin_stage(self, event: events.StageStart, at: datetime) -> None:
        """What an attempt that was lost has written is taken back: the stage writes it again."""
        self.status = Run.Status.RUNNING
        offset = self.stages[event.stage].offset
        if offset is None or event.attempt == 1:
            offset = len(self.text)
        self.text = self.text[:offset]
        self.stages[event.stage] = StageState(
            letter=event.stage,
            status="running",
            message=event.message,
            started_at=at,
            attempt=event.attempt,
            offset=offset,
        )

    def _change(self, letter: StageLetter, **values: Any) -> None:
        self.stages[letter] = replace(self.stages[letter], **values)

    def _end(self, event: events.Complete | events.Failed | events.Cancelled) -> None:
        self.text = event.message
        self.total_duration_ms = event.total_duration_ms
        self.is_behind_rows = True
        if isinstance(event, events.Complete):
            self.status, self.response = Run.Status.SUCCEEDED, event.response
            self._complete_without_rows()
        elif isinstance(event, events.Failed):
            self.status = Run.Status.FAILED
            self.error_code, self.error_message = event.error["code"], event.error["message"]
        else:
            self.status = Run.Status.CANCELLED
        unfinished: dict[StageStatus, StageStatus] = {
            "running": "failed" if self.status == Run.Status.FAILED else "stopped",
            "waiting": "not_run",
        }
        for letter, stage in self.stages.items():
            self._change(letter, status=unfinished.get(stage.status, stage.status))

    def _complete_without_rows(self) -> None:
        """Only exports, and where they stand in the text, are in no event."""
        if not self.filename and self.resumes is None:
            self.answer.text = self.text
            self.is_behind_rows = False


def exports_shown(runs: Sequence[Run]) -> dict[UUID, dict[str, Export]]:
    """Run -> the exports of its answer by their id, in the order in which they were stored.

    Deleted ones are there when the answer names them: what was said of them stays. Later runs of an export are none.

    A run that goes on with another names that one's exports in its answer: they take one query more for all runs.
    """
    found = {run.pk: {str(export.pk): export for export in run.exports.all()} for run in runs}
    named = {run.pk: {span["export_id"] for span in run.answer.blocks} - found[run.pk].keys() for run in runs}
    if wanted := set().union(*named.values()):
        conversations = {run.conversation_id for run in runs}
        theirs = Export.objects.filter(pk__in=wanted, run__conversation__in=conversations)
        others = theirs.select_related("run__conversation").prefetch_related("files")
        for export in others:
            for pk in (pk for pk, ids in named.items() if str(export.pk) in ids):
                found[pk][str(export.pk)] = export
    answers = {run.pk: {span["export_id"] for span in run.answer.blocks} for run in runs}
    return {pk: _in_order(exports, answers[pk]) for pk, exports in found.items()}


def _in_order(exports: dict[str, Export], named: Collection[str]) -> dict[str, Export]:
    rows = sorted(exports.values(), key=lambda export: (export.created_at, export.position))
    return {
        str(row.pk): row for row in rows if row.again_of_id is None and (row.deleted_at is None or str(row.pk) in named)
    }
