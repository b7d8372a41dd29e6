"""daphne that waits for those who read slowly. By itself it takes whatever it is given into memory."""

from __future__ import annotations

import asyncio
from typing import Any

# Installs daphne's reactor: for `serve` alone.
from daphne.server import Server

#: Seconds in which a client has to take what was sent, or its connection is cut.
_STALL_S = 60.0


class PatientServer(Server):  # type: ignore[misc]  # daphne ships no types
    """Takes the next piece of an answer when the client has taken the one before: memory stays flat, whoever reads."""

    async def handle_reply(self, protocol: Any, message: Any) -> None:
        if not message.get("more_body") or protocol.channel is None:
            await super().handle_reply(protocol, message)
            return
        gate = _Gate()
        protocol.registerProducer(gate, True)
        try:
            await super().handle_reply(protocol, message)
            async with asyncio.timeout(_STALL_S):
                await gate.opened.wait()
        except TimeoutError:
            # The application is told, as if the client had gone.
            protocol.channel.forceAbortClient()
        finally:
            if protocol.producer is gate:
                protocol.unregisterProducer()


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
