"""Stopping a run, in each stage and while it waits, and going on with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from django.contrib.auth.models import User

from conversations import event_log, runner, runs, threads
from conversations.hub import StoredEvent, hub
from conversations.models import AuditEntry, Conversation, Export, Run, StageRun
from conversations.pipeline.engine import Classification, Plan, Selection
from conversations.pipeline.events import TERMINAL, Cancelled, StageComplete, StageStart, Token
from conversations.pipeline.tools import CountResult, ToolContext, ToolResult, registry
from conversations.runner import EmbeddedRunner
from tests.engines import DictatedEngine

pytestmark = pytest.mark.django_db(transaction=True)


class HeldEngine(DictatedEngine):
    """Also holds the stages A, B and C: `hold X`."""

    async def classify(self, request: Any) -> Classification:
        await self._hold(request, "A")
        return await super().classify(request)

    async def select(self, request: Any, classification: Any) -> Selection:
        await self._hold(request, "B")
        return await super().select(request, classification)

    async def plan(self, request: Any, classification: Any, selection: Any) -> Plan:
        await self._hold(request, "C")
        return await super().plan(request, classification, selection)

    async def _hold(self, request: Any, stage: str) -> None:
        if f"hold {stage}" in request.text.split("\n"):
            await self.wait()


class HeldTool:
    """Waits for ever."""

    name = "toy.make"
    description = "Waits."
    read_only = True
    idempotent = True

    async def run(self, arguments: Any, context: ToolContext) -> ToolResult:
        await asyncio.get_running_loop().create_future()
        return CountResult(total=0)


@pytest.fixture
async def holding(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EmbeddedRunner]:
    hub.open()
    engine = HeldEngine()
    embedded = EmbeddedRunner(max_runs=4, engine=engine)
    monkeypatch.setattr(runner, "current", embedded)
    yield embedded
    engine.go.set()
    await embedded.stop()


def go_on(embedded: EmbeddedRunner) -> None:
    engine: Any = embedded.executor._engine
    engine.go.set()


async def submitted(user: User, text: str, conversation: Conversation | None = None) -> Run:
    return await threads.reading(lambda: runner.submit(user=user, text=text, conversation=conversation))


async def until(run: Run, wanted: Any) -> None:
    """Returns when the run has sent such an event."""
    async with asyncio.timeout(10):
        async for batch in event_log.tail(run.pk, after=0):
            if any(wanted(stored.event) for stored in batch):
                return


async def ended(run: Run) -> list[StoredEvent]:
    async with asyncio.timeout(10):
        return [stored async for batch in event_log.tail(run.pk, after=0) for stored in batch]


async def read(run: Run) -> Run:
    return await threads.reading(lambda: Run.objects.select_related("answer").get(pk=run.pk))


async def cancelled(run: Run, user: User) -> Cancelled:
    """Asks for the end; the last event of the run, when it is `cancelled` and nothing follows it."""
    await threads.reading(lambda: runner.cancel(run=run, user=user))
    events = await ended(run)
    last = events[-1].event
    assert isinstance(last, Cancelled)
    assert [s.event.type for s in events if s.event.type in TERMINAL] == ["cancelled"]
    return last


def is_start_of(letter: str) -> Any:
    return lambda event: isinstance(event, StageStart) and event.stage == letter


STAGES_STOPPED: list[tuple[str, str, list[str], list[str]]] = [
    ("A", "hold A\nHi", [], ["A", "B", "C", "E", "D"]),
    ("B", "hold B\ncount 1", ["A"], ["B", "C", "E", "D"]),
    ("C", "hold C\nplan\ncount 1", ["A", "B"], ["C", "E", "D"]),
    ("E", "count 1", ["A", "B"], ["E", "D", "C"]),
    ("D", "wait\nHi", ["A"], ["D", "B", "C", "E"]),
]


@pytest.mark.parametrize("case", STAGES_STOPPED, ids=[case[0] for case in STAGES_STOPPED])
async def test_a_run_is_stopped_in_any_stage(
    alice: User, holding: EmbeddedRunner, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, list[str], list[str]]
) -> None:
    stage, text, ran, not_run = case
    if stage == "E":
        monkeypatch.setitem(registry._tools, "toy.make", HeldTool())
    run = await submitted(alice, text)
    await until(run, is_start_of(stage))
    event = await cancelled(run, alice)
    assert (event.ran, event.not_run) == (ran, not_run)
    # By the signal, not by the next look at the rows; the machine's own slowness is no part of it.
    assert event.stop_ms < 1000
    done = await read(run)
    assert (done.status, done.lease_until) == ("cancelled", None)
    stages = await threads.reading(lambda: dict(StageRun.objects.filter(run=run).values_list("stage", "status")))
    assert stages[stage] == "stopped"
    ends = [s.event.stage for s in await ended(run) if isinstance(s.event, StageComplete)]
    assert stage not in ends


async def test_the_partial_answer_is_kept(alice: User, holding: EmbeddedRunner) -> None:
    run = await submitted(alice, "Said before.\nwait\nNever said.")
    await until(run, lambda event: isinstance(event, Token))
    event = await cancelled(run, alice)
    assert event.message == (await read(run)).answer.text == "Said before.\n"


async def test_a_waiting_run_is_stopped_at_once_and_the_next_one_begins(alice: User, holding: EmbeddedRunner) -> None:
    first = await submitted(alice, "wait\nOne")
    conversation = await threads.reading(lambda: Conversation.objects.get(pk=first.conversation_id))
    second = await submitted(alice, "Two", conversation)
    third = await submitted(alice, "Three", conversation)
    await until(first, is_start_of("D"))
    await threads.reading(lambda: runner.cancel(run=second, user=alice))
    # Ended when the call returns, by nobody's task.
    assert (await read(second)).status == "cancelled"
    assert (await read(third)).status == "queued"
    event = (await ended(second))[-1].event
    assert isinstance(event, Cancelled)
    assert (event.ran, event.not_run, event.message) == ([], ["A", "B", "C", "E", "D"], "")
    go_on(holding)
    await ended(third)
    assert [(await read(run)).status for run in (first, third)] == ["succeeded", "succeeded"]


async def test_the_next_message_begins_when_a_run_was_stopped(alice: User, holding: EmbeddedRunner) -> None:
    first = await submitted(alice, "wait\nOne")
    conversation = await threads.reading(lambda: Conversation.objects.get(pk=first.conversation_id))
    second = await submitted(alice, "Two", conversation)
    await until(first, is_start_of("D"))
    await cancelled(first, alice)
    await ended(second)
    assert (await read(second)).status == "succeeded"


async def test_a_lost_signal_costs_no_more_than_a_beat(
    alice: User, holding: EmbeddedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await submitted(alice, "wait\nHi")
    await until(run, is_start_of("D"))
    monkeypatch.setattr(hub, "look_again", lambda _: None)
    event = await cancelled(run, alice)
    assert event.stop_ms < 2500


async def test_a_finished_run_cannot_be_stopped(alice: User, holding: EmbeddedRunner) -> None:
    run = await submitted(alice, "Hi")
    await ended(run)
    with pytest.raises(runs.AlreadyEnded):
        await threads.reading(lambda: runner.cancel(run=run, user=alice))
    assert (await read(run)).status == "succeeded"


async def test_stopping_twice_is_stopping_once(alice: User, holding: EmbeddedRunner) -> None:
    run = await submitted(alice, "wait\nHi")
    await until(run, is_start_of("D"))
    await asyncio.gather(
        *(threads.reading(lambda: runner.cancel(run=run, user=alice)) for _ in range(3)), return_exceptions=True
    )
    await ended(run)
    assert await threads.reading(AuditEntry.objects.filter(action="run.cancel", object_id=str(run.pk)).count) == 1


async def test_a_run_that_ends_while_it_is_asked_to_stop_ends_once(alice: User, holding: EmbeddedRunner) -> None:
    for _ in range(10):
        run = await submitted(alice, "count 1\nHi")
        with suppress(runs.AlreadyEnded):
            await threads.reading(lambda run=run: runner.cancel(run=run, user=alice))
        terminal = [s.event.type for s in await ended(run) if s.event.type in TERMINAL]
        assert terminal in (["complete"], ["cancelled"])


class TalkativeTool(HeldTool):
    """Tells how far it is after it was stopped, as a thread of it may."""

    async def run(self, arguments: Any, context: ToolContext) -> ToolResult:
        try:
            return await super().run(arguments, context)
        finally:
            context.progress(50, "still here")


async def test_nothing_follows_whatever_a_stopped_tool_tells(
    alice: User, holding: EmbeddedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._tools, "toy.make", TalkativeTool())
    run = await submitted(alice, "count 1")
    await until(run, is_start_of("E"))
    await cancelled(run, alice)
    stored = await threads.reading(event_log.stored_after, run.pk, 0)
    assert [s.event.type for s in stored][-2:] == ["stage_start", "cancelled"]


async def test_a_stopped_export_leaves_no_file(alice: User, holding: EmbeddedRunner) -> None:
    run = await submitted(alice, "rows 1900000")
    await until(run, lambda event: event.type == "stage_progress")
    await cancelled(run, alice)
    assert not await threads.reading(Export.objects.filter(run=run).exists)


# -- Going on --------------------------------------------------------------------------------------------------------


async def test_a_stopped_run_is_gone_on_with_from_what_it_had_done(alice: User, holding: EmbeddedRunner) -> None:
    old = await submitted(alice, "rows 3\nHere.\nwait")
    await until(old, is_start_of("D"))
    await cancelled(old, alice)
    before = [s.seq for s in await ended(old)]
    go_on(holding)
    new = await threads.reading(lambda: runner.resume(run=old, user=alice))
    events = await ended(new)
    done = await read(new)
    assert (done.status, done.resumes_id, done.conversation_id) == ("succeeded", old.pk, old.conversation_id)
    kinds = [(s.event.stage, s.event.duration_ms) for s in events if isinstance(s.event, StageComplete)]
    assert kinds[:4] == [("A", 0), ("B", 0), ("C", 0), ("E", 0)]
    assert [s.event.stage for s in events if isinstance(s.event, StageStart)] == ["A", "B", "E", "D"]
    # The file is the old run's: it was not made again.
    assert done.response is not None
    (result,) = done.response["results"]
    export = await threads.reading(lambda: Export.objects.get(pk=result["export_id"]))
    assert export.run_id == old.pk
    assert done.answer.blocks[0]["export_id"] == result["export_id"]
    assert (await read(old)).status == "cancelled"
    assert [s.seq for s in await ended(old)] == before


async def test_a_failed_run_is_gone_on_with_from_the_stage_that_failed(alice: User, holding: EmbeddedRunner) -> None:
    old = await submitted(alice, "count 1\nfail D")
    await ended(old)
    new = await threads.reading(lambda: runner.resume(run=old, user=alice))
    started = [s.event for s in await ended(new) if isinstance(s.event, StageStart)]
    assert [(event.stage, "reused" in event.message) for event in started] == [
        ("A", True),
        ("B", True),
        ("E", True),
        ("D", False),
    ]


async def test_resuming_twice_gives_one_run(alice: User, holding: EmbeddedRunner) -> None:
    old = await submitted(alice, "fail A")
    await ended(old)
    first = await threads.reading(lambda: runner.resume(run=old, user=alice))
    second = await threads.reading(lambda: runner.resume(run=old, user=alice))
    assert first.pk == second.pk


async def test_only_a_failed_or_stopped_run_is_gone_on_with(alice: User, holding: EmbeddedRunner) -> None:
    run = await submitted(alice, "Hi")
    await ended(run)
    with pytest.raises(runs.NotResumable):
        await threads.reading(lambda: runner.resume(run=run, user=alice))


async def test_stopping_and_going_on_are_audited(alice: User, holding: EmbeddedRunner) -> None:
    run = await submitted(alice, "wait\nHi")
    await until(run, is_start_of("D"))
    await cancelled(run, alice)
    await threads.reading(lambda: runner.resume(run=run, user=alice))
    entries = await threads.reading(
        lambda: list(
            AuditEntry.objects.filter(action__in=("run.cancel", "run.resume"))
            .order_by("at")
            .values_list("action", "actor_name")
        )
    )
    assert entries == [("run.cancel", "alice"), ("run.resume", "alice")]
