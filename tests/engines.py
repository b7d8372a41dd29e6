"""An engine whose answers the request itself dictates, and a toy tool: for tests of everything but understanding."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

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
from conversations.pipeline.tools import (
    Cell,
    Column,
    CountResult,
    Refusal,
    TableResult,
    ToolContext,
    ToolError,
    ToolResult,
)


class DictatedEngine:
    """Reads lines: `rows N`, `count N`, `refuse`, `break` (tool calls), `plan`, `fail X` (raise in stage X),
    `break off X` (a CancelledError that nobody sent), `wait`.

    Every other line is said as it stands. `wait` holds the answer until `go` is set.
    """

    name = "Dictated engine"

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def classify(self, request: Request) -> Classification:
        self._maybe_fail(request, "A")
        calls = _calls(request.text)
        return Classification(intent="export" if calls else "smalltalk", parsed={"n_calls": len(calls)})

    async def select(self, request: Request, classification: Classification) -> Selection:
        self._maybe_fail(request, "B")
        calls = _calls(request.text)
        return Selection(calls=calls, needs_plan="plan" in request.text.split("\n"))

    async def plan(self, request: Request, classification: Classification, selection: Selection) -> Plan:
        self._maybe_fail(request, "C")
        return Plan(calls=selection.calls)

    async def respond(
        self, request: Request, classification: Classification, executed: Sequence[Executed]
    ) -> AsyncIterator[TextPiece | TablePiece | Ending]:
        for line in request.text.split("\n"):
            if line == "wait":
                await self.wait()
            elif _command(line) is None:
                for word in line.replace(" ", " \n").split("\n"):
                    yield TextPiece(text=word)
                yield TextPiece(text="\n")
        self._maybe_fail(request, "D")
        for index, result in enumerate(executed):
            yield TablePiece(index=index) if result.rows else TextPiece(text=f"{result.total} {result.refusal}\n")
        if "no ending" not in request.text:
            yield Ending(response_type="result" if executed else "information")

    async def wait(self) -> None:
        await self.go.wait()

    def _maybe_fail(self, request: Request, stage: str) -> None:
        if f"break off {stage}" in request.text.split("\n"):
            raise asyncio.CancelledError
        if f"fail {stage}" in request.text.split("\n"):
            raise RuntimeError(f"secret path /etc/{stage}")


class ToyTool:
    """Gives as many rows as it is asked for: `n`, `text`."""

    name = "toy.make"
    description = "Makes rows."
    read_only = True
    idempotent = True

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        kind, n = arguments["kind"], arguments["n"]
        if kind == "break":
            raise ToolError("The toy is broken.", code="toy_broken")
        if kind == "refuse":
            return Refusal(message="The toy says no.")
        if kind == "count":
            return CountResult(total=n)
        columns = (Column(name="n", type="number"), Column(name="text", type="text"))
        return TableResult(kind="rows", columns=columns, open_rows=lambda: _rows(n), matched=n)


def _rows(n: int) -> Iterator[tuple[Cell, ...]]:
    for i in range(n):
        if i == 2_000_000:
            raise AssertionError("nobody asks for so many")
        yield (i, f"=text {i}" if i % 2 else None)


def _calls(text: str) -> tuple[ToolCall, ...]:
    commands = [_command(line) for line in text.split("\n")]
    return tuple(ToolCall(tool="toy.make", arguments=c) for c in commands if c and c["kind"] != "other")


def _command(line: str) -> dict[str, Any] | None:
    """The line as a command, or None when it is to be said."""
    word, _, number = line.partition(" ")
    if word in ("rows", "count") and number.isdigit():
        return {"kind": word, "n": int(number)}
    if line in ("refuse", "break"):
        return {"kind": line, "n": 0}
    return (
        {"kind": "other"}
        if line in ("plan", "wait", "no ending") or word == "fail" or line.startswith("break off")
        else None
    )
