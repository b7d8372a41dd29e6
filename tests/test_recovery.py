"""What becomes of a run whose process died: another goes on from the first stage that had not completed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from conversations import event_log, execution, recovery, runner, runs, threads
from conversations.execution import Executor
from conversations.hub import StoredEvent, hub
from conversations.journal import RunJournal
from conversations.models import AuditEntry, Conversation, Export, Run, RunEvent, StageRun
from conversations.pipeline.events import TERMINAL, Complete, Event, Failed, StageStart, Token
from conversations.pipeline.tools import CountResult, ToolContext, ToolError, ToolResult, registry
from conversations.runner import EmbeddedRunner
from tests.engines import DictatedEngine

pytestmark = pytest.mark.django_db(transaction=True)

WHOLE = "plan\nrows 12\ncount 3\nHere they are: one two three.\n```csv\na,b\n1,2\n```"


class Died(BaseException):
    """The process is gone: nothing catches it."""


class MortalJournal(RunJournal):
    """Dies instead of recording the event after so many."""

    events_left = 0

    def record(self, event: Event, **rest: Any) -> None:
        if MortalJournal.events_left == 0:
            raise Died
        MortalJournal.events_left -= 1
        super().record(event, **rest)


async def submitted(user: User, text: str, conversation: Conversation | None = None) -> Run:
    return await threads.reading(lambda: runner.submit(user=user, text=text, conversation=conversation))


async def ended(run: Run) -> list[StoredEvent]:
    """The run's events, as who comes at the end reads them."""
    async with asyncio.timeout(15):
        async for _ in event_log.tail(run.pk, after=0):
            pass
    return await threads.reading(event_log.stored_after, run.pk, 0)


async def followed(run: Run) -> str:
    """The answer as a viewer puts it together who watches from the start."""
    text = ""
    async with asyncio.timeout(15):
        async for batch in event_log.tail(run.pk, after=0):
            for event in (stored.event for stored in batch):
                if isinstance(event, Token):
                    text = text[: event.offset] + event.text
    return text


async def read(run: Run) -> Run:
    return await threads.reading(lambda: Run.objects.select_related("answer", "ask").get(pk=run.pk))


async def died_after(n_events: int, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Executes the run in a process that dies when it has recorded so many events."""
    with monkeypatch.context() as mortal:
        mortal.setattr(execution, "RunJournal", MortalJournal)
        MortalJournal.events_left = n_events
        engine = DictatedEngine()
        engine.go.set()
        dying = Executor(engine=engine, enqueue=lambda _: None)
        claim = await threads.reading(lambda: runs.claim(run_id=run.pk, owner=dying.owner, engine="e"))
        assert claim is not None
        dying._writer.open(claim.fence, last_seq=claim.run.last_seq)
        orchestrator = await dying._orchestrator(claim)
        with pytest.raises(Died):
            await orchestrator.run()
        await dying._writer.flush(run.pk)
        mortal.setattr(recovery, "release", lambda **_: [])
        await dying.stop()
    await lease_over(run)


async def lease_over(run: Run) -> None:
    past = timezone.now() - timedelta(seconds=1)
    await threads.reading(lambda: Run.objects.filter(pk=run.pk).update(lease_until=past))


@pytest.fixture
async def successor(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Starts the process that goes on."""
    started: list[EmbeddedRunner] = []

    async def start() -> EmbeddedRunner:
        hub.open()
        engine = DictatedEngine()
        engine.go.set()
        embedded = EmbeddedRunner(max_runs=4, engine=engine)
        started.append(embedded)
        monkeypatch.setattr(runner, "current", embedded)
        return embedded

    yield start
    for embedded in started:
        await embedded.stop()


def stages_of(events: list[StoredEvent]) -> list[tuple[str, int]]:
    return [(e.event.stage, e.event.attempt) for e in events if isinstance(e.event, StageStart)]


#: `record` is called about 60 times for this request; the death before the first event is that after none.
@pytest.mark.parametrize("n_events", [*range(0, 14), 20, 30, 40])
async def test_a_run_is_gone_on_with_wherever_its_process_died(
    alice: User, successor: Any, monkeypatch: pytest.MonkeyPatch, n_events: int
) -> None:
    run = await submitted(alice, WHOLE)
    await died_after(n_events, run, monkeypatch)
    watching = asyncio.create_task(followed(run))
    await successor()
    events = await ended(run)
    done = await read(run)
    assert (done.status, done.attempt) == ("succeeded", 2)
    assert [s.event.type for s in events if s.event.type in TERMINAL] == ["complete"]
    assert [s.seq for s in events] == sorted({s.seq for s in events})
    text = ""
    for stored in events:
        if isinstance(stored.event, Token):
            assert stored.event.offset == len(text)
            text += stored.event.text
    assert text == done.answer.text == await watching
    assert "Here they are: one two three." in text
    completed = await threads.reading(
        lambda: list(StageRun.objects.filter(run=run, status="completed").values_list("stage", flat=True))
    )
    assert sorted(completed) == ["A", "B", "C", "D", "E"]
    exports = await threads.reading(lambda: list(Export.objects.filter(run=run, deleted_at=None)))
    assert len(exports) == 2
    told = {s.event.export_id for s in events if s.event.type == "export"}  # type: ignore[union-attr]
    assert told == {str(e.pk) for e in exports}
    assert {b["export_id"] for b in done.answer.blocks} == told


async def test_a_completed_stage_is_not_begun_again(
    alice: User, successor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await submitted(alice, WHOLE)
    # Died in E, before its second call.
    await died_after(9, run, monkeypatch)
    await successor()
    assert stages_of(await ended(run)) == [("A", 1), ("B", 1), ("C", 1), ("E", 1), ("E", 2), ("D", 1)]


async def test_a_run_whose_process_died_three_times_is_given_up(
    alice: User, successor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await submitted(alice, "Hello there.")
    for _ in range(3):
        await threads.reading(lambda: Run.objects.filter(pk=run.pk).update(status="queued", owner=""))
        await died_after(2, run, monkeypatch)
    await successor()
    events = await ended(run)
    failed = events[-1].event
    assert isinstance(failed, Failed)
    assert failed.error["code"] == "interrupted"
    assert "stopped 3 times" in failed.error["message"]
    assert (await read(run)).status == "failed"


async def test_a_released_run_is_taken_at_once(alice: User, successor: Any) -> None:
    first: EmbeddedRunner = await successor()
    engine: Any = first.executor._engine
    engine.go.clear()
    run = await submitted(alice, "Said before.\nwait\nSaid after.")
    async for batch in event_log.tail(run.pk, after=0):
        if any(isinstance(s.event, Token) for s in batch):
            break
    await first.stop()
    assert (await read(run)).status == "queued"
    await successor()
    assert isinstance((await ended(run))[-1].event, Complete)
    assert (await read(run)).answer.text == "Said before.\nSaid after.\n"


async def test_what_waits_behind_a_lost_run_follows_it(
    alice: User, successor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = await submitted(alice, "One.")
    conversation = await threads.reading(lambda: Conversation.objects.get(pk=lost.conversation_id))
    waiting = await submitted(alice, "Two.", conversation)
    await died_after(1, lost, monkeypatch)
    await successor()
    await ended(waiting)
    assert [(await read(run)).status for run in (lost, waiting)] == ["succeeded", "succeeded"]


async def test_a_run_that_was_to_stop_when_its_process_died_ends_stopped(
    alice: User, successor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await submitted(alice, "Hello there.")
    await died_after(2, run, monkeypatch)
    await threads.reading(lambda: runner.cancel(run=run, user=alice))
    await successor()
    events = await ended(run)
    assert (events[-1].event.type, (await read(run)).status) == ("cancelled", "cancelled")


class Breaker:
    """Changes something: must not be repeated."""

    name = "toy.change"
    description = "Changes something."
    read_only = False
    idempotent = False
    n_calls = 0
    #: What the call does.
    deed: Any = None

    async def run(self, arguments: Any, context: ToolContext) -> ToolResult:
        Breaker.n_calls += 1
        if Breaker.deed is not None:
            await Breaker.deed()
        return CountResult(total=1)


@pytest.fixture
def breaker(monkeypatch: pytest.MonkeyPatch) -> Breaker:
    tool = Breaker()
    monkeypatch.setitem(registry._tools, "toy.make", tool)
    monkeypatch.setattr(Breaker, "n_calls", 0)
    monkeypatch.setattr(Breaker, "deed", None)
    return tool


async def test_a_tool_that_must_not_be_repeated_is_not(
    alice: User, successor: Any, breaker: Breaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die() -> None:
        raise Died

    run = await submitted(alice, "count 1\nDone.")
    with monkeypatch.context() as dying:
        dying.setattr(Breaker, "deed", staticmethod(die))
        await died_after(100, run, dying)
    await successor()
    failed = (await ended(run))[-1].event
    assert isinstance(failed, Failed)
    assert (failed.error["code"], failed.stage) == ("outcome_unknown", "E")
    assert "toy.change" in failed.error["message"]
    assert Breaker.n_calls == 1
    with pytest.raises(runs.NotResumable):
        await threads.reading(lambda: runner.resume(run=run, user=alice))


async def test_a_call_that_was_done_is_not_made_again(
    alice: User, successor: Any, breaker: Breaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await submitted(alice, "count 1\nDone.")
    # The event after the call is the end of its stage.
    await died_after(6, run, monkeypatch)
    assert Breaker.n_calls == 1
    await successor()
    assert isinstance((await ended(run))[-1].event, Complete)
    assert Breaker.n_calls == 1


async def test_a_tool_that_says_it_did_nothing_may_be_called_again(
    alice: User, successor: Any, breaker: Breaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse() -> None:
        raise ToolError("Not now.")

    await successor()
    with monkeypatch.context() as refusing:
        refusing.setattr(Breaker, "deed", staticmethod(refuse))
        run = await submitted(alice, "count 1\nDone.")
        await ended(run)
    resumed = await threads.reading(lambda: runner.resume(run=run, user=alice))
    assert isinstance((await ended(resumed))[-1].event, Complete)
    assert Breaker.n_calls == 2


async def test_an_owner_that_wakes_up_late_writes_nothing(alice: User, successor: Any) -> None:
    """SIGSTOP, then SIGCONT: the lease was over, another process has the run."""
    first: EmbeddedRunner = await successor()
    engine: Any = first.executor._engine
    engine.go.clear()
    run = await submitted(alice, "Said before.\nwait\nSaid after.")
    async for batch in event_log.tail(run.pk, after=0):
        if any(isinstance(s.event, Token) for s in batch):
            break
    for loop in first.executor._loops:
        loop.cancel()
    await lease_over(run)
    second: EmbeddedRunner = await successor()
    await ended(run)
    engine.go.set()
    await asyncio.wait(list(first._tasks.values()), timeout=10)
    events = await ended(run)
    assert [s.event.type for s in events if s.event.type in TERMINAL] == ["complete"]
    done = await read(run)
    assert (done.owner, done.attempt) == (second.executor.owner, 2)
    assert done.answer.text == "Said before.\nSaid after.\n"


async def test_the_heart_stops_what_another_process_has(alice: User, running: EmbeddedRunner) -> None:
    run = await submitted(alice, "wait\nSaid after.")
    async for batch in event_log.tail(run.pk, after=1):
        if batch:
            break
    task = running._tasks[run.pk]
    await threads.reading(lambda: Run.objects.filter(pk=run.pk).update(owner="another", attempt=2))
    async with asyncio.timeout(5):
        await asyncio.wait([task])
    assert (await read(run)).status == "running"
    assert not await threads.reading(lambda: RunEvent.objects.filter(run=run, type__in=TERMINAL).exists())


async def test_a_lease_is_renewed_while_a_run_goes_on(
    alice: User, running: EmbeddedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await submitted(alice, "wait\nSaid after.")
    async for batch in event_log.tail(run.pk, after=1):
        if batch:
            break
    before = (await read(run)).lease_until
    assert before is not None
    hub.look_again("executors")
    async with asyncio.timeout(5):
        while (await read(run)).lease_until == before:  # noqa: ASYNC110  the row tells of itself only when it is read
            await asyncio.sleep(0)


async def test_exports_of_a_lost_attempt_that_nobody_was_told_of_are_deleted(
    alice: User, successor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await submitted(alice, "rows 12\nHere.")
    # Dies instead of telling of the stored export.
    await died_after(6, run, monkeypatch)
    await successor()
    await ended(run)
    exports = await threads.reading(lambda: list(Export.objects.filter(run=run).order_by("position")))
    assert [(e.position, e.deleted_at is not None) for e in exports] == [(0, True), (1, False)]
    entry = await threads.reading(lambda: AuditEntry.objects.get(action="export.delete"))
    assert (entry.object_id, entry.actor_name) == (str(exports[0].pk), "")
