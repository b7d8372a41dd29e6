"""What earlier attempts have done of a run: outputs of stages that need not be repeated, and calls that must not be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from conversations.pipeline.engine import Executed, ToolCall
from conversations.pipeline.events import StageLetter
from conversations.pipeline.stage import Json, StageFailed
from conversations.pipeline.tools import Tool


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """What is stored of a stage; of one that ended neither way, what it had noted."""

    status: Literal["completed", "skipped", "unfinished"]
    output: Json
    duration_ms: float
    #: Its events are events of this run; otherwise it was a stage of the run that this one resumes.
    is_own: bool


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The newest record of each stage that began or was skipped, and how often each stage of this run began."""

    records: Mapping[StageLetter, StageRecord] = field(default_factory=dict)
    attempts: Mapping[StageLetter, int] = field(default_factory=dict)

    def next_attempt(self, letter: StageLetter) -> int:
        return self.attempts.get(letter, 0) + 1

    def output_of(self, letter: StageLetter) -> Json | None:
        record = self.records.get(letter)
        return record.output if record is not None and record.status == "completed" else None

    def was_skipped(self, letter: StageLetter) -> bool:
        """And this run has said so."""
        record = self.records.get(letter)
        return record is not None and record.status == "skipped" and record.is_own


class Calls:
    """The calls of stage E, one after the other, with what is noted of them before and after each.

    A call that was begun and whose end is not known is repeated only when its tool says that this does no harm.
    """

    def __init__(self, calls: Sequence[ToolCall], record: StageRecord | None) -> None:
        noted = record.output if record is not None and record.status == "unfinished" else {}
        self.calls = calls
        self.executed = [Executed.from_stored(result) for result in noted.get("results", ())]
        self._begun: int | None = noted.get("calling")

    @property
    def left(self) -> Sequence[ToolCall]:
        return self.calls[len(self.executed) :]

    def begin(self, tool: Tool) -> Json:
        """To be stored before the next call. Raises StageFailed when it was begun before and must not be repeated."""
        number = len(self.executed)
        if self._begun == number and not tool.idempotent:
            raise StageFailed(
                "E",
                "outcome_unknown",
                f"{tool.name} had begun when the server stopped, and whether it did its work is unknown. "
                "It was not repeated: check there before you ask again.",
            )
        self._begun = number
        return {**self.output, "calling": number}

    def end(self, executed: Executed) -> Json:
        """To be stored after the call."""
        self.executed.append(executed)
        return self.output

    @property
    def output(self) -> Json:
        return {"results": [e.to_stored() for e in self.executed]}
