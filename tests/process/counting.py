"""The dictated engine of a server that also tells what it holds: to see whether anything was left behind."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

from conversations.pipeline.engine import Classification, Ending, Executed, Request, TablePiece, TextPiece
from tests.served import ServedEngine


class CountingEngine(ServedEngine):
    """Answers `held` with JSON: tasks of the event loop by coroutine, number of threads, open files of exports."""

    async def respond(
        self, request: Request, classification: Classification, executed: Sequence[Executed]
    ) -> AsyncIterator[TextPiece | TablePiece | Ending]:
        if request.text == "held":
            yield TextPiece(text=json.dumps(held()))
            yield Ending(response_type="information")
            return
        async for piece in super().respond(request, classification, executed):
            yield piece


def held() -> dict[str, Any]:
    coroutines: list[Any] = [task.get_coro() for task in asyncio.all_tasks()]
    return {
        "tasks": Counter(coroutine.__qualname__ for coroutine in coroutines),
        "threads": threading.active_count(),
        "files": [path for path in _open_files() if "/exports/" in path],
    }


def _open_files() -> list[str]:
    paths = []
    for number in os.listdir("/proc/self/fd"):
        try:
            paths.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue  # The one that listed them.
    return paths
