"""Viewers that check what they see at every event: an SSE client of the API, and a page with its socket."""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.typing import Origin

from tests.long.people import Person

TERMINAL = {"complete": "succeeded", "error": "failed", "cancelled": "cancelled"}
#: Seconds after which a client that could not connect, or was left alone, comes back: it has no other sign.
RETRY_S = 0.1
_ABORT = struct.pack("ii", 1, 0)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request that was stored."""

    person: Person
    run_id: str
    conversation_id: str


async def ask(client: httpx.AsyncClient, url: str, person: Person, request: str, **fields: str) -> Asked:
    body = {"request": request, **fields}
    headers = {"Authorization": f"Bearer {person.token}"}
    async with client.stream("POST", f"{url}/pipeline/stream", json=body, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                start = json.loads(line[6:])
                return Asked(person=person, run_id=start["run_id"], conversation_id=start["conversation_id"])
    raise AssertionError("The stream ended before its first event.")


async def run_of(client: httpx.AsyncClient, url: str, asked: Asked) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {asked.person.token}"}
    answer = await client.get(f"{url}/pipeline/runs/{asked.run_id}", headers=headers)
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


@dataclass(kw_only=True)
class Viewer:
    """Follows one run to its end, leaving and coming back as `leaves` says, to any of the addresses."""

    asked: Asked
    urls: Sequence[str]
    client: httpx.AsyncClient
    #: Gives after how many events to leave; None: never.
    leaves: random.Random | None = None
    cursor: int = 0
    #: Words of the answer as they stand in the text.
    n_words: int = 0
    status: str = ""
    n_connected: int = 0
    #: Number of each event -> time.monotonic() when it was seen.
    seen_at: dict[int, float] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    kind: ClassVar[str]

    async def follow(self, *, within_s: float = 120) -> None:
        """Until the run's terminal event."""
        try:
            async with asyncio.timeout(within_s):
                await self._visits()
        except TimeoutError:
            raise AssertionError(f"{self} saw no end within {within_s:.0f} s") from None

    def __str__(self) -> str:
        return f"The {self.kind} viewer of run {self.asked.run_id} with {self.n_words} words, {self.cursor} events"

    async def _visits(self) -> None:
        while not self.status:
            try:
                await self._visit(self._address())
            except (httpx.TransportError, OSError, ConnectionClosed, InvalidHandshake, InvalidMessage, EOFError):
                await asyncio.sleep(RETRY_S)

    def _address(self) -> str:
        return (self.leaves or random).choice(list(self.urls))

    async def _visit(self, url: str) -> None:
        raise NotImplementedError

    def _stay(self) -> int:
        """For how many events."""
        if self.leaves is None:
            return 1_000_000
        return self.leaves.randint(1, 6)

    def _is_rude(self) -> bool:
        """It leaves without a word."""
        return self.leaves is not None and self.leaves.random() < 0.5

    def note(self) -> None:
        self.seen_at[self.cursor] = time.monotonic()
        self.changed.set()

    async def until(self, condition: Any, *, within_s: float = 60) -> None:
        """Returns when the condition is true of this viewer."""
        try:
            async with asyncio.timeout(within_s):
                while not condition(self):
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise AssertionError(f"{self} saw nothing else within {within_s:.0f} s") from None


@dataclass(kw_only=True)
class Stream(Viewer):
    """GET …/stream with Last-Event-ID. Puts the text together as the contract says."""

    kind = "sse"
    text: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    #: Stage -> newest attempt, and when it was seen, and the text's length when its first began.
    attempts: dict[str, int] = field(default_factory=dict)
    begun_at: dict[str, float] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    ended_stages: list[str] = field(default_factory=list)
    #: Attempts of the run that were lost: ids may then jump.
    may_jump: bool = False

    async def _visit(self, url: str) -> None:
        headers = {"Authorization": f"Bearer {self.asked.person.token}", "Last-Event-ID": str(self.cursor)}
        left = self._stay()
        async with self.client.stream(
            "GET", f"{url}/pipeline/runs/{self.asked.run_id}/stream", headers=headers
        ) as answer:
            if answer.status_code >= 500:
                # A server that has no database at the moment.
                await asyncio.sleep(RETRY_S)
                return
            assert answer.status_code == 200, (answer.status_code, await answer.aread())
            self.n_connected += 1
            async for line in answer.aiter_lines():
                if line.startswith("id: "):
                    seq = int(line[4:])
                elif line.startswith("data: "):
                    self._take(seq, json.loads(line[6:]))
                    left -= 1
                    if left <= 0 and not self.status:
                        if self._is_rude():
                            _abort(answer.extensions["network_stream"].get_extra_info("socket"))
                        return

    def _take(self, seq: int, event: dict[str, Any]) -> None:
        where = f"run {self.asked.run_id}: event {seq} {event} after {self.cursor}"
        assert not self.status, f"after the end: {where}"
        assert seq > self.cursor, f"doubled or out of order: {where}"
        assert seq == self.cursor + 1 or self.may_jump, f"lost: {where}"
        self.cursor = seq
        self.events.append(event)
        kind = event["type"]
        if kind == "stage_start":
            self._begin_stage(event, where)
        elif kind == "stage_complete":
            assert event["stage"] not in self.ended_stages, f"ended twice: {where}"
            self.ended_stages.append(event["stage"])
        elif kind == "token":
            assert event["offset"] == len(self.text), f"lost or doubled text at {len(self.text)}: {where}"
            self.text += event["text"]
            self.n_words = self.text.count("w")
        elif kind in TERMINAL:
            assert event["message"] == self.text, f"another text: {where} {self.text!r}"
            self.status = TERMINAL[kind]
        self.note()

    def _begin_stage(self, event: dict[str, Any], where: str) -> None:
        letter = event["stage"]
        assert event["attempt"] > self.attempts.get(letter, 0), f"begun twice: {where}"
        assert letter not in self.ended_stages, f"begun again after its end: {where}"
        self.attempts[letter], self.begun_at[letter] = event["attempt"], time.monotonic()
        self.text = self.text[: self.offsets.setdefault(letter, len(self.text))]


@dataclass(kw_only=True)
class Page(Viewer):
    """The conversation's page: frames of HTML, put together as htmx does. Judged by the words of the answer."""

    kind = "ws"
    frozen: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    last: str = ""
    #: The page has the run's element.
    has_run: bool = False

    async def _visit(self, url: str) -> None:
        left = self._stay()
        async with self._socket(url) as page:
            self.n_connected += 1
            while not self.status:
                frame = await page.recv()
                assert isinstance(frame, str)
                if not frame.startswith(f"<!--{self.asked.run_id}:"):
                    continue
                self._take(frame)
                left -= 1
                if left <= 0 and not self.status:
                    if self._is_rude():
                        _abort(page.transport.get_extra_info("socket"))
                        page.transport.abort()
                    return

    @asynccontextmanager
    async def _socket(self, url: str) -> AsyncIterator[ClientConnection]:
        cursor = f"?cursor={self.asked.run_id}:{self.cursor}" if self.has_run else ""
        address = f"ws://{urlsplit(url).netloc}/ws/conversations/{self.asked.conversation_id}/{cursor}"
        headers = {"Cookie": f"sessionid={self.asked.person.session}"}
        async with connect(
            address, origin=Origin(url), additional_headers=headers, close_timeout=2, compression=None, open_timeout=20
        ) as page:
            yield page

    def _take(self, frame: str) -> None:
        seq = int(frame[: frame.index("-->")].rpartition(":")[2])
        is_whole = "<article" in frame
        where = f"run {self.asked.run_id}: frame {seq} after {self.cursor}: {frame[:2000]}"
        # A whole answer may come again: when the page comes back.
        assert seq > self.cursor or (is_whole and seq == self.cursor), f"doubled or out of order: {where}"
        assert is_whole or self.has_run, f"a change of what the page has not: {where}"
        self.cursor, self.last, self.has_run = seq, frame, True
        self._draw(frame, is_whole=is_whole)
        words = [*self.frozen, *self.open]
        assert words == [f"w{n}" for n in range(len(words))], f"lost, doubled or out of order: {where} {words}"
        self.n_words = len(words)
        ending = re.search(r'data-run-status="(succeeded|failed|cancelled)"', frame)
        if ending:
            self.status = ending[1]
        self.note()

    def _draw(self, frame: str, *, is_whole: bool) -> None:
        if is_whole:
            frozen, _, open_ = frame.partition('<div class="open"')
            self.frozen, self.open = _words(frozen), _words(open_)
            return
        before, _, open_ = frame.partition('hx-swap-oob="innerHTML:#run-')
        if open_:
            _, _, frozen = before.partition('hx-swap-oob="beforebegin:#run-')
            self.frozen += _words(f"<{frozen}>")
            self.open = _words(f"<{open_}")


def _words(html: str) -> list[str]:
    return re.findall(r"\bw\d+\b", re.sub(r"<[^>]*>?", " ", html))


def _abort(socket_: Any) -> None:
    """Its end is a RST: nothing more is sent or read."""
    socket_.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
