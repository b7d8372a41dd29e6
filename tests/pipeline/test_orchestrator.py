from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from conversations.pipeline import events
from conversations.pipeline.events import (
    STAGES,
    TERMINAL,
    Complete,
    Event,
    ExportStored,
    Failed,
    StageComplete,
    StageLetter,
    Token,
)
from conversations.pipeline.job import Job, StoredExport
from conversations.pipeline.orchestrator import Orchestrator
from conversations.pipeline.tools import Cell, Progress, Registry, TableResult
from tests.engines import DictatedEngine, ToyTool

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Recorder:
    """A journal in memory."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.outputs: dict[str, Any] = {}
        self.n_flushed = 0

    def record(
        self, event: Event, *, stage_input: dict[str, Any] | None = None, stage_output: dict[str, Any] | None = None
    ) -> None:
        self.events.append(event)
        if isinstance(event, StageComplete):
            self.outputs[event.stage] = stage_output

    def note(self, stage: StageLetter, output: dict[str, Any]) -> None:
        self.outputs[stage] = output

    async def flush(self) -> None:
        self.n_flushed = len(self.events)

    def kinds(self) -> list[str]:
        """`stage_complete A completed`, `token`, …: one text an event, tokens once."""
        kinds: list[str] = []
        for event in self.events:
            kind = " ".join([event.type, getattr(event, "stage", None) or "", getattr(event, "status", "")]).strip()
            if kinds[-1:] != [kind]:
                kinds.append(kind)
        return kinds

    @property
    def text(self) -> str:
        text = ""
        for event in self.events:
            if isinstance(event, Token):
                text = text[: event.offset] + event.text
        return text


class MemorySink:
    """An export sink that keeps the rows."""

    def __init__(self) -> None:
        self.stored: list[tuple[str, list[tuple[Cell, ...]]]] = []

    async def store(
        self, result: TableResult, *, source: str, tool: str, query: dict[str, Any], title: str, progress: Progress
    ) -> StoredExport:
        rows = [tuple(row) for row in result.open_rows()]
        progress(50, "half")
        progress(20, "less")
        progress(100, "all")
        await asyncio.sleep(0)
        self.stored.append((source, rows))
        n = len(self.stored)
        return StoredExport(
            export_id=f"export-{n}",
            filename=f"export_{n}.csv",
            n_rows=len(rows),
            preview=tuple(rows[:10]),
            downloads={"csv": f"/exports/{n}/"},
        )


async def in_thread(function: Callable[..., Any], /, *args: Any) -> Any:
    return await asyncio.to_thread(function, *args)


async def passed(text: str) -> tuple[Recorder, MemorySink]:
    journal, sink = Recorder(), MemorySink()
    registry = Registry()
    registry.add_tool(ToyTool())
    job = Job(run_id="r", user_id=1, text=text, context={}, created_at=NOW - timedelta(seconds=2))
    engine = DictatedEngine()
    engine.go.set()
    await Orchestrator(
        job=job,
        engine=engine,
        registry=registry,
        journal=journal,
        exports=sink,
        in_thread=in_thread,
        tool_thread=in_thread,
        now=lambda: NOW,
    ).run()
    return journal, sink


async def test_an_export_goes_through_the_stages_in_order() -> None:
    journal, sink = await passed("rows 12\nHere they are:")
    assert journal.kinds() == [
        "stage_start A", "stage_complete A completed",
        "stage_start B", "stage_complete B completed",
        "stage_complete C skipped",
        "stage_start E", "stage_progress E", "export", "stage_complete E completed",
        "stage_start D", "token", "stage_complete D completed",
        "complete",
    ]  # fmt: skip
    assert [len(rows) for _, rows in sink.stored] == [12]
    assert journal.n_flushed == len(journal.events)


async def test_small_talk_skips_b_c_and_e() -> None:
    journal, _ = await passed("Hello there")
    skipped = [e for e in journal.events if isinstance(e, StageComplete) and e.status == "skipped"]
    assert [(e.stage, e.duration_ms) for e in skipped] == [("B", 0), ("C", 0), ("E", 0)]
    assert journal.kinds()[-1] == "complete"


async def test_planning_runs_when_the_engine_asks_for_it() -> None:
    journal, _ = await passed("plan\nrows 1\ncount 5")
    assert "stage_start C" in journal.kinds()
    assert [c["arguments"]["n"] for c in journal.outputs["C"]["calls"]] == [1, 5]


async def test_the_tokens_add_up_to_the_message() -> None:
    journal, _ = await passed("rows 3\nÜber 👍 all")
    complete = journal.events[-1]
    assert isinstance(complete, Complete)
    assert journal.text == complete.message
    assert "| 1 | =text 1 |" in complete.message


async def test_progress_never_falls() -> None:
    journal, _ = await passed("rows 1")
    percents = [e.percent for e in journal.events if isinstance(e, events.StageProgress)]
    assert percents == [50, 100]


async def test_the_block_of_a_table_spans_its_lines_in_the_answer() -> None:
    journal, _ = await passed("rows 2\nBefore:")
    output = journal.outputs["D"]
    (block,) = output["blocks"]
    lines = output["message"][block["start"] : block["end"]].splitlines()
    assert lines == ["| n | text |", "| --- | --- |", "| 0 |  |", "| 1 | =text 1 |"]
    assert block["export_id"] == "export-1"


async def test_a_fenced_csv_block_becomes_an_export() -> None:
    journal, sink = await passed('Look:\n```csv\na,b\n1,"x, y"\n2\n```\nDone.')
    assert sink.stored == [("text", [("1", "x, y"), ("2", None)])]
    exported = [e for e in journal.events if isinstance(e, ExportStored)]
    assert [(e.columns, e.rows) for e in exported] == [(["a", "b"], 2)]
    output = journal.outputs["D"]
    (block,) = output["blocks"]
    assert output["message"][block["start"] : block["end"]].startswith("```csv")
    kinds = journal.kinds()
    assert kinds.index("export") < kinds.index("stage_complete D completed")


async def test_a_count_has_its_number_and_no_export() -> None:
    journal, sink = await passed("count 7")
    complete = journal.events[-1]
    assert isinstance(complete, Complete)
    (result,) = complete.response["results"]
    assert (result["kind"], result["total"], result["export_id"]) == ("count", 7, None)
    assert sink.stored == []


async def test_a_refusal_is_a_result() -> None:
    journal, _ = await passed("refuse")
    complete = journal.events[-1]
    assert isinstance(complete, Complete)
    assert complete.response["results"][0]["refusal"] == "The toy says no."


@pytest.mark.parametrize("stage", list(STAGES))
async def test_whatever_raises_ends_the_run_in_one_error(stage: str, caplog: pytest.LogCaptureFixture) -> None:
    text = "break" if stage == "E" else f"plan\ncount 1\nSo far.\nfail {stage}"
    with caplog.at_level(logging.CRITICAL):
        journal, _ = await passed(text)
    assert [e.type for e in journal.events if e.type in TERMINAL] == ["error"]
    failed = journal.events[-1]
    assert isinstance(failed, Failed)
    assert failed.stage == stage
    assert "secret" not in str(failed)
    assert journal.kinds()[-2] == f"stage_complete {stage} failed"
    assert failed.error["code"] == ("toy_broken" if stage == "E" else "internal_error")
    assert failed.message == journal.text
    assert failed.total_duration_ms == 2000


async def test_a_cancel_from_within_is_a_failure_of_the_stage() -> None:
    journal, _ = await passed("So far.\nbreak off D")
    failed = journal.events[-1]
    assert isinstance(failed, Failed)
    assert (failed.stage, failed.message) == ("D", "So far.\n")


async def test_an_engine_that_says_nothing_is_an_error() -> None:
    journal, _ = await passed("plan\nno ending")
    failed = journal.events[-1]
    assert isinstance(failed, Failed)
    assert failed.error["code"] == "no_answer"


async def test_durations_are_those_of_the_stages() -> None:
    journal, _ = await passed("count 1")
    complete = journal.events[-1]
    assert isinstance(complete, Complete)
    assert list(complete.stage_durations) == ["A", "B", "C", "E", "D"]
    assert complete.total_duration_ms == 2000


@pytest.mark.parametrize(
    "event", [Token(text="a", offset=3), Failed(error={}, stage=None, message="", total_duration_ms=1)]
)
def test_an_event_survives_being_stored(event: Event) -> None:
    assert events.from_dict(event.type, events.to_dict(event)) == event
