"""Synchronous code for the event loop: worker threads that keep their database connection.

Not `sync_to_async`: outside a Django request it runs everything of a process in one thread, so that a long query of one
run would hold up every viewer (notes: one global thread for background tasks and consumers).

A connection is kept from call to call: giving it back to psycopg's pool costs as much as a short query, and opening
SQLite's file anew more than that.
"""

from __future__ import annotations

import asyncio
import contextvars
import select
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Any, TypeVar

from django.db import connections

T = TypeVar("T")


class Threads:
    """A named pool. `await pool(function, *args)` runs the function in one of its threads."""

    def __init__(self, name: str, *, size: int) -> None:
        self.size = size
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)

    async def __call__(self, function: Callable[..., T], /, *args: Any) -> T:
        """What the function returns or raises. Cancelling the caller doesn't stop a function that has begun."""
        return await asyncio.wrap_future(self.submit(function, *args))

    def submit(self, function: Callable[..., T], /, *args: Any) -> Future[T]:
        """The same for who has to know whether it has begun: the future can't be cancelled any more then."""
        return self._pool.submit(contextvars.copy_context().run, _clean, function, args)

    def close_connections(self) -> None:
        """Each thread gives back its connection, when nothing runs in the pool: before a database is dropped."""
        together = Barrier(self.size)
        for done in [self._pool.submit(_close, together) for _ in range(self.size)]:
            done.result()


_writing = threading.Lock()


@contextmanager
def write_turn() -> Iterator[None]:
    """Around a transaction that writes: on SQLite, which has one writer, waits for this process's others here.

    SQLite itself waits by sleeping longer and longer (measured: 0.2 s and more for locks held for 2 ms). Does nothing
    inside a transaction, which holds the lock already, and on other databases.
    """
    database = connections["default"]
    if database.vendor != "sqlite" or database.in_atomic_block:
        yield
    else:
        with _writing:
            yield


def _close(together: Barrier) -> None:
    # All at once: so no thread does it twice, and none not at all.
    together.wait()
    connections.close_all()


def _clean(function: Callable[..., T], args: tuple[Any, ...]) -> T:
    """Calls the function; a connection that an earlier call or the server left broken is replaced first."""
    for connection in connections.all(initialized_only=True):
        if connection.errors_occurred or (_has_heard(connection) and not connection.is_usable()):
            connection.close()
    return function(*args)


def _has_heard(connection: Any) -> bool:
    """Something came from the server although nothing was asked: mostly that it ends the connection. Microseconds."""
    if connection.vendor != "postgresql" or connection.connection is None:
        return False
    socket = select.poll()
    try:
        socket.register(connection.connection.fileno(), select.POLLIN)
    except connection.Database.Error:  # it has lost its socket already
        return True
    return bool(socket.poll(0))


#: Short reads and writes for viewers and the API.
reading = Threads("opschat-read", size=4)
#: Pages and forms, with all their middleware.
answering = Threads("opschat-answer", size=12)
#: Claims, leases and ends of runs: short, and never behind a crowd of viewers, or a lease would be lost to it.
executing = Threads("opschat-execute", size=2)
#: The tools' queries and the exports they fill; may take minutes.
working = Threads("opschat-work", size=8)
#: Understanding a request: milliseconds of Python each, but never on the event loop and never behind a long export.
thinking = Threads("opschat-think", size=2)
#: Every write of events: one thread, so that batches of this process never wait for each other's locks.
writing = Threads("opschat-write", size=1)
