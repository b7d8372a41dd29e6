"""Fan-out of committed events to the viewers in this process. A hint only: what it loses is read from the rows.

Between processes a relay carries them, see `bus`; a process that is alone has none.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import KeysView, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Protocol
from uuid import UUID

from conversations.pipeline.events import TERMINAL, Event, to_dict

#: Seconds of silence after which a viewer is told that the connection lives, and looks at the rows again.
HEARTBEAT_S = 15.0
#: Batches kept for one slow viewer; beyond that it reads the rows.
_MAX_WAITING = 256
#: How the topics of `topics_of` begin.
_TOPICS_OF_RUNS = ("run.", "conversation.", "user.")

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, kw_only=True)
class StoredEvent:
    seq: int
    event: Event

    @property
    def is_terminal(self) -> bool:
        return self.event.type in TERMINAL

    @cached_property
    def fields(self) -> str:
        """The event's fields as JSON, encoded once for all who are sent them."""
        return _encode(to_dict(self.event))


@dataclass(frozen=True, kw_only=True)
class Fence:
    """Who may write a run's events: the owner of this attempt."""

    run_id: UUID
    conversation_id: UUID
    user_id: int
    owner: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Committed events of one run, numbered without a gap."""

    run_id: UUID
    conversation_id: UUID
    user_id: int
    events: tuple[StoredEvent, ...]
    #: Seconds since the epoch.
    committed_at: float = field(default_factory=time.time)


class Subscription:
    """One viewer's place at the hub, to be used in `with`. Lives on the event loop's thread."""

    def __init__(self, hub: Hub, topic: str) -> None:
        self._hub = hub
        self._topic = topic
        self._waiting: deque[Batch] = deque()
        self._arrived = asyncio.Event()
        #: Batches were dropped because the viewer was slow: read the rows.
        self.lagged = False

    def __enter__(self) -> Subscription:
        self._hub.join(self._topic, self)
        return self

    def __exit__(self, *_: object) -> None:
        self._hub.leave(self._topic, self)

    def put(self, batch: Batch) -> None:
        if len(self._waiting) >= _MAX_WAITING:
            self._waiting.clear()
            self.lagged = True
        self._waiting.append(batch)
        self._arrived.set()

    def wake(self) -> None:
        self._arrived.set()

    def look_again(self) -> None:
        self.lagged = True
        self._arrived.set()

    async def next(self, *, timeout_s: float = HEARTBEAT_S) -> Batch | None:
        """The next batch, or None after `timeout_s` without one, or at once when the hub closes."""
        if not self._waiting and not self._hub.is_closed:
            self._arrived.clear()
            # Not wait_for: before Python 3.12 it may swallow a cancel that comes with the event.
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._arrived.wait()
        return self._waiting.popleft() if self._waiting else None

    def rest(self) -> list[Batch]:
        """All that waits now, in order: who has been given a batch sends what came since with it."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting


def topic_of_run(run_id: UUID) -> str:
    return f"run.{run_id}"


def topic_of_conversation(conversation_id: UUID) -> str:
    return f"conversation.{conversation_id}"


def topic_of_user(user_id: int) -> str:
    return f"user.{user_id}"


def topic_of_account(user_id: int) -> str:
    """No batches: what may end a viewer's access, see `sessions`."""
    return f"account.{user_id}"


def topic_of_executors() -> str:
    """No batches: something was asked of whoever executes runs, see `execution`."""
    return "executors"


def topics_of(run_id: UUID, conversation_id: UUID, user_id: int) -> tuple[str, str, str]:
    """Where a run's batches are seen."""
    return topic_of_run(run_id), topic_of_conversation(conversation_id), topic_of_user(user_id)


class Relay(Protocol):
    """Takes to the other processes what happened in this one. Never waits, and may lose what it is given."""

    def carry(self, batches: Sequence[Batch]) -> None:
        """On the event loop's thread."""

    def signal(self, topic: str) -> None:
        """From any thread."""


class Hub:
    """Fan-out to the viewers in this process. Called on the event loop's thread only, but where it says otherwise."""

    def __init__(self) -> None:
        self._viewers: dict[str, set[Subscription]] = {}
        #: Of whoever opened it or joined last: one process has one.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._relay: Relay | None = None
        #: The server stops: viewers go, and come back to the next one.
        self.is_closed = False

    def open(self) -> None:
        """On the event loop that serves or executes."""
        self._loop = asyncio.get_running_loop()
        self.is_closed = False

    def close(self) -> None:
        """Wakes every viewer, so that streams end; uvicorn waits for them before it stops."""
        self.is_closed = True
        for viewers in self._viewers.values():
            for viewer in viewers:
                viewer.wake()

    def use_relay(self, relay: Relay | None) -> None:
        """From now on what happens here is told to other processes; None: no more."""
        self._relay = relay

    def subscribe(self, topic: str) -> Subscription:
        return Subscription(self, topic)

    def join(self, topic: str, viewer: Subscription) -> None:
        self._loop = asyncio.get_running_loop()
        self._viewers.setdefault(topic, set()).add(viewer)

    def leave(self, topic: str, viewer: Subscription) -> None:
        viewers = self._viewers.get(topic, set())
        viewers.discard(viewer)
        if not viewers:
            self._viewers.pop(topic, None)

    def topics(self) -> KeysView[str]:
        """The topics that have viewers in this process now."""
        return self._viewers.keys()

    def watches_runs(self) -> bool:
        return any(topic.startswith(_TOPICS_OF_RUNS) for topic in self._viewers)

    def publish(self, *batches: Batch) -> None:
        """What this process committed: to its own viewers and to those of the other processes."""
        for batch in batches:
            self.deliver(batch)
        if self._relay is not None and batches:
            self._relay.carry(batches)

    def publish_soon(self, *batches: Batch) -> None:
        """As `publish`, from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(partial(self.publish, *batches))

    def deliver(self, batch: Batch) -> None:
        """To this process's viewers only."""
        for topic in topics_of(batch.run_id, batch.conversation_id, batch.user_id):
            for viewer in self._viewers.get(topic, ()):
                viewer.put(batch)

    def look_again(self, topic: str) -> None:
        """Makes the topic's viewers in all processes read the rows now. From any thread."""
        self.look_again_here(topic)
        if (relay := self._relay) is not None:
            relay.signal(topic)

    def look_again_here(self, topic: str) -> None:
        """The same for this process's viewers only. From any thread."""
        if self._loop is not None and topic in self._viewers:
            self._loop.call_soon_threadsafe(self._look_again, topic)

    def _look_again(self, topic: str) -> None:
        for viewer in self._viewers.get(topic, ()):
            viewer.look_again()


def batch_of(fence: Fence, stored: Sequence[StoredEvent]) -> Batch:
    return Batch(
        run_id=fence.run_id, conversation_id=fence.conversation_id, user_id=fence.user_id, events=tuple(stored)
    )


#: This process's hub.
hub = Hub()
