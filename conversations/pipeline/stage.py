"""One stage of a run while it runs: its events, its time, and what becomes of an exception."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from conversations.pipeline.events import STAGES, Event, StageComplete, StageLetter, StageProgress, StageStart
from conversations.pipeline.tools import ToolError

Json = dict[str, Any]

_STARTS: dict[StageLetter, str] = {
    "A": "Reading the request",
    "B": "Choosing the tool",
    "C": "Planning the steps",
    "E": "Running {tool}",
    "D": "Writing the answer",
}


class Journal(Protocol):
    """Where a run's events go. Called on the event loop's thread; `record` never waits."""

    def record(self, event: Event, *, stage_input: Json | None = None, stage_output: Json | None = None) -> None:
        """Adds the event after all earlier ones. A stage's input and output are stored with its event's row."""
        ...

    def note(self, stage: StageLetter, output: Json) -> None:
        """Stores what a running stage has got so far, in order with the events: the next attempt goes on from it."""
        ...

    async def flush(self) -> None:
        """Returns when all that was recorded is stored; raises what kept it from being stored."""
        ...


class StageFailed(Exception):
    """A stage could not do its work; the run ends in `error`."""

    def __init__(self, stage: StageLetter, code: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage
        self.code = code
        self.message = message


class Stage:
    """One stage while it runs: an async context manager that times it and turns whatever is raised into StageFailed."""

    def __init__(
        self,
        letter: StageLetter,
        *,
        journal: Journal,
        stage_input: Json,
        attempt: int,
        expected_ms: float | None,
        durations: dict[StageLetter, float],
        tool: str = "",
    ) -> None:
        self.journal = journal
        self.attempt = attempt
        self.expected_ms = expected_ms
        self.durations = durations
        self.letter = letter
        self.input = stage_input
        self.output: Json = {}
        self.message = _STARTS[letter].format(tool=tool)
        self.percent = -1
        self.ended = False

    async def __aenter__(self) -> Stage:
        event = StageStart(
            stage=self.letter,
            name=STAGES[self.letter],
            message=self.message,
            attempt=self.attempt,
            expected_ms=self.expected_ms,
        )
        self.started = time.perf_counter()
        self.journal.record(event, stage_input=self.input)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None:
            self._end("completed", "done")
        elif isinstance(error, Exception) or _broke_off(error):
            failure = self._failure(error)
            self._end("failed", failure.message)
            raise failure from error
        else:
            # Stopped: no event may follow, whatever a thread of the tool still tells.
            self.ended = True

    def progress(self, percent: float, message: str) -> None:
        """Records a whole percent once; it never falls."""
        whole = min(100, int(percent))
        if whole > self.percent and not self.ended:
            self.percent = whole
            self.journal.record(StageProgress(stage=self.letter, percent=whole, message=message))

    def _end(self, status: Any, message: str) -> None:
        self.ended = True
        duration_ms = round((time.perf_counter() - self.started) * 1000, 1)
        self.durations[self.letter] = duration_ms
        event = StageComplete(
            stage=self.letter, name=STAGES[self.letter], status=status, duration_ms=duration_ms, message=message
        )
        self.journal.record(event, stage_output=self.output)

    def _failure(self, error: BaseException) -> StageFailed:
        """What the user is told: a tool's own words, else only where it happened; the log has the rest."""
        if isinstance(error, StageFailed):
            return error
        if isinstance(error, ToolError):
            return StageFailed(self.letter, error.code, str(error))
        text = f"Something went wrong in {STAGES[self.letter]}. The server's log has the details of this run."
        return StageFailed(self.letter, "internal_error", text)


def _broke_off(error: BaseException) -> bool:
    """A CancelledError that nobody sent to this task: something inside was cancelled, and that is a failure."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()
