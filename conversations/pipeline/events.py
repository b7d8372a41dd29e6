"""The events of a run: one frozen dataclass a kind, as the HTTP contract names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

StageLetter = Literal["A", "B", "C", "E", "D"]

#: The stages in the order in which they run: execution comes before the response, so that what is executed is answered.
STAGES: dict[StageLetter, str] = {
    "A": "Classification",
    "B": "Tool Selection",
    "C": "Planning",
    "E": "Execution",
    "D": "Response Generation",
}


@dataclass(frozen=True, kw_only=True)
class Start:
    """The request is stored; also sent while it waits."""

    type: ClassVar[str] = "start"
    request_id: str
    conversation_id: str
    message: str


@dataclass(frozen=True, kw_only=True)
class StageStart:
    type: ClassVar[str] = "stage_start"
    stage: StageLetter
    name: str
    message: str
    attempt: int
    #: Median of this stage's history, or null.
    expected_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class StageProgress:
    type: ClassVar[str] = "stage_progress"
    stage: StageLetter
    #: 0-100, never falls within an attempt.
    percent: int
    message: str


@dataclass(frozen=True, kw_only=True)
class StageComplete:
    type: ClassVar[str] = "stage_complete"
    stage: StageLetter
    name: str
    status: Literal["completed", "skipped", "failed"]
    duration_ms: float
    message: str


@dataclass(frozen=True, kw_only=True)
class Token:
    """A piece of the answer; it replaces everything from `offset` (Unicode code points before it)."""

    type: ClassVar[str] = "token"
    text: str
    offset: int


@dataclass(frozen=True, kw_only=True)
class ExportStored:
    """An export was stored; its file can be downloaded from now on."""

    type: ClassVar[str] = "export"
    export_id: str
    filename: str
    rows: int
    columns: list[str]
    #: Format -> path.
    downloads: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Complete:
    type: ClassVar[str] = "complete"
    success: Literal[True] = True
    total_duration_ms: float
    #: The whole markdown answer.
    message: str
    response: dict[str, Any]
    #: Milliseconds.
    stage_durations: dict[StageLetter, float]


@dataclass(frozen=True, kw_only=True)
class Failed:
    type: ClassVar[str] = "error"
    success: Literal[False] = False
    #: `code` and `message`; the message is for the user: no paths, no secrets.
    error: dict[str, str]
    #: The stage it failed in, or null.
    stage: StageLetter | None
    #: The answer so far.
    message: str
    total_duration_ms: float


@dataclass(frozen=True, kw_only=True)
class Cancelled:
    type: ClassVar[str] = "cancelled"
    success: Literal[False] = False
    message: str
    total_duration_ms: float
    #: From being asked to stop until this event.
    stop_ms: float
    #: Completed stages.
    ran: list[StageLetter] = field(default_factory=list)
    #: The rest, the one it stopped in first.
    not_run: list[StageLetter] = field(default_factory=list)


Event = Start | StageStart | StageProgress | StageComplete | Token | ExportStored | Complete | Failed | Cancelled

#: Exactly one of these ends a run.
TERMINAL: frozenset[str] = frozenset({Complete.type, Failed.type, Cancelled.type})

#: Of a stage that the resumed run has done: how its message begins.
REUSED = "reused"

#: Name -> class: every kind of the union above.
KINDS: dict[str, type[Any]] = {kind.type: kind for kind in get_args(Event)}


def to_dict(event: Event) -> dict[str, Any]:
    """The event's fields without `type`: what a RunEvent row stores.

    Lists and dicts in it are the event's own, nobody changes them: `asdict` copies them, in ten times the time.
    """
    return dict(vars(event))


def from_dict(kind: str, data: Mapping[str, Any]) -> Event:
    """The event of a RunEvent row. Raises KeyError for an unknown kind, TypeError for unknown fields."""
    event: Event = KINDS[kind](**data)
    return event
