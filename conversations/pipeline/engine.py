"""The Engine protocol: what an engine is asked in each stage and what it answers. It never touches a table's rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from conversations.pipeline.tools import Cell, Column, Filter, InThread, Match, Sort, SpokenTool, TableSpec

Intent = Literal[
    "asset_query", "export", "network_check", "asset_change", "smalltalk", "help", "knowledge", "unsupported"
]
ResponseType = Literal["information", "result", "clarification", "approval_request", "declined"]

#: Intents that need a tool. All others skip B, C and E.
TOOL_INTENTS: frozenset[Intent] = frozenset({"asset_query", "export", "network_check", "asset_change"})


@dataclass(frozen=True, kw_only=True)
class KnownTable:
    """A table as an engine sees it: its spec, the data's own words, and a way to look identifiers up."""

    spec: TableSpec
    #: Field -> distinct values, for category fields.
    vocabulary: Mapping[str, Sequence[str]]
    #: Synchronous; call it through `Request.in_thread`.
    find: Callable[[Sequence[str]], Sequence[Match]]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What every stage is given."""

    text: str
    now: datetime
    tables: tuple[KnownTable, ...]
    in_thread: InThread
    #: The caller's `context` object, stored with the run.
    context: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[SpokenTool, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Understood:
    """The request in structured form, shown to the user: what will be asked, in the table's own field names."""

    filters: tuple[Filter, ...] = ()
    columns: tuple[str, ...] = ()
    sort: tuple[Sort, ...] = ()
    limit: int | None = None
    group_by: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "filters": [f.to_dict() for f in self.filters],
            "columns": list(self.columns),
            "sort": [s.to_dict() for s in self.sort],
            "limit": self.limit,
            "group_by": list(self.group_by),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Understood:
        return cls(
            filters=tuple(Filter.from_dict(f) for f in data["filters"]),
            columns=tuple(data["columns"]),
            sort=tuple(Sort.from_dict(s) for s in data["sort"]),
            limit=data["limit"],
            group_by=tuple(data["group_by"]),
        )


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Stage A. `parsed` is the engine's own (JSON) and is handed back to it in the later stages."""

    intent: Intent
    understood: Understood = field(default_factory=Understood)
    #: Words of the request that play no part in what will be done, in their order; never dropped silently.
    unused_words: tuple[str, ...] = ()
    parsed: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "intent": self.intent,
            "understood": self.understood.to_dict(),
            "unused_words": list(self.unused_words),
            "parsed": dict(self.parsed),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Classification:
        return cls(
            intent=data["intent"],
            understood=Understood.from_dict(data["understood"]),
            unused_words=tuple(data["unused_words"]),
            parsed=data["parsed"],
        )


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    tool: str
    arguments: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return {"tool": self.tool, "arguments": dict(self.arguments)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ToolCall:
        return cls(tool=data["tool"], arguments=data["arguments"])


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Stage B. Empty `calls`: nothing to execute, C and E are skipped."""

    calls: tuple[ToolCall, ...] = ()
    #: More than one read-only call, or one that changes something: stage C runs.
    needs_plan: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Stage C: the calls in the order in which they run."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, kw_only=True)
class Executed:
    """One call's outcome, as stage D may speak of it and as `response.results` shows it."""

    tool: str
    arguments: Mapping[str, Any]
    kind: Literal["rows", "count", "groups", "check", "change"]
    #: Rows in the file, or groups, or the count.
    total: int
    matched: int
    truncated: bool = False
    columns: tuple[Column, ...] = ()
    #: The first ten rows.
    rows: tuple[tuple[Cell, ...], ...] = ()
    export_id: str | None = None
    #: A tool's refusal in words, else empty.
    refusal: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "tool": self.tool,
            "arguments": dict(self.arguments),
            "kind": self.kind,
            "total": self.total,
            "matched": self.matched,
            "truncated": self.truncated,
            "columns": [c.name for c in self.columns],
            "rows": [list(row) for row in self.rows],
            "export_id": self.export_id,
            "refusal": self.refusal,
        }

    def to_stored(self) -> dict[str, Any]:
        """As `to_dict`, and what a later attempt needs to go on from it."""
        return {**self.to_dict(), "column_types": [c.type for c in self.columns]}

    @classmethod
    def from_stored(cls, data: Mapping[str, Any]) -> Executed:
        """The outcome of a dict that `to_stored` made, also after JSON."""
        columns = zip(data["columns"], data["column_types"], strict=True)
        return cls(
            tool=data["tool"],
            arguments=data["arguments"],
            kind=data["kind"],
            total=data["total"],
            matched=data["matched"],
            truncated=data["truncated"],
            columns=tuple(Column(name=name, type=type_) for name, type_ in columns),
            rows=tuple(tuple(row) for row in data["rows"]),
            export_id=data["export_id"],
            refusal=data["refusal"],
        )


@dataclass(frozen=True, kw_only=True)
class TextPiece:
    """Markdown that the engine writes, streamed as it comes."""

    text: str


@dataclass(frozen=True, kw_only=True)
class TablePiece:
    """Here stands the table of `executed[index]`: the server writes it from the tool's rows."""

    index: int


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The last piece of stage D: what kind of answer it was."""

    response_type: ResponseType
    clarification: Mapping[str, Any] | None = None


class Engine(Protocol):
    """Understands requests and writes answers. Any exception ends the run in `error`."""

    #: Shown beside the answer: "Embedded engine".
    name: str

    async def classify(self, request: Request) -> Classification: ...

    async def select(self, request: Request, classification: Classification) -> Selection: ...

    async def plan(self, request: Request, classification: Classification, selection: Selection) -> Plan: ...

    def respond(
        self, request: Request, classification: Classification, executed: Sequence[Executed]
    ) -> AsyncIterator[TextPiece | TablePiece | Ending]:
        """Pieces of the answer in order, exactly one `Ending` last; never an empty answer."""
        ...
