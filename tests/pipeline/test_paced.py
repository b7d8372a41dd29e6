from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from conversations.pipeline.engine import Classification
from conversations.pipeline.job import Job
from conversations.pipeline.orchestrator import Orchestrator
from conversations.pipeline.paced import PacedEngine
from conversations.pipeline.tools import (
    Cell,
    CountResult,
    FieldSpec,
    Match,
    Query,
    Registry,
    TableResult,
    TableSpec,
)
from tests.pipeline.test_orchestrator import MemorySink, Recorder, in_thread
from tests.pipeline.toys import request

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Boats:
    """A table that counts how often it is asked."""

    spec = TableSpec(
        name="boats", noun=("boat", "boats"), noun_aliases=(), fields=(FieldSpec(name="name", type="text"),),
        preview_fields=("name",), query_tool="boats.query",
    )  # fmt: skip
    n_asked = 0

    def vocabulary(self) -> Mapping[str, Sequence[str]]:
        return {}

    def find(self, terms: Any) -> Sequence[Match]:
        return ()

    def query(self, query: Query) -> TableResult | CountResult:
        self.n_asked += 1
        if query.count_only:
            return CountResult(total=3)
        return TableResult(kind="rows", columns=(), open_rows=_no_rows, matched=0)


def _no_rows() -> Iterator[Sequence[Cell]]:
    return iter(())


async def passed(text: str, boats: Boats | None = None) -> Recorder:
    journal, registry = Recorder(), Registry()
    registry.add_table(boats or Boats(), description="Counts boats.")
    job = Job(run_id="r", user_id=1, text=text, context={}, created_at=NOW)
    await Orchestrator(
        job=job, engine=PacedEngine(), registry=registry, journal=journal, exports=MemorySink(),
        in_thread=in_thread, tool_thread=in_thread, now=lambda: NOW,
    ).run()  # fmt: skip
    return journal


async def test_a_bench_request_goes_through_all_five_stages_and_gives_its_pieces() -> None:
    boats = Boats()
    journal = await passed("bench 4 0", boats)
    assert [kind for kind in journal.kinds() if kind.startswith("stage_complete")] == [
        f"stage_complete {letter} completed" for letter in "ABCED"
    ]
    assert journal.kinds()[-1] == "complete"
    assert journal.text == "w0 w1 w2 w3 "
    assert boats.n_asked == 1


async def test_the_same_request_gives_the_same_text() -> None:
    assert (await passed("bench 30 0")).text == (await passed("  bench 30 0\n")).text


async def test_pieces_come_at_their_times_however_late_the_one_before_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, clock = asyncio.get_running_loop(), Clock()
    monkeypatch.setattr(loop, "time", clock.time)
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    clock.on_sleep = {20: 70}  # The third piece wakes 50 ms late.
    times = [
        clock.now_ms async for _ in PacedEngine().respond(request("bench 8 10"), Classification(intent="export"), ())
    ]
    assert times == [0, 10, 70, 70, 70, 70, 70, 70, 70]


class Clock:
    """Time that passes only while somebody sleeps; `on_sleep`: who would wake at this millisecond wakes at that."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.on_sleep: dict[float, float] = {}

    def time(self) -> float:
        return self.now_ms / 1000

    async def sleep(self, delay_s: float) -> None:
        due = round(self.now_ms + delay_s * 1000, 6)
        self.now_ms = self.on_sleep.get(due, due)


@pytest.mark.parametrize(
    "text", ["bench", "bench 10", "bench 0 5", "bench 200000 0", "bench 5 -1", "bench ٣ 0", "how many boats?"]
)
async def test_any_other_request_is_told_what_is_understood(text: str) -> None:
    boats = Boats()
    journal = await passed(text, boats)
    assert journal.text.startswith("I am for benchmarks: `bench N P`")
    assert "\n" not in journal.text
    assert boats.n_asked == 0
