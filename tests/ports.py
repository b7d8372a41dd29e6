"""Ports for servers that are stopped and started again."""

from __future__ import annotations

import secrets
import socket

#: Below those that a system gives to outgoing connections: while a server is down, none of them takes its port.
FIRST, LAST = 20_000, 32_000


def free_port() -> int:
    while True:
        port = FIRST + secrets.randbelow(LAST - FIRST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
