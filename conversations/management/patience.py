"""daphne that waits for those who read slowly. By itself it takes whatever it is given into memory."""

from __future__ import annotations

import asyncio
import time
from typing import Any

# Installs daphne's reactor: for `serve` alone.
from daphne.server import Server


class PatientServer(Server):  # type: ignore[misc]  # daphne ships no types
    """Takes the next piece of an answer when the client has taken the one before: memory stays flat, whoever reads.

    `stall_s`: seconds in which a client has to take a piece, or its connection is cut.
    """

    def __init__(self, *, stall_s: float, **options: Any) -> None:
        super().__init__(**options)
        self._stall_s = stall_s

    def application_checker(self) -> None:
        """Cuts the connections whose answer broke off when it had begun.

        daphne would begin another answer there, which fails, and never look after any connection again.
        """
        for protocol, details in list(self.connections.items()):
            if _has_broken_off(details.get("application_instance")) and getattr(protocol, "_response_started", False):
                details.setdefault("disconnected", time.time())
                if protocol.channel is not None:
                    protocol.channel.forceAbortClient()
        super().application_checker()

    async def handle_reply(self, protocol: Any, message: Any) -> None:
        # The last piece is not waited for: nothing comes after it.
        if not message.get("more_body") or protocol.channel is None or protocol.producer is not None:
            await super().handle_reply(protocol, message)
            return
        gate = _Gate()
        protocol.registerProducer(gate, True)
        try:
            await super().handle_reply(protocol, message)
            await self._taken(protocol, gate)
        finally:
            # Who has gone takes nothing back: its channel is no more.
            if protocol.channel is not None and protocol.producer is gate:
                protocol.unregisterProducer()

    async def _taken(self, protocol: Any, gate: _Gate) -> None:
        if gate.opened.is_set():
            return
        try:
            async with asyncio.timeout(self._stall_s):
                await gate.opened.wait()
        except TimeoutError:
            # The application is told, as if the client had gone.
            if protocol.channel is not None:
                protocol.channel.forceAbortClient()


def _has_broken_off(application: asyncio.Future[Any] | None) -> bool:
    if application is None or not application.done() or application.cancelled():
        return False
    return application.exception() is not None


class _Gate:
    """What Twisted calls a push producer: told when the connection is full, and when it is empty again or gone."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.opened.set()

    def pauseProducing(self) -> None:
        self.opened.clear()

    def resumeProducing(self) -> None:
        self.opened.set()

    def stopProducing(self) -> None:
        self.opened.set()
