"""opschat, and beside it the floor: an authenticated request that commits one row and answers.

It is built as the product's stream is, plain ASGI with one hop to a thread, so that nothing but the work is compared.
"""

from __future__ import annotations

import uuid
from typing import Any

from conversations import audit, threads, tokens
from opschat.asgi import application as opschat

_JSON = [(b"content-type", b"application/json"), (b"content-length", b"2")]


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http" and scope["path"] == "/bench/floor":
        await _floor(scope, receive, send)
    else:
        await opschat(scope, receive, send)


async def _floor(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    authorization = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
    is_known = await threads.reading(_commit_one_row, authorization)
    await send({"type": "http.response.start", "status": 200 if is_known else 401, "headers": _JSON})
    await send({"type": "http.response.body", "body": b"{}"})


def _commit_one_row(authorization: str) -> bool:
    token = tokens.find(tokens.bearer(authorization) or "")
    if token is None:
        return False
    audit.record(actor=token.user, action="bench.floor", object_type="bench", object_id=uuid.uuid4())
    return True
