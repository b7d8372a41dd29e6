"""What a client has seen of a run: the pieces with their times, and whether any was lost, doubled or out of order."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from bench.wire import Record

_WORD = re.compile(r"w(\d+) ")
_FRAME_OF = re.compile(r"<!--([0-9a-f-]{36}):\d+-->")
_OPEN_TEXT = re.compile(r'<div hx-swap-oob="innerHTML:#run-[0-9a-f-]+-open">(.*?)</div>', re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_NUMBERED = re.compile(r"\bw(\d+)\b")
_ENDED = 'data-run-status="succeeded"'


@dataclass(kw_only=True)
class Seen:
    """One run as its client saw it. Times are nanoseconds of `perf_counter`."""

    sent_at: int
    run_id: str = ""
    #: Of the first event or frame of the run.
    first_at: int | None = None
    last_at: int = 0
    n_events: int = 0
    #: When each piece was first seen.
    pieces_at: list[int] = field(default_factory=list)
    #: When the server says that each was made, where its events say so.
    made_at: list[int] = field(default_factory=list)
    is_complete: bool = False
    #: Pieces of the final text that are missing, too many, or not in their place.
    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    n_bytes: int = 0

    def judge(self, numbers: list[int], n_pieces: int) -> None:
        """By the numbers of the pieces in the text, in their order."""
        self.lost = n_pieces - len(set(numbers) & set(range(n_pieces)))
        self.doubled = len(numbers) - len(set(numbers))
        self.reordered = sum(after < before for before, after in pairwise(numbers))


def of_stream(record: Record, n_pieces: int) -> Seen:
    """From the answer of POST /pipeline/stream, ours or the baseline's, which numbers its pieces the same way."""
    seen = Seen(sent_at=record.sent_at, n_bytes=sum(map(len, record.chunks)))
    text = ""
    for at, event in _events(record):
        seen.first_at, seen.last_at = seen.first_at or at, at
        seen.n_events += 1
        seen.run_id = event.get("run_id", "")
        if event["type"] == "token":
            text = text[: event.get("offset", len(text))] + event["text"]
            added = text.count(" ") - len(seen.pieces_at)
            seen.pieces_at += [at] * added
            seen.made_at += [event["t"]] if "t" in event else []
        elif event["type"] == "complete":
            seen.is_complete = event.get("message", text) == text
    seen.judge([int(number) for number in _WORD.findall(text)], n_pieces)
    return seen


def _events(record: Record) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each event with the time of the chunk that completed it."""
    body = b""
    for at, part in _bodies(record):
        body += part
        *whole, body = body.split(b"\n\n")
        for block in whole:
            data = block[block.find(b"data: ") + 6 :] if b"data: " in block else b""
            if data:
                yield at, json.loads(data)


def _bodies(record: Record) -> Iterator[tuple[int, bytes]]:
    """The answer's body as it came, without its head and the framing of chunks."""
    raw, in_head, is_chunked = b"", True, False
    for at, chunk in zip(record.times, record.chunks, strict=True):
        raw += chunk
        if in_head:
            head, found, rest = raw.partition(b"\r\n\r\n")
            if not found:
                continue
            in_head, is_chunked, raw = False, b"chunked" in head.lower(), rest
        if not is_chunked:
            yield at, raw
            raw = b""
            continue
        part, raw = _unchunked(raw)
        yield at, part


def _unchunked(raw: bytes) -> tuple[bytes, bytes]:
    """The whole chunks joined, and what is left of the last one."""
    parts = []
    while (end := raw.find(b"\r\n")) > 0:
        begin = end + 2
        length = int(raw[:end].split(b";")[0], 16)
        if len(raw) < begin + length + 2:
            break
        parts.append(raw[begin : begin + length])
        raw = raw[begin + length + 2 :]
    return b"".join(parts), raw


def of_floor(record: Record, _: int) -> Seen:
    """From the answer of a request that is no run: whether it was 200."""
    seen = Seen(sent_at=record.sent_at, n_bytes=sum(map(len, record.chunks)))
    if record.times:
        seen.first_at = seen.last_at = record.times[-1]
        seen.pieces_at = [record.times[-1]]
    seen.is_complete = b"".join(record.chunks).startswith(b"HTTP/1.1 200")
    return seen


def of_socket(record: Record, n_pieces: int) -> Seen:
    """From the frames of a conversation's socket: the text that they draw."""
    seen = Seen(sent_at=record.sent_at, n_bytes=sum(map(len, record.chunks)))
    for at, message in zip(record.times, record.chunks, strict=True):
        frame = message.decode()
        named = _FRAME_OF.match(frame)
        if named is None or (seen.run_id and named[1] != seen.run_id) or seen.is_complete:
            continue
        seen.run_id, seen.first_at, seen.last_at = named[1], seen.first_at or at, at
        seen.n_events += 1
        numbers = _drawn(frame)
        seen.pieces_at += [at] * (len(numbers) - len(seen.pieces_at))
        if _ENDED in frame:
            seen.is_complete = True
            swapped = seen.reordered
            seen.judge(numbers, n_pieces)
            seen.reordered += swapped
        elif numbers:
            # No frame may leave a piece out, swap two, or take one back.
            seen.reordered += numbers != list(range(len(numbers))) or len(numbers) < len(seen.pieces_at)
    if not seen.is_complete:
        seen.lost = n_pieces - len(seen.pieces_at)
    return seen


def _drawn(frame: str) -> list[int]:
    """The numbers of the pieces that the answer's text has after this frame; none when the frame leaves it alone."""
    found = _OPEN_TEXT.search(frame)
    text = found[1] if found else frame
    return [int(number) for number in _NUMBERED.findall(_TAG.sub(" ", text))]
