"""Files of exports as HTTP answers: verified, in ranges, with what was really sent in the ledger."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from django.http import FileResponse, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from conversations import audit, files, threads
from conversations.formats.kinds import Format
from conversations.models import Export, ExportFile

#: One range of bytes (RFC 9110, 14.1.2). Several at once are answered with the whole file, as the standard allows.
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


#: Chunks that are read at once when they lie in memory.
TOGETHER = 2


class Unsatisfiable(Exception):
    """The range begins behind the end of the file."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """The bytes [start, end) of a file of `n_bytes`."""

    start: int
    end: int
    n_bytes: int

    @property
    def is_part(self) -> bool:
        return (self.start, self.end) != (0, self.n_bytes)

    @property
    def header(self) -> str:
        return f"bytes {self.start}-{self.end - 1}/{self.n_bytes}"


def span_of(request: HttpRequest, stored: ExportFile) -> Span:
    """What of the file is asked for. Raises Unsatisfiable."""
    whole = Span(start=0, end=stored.n_bytes, n_bytes=stored.n_bytes)
    found = _RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if found is None or found.groups() == ("", "") or request.headers.get("If-Range", etag(stored)) != etag(stored):
        return whole
    first, last = found.groups()
    if not first:
        start, end = max(0, stored.n_bytes - int(last)), stored.n_bytes
    else:
        start, end = int(first), min(stored.n_bytes, int(last) + 1 if last else stored.n_bytes)
        if last and int(last) < start:
            return whole
    if start >= stored.n_bytes or start >= end:
        raise Unsatisfiable
    return Span(start=start, end=end, n_bytes=stored.n_bytes)


def etag(stored: ExportFile) -> str:
    return f'"{stored.sha256}"'


def is_known(request: HttpRequest, stored: ExportFile) -> bool:
    """The client has this very file (If-None-Match, compared weakly: RFC 9110, 13.1.2)."""
    tags = [tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")]
    return etag(stored) in tags or tags == ["*"]


def answer(
    request: HttpRequest, *, export: Export, stored: ExportFile, kind: Format, actor: Any, began: Callable[..., Any]
) -> HttpResponseBase:
    """The answer to GET or HEAD. `began` is called before the first byte, with what will be sent, and makes the entry.

    Raises files.Corrupt when the file can't be opened or its first bytes are not what was written; when later ones
    aren't, the connection is cut before them. For unchanged files and HEAD nothing is read, and no download is counted.
    """
    if is_known(request, stored):
        return _headed(HttpResponse(status=304), stored)
    try:
        span = span_of(request, stored)
    except Unsatisfiable:
        response = HttpResponse(status=416)
        response["Content-Range"] = f"bytes */{stored.n_bytes}"
        return _headed(response, stored)
    if request.method == "HEAD":
        return _described(HttpResponse(content_type=kind.mime), export, stored, kind, span)
    source = _Source(stored, span)
    try:
        entry = began(**({"range": span.header} if span.is_part else {}))
        file = Download(source, end=_Sent(entry, actor, audit.origin_of(request)), mime=kind.mime)
    except BaseException:
        source.file.close()
        raise
    return _described(file, export, stored, kind, span)


def _described(
    response: HttpResponseBase, export: Export, stored: ExportFile, kind: Format, span: Span
) -> HttpResponseBase:
    response["Content-Disposition"] = f'attachment; filename="{export.filename(kind.extension)}"'
    response["Content-Length"] = str(span.end - span.start)
    if span.is_part:
        response.status_code = 206
        response["Content-Range"] = span.header
    return _headed(response, stored)


def _headed(response: HttpResponseBase, stored: ExportFile) -> HttpResponseBase:
    response["ETag"] = etag(stored)
    response["Accept-Ranges"] = "bytes"
    # Only clients that keep files themselves ask whether theirs is unchanged: nothing stays in a browser's cache.
    response["Cache-Control"] = "private, no-store"
    return response


class Download(FileResponse):
    """A file that is being sent; whoever sends it, or can't, calls `end`."""

    def __init__(self, source: _Source, *, end: _Sent, mime: str) -> None:
        super().__init__(source.file, content_type=mime)
        self._source = source
        self._end = end
        self._has_ended = False
        #: Whether the client has gone: a server takes pieces for it all the same.
        self.is_left: Callable[[], bool] = lambda: False
        self.streaming_content = self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        """Chunk by chunk, each read and verified when the one before has been taken.

        An async iterator, because Django reads a synchronous FileResponse whole into memory under ASGI (measured: 634
        MiB for a file of 200 MB).
        """
        try:
            async for piece in self._source.pieces():
                yield piece
                if self.is_left():
                    return
                self._source.n_sent += len(piece)
        finally:
            await self.end()

    async def end(self) -> None:
        """Writes how the download ended, once: for who stops reading, or has gone before it began, too."""
        if self._has_ended:
            return
        self._has_ended = True
        # The client's going away cancels this task; the entry is written all the same.
        await asyncio.shield(asyncio.ensure_future(threads.reading(self._finish)))

    def _finish(self) -> None:
        """In a thread: another one may still be reading, and who closes the file waits for it."""
        try:
            self._source.file.close()
        finally:
            self._end.record(self._source)


class _Sent:
    """Writes into the ledger how a download ended."""

    def __init__(self, entry: Any, actor: Any, origin: audit.Origin) -> None:
        self._entry = entry
        self._actor = actor
        self._origin = origin

    def record(self, source: _Source) -> None:
        is_whole = source.n_sent == source.n_bytes
        detail = {"download": str(self._entry.pk), "bytes_sent": source.n_sent, "complete": is_whole}
        if source.why:
            detail["why"] = source.why
        audit.record(
            actor=self._actor, action="export.download_end", object_type="export", object_id=self._entry.object_id,
            outcome=audit.Outcome.OK if is_whole else audit.Outcome.FAILED, origin=self._origin, detail=detail,
        )  # fmt: skip


class _Source:
    """The verified bytes of a span; the first are read, and verified, at once."""

    def __init__(self, stored: ExportFile, span: Span) -> None:
        self.file = files.Verified(stored, start=span.start, end=span.end)
        self.n_bytes = span.end - span.start
        #: Bytes that a server has taken, and that are still to be read.
        self.n_sent, self._left = 0, self.n_bytes
        #: Why it broke off, when that was not the client.
        self.why = ""
        try:
            self._first = self.file.chunk()
        except BaseException:
            self.file.close()
            raise

    async def pieces(self) -> AsyncIterator[bytes]:
        chunk = self._first
        try:
            while chunk:
                self._left -= len(chunk)
                yield chunk
                chunk = await self._next() if self._left else b""
        except files.Corrupt as error:
            self.why = str(error)
            raise

    async def _next(self) -> bytes:
        """In a thread when it would wait for a disk or a bucket."""
        # A server may take piece after piece without ever letting others have their turn.
        await asyncio.sleep(0)
        at_hand = self.file.chunks_at_hand(TOGETHER)
        return await threads.reading(self.file.chunk) if at_hand is None else at_hand
