"""What one process commits, for the viewers of the others: one group of the channel layer (Redis pub/sub).

A hint, as the hub is: Redis may be slow, stop or lose messages, and no viewer's text depends on it. Nobody waits for
the bus; what can't be sent is dropped, and a look at the rows each second finds what did not arrive.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from channels.layers import channel_layers
from django.conf import settings
from django.db import Error as DatabaseError
from django.db.models import Q
from django.utils import timezone
from redis.exceptions import RedisError

from conversations import threads
from conversations.hub import Batch, Hub, StoredEvent, topics_of
from conversations.hub import hub as own_hub
from conversations.models import Run
from conversations.pipeline import events

logger = logging.getLogger(__name__)

#: Seconds between two looks at the rows, and between two signs of life when there is nothing to send.
ROUND_S = 1.0
#: Seconds that a batch may be on its way before the rows are believed to be ahead of it.
_ON_ITS_WAY_S = 0.25
#: Seconds without any message, not even an own one, after which the group is joined anew.
_SILENCE_S = 5.0
#: Seconds for one message; between two tries when one failed; for the last ones when the process stops.
_SEND_S = 2.0
_PAUSE_S = 0.5
_LAST_S = 1.0
#: Seconds that `start` waits for Redis. Later it joins when it can.
_JOIN_S = 2.0
#: Batches and topics kept while Redis is slow.
_MAX_BATCHES = 4096
_MAX_TOPICS = 1024
#: Runs this young are looked at although they have ended: they may have begun and ended between two looks, and the
#: clock of the machine that made them may differ.
_YOUNG = timedelta(seconds=10)


def _group() -> str:
    """Pub/sub knows no database numbers: two installations on one Redis must not hear each other. 1: the format."""
    return f"opschat.1.{hashlib.sha256(settings.SECRET_KEY.encode()).hexdigest()[:16]}"


class Bus:
    """The hub's relay. To be used on one event loop."""

    def __init__(self, hub: Hub, layer: Any = None) -> None:
        self._hub = hub
        self._layer = layer
        self._name = uuid.uuid4().hex
        self._batches: list[Batch] = []
        self._topics: set[str] = set()
        self._filled = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._lookout = _Lookout(hub)
        #: Where this process's messages arrive, while it is in the group.
        self._channel: str | None = None
        self._joined = asyncio.Event()
        #: Numbers of the own messages: newest sent, newest that came back.
        self._n_sent = 0
        self._n_heard = 0
        #: Something that others sent was lost; who looks at the rows must do so.
        self._has_missed = False
        #: Redis takes messages.
        self.is_up = True
        #: Batches that could not be sent.
        self.n_dropped = 0

    async def start(self) -> None:
        """Begins to carry. Does not fail without Redis: it joins when Redis is there."""
        self._loop = asyncio.get_running_loop()
        self._layer = self._layer or channel_layers["bus"]
        self._tasks = [asyncio.create_task(work()) for work in (self._receive_always, self._send_always, self._watch)]
        for task in self._tasks:
            task.add_done_callback(_ended)
        self._hub.use_relay(self)
        with suppress(TimeoutError):
            async with asyncio.timeout(_JOIN_S):
                await self._joined.wait()

    async def stop(self) -> None:
        """Sends what is left, as far as Redis takes it at once, and leaves."""
        self._hub.use_relay(None)
        _, sending, _ = self._tasks
        await _cancelled(sending)
        with suppress(Exception):
            async with asyncio.timeout(_LAST_S):
                while self._batches or self._topics:
                    await self._send()
        await _cancelled(*self._tasks)
        with suppress(Exception):
            async with asyncio.timeout(_LAST_S):
                await self._layer.flush()

    # -- Sending -----------------------------------------------------------------------------------------------------

    def carry(self, batches: Sequence[Batch]) -> None:
        self._lookout.saw(batches)
        if len(self._batches) + len(batches) > _MAX_BATCHES:
            self.n_dropped += len(self._batches)
            self._batches.clear()
        self._batches += batches
        self._filled.set()

    def signal(self, topic: str) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # The loop has ended: nobody is left to be told from here.
                self._loop.call_soon_threadsafe(self._signal, topic)

    def _signal(self, topic: str) -> None:
        if len(self._topics) < _MAX_TOPICS:
            self._topics.add(topic)
        self._filled.set()

    async def _send_always(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(ROUND_S):
                    await self._filled.wait()
            self._filled.clear()
            try:
                async with asyncio.timeout(_SEND_S):
                    await self._send()
            except Exception as error:
                self._fell_silent(error)
                await asyncio.sleep(_PAUSE_S)
            else:
                self._speaks()

    async def _send(self) -> None:
        """Everything that waits as one message; without it a sign of life, which comes back to this process only."""
        batches, self._batches = self._batches, []
        topics, self._topics = self._topics, set()
        self._n_sent += 1
        head = {"type": "opschat", "from": self._name, "n": self._n_sent}
        try:
            if batches or topics:
                body = {"topics": sorted(topics), "batches": [_packed(batch) for batch in batches]}
                await self._layer.group_send(_group(), {**head, **body})
            elif self._channel is not None:
                await self._layer.send(self._channel, head)
        except BaseException:
            self._batches = [*batches, *self._batches]
            self._topics |= topics
            raise

    def _fell_silent(self, error: Exception) -> None:
        # Found by the look at the rows by the time that Redis is back. A signal is only here and stays.
        self.n_dropped += len(self._batches)
        self._batches.clear()
        if self.is_up:
            self.is_up = False
            said = "Redis takes no messages (%s): what other processes do is shown about a second later"
            logger.warning(said, _in_words(error))

    def _speaks(self) -> None:
        if not self.is_up:
            self.is_up = True
            logger.warning("Redis takes messages again; %d batches were not sent so far", self.n_dropped)

    # -- Receiving ---------------------------------------------------------------------------------------------------

    async def _receive_always(self) -> None:
        """Stays in the group. redis-py joins again by itself after a break; silence tells when that did not help."""
        while True:
            # `_send_always` tells of a Redis that isn't there.
            with suppress(RedisError, OSError, TimeoutError):
                await self._join()
                while True:
                    async with asyncio.timeout(_SILENCE_S):
                        self._take(await self._layer.receive(self._channel))
            self._joined.clear()
            self._channel, self._has_missed = None, True
            with suppress(Exception):
                async with asyncio.timeout(_LAST_S):
                    await self._layer.flush()
            await asyncio.sleep(_PAUSE_S)

    async def _join(self) -> None:
        async with asyncio.timeout(_SILENCE_S):
            channel: str = await self._layer.new_channel()
            await self._layer.group_add(_group(), channel)
        self._channel, self._n_heard = channel, self._n_sent
        self._joined.set()

    def _take(self, message: Mapping[str, Any]) -> None:
        try:
            if message["from"] == self._name:
                self._heard_itself(message["n"])
                return
            for topic in message["topics"]:
                self._hub.look_again_here(topic)
            for packed in message["batches"]:
                self._deliver(packed)
        except (LookupError, TypeError, ValueError):
            logger.exception("A message of another process can't be read; is it of another version?")

    def _heard_itself(self, n: int) -> None:
        """An own message that did not come back tells that others' were lost too."""
        if n > self._n_heard + 1:
            self._has_missed = True
        self._n_heard = n

    def _deliver(self, packed: Sequence[Any]) -> None:
        run_id, conversation_id, user_id = UUID(packed[0]), UUID(packed[1]), packed[2]
        self._lookout.note(run_id, packed[3], is_over=packed[4])
        # Most processes watch few of all runs: what nobody watches is not even read.
        if not self._hub.topics().isdisjoint(topics_of(run_id, conversation_id, user_id)):
            batch = Batch(
                run_id=run_id,
                conversation_id=conversation_id,
                user_id=user_id,
                events=_unpacked(packed[5]),
                committed_at=packed[6],
            )
            self._hub.deliver(batch)

    # -- Looking at the rows -----------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        is_failing = False
        while True:
            await asyncio.sleep(ROUND_S)
            if self._has_missed and self._joined.is_set():
                self._has_missed = False
                for topic in list(self._hub.topics()):
                    self._hub.look_again_here(topic)
            try:
                await self._lookout.look()
                is_failing = False
            except DatabaseError:
                if not is_failing:
                    logger.warning("The database can't be asked for what other processes did", exc_info=True)
                is_failing = True


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A run as its row says."""

    topics: tuple[str, ...]
    last_seq: int
    is_over: bool


class _Lookout:
    """Compares the runs' rows with what this process has seen of them, and wakes the viewers of those left behind.

    One query a round, and none while nobody watches. It asks for all runs that go on, not for those that are watched:
    their number is bounded by what the workers execute and what waits for them (a partial index), whereas naming what
    a thousand viewers watch would make the query long.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        #: Run -> newest event that came by, and whether that was its last.
        self._seen: dict[UUID, tuple[int, bool]] = {}
        #: What the rows said last.
        self._rows: dict[UUID, _Row] = {}
        self._since: datetime | None = None

    def saw(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            if batch.events:
                self.note(batch.run_id, batch.events[-1].seq, is_over=batch.events[-1].is_terminal)

    def note(self, run_id: UUID, last_seq: int, *, is_over: bool) -> None:
        known, was_over = self._seen.get(run_id, (0, False))
        self._seen[run_id] = (max(known, last_seq), was_over or is_over)

    async def look(self) -> None:
        """Raises a DatabaseError when the rows can't be read."""
        if not self._hub.watches_runs():
            self._seen.clear()
            self._rows.clear()
            self._since = None
            return
        known = set(self._seen)
        asked_at = timezone.now()
        rows = await threads.reading(_rows_since, (self._since or asked_at) - _YOUNG)
        await asyncio.sleep(_ON_ITS_WAY_S)
        for run_id, row in {**self._gone(rows), **rows}.items():
            self._compare(run_id, row)
        for run_id in known - rows.keys():
            self._seen.pop(run_id, None)
        self._rows, self._since = rows, asked_at

    def _gone(self, rows: Mapping[UUID, _Row]) -> dict[UUID, _Row]:
        """Runs that have ended since the last look."""
        return {
            run_id: _Row(topics=row.topics, last_seq=row.last_seq, is_over=True)
            for run_id, row in self._rows.items()
            if run_id not in rows and not row.is_over
        }

    def _compare(self, run_id: UUID, row: _Row) -> None:
        seq, was_over = self._seen.get(run_id, (0, False))
        if row.last_seq <= seq and was_over >= row.is_over:
            return
        self.note(run_id, row.last_seq, is_over=row.is_over)
        for topic in row.topics:
            self._hub.look_again_here(topic)


def _rows_since(since: datetime) -> dict[UUID, _Row]:
    """Runs that go on, and those made since."""
    rows = Run.objects.filter(Q(status__in=Run.UNFINISHED) | Q(created_at__gt=since)).order_by()
    return {
        run_id: _Row(
            topics=topics_of(run_id, conversation_id, user_id),
            last_seq=last_seq,
            is_over=status not in Run.UNFINISHED,
        )
        for run_id, conversation_id, user_id, last_seq, status in rows.values_list(
            "pk", "conversation_id", "user_id", "last_seq", "status"
        )
    }


def _packed(batch: Batch) -> list[Any]:
    """Events as JSON, so that a process without viewers of the run need not read them."""
    stored = [(item.seq, item.event.type, events.to_dict(item.event)) for item in batch.events]
    last = batch.events[-1]
    text = json.dumps(stored, ensure_ascii=False, separators=(",", ":"))
    ids = (batch.run_id.hex, batch.conversation_id.hex, batch.user_id)
    return [*ids, last.seq, last.is_terminal, text, batch.committed_at]


def _unpacked(text: str) -> tuple[StoredEvent, ...]:
    return tuple(StoredEvent(seq=seq, event=events.from_dict(kind, data)) for seq, kind, data in json.loads(text))


def _in_words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _ended(task: asyncio.Task[None]) -> None:
    """The tasks end only when they are told to."""
    if not task.cancelled() and (error := task.exception()):
        logger.critical("A task of the bus has died", exc_info=error)


async def _cancelled(*tasks: asyncio.Task[None]) -> None:
    """Asks until they have ended: the layer's `flush` takes a cancellation that comes meanwhile for its own."""
    while going := [task for task in tasks if not task.done()]:
        for task in going:
            task.cancel()
        await asyncio.wait(going, timeout=_PAUSE_S)
    await asyncio.gather(*tasks, return_exceptions=True)


# -- This process's bus ----------------------------------------------------------------------------------------------

#: While this process is one of several.
current: Bus | None = None


async def start() -> None:
    """Joins the other processes; does nothing where this process is alone, or has joined."""
    global current  # noqa: PLW0603  a process has one bus, started and stopped by its server or worker
    if settings.DISTRIBUTED and current is None:
        current = Bus(own_hub)
        await current.start()


async def stop() -> None:
    """Leaves the other processes; does nothing when it has not joined."""
    global current
    if current is not None:
        leaving, current = current, None
        await leaving.stop()
