"""The dictated engine inside a real server."""

from __future__ import annotations

import asyncio

from django.conf import settings

from conversations.pipeline.tools import registry
from tests.engines import DictatedEngine, ToyTool


class ServedEngine(DictatedEngine):
    """Brings its tool; `wait` holds until the file `go` is in the data folder."""

    def __init__(self) -> None:
        super().__init__()
        registry.add_tool(ToyTool())

    async def wait(self) -> None:
        gate = settings.DATA_DIR / "go"
        while not gate.exists():  # noqa: ASYNC110  the test that opens the gate is another process
            await asyncio.sleep(0.02)
