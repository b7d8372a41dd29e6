"""Calls of the whole ASGI application, in the test's own event loop."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from asgiref import testing
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.test import Client

from conversations import threads, tokens
from opschat.asgi import application

Event = dict[str, Any]

#: asgiref has no types.
ApplicationCommunicator: Any = testing.ApplicationCommunicator


async def token_of(user: User) -> str:
    return (await threads.reading(lambda: tokens.make(user=user)))[1]


async def cookie_of(user: User) -> str:
    """The Cookie header of a signed-in browser."""

    def signed_in() -> str:
        client = Client()
        client.force_login(user)
        return f"sessionid={client.cookies['sessionid'].value}"

    return await threads.reading(signed_in)


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json()["error"]

    @property
    def events(self) -> list[Event]:
        return parse_events(self.body)


def parse_events(body: bytes) -> list[Event]:
    """The events of a stream, each with its `id`; comments are left out."""
    found = []
    for part in body.decode().split("\n\n"):
        if part.startswith("id: "):
            number, _, data = part.partition("\ndata: ")
            found.append({"id": int(number.removeprefix("id: ")), **json.loads(data)})
    return found


def scope(method: str, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
    path, _, query = path.partition("?")
    named = {"host": "localhost", **{name.lower(): value for name, value in headers.items()}}
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("localhost", 80),
        "scheme": "http",
    }


@asynccontextmanager
async def calling(method: str, path: str, *, body: bytes = b"", **headers: str) -> AsyncIterator[Any]:
    """A request that has been sent; leaving ends it as a client does that goes away."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    caller = ApplicationCommunicator(application, scope(method, path, named))
    await caller.send_input({"type": "http.request", "body": body, "more_body": False})
    try:
        yield caller
    finally:
        await caller.send_input({"type": "http.disconnect"})
        await caller.wait(timeout=5)


async def call(method: str, path: str, *, data: Any = None, body: bytes = b"", **headers: str) -> Answer:
    """The whole answer of one request."""
    content = json.dumps(data).encode() if data is not None else body
    async with calling(method, path, body=content, **headers) as caller:
        start = await caller.receive_output(timeout=20)
        received = b""
        more = True
        while more:
            message = await caller.receive_output(timeout=20)
            received += message.get("body", b"")
            more = message.get("more_body", False)
    answered = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return Answer(status=start["status"], headers=answered, body=received)


async def ask(user: User, request: str, **fields: Any) -> Answer:
    """POST /pipeline/stream to its end."""
    token = await token_of(user)
    data = {"request": request, **fields}
    return await call("POST", "/pipeline/stream", data=data, authorization=f"Bearer {token}")


def socket(path: str, *, cookie: str, origin: str = "http://localhost") -> WebsocketCommunicator:
    headers = [(b"host", b"localhost"), (b"origin", origin.encode()), (b"cookie", cookie.encode())]
    return WebsocketCommunicator(application, path, headers=headers)
