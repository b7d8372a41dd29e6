"""The ASGI application, and the start and stop of the runner with the server: daphne, runserver or uvicorn."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opschat.settings")

import django

django.setup(set_prefix=False)

from conversations import runner  # noqa: E402  needs Django set up
from conversations.handler import PageHandler, is_settling, settle  # noqa: E402
from conversations.hub import hub  # noqa: E402
from conversations.routing import protocols  # noqa: E402

logger = logging.getLogger("conversations")
_routed = protocols(PageHandler())


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Lifespan for the servers that have it (uvicorn); daphne has none and gets hooks of its reactor below."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    else:
        await _routed(scope, receive, send)


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await runner.start()
                _end_streams_on_signal()
            except Exception as error:
                # uvicorn shows the message and exits; the traceback says where.
                logger.critical("The server can't execute requests and stops", exc_info=True)
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
        else:
            await runner.stop()
            await settle()
            await send({"type": "lifespan.shutdown.complete"})
            return


def _end_streams_on_signal() -> None:
    """uvicorn first waits for every open stream, then tells the lifespan: streams have to end when the signal comes."""
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        server = signal.getsignal(number)
        if callable(server):
            signal.signal(number, partial(_stop_asked, loop, server))


def _stop_asked(loop: asyncio.AbstractEventLoop, server: Callable[[int, Any], Any], number: int, frame: Any) -> None:
    loop.call_soon_threadsafe(hub.close)
    server(number, frame)


def _hook_into_reactor() -> None:
    """Daphne's start and stop. Does nothing where no reactor runs: the hooks are then never called."""
    from twisted.internet import reactor as installed  # noqa: PLC0415  only where daphne has installed its own
    from twisted.internet.defer import Deferred  # noqa: PLC0415

    reactor: Any = installed
    loop: asyncio.AbstractEventLoop = reactor._asyncioEventloop

    async def start() -> None:
        try:
            await runner.start()
        except Exception:
            # `serve` says why; daphne and runserver have only this.
            logger.critical("The server can't execute requests and stops", exc_info=True)
            reactor.stop()

    async def stop() -> None:
        await runner.stop()
        # A process that ends with a socket's task pending dies in the interpreter's clean-up (measured: exit -11).
        others = {task for task in asyncio.all_tasks(loop) if not is_settling(task)} - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await settle()

    def started() -> None:
        starting.append(loop.create_task(start()))

    def stopping() -> Deferred[None]:
        return Deferred.fromFuture(asyncio.ensure_future(stop(), loop=loop))

    starting: list[asyncio.Task[None]] = []
    reactor.callWhenRunning(started)
    reactor.addSystemEventTrigger("before", "shutdown", stopping)


if "twisted.internet.reactor" in sys.modules:
    _hook_into_reactor()
