"""The paced engine, for benchmarks: answers `bench N P` with N pieces, one each P milliseconds, through all stages.

Piece n, from 0, is the text `w<n> `: the same request gives the same answer, so loss, doubling and order can be judged
from it. With P 0 pieces come as fast as the pipeline takes them, which yields to the event loop after each.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Self

from conversations.pipeline.engine import (
    Classification,
    Ending,
    Executed,
    Plan,
    Request,
    Selection,
    TablePiece,
    TextPiece,
    ToolCall,
)
from conversations.pipeline.tools import Query

MAX_PIECES = 100_000
MAX_PACE_MS = 60_000

_REQUEST = re.compile(r"\s*bench\s+([0-9]{1,6})\s+([0-9]{1,5}(?:\.[0-9]{1,3})?)\s*", re.ASCII)
_USAGE = (
    f"I am for benchmarks: `bench N P` is answered with N pieces (1 to {MAX_PIECES:,}), "
    f"one each P milliseconds (0 to {MAX_PACE_MS:,})."
)


@dataclass(frozen=True, kw_only=True)
class _Order:
    """What a request asks for."""

    n_pieces: int
    pace_ms: float

    @classmethod
    def of(cls, text: str) -> Self | None:
        found = _REQUEST.fullmatch(text)
        if found is None:
            return None
        order = cls(n_pieces=int(found[1]), pace_ms=float(found[2]))
        return order if 1 <= order.n_pieces <= MAX_PIECES and order.pace_ms <= MAX_PACE_MS else None


class PacedEngine:
    """Understands nothing but `bench N P`."""

    name = "Paced engine"

    async def classify(self, request: Request) -> Classification:
        if _Order.of(request.text) is None:
            return Classification(intent="unsupported")
        return Classification(intent="asset_query")

    async def select(self, request: Request, classification: Classification) -> Selection:
        """Counts the first table's rows: a call that every installation has and that changes nothing, yet goes the way
        of a real one, through a worker thread to the database."""
        tables = [table.spec for table in request.tables[:1]]
        calls = [
            ToolCall(tool=spec.query_tool, arguments=Query(table=spec.name, count_only=True).to_dict())
            for spec in tables
        ]
        return Selection(calls=tuple(calls), needs_plan=True)

    async def plan(self, request: Request, classification: Classification, selection: Selection) -> Plan:
        return Plan(calls=selection.calls)

    async def respond(
        self, request: Request, classification: Classification, executed: Sequence[Executed]
    ) -> AsyncIterator[TextPiece | TablePiece | Ending]:
        order = _Order.of(request.text)
        if order is None:
            yield TextPiece(text=_USAGE)
            yield Ending(response_type="declined")
            return
        clock = asyncio.get_running_loop().time
        begun = clock()
        for number in range(order.n_pieces):
            # Each piece has its time since the beginning: what one is late, the next is not.
            wait_s = begun + number * order.pace_ms / 1000 - clock()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            yield TextPiece(text=f"w{number} ")
        yield Ending(response_type="information")
