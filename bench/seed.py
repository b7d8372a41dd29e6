"""The baseline: what opschat grew from, a FastAPI process with a queue for each request, which stores nothing.

From the project's first benchmark; new are the reading of `bench N P` and the text of a piece, which numbers it. Its
five stages take no time; each piece is one event, after which the event loop goes round once, or the pace is waited
for.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

NAMES = {"A": "Classification", "B": "Selection", "C": "Planning", "D": "Answering", "E": "Execution"}
_REQUEST = re.compile(r"bench (\d+) (\d+(?:\.\d+)?)")

app = FastAPI()


class PipelineRequest(BaseModel):
    request: str
    context: dict[str, Any] | None = None
    user_id: str | None = None
    session_id: str | None = None


Emit = Callable[[dict[str, Any] | None], Awaitable[None]]


async def run_pipeline(emit: Emit, n_tokens: int, pace_ms: float) -> dict[str, Any]:
    t0 = time.perf_counter()
    for stage, name in NAMES.items():
        await emit({"type": "stage_start", "stage": stage, "name": name, "message": "working on your request..."})
        if stage == "D":
            for seq in range(n_tokens):
                await emit({"type": "token", "seq": seq, "t": time.perf_counter_ns(), "text": f"w{seq} "})
                await asyncio.sleep(pace_ms / 1000 if pace_ms else 0)
        await emit(
            {
                "type": "stage_complete",
                "stage": stage,
                "name": name,
                "duration_ms": 0,
                "message": f"{name} complete (0ms)",
            }
        )
    return {"type": "complete", "success": True, "total_duration_ms": (time.perf_counter() - t0) * 1000}


@app.post("/pipeline/stream")
async def pipeline_stream(request: PipelineRequest) -> StreamingResponse:
    found = _REQUEST.fullmatch(request.request)
    n, pace = (int(found[1]), float(found[2])) if found else (1, 0.0)

    async def event_generator() -> AsyncGenerator[str, None]:
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        yield f"data: {json.dumps({'type': 'start', 'message': 'Starting pipeline...'})}\n\n"

        async def process() -> dict[str, Any]:
            result = await run_pipeline(queue.put, n, pace)
            await queue.put(None)
            return result

        task = asyncio.create_task(process())
        while True:
            event = await queue.get()
            if event is None:
                break
            yield f"data: {json.dumps(event)}\n\n"
        yield f"data: {json.dumps(await task)}\n\n"

    return StreamingResponse(event_generator(), media_type="text/event-stream")
