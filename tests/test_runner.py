"""submit, claim, execute, and what a stopped process leaves behind."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import FieldDoesNotExist
from django.db import OperationalError

from conversations import event_log, execution, journal, recovery, runner, runs, threads
from conversations.commit import Changes, LeaseLost
from conversations.event_log import EventWriter
from conversations.hub import Batch, StoredEvent, hub
from conversations.models import AuditEntry, Conversation, Message, Run, RunEvent, StageRun
from conversations.pipeline.events import TERMINAL, Complete, Failed, Token
from conversations.runner import EmbeddedRunner
from tests.engines import DictatedEngine

pytestmark = pytest.mark.django_db(transaction=True)


async def submitted(user: User, text: str, conversation: Conversation | None = None) -> Run:
    return await threads.reading(lambda: runner.submit(user=user, text=text, conversation=conversation))


async def ended(run: Run) -> list[StoredEvent]:
    """The run's events, all of them."""
    async with asyncio.timeout(10):
        return [stored async for batch in event_log.tail(run.pk, after=0) for stored in batch]


async def read(run: Run) -> Run:
    return await threads.reading(lambda: Run.objects.select_related("answer").get(pk=run.pk))


def engine_of(running: EmbeddedRunner) -> DictatedEngine:
    engine: Any = running.executor._engine
    assert isinstance(engine, DictatedEngine)
    return engine


def unstorable_success(event: Complete | Failed) -> dict[str, Any]:
    """What a successful end changes, with something in it that no row can hold."""
    return {"no_such_field": 1} if isinstance(event, Complete) else {"status": "failed", "error_code": "storage_failed"}


async def test_a_message_is_answered(alice: User, running: EmbeddedRunner) -> None:
    run = await submitted(alice, "rows 2\nHere:")
    events = await ended(run)
    done = await read(run)
    assert (done.status, done.last_seq, done.attempt) == ("succeeded", len(events), 1)
    assert done.answer.text == events[-1].event.message  # type: ignore[union-attr]
    assert [block["start"] for block in done.answer.blocks] == [7]
    assert done.engine == "Dictated engine"


async def test_a_stages_input_and_output_are_stored(alice: User, running: EmbeddedRunner) -> None:
    run = await submitted(alice, "count 3\nSo:")
    await ended(run)
    stages = await threads.reading(lambda: {s.stage: s for s in StageRun.objects.filter(run=run)})
    assert stages["A"].input["request"] == "count 3\nSo:"
    assert stages["A"].output["intent"] == "export"
    assert stages["B"].output["calls"][0]["arguments"] == {"kind": "count", "n": 3}
    assert stages["E"].output["results"][0]["total"] == 3
    assert stages["D"].output["message"].startswith("So:")
    assert (stages["C"].status, stages["C"].duration_ms) == ("skipped", 0)
    assert all(stage.duration_ms is not None for stage in stages.values())


async def test_the_first_message_names_the_conversation(alice: User, running: EmbeddedRunner) -> None:
    run = await submitted(alice, "  Hello\n  there " + "x" * 100)
    title = await threads.reading(lambda: Conversation.objects.get(pk=run.conversation_id).title)
    assert title.startswith("Hello there xxx")
    assert (len(title), title[-1]) == (80, "…")


async def test_asking_is_audited(alice: User, running: EmbeddedRunner) -> None:
    run = await submitted(alice, "Hi")
    entry = await threads.reading(lambda: AuditEntry.objects.get(action="run.submit"))
    assert (entry.actor_id, entry.actor_name, entry.object_id) == (alice.pk, "alice", str(run.pk))


async def test_runs_of_one_conversation_go_one_at_a_time_in_order(alice: User, running: EmbeddedRunner) -> None:
    first = await submitted(alice, "wait\nOne.")
    conversation = await threads.reading(lambda: Conversation.objects.get(pk=first.conversation_id))
    others = [await submitted(alice, f"count {n}", conversation) for n in range(3)]
    elsewhere = await submitted(alice, "Elsewhere.")
    await ended(elsewhere)
    assert [(await read(run)).status for run in others] == ["queued"] * 3
    engine_of(running).go.set()
    for run in (first, *others):
        await ended(run)
    times = [((await read(run)).started_at, (await read(run)).finished_at) for run in (first, *others)]
    assert all(before[1] <= after[0] for before, after in pairwise(times))  # type: ignore[operator]


async def test_no_more_than_the_most_run_at_once(alice: User, transactional_db: None, monkeypatch: Any) -> None:
    engine = DictatedEngine()
    hub.open()
    embedded = EmbeddedRunner(max_runs=2, engine=engine)
    monkeypatch.setattr(runner, "current", embedded)
    all_runs = [await submitted(alice, "wait\nHi") for _ in range(4)]
    for run in all_runs[:2]:
        async for batch in event_log.tail(run.pk, after=1):
            if batch:
                break
    statuses = [(await read(run)).status for run in all_runs]
    assert statuses == ["running", "running", "queued", "queued"]
    engine.go.set()
    for run in all_runs:
        await ended(run)
    await embedded.stop()


async def test_one_claim_wins(alice: User, transactional_db: None) -> None:
    run = await submitted(alice, "Hi")
    claims = await asyncio.gather(
        *(threads.working(lambda n=n: runs.claim(run_id=run.pk, owner=f"o{n}", engine="e")) for n in range(5))
    )
    assert sum(claim is not None for claim in claims) == 1


async def test_a_lost_lease_writes_nothing(alice: User, transactional_db: None) -> None:
    run = await submitted(alice, "Hi")
    claim = await threads.reading(lambda: runs.claim(run_id=run.pk, owner="first", engine="e"))
    assert claim is not None
    await threads.reading(lambda: Run.objects.filter(pk=run.pk).update(owner="second", attempt=2))
    writer = EventWriter(hub)
    writer.start()
    writer.open(claim.fence, last_seq=1)
    writer.record(run.pk, Token(text="never", offset=0))
    with pytest.raises(LeaseLost):
        await writer.flush(run.pk)
    with pytest.raises(LeaseLost):
        writer.record(run.pk, Token(text="never", offset=0))
    await writer.stop()
    assert await threads.reading(RunEvent.objects.filter(run=run).count) == 1


async def test_one_runs_bad_row_is_no_other_runs_trouble(alice: User, transactional_db: None) -> None:
    def broken(changes: Changes) -> None:
        changes.answer["no_such_field"] = 1

    writer = EventWriter(hub)
    writer.start()
    claimed = []
    for _ in range(2):
        run = await submitted(alice, "Hi")
        claim = await threads.reading(lambda run=run: runs.claim(run_id=run.pk, owner="o", engine="e"))
        assert claim is not None
        writer.open(claim.fence, last_seq=1)
        claimed.append(run)
    writer.record(claimed[0].pk, Token(text="a", offset=0), broken)
    writer.record(claimed[1].pk, Token(text="b", offset=0))
    with pytest.raises(FieldDoesNotExist):
        await writer.flush(claimed[0].pk)
    await writer.flush(claimed[1].pk)
    await writer.stop()
    counts = [await threads.reading(RunEvent.objects.filter(run=run).count) for run in claimed]
    assert counts == [1, 2]


async def test_tokens_of_one_tick_are_stored_as_one(alice: User, running: EmbeddedRunner) -> None:
    run = await submitted(alice, "one two three four")
    tokens = [s.event for s in await ended(run) if isinstance(s.event, Token)]
    assert len(tokens) < 4
    assert tokens[0].offset == 0


async def test_an_unexpected_failure_ends_the_run(alice: User, running: EmbeddedRunner) -> None:
    run = await submitted(alice, "So far.\nfail D")
    events = await ended(run)
    assert [s.event.type for s in events if s.event.type in TERMINAL] == ["error"]
    done = await read(run)
    assert (done.status, done.error_code, done.answer.text) == ("failed", "internal_error", "So far.\n")


async def test_a_run_whose_events_cannot_be_stored_ends_failed(
    alice: User, running: EmbeddedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_ending", unstorable_success)
    run = await submitted(alice, "Hi")
    await ended(run)
    done = await read(run)
    assert (done.status, done.error_code) == ("failed", "storage_failed")
    last = await threads.reading(lambda: RunEvent.objects.filter(run=run).latest("seq"))
    assert last.type == Failed.type


async def test_a_second_server_on_the_same_data_is_refused(transactional_db: None) -> None:
    await runner.start()
    lock, runner._lock = runner._lock, None
    first, runner.current = runner.current, None
    assert first is not None
    try:
        with pytest.raises(runner.AlreadyRunning):
            await runner.start()
    finally:
        runner.current, runner._lock, runner.failure = first, lock, None
        await runner.stop()


async def test_expected_durations_are_medians(alice: User, running: EmbeddedRunner) -> None:
    run = await submitted(alice, "Hi")
    await ended(run)
    await threads.reading(lambda: StageRun.objects.filter(stage="A").update(duration_ms=8.0))
    assert (await threads.reading(runs.expected_durations))["A"] == 8.0


async def test_messages_stand_in_the_order_of_asking(alice: User, running: EmbeddedRunner) -> None:
    first = await submitted(alice, "One")
    conversation = await threads.reading(lambda: Conversation.objects.get(pk=first.conversation_id))
    await ended(await submitted(alice, "Two", conversation))
    texts = await threads.reading(lambda: list(Message.objects.values_list("position", "role", "text")))
    assert texts == [(1, "ask", "One"), (2, "answer", "One\n"), (3, "ask", "Two"), (4, "answer", "Two\n")]


async def test_a_run_ends_when_the_database_is_back(
    alice: User, running: EmbeddedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the run, and the one after it, wait for the database; here it fails twice each."""
    failures = {"abandon": 2, "next_queued": 2, "claim": 2}

    def failing(name: str, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if failures[name]:
                failures[name] -= 1
                raise OperationalError("disk I/O error")
            return real(*args, **kwargs)

        return call

    monkeypatch.setattr(execution, "_FIRST_WAIT_S", 0.01)
    for name in failures:
        module = recovery if name == "abandon" else runs
        monkeypatch.setattr(module, name, failing(name, getattr(module, name)))
    with monkeypatch.context() as broken:
        broken.setattr(journal, "_ending", unstorable_success)
        first = await submitted(alice, "Hi")
        conversation = await threads.reading(lambda: Conversation.objects.get(pk=first.conversation_id))
        await ended(first)
    second = await submitted(alice, "Hi again", conversation)
    await ended(second)
    assert ((await read(first)).status, (await read(second)).status) == ("failed", "succeeded")
    assert failures == {"abandon": 0, "next_queued": 0, "claim": 0}


async def test_a_run_stored_before_the_runner_was_there_is_taken(alice: User, transactional_db: None) -> None:
    run = await submitted(alice, "Hi")
    embedded = EmbeddedRunner(max_runs=2, engine=DictatedEngine())
    hub.open()
    assert (await ended(run))[-1].event.type == "complete"
    await embedded.stop()


@pytest.mark.parametrize("n_turns", range(4))
async def test_a_viewer_is_cancelled_whenever_it_is_asked_to(alice: User, n_turns: int) -> None:
    async def follow() -> None:
        with hub.subscribe("topic") as viewer:
            while True:
                await viewer.next()

    hub.open()
    following = asyncio.create_task(follow())
    await asyncio.sleep(0)
    for viewer in hub._viewers["topic"]:
        viewer.put(Batch(run_id=UUID(int=1), conversation_id=UUID(int=2), user_id=1, events=()))
    for _ in range(n_turns):
        await asyncio.sleep(0)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(following, 2)


async def test_streams_end_when_the_server_stops(alice: User, running: EmbeddedRunner) -> None:
    run = await submitted(alice, "wait\nHi")
    stream = event_log.tail(run.pk, after=0)
    await anext(stream)
    hub.close()
    async with asyncio.timeout(2):
        assert all(not stored.is_terminal for batch in [b async for b in stream] for stored in batch)


async def test_a_cursor_beyond_the_end_ends_with_the_run(
    alice: User, running: EmbeddedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "HEARTBEAT_S", 0.01)
    run = await submitted(alice, "Hi")
    async with asyncio.timeout(5):
        assert [s async for batch in event_log.tail(run.pk, after=999) for s in batch] == []
