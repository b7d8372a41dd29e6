"""The bus between processes, on a real Valkey: here two hubs in one process, each with a bus and a layer of its own."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID, uuid4

import pytest
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.conf import settings
from django.contrib.auth.models import User

from conversations import bus, event_log, runner, runs, sessions, threads
from conversations.bus import Bus
from conversations.event_log import EventWriter
from conversations.hub import (
    Batch,
    Hub,
    StoredEvent,
    Subscription,
    topic_of_account,
    topic_of_conversation,
    topic_of_run,
)
from conversations.hub import hub as own_hub
from conversations.models import Run
from conversations.pipeline.events import Failed, Token
from tests.servers import Valkey, valkey

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds for what takes milliseconds, on a busy machine.
SOON_S = 10.0


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Valkey]:
    with valkey() as server:
        yield server


class Layer(RedisPubSubChannelLayer):  # type: ignore[misc]  # channels-redis has no types
    """Counts what is sent to the group, and loses a share of it."""

    def __init__(self, server: Valkey, *, lost: float = 0.0) -> None:
        super().__init__(hosts=[{"address": server.url, "socket_connect_timeout": 2, "socket_timeout": 5}])
        self.n_sent = 0
        #: Nothing goes out.
        self.is_cut = False
        self._lost = lost
        self._random = random.Random(7)  # noqa: S311  which messages are lost is no secret

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if self.is_cut:
            raise ConnectionError("The cable is cut")
        self.n_sent += 1
        if self._random.random() >= self._lost:
            await self._get_layer().group_send(group, message)


@asynccontextmanager
async def joined(hub: Hub, layer: Layer) -> AsyncIterator[Bus]:
    hub.open()
    joining = Bus(hub, layer)
    await joining.start()
    try:
        yield joining
    finally:
        await joining.stop()


@asynccontextmanager
async def two_processes(server: Valkey, *, lost: float = 0.0) -> AsyncIterator[tuple[Hub, Hub]]:
    """What the first sends to the second may be lost."""
    here, there = Hub(), Hub()
    async with joined(here, Layer(server, lost=lost)), joined(there, Layer(server)):
        yield here, there


def batch_of(*texts: str, run_id: UUID | None = None, first: int = 1) -> Batch:
    stored = [StoredEvent(seq=first + n, event=Token(text=text, offset=0)) for n, text in enumerate(texts)]
    return Batch(run_id=run_id or uuid4(), conversation_id=uuid4(), user_id=7, events=tuple(stored))


async def looked_again(viewer: Subscription, *, within_s: float = SOON_S) -> bool:
    async with asyncio.timeout(within_s):
        while not viewer.lagged:
            await viewer.next(timeout_s=within_s)
    viewer.lagged = False
    return True


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SOON_S):
        while not await is_so():
            pass


async def test_what_one_process_commits_is_seen_in_the_other(redis_server: Valkey) -> None:
    batch = batch_of("Grüße, ", "Welt 🌍")
    async with two_processes(redis_server) as (here, there):
        with there.subscribe(topic_of_run(batch.run_id)) as viewer:
            here.publish(batch)
            assert await viewer.next(timeout_s=SOON_S) == batch


async def test_a_process_does_not_see_its_own_batches_twice(redis_server: Valkey) -> None:
    first, marker = batch_of("once"), batch_of("marker")
    async with two_processes(redis_server) as (here, there):
        with (
            here.subscribe(topic_of_run(first.run_id)) as viewer,
            here.subscribe(topic_of_run(marker.run_id)) as end,
            there.subscribe(topic_of_run(first.run_id)) as other,
        ):
            here.publish(first)
            assert await other.next(timeout_s=SOON_S) == first
            # By the time that the other's answer is here, what Redis sent back before it has been here too.
            there.publish(marker)
            assert await end.next(timeout_s=SOON_S) == marker
            assert await viewer.next(timeout_s=0) == first
            assert await viewer.next(timeout_s=0) is None


async def test_what_is_committed_together_travels_in_one_message(redis_server: Valkey) -> None:
    here, there, layer = Hub(), Hub(), Layer(redis_server)
    batches = [batch_of("a", "b"), batch_of("c")]
    async with joined(here, layer), joined(there, Layer(redis_server)):
        with there.subscribe(topic_of_run(batches[1].run_id)) as viewer:
            here.publish(*batches)
            assert await viewer.next(timeout_s=SOON_S) == batches[1]
    assert layer.n_sent == 1


async def test_a_signal_from_a_thread_reaches_the_viewers_of_all_processes(redis_server: Valkey) -> None:
    async with two_processes(redis_server) as (here, there):
        with here.subscribe("executors") as near, there.subscribe("executors") as far:
            await threads.working(here.look_again, "executors")
            assert await looked_again(near)
            assert await looked_again(far)


async def test_a_session_that_ends_here_is_looked_at_elsewhere(alice: User, redis_server: Valkey) -> None:
    there = Hub()
    async with joined(own_hub, Layer(redis_server)), joined(there, Layer(redis_server)):
        with there.subscribe(topic_of_account(alice.pk)) as viewer:
            await threads.working(lambda: sessions.end_all(user=alice))
            assert await looked_again(viewer)


async def test_two_installations_on_one_redis_do_not_hear_each_other(
    redis_server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = bus._group()
    monkeypatch.setattr(settings, "SECRET_KEY", "of another installation")
    assert bus._group() != ours


# -- What is lost ----------------------------------------------------------------------------------------------------


async def submitted(user: User) -> Run:
    return await threads.reading(lambda: runner.submit(user=user, text="rows 3"))


async def test_a_run_whose_messages_are_lost_is_looked_at_within_about_a_second(
    alice: User, redis_server: Valkey
) -> None:
    async with two_processes(redis_server, lost=1.0) as (_, there):
        run = await submitted(alice)
        with there.subscribe(topic_of_conversation(run.conversation_id)) as viewer:
            assert await looked_again(viewer)
            # Once: what is known already wakes nobody.
            assert await viewer.next(timeout_s=3 * bus.ROUND_S) is None
            assert not viewer.lagged
            # It ends, and nobody tells.
            await threads.reading(lambda: Run.objects.filter(pk=run.pk).update(status="failed", last_seq=2))
            assert await looked_again(viewer)


async def test_a_run_that_began_and_ended_unseen_is_looked_at(alice: User, redis_server: Valkey) -> None:
    async with two_processes(redis_server, lost=1.0) as (_, there):
        with there.subscribe(f"user.{alice.pk}") as viewer:
            run = await submitted(alice)
            await threads.reading(lambda: Run.objects.filter(pk=run.pk).update(status="succeeded", last_seq=9))
            assert await looked_again(viewer)


async def test_a_process_without_viewers_asks_nothing(alice: User) -> None:
    hub = Hub()
    hub.open()
    lookout = bus._Lookout(hub)
    run = await submitted(alice)
    lookout.saw([batch_of("seen", run_id=run.pk)])
    with hub.subscribe(topic_of_account(alice.pk)):
        await lookout.look()
    assert lookout._since is None
    with hub.subscribe(topic_of_run(run.pk)):
        await lookout.look()
    assert lookout._rows.keys() == {run.pk}


async def test_nothing_is_missing_when_a_tenth_of_the_messages_is_lost(
    alice: User, redis_server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_processes(redis_server, lost=0.1) as (here, there):
        run = await submitted(alice)
        claim = await threads.reading(lambda: runs.claim(run_id=run.pk, owner="test", engine="test"))
        assert claim is not None
        monkeypatch.setattr(event_log, "hub", there)
        watching = asyncio.create_task(watched(run))
        writer = EventWriter(here)
        writer.start()
        writer.open(claim.fence, last_seq=claim.run.last_seq)
        for n in range(100):
            writer.record(run.pk, Token(text=f"w{n} ", offset=0))
            await writer.flush(run.pk)
        writer.record(run.pk, Failed(error={}, stage=None, message="", total_duration_ms=0.0))
        await writer.stop()
        async with asyncio.timeout(SOON_S):
            seqs = await watching
    assert seqs == list(range(1, 103))


async def watched(run: Run) -> list[int]:
    """The numbers of the events that a viewer gets."""
    seqs: list[int] = []
    async for fresh in event_log.tail(run.pk, after=0):
        seqs += [stored.seq for stored in fresh]
    return seqs


# -- Redis away ------------------------------------------------------------------------------------------------------


async def heard(here: Hub, viewer: Subscription, run_id: UUID) -> bool:
    """Whether the other process hears something now."""
    here.publish(batch_of("again", run_id=run_id))
    return await viewer.next(timeout_s=0.3) is not None


async def test_a_redis_that_stops_and_starts_is_found_again(
    redis_server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = uuid4()
    async with two_processes(redis_server) as (here, there):
        with there.subscribe(topic_of_run(run_id)) as viewer, there.subscribe("executors") as executor:
            await until(lambda: heard(here, viewer, run_id))
            await asyncio.to_thread(redis_server.stop)
            await until_said(caplog, "Redis takes no messages", times=2)
            here.publish(batch_of("lost", run_id=run_id))
            here.look_again("executors")
            await asyncio.to_thread(redis_server.start)
            assert await looked_again(executor)
            await until(lambda: heard(here, viewer, run_id))
            await until_said(caplog, "Redis takes messages again", times=2)
    # Each of the two said it once.
    assert caplog.text.count("Redis takes no messages") == 2


async def until_said(caplog: pytest.LogCaptureFixture, words: str, *, times: int) -> None:
    async with asyncio.timeout(SOON_S):
        while caplog.text.count(words) < times:  # noqa: ASYNC110  a log has nothing to wait for
            await asyncio.sleep(0.05)


async def test_a_signal_waits_until_redis_takes_it(redis_server: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    here, there, layer = Hub(), Hub(), Layer(redis_server)
    async with joined(here, layer), joined(there, Layer(redis_server)):
        with there.subscribe("executors") as executor:
            layer.is_cut = True
            here.look_again("executors")
            await until_said(caplog, "Redis takes no messages", times=1)
            layer.is_cut = False
            assert await looked_again(executor)


async def test_a_process_starts_without_redis_and_joins_later(redis_server: Valkey) -> None:
    run_id = uuid4()
    await asyncio.to_thread(redis_server.stop)
    try:
        async with two_processes(redis_server) as (here, there):
            await asyncio.to_thread(redis_server.start)
            with there.subscribe(topic_of_run(run_id)) as viewer:
                await until(lambda: heard(here, viewer, run_id))
    finally:
        await asyncio.to_thread(redis_server.restart)


async def test_a_redis_that_hangs_holds_nobody_up_and_fills_no_memory(redis_server: Valkey) -> None:
    run_id = uuid4()
    process = redis_server.program.process if redis_server.program else None
    if process is None:
        pytest.fail("This test stops Valkey: unset OPSCHAT_TEST_REDIS_URL.")
    here, there = Hub(), Hub()
    async with joined(here, Layer(redis_server)) as sender, joined(there, Layer(redis_server)):
        with there.subscribe(topic_of_run(run_id)) as viewer:
            process.send_signal(signal.SIGSTOP)
            try:
                for _ in range(3 * bus._MAX_BATCHES):
                    here.publish(batch_of("much", run_id=run_id))
                await asyncio.sleep(0)
                assert len(sender._batches) <= bus._MAX_BATCHES
                assert sender.n_dropped >= bus._MAX_BATCHES
            finally:
                process.send_signal(signal.SIGCONT)
            await until(lambda: heard(here, viewer, run_id))


async def test_a_message_of_another_version_is_left_aside(
    redis_server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    batch, layer = batch_of("read"), Layer(redis_server)
    async with two_processes(redis_server) as (here, there):
        with there.subscribe(topic_of_run(batch.run_id)) as viewer:
            await layer.group_send(
                bus._group(), {"type": "opschat", "from": "elsewhere", "batches": [["?"]], "topics": []}
            )
            here.publish(batch)
            assert await viewer.next(timeout_s=SOON_S) == batch
    await layer.flush()
    assert "can't be read" in caplog.text


class FlushingLayer(Layer):
    """As the library's: whoever cancels its caller during `flush` is taken for the library itself, once."""

    def __init__(self, server: Valkey) -> None:
        super().__init__(server)
        self.flushes = asyncio.Event()

    async def receive(self, channel: str) -> Any:
        raise ConnectionError("The cable is cut")

    async def flush(self) -> None:
        self.flushes.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await super().flush()


async def test_a_process_that_stops_while_the_layer_is_flushed_ends(redis_server: Valkey) -> None:
    layer = FlushingLayer(redis_server)
    async with asyncio.timeout(SOON_S), joined(Hub(), layer):
        await layer.flushes.wait()
