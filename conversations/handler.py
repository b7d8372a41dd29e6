"""Django's handler, with one way to a thread and back for each page, and static files before it.

Django's own makes a way for each hook of each middleware, in a new thread that opens the database anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from servestatic.middleware import AsyncServeStaticFileResponse, ServeStaticMiddleware

from conversations import downloads, files, threads

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
#: Stands in the scope of a request whose client has gone.
_GONE = "opschat.gone"


class PageHandler(ASGIHandler):
    """Views and middleware are synchronous, and run together in a thread that keeps its connection."""

    #: Bytes of a file that are sent at once: as they were read and verified, not in pieces.
    chunk_size = downloads.TOGETHER * files.CHUNK

    def __init__(self) -> None:
        super().__init__()
        self._files = ServeStaticMiddleware(self._page)

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def handle(self, scope: Scope, receive: Any, send: Any) -> None:
        """Django's, which says nowhere that the client has gone until it cancels what it does."""

        async def told() -> Any:
            message = await receive()
            if message["type"] == "http.disconnect":
                scope[_GONE] = True
            return message

        await super().handle(scope, told, send)

    async def send_response(self, response: HttpResponseBase, send: Any) -> None:
        try:
            await super().send_response(response, send)
        finally:
            await _end(response)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await self._files(request)
        if isinstance(response, AsyncServeStaticFileResponse):
            for name, value in security_headers().items():
                response.headers[name] = value
        if isinstance(response, downloads.Download):
            scope: Scope = request.scope  # type: ignore[attr-defined]  # it came by ASGI
            response.is_left = lambda: _GONE in scope
        return response

    async def _page(self, request: HttpRequest) -> HttpResponseBase:
        answering = threads.answering.submit(self.get_response, request)
        try:
            return await asyncio.shield(asyncio.wrap_future(answering))
        except asyncio.CancelledError:
            # The client has gone. A thread that has its request goes on, and may have begun a download.
            if not answering.cancel():
                ending = asyncio.create_task(_end_left(asyncio.wrap_future(answering)))
                _ending.add(ending)
                ending.add_done_callback(_ending.discard)
            raise


#: Of requests whose clients have gone before they were answered.
_ending: set[asyncio.Task[None]] = set()
#: Seconds in which they are ended when the server stops.
_LAST_S = 5.0


async def settle() -> None:
    """Waits for what clients that have gone left behind: before the server stops."""
    if _ending:
        await asyncio.wait(_ending, timeout=_LAST_S)


def is_settling(task: asyncio.Task[Any]) -> bool:
    return task in _ending


async def _end_left(answering: Awaitable[HttpResponseBase]) -> None:
    try:
        response = await answering
        try:
            await _end(response)
        finally:
            response.close()
    except Exception:
        logger.exception("A request whose client had gone could not be ended")


async def _end(response: HttpResponseBase) -> None:
    """Django closes its own iterator alone; a download's would write its entry when its garbage is collected."""
    if isinstance(response, downloads.Download):
        await response.end()


def security_headers() -> dict[str, str]:
    """What Django's middleware gives to every page, for answers that it doesn't see and that hold nothing to be run."""
    headers = {
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Cross-Origin-Opener-Policy": settings.SECURE_CROSS_ORIGIN_OPENER_POLICY,
        "Referrer-Policy": settings.SECURE_REFERRER_POLICY,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": settings.X_FRAME_OPTIONS,
    }
    if settings.SECURE_HSTS_SECONDS:
        headers["Strict-Transport-Security"] = f"max-age={settings.SECURE_HSTS_SECONDS}; includeSubDomains; preload"
    return headers
