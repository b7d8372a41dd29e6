"""The client's end of a connection: raw, so that it costs little. It keeps what came, and when.

Taking it apart, counting and judging come afterwards, in `judging`. After the client of the project's first benchmark.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from dataclasses import dataclass, field

now = time.perf_counter_ns


@dataclass(kw_only=True)
class Record:
    """What came over a connection since `sent_at`, as it came. Times are nanoseconds of `perf_counter`."""

    sent_at: int = field(default_factory=now)
    times: list[int] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)


class _Recorder(asyncio.Protocol):
    """Keeps chunks until one of the end marks has come, which may lie across two chunks."""

    def __init__(self, *ends: bytes) -> None:
        self.ends = ends
        self.record = Record()
        self.ended = asyncio.get_running_loop().create_future()
        self._tail = b""
        self._arrived = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  narrows the type, never false
        self.transport = transport

    def keep(self, data: bytes) -> None:
        self.record.times.append(now())
        self.record.chunks.append(data)
        seen = self._tail + data[:64]
        if any(end in data or end in seen for end in self.ends):
            self.end()
        self._tail = data[-64:]
        self._arrived.set()

    def end(self) -> None:
        self._arrived.set()
        if not self.ended.done():
            self.ended.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self.end()


class Exchange(_Recorder):
    """One HTTP request and its answer, until an end mark comes or the server closes."""

    def data_received(self, data: bytes) -> None:
        self.keep(data)

    async def until(self, mark: bytes) -> None:
        """Returns when the mark has come. Raises ConnectionError when the answer ends without it."""
        while mark not in b"".join(self.record.chunks):
            if self.ended.done():
                raise ConnectionError(f"The answer ended without {mark!r}")
            self._arrived.clear()
            await self._arrived.wait()


class Socket(_Recorder):
    """A WebSocket that only receives; its record holds whole messages. Each call of `begin` starts a new record."""

    def __init__(self, *ends: bytes) -> None:
        super().__init__(*ends)
        self.opened: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._unread = b""
        self._parts = b""

    def begin(self) -> None:
        self.record = Record()
        self.ended = asyncio.get_running_loop().create_future()
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if not self.opened.done():
            head, found, rest = self._unread.partition(b"\r\n\r\n")
            if not found:
                return
            self._unread = rest
            self.opened.set_result(int(head.split(b" ")[1]))
        while (found_frame := _frame(self._unread)) is not None:
            first, payload, self._unread = found_frame
            self._take(first, payload)

    def _take(self, first: int, payload: bytes) -> None:
        kind = first & 15
        if kind == _PING:  # Unanswered, the server would close.
            self.transport.write(masked(_PONG, payload))
        elif kind in _TEXT:
            self._parts += payload
            if first & 0x80:
                self.keep(self._parts)
                self._parts = b""

    def connection_lost(self, error: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_result(0)
        super().connection_lost(error)


_TEXT, _PING, _PONG = (0, 1), 9, 10
_SHORTEST_HEAD = 2


def _frame(raw: bytes) -> tuple[int, bytes, bytes] | None:
    """A server's frame: its first byte, its payload, and what follows. None while it is not whole."""
    if len(raw) < _SHORTEST_HEAD:
        return None
    size, head = raw[1] & 127, _SHORTEST_HEAD
    width = {126: 2, 127: 8}.get(size, 0)
    if width:
        size, head = int.from_bytes(raw[2 : 2 + width], "big"), 2 + width
    if len(raw) < head + size:
        return None
    return raw[0], raw[head : head + size], raw[head + size :]


def masked(opcode: int, payload: bytes) -> bytes:
    """A short frame of a client, with a mask of zeros: legal, and free to apply."""
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + b"\0\0\0\0" + payload


def post(path: str, body: bytes, host: str, headers: dict[str, str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Connection: close", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode() + body


def get(path: str, host: str, headers: dict[str, str]) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


def upgrade(path: str, host: str, headers: dict[str, str]) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", f"Origin: http://{host}", "Connection: Upgrade"]
    lines += ["Upgrade: websocket", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


async def exchange(port: int, request: bytes, *ends: bytes) -> Exchange:
    """Sent; the answer is still to come. Time counts from before the connection is made."""
    begun = now()
    _, made = await asyncio.get_running_loop().create_connection(lambda: Exchange(*ends), "127.0.0.1", port)
    made.record.sent_at = begun
    made.transport.write(request)
    return made


async def socket(port: int, request: bytes, *ends: bytes) -> Socket:
    """Raises ConnectionError when the server does not open it."""
    _, made = await asyncio.get_running_loop().create_connection(lambda: Socket(*ends), "127.0.0.1", port)
    made.transport.write(request)
    status = await made.opened
    if status != 101:
        raise ConnectionError(f"The socket was answered {status}")
    return made
