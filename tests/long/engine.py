"""An engine and tools for fault tests: requests that last, that hang where they are told to, that change something."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from django.conf import settings

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
    TableResult,
    ToolContext,
    ToolResult,
    registry,
)
from tests.long import faults

_TOOLS = {"rows": "long.rows", "change": "long.change", "hang E": "long.hang"}
_COMMAND = re.compile(r"(rows|change|hang E)(?: (\S+))?")
_WORDS = re.compile(r"words (\d+) every (\d+) ms")


class LongEngine:
    """Reads lines: `plan`; `rows N`, `change KEY` (tool calls); `words N every M ms` (the answer); `hang X` (stage X
    does not end by itself, D after its words); `csv` (ends the answer with typed rows). `faults` reads others.

    Word n, from 0, is `w<n> `, and each tenth ends a paragraph. `held` is answered by what the process holds.
    """

    name = "Long engine"

    def __init__(self) -> None:
        registry.add_tool(Rows())
        registry.add_tool(Change())
        registry.add_tool(Hang())
        faults.install()

    async def classify(self, request: Request) -> Classification:
        await _maybe_hang(request, "A")
        return Classification(intent="export" if _calls(request) else "smalltalk")

    async def select(self, request: Request, classification: Classification) -> Selection:
        await _maybe_hang(request, "B")
        return Selection(calls=_calls(request), needs_plan="plan" in request.text.split("\n"))

    async def plan(self, request: Request, classification: Classification, selection: Selection) -> Plan:
        await _maybe_hang(request, "C")
        return Plan(calls=selection.calls)

    async def respond(
        self, request: Request, classification: Classification, executed: Sequence[Executed]
    ) -> AsyncIterator[TextPiece | TablePiece | Ending]:
        if request.text == "held":
            yield TextPiece(text=json.dumps(_held()))
        async for word in _words(request.text):
            yield TextPiece(text=word)
        await _maybe_hang(request, "D")
        for index, result in enumerate(executed):
            if result.rows:
                yield TablePiece(index=index)
        if "csv" in request.text.split("\n"):
            yield TextPiece(text="\n\n```csv\na,b\n1,2\n```\n")
            await asyncio.sleep(0.001)
        yield Ending(response_type="result" if executed else "information")


async def _words(text: str) -> AsyncIterator[str]:
    order = _WORDS.search(text)
    if order is None:
        return
    for number in range(int(order[1])):
        await asyncio.sleep(int(order[2]) / 1000)
        yield f"w{number} " if number % 10 != 9 else f"w{number}\n\n"


async def _maybe_hang(request: Request, stage: str) -> None:
    """Either way another turn of the event loop, as with a real engine."""
    await asyncio.sleep(0.001)
    if f"hang {stage}" in request.text.split("\n"):
        await asyncio.Event().wait()


def _calls(request: Request) -> tuple[ToolCall, ...]:
    commands = [_COMMAND.fullmatch(line) for line in request.text.split("\n")]
    return tuple(ToolCall(tool=_TOOLS[c[1]], arguments={"argument": c[2] or ""}) for c in commands if c)


def _held() -> dict[str, int]:
    """Numbers of what leaks."""
    return {
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
    }


class Rows:
    """Gives as many rows as it is asked for."""

    name = "long.rows"
    description = "Makes rows."
    read_only = True
    idempotent = True

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        n = int(arguments["argument"])
        columns = (Column(name="n", type="number"), Column(name="square", type="number"))
        return TableResult(kind="rows", columns=columns, open_rows=lambda: _rows(n), matched=n)


def _rows(n: int) -> Iterator[tuple[Cell, ...]]:
    return ((i, i * i) for i in range(n))


class Change:
    """Changes something that must not be changed twice: each call is a line in the file `calls`."""

    name = "long.change"
    description = "Changes something."
    read_only = False
    idempotent = False

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        with (settings.DATA_DIR / "calls").open("a", encoding="utf-8") as calls:
            calls.write(f"{arguments['argument']}\n")
        return CountResult(total=1)


class Hang:
    """Does not end by itself."""

    name = "long.hang"
    description = "Hangs."
    read_only = True
    idempotent = True

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        await asyncio.Event().wait()
        raise AssertionError("nobody ends it")
