"""Synchronous code for the event loop: worker threads that keep their database connection.

Not `sync_to_async`: outside a Django request it runs everything of a process in one thread, so that a long query of one
run would hold up every viewer (notes: one global thread for background tasks and consumers).
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.db import connections

T = TypeVar("T")


class Threads:
    """A named pool. `await pool(function, *args)` runs the function in one of its threads."""

    def __init__(self, name: str, *, size: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)

    async def __call__(self, function: Callable[..., T], /, *args: Any) -> T:
        """What the function returns or raises. Cancelling the caller doesn't stop a function that has begun."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._pool, context.run, _clean, function, args)


def _clean(function: Callable[..., T], args: tuple[Any, ...]) -> T:
    """Calls the function; a connection that an earlier call left broken is replaced first."""
    for connection in connections.all(initialized_only=True):
        if connection.errors_occurred:
            connection.close()
    return function(*args)


#: Short reads and writes for viewers and the API.
reading = Threads("opschat-read", size=4)
#: The tools' queries and the exports they fill; may take minutes.
working = Threads("opschat-work", size=8)
#: Understanding a request: milliseconds of Python each, but never on the event loop and never behind a long export.
thinking = Threads("opschat-think", size=2)
#: Every write of events: one thread, so that batches of this process never wait for each other's locks.
writing = Threads("opschat-write", size=1)
