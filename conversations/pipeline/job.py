"""What the orchestrator is given for one run: the job, and where its exports go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from conversations.pipeline.earlier import Earlier
from conversations.pipeline.stage import Json
from conversations.pipeline.tools import Cell, Progress, TableResult


@dataclass(frozen=True, kw_only=True)
class StoredExport:
    export_id: str
    filename: str
    n_rows: int
    #: The first ten rows, every column.
    preview: tuple[tuple[Cell, ...], ...]
    downloads: dict[str, str]


class ExportSink(Protocol):
    """Stores rows as a downloadable file."""

    async def store(
        self, result: TableResult, *, source: str, tool: str, query: Json, title: str, progress: Progress
    ) -> StoredExport:
        """Reads the rows of `result` to their end. All or nothing: when it raises, no file is left."""
        ...


@dataclass(frozen=True, kw_only=True)
class Job:
    """One pass of the pipeline over one message."""

    run_id: str
    user_id: int
    text: str
    context: Mapping[str, Any]
    #: When the request was stored; the total duration counts from here.
    created_at: datetime
    #: Stage -> median of its history in milliseconds.
    expected_ms: Mapping[str, float] = field(default_factory=dict)
    #: What need not be done again.
    earlier: Earlier = field(default_factory=Earlier)
