"""What machines ask a server: `/healthz` (it lives), `/readyz` (it can do its work), `/metrics` (for Prometheus).

A plain ASGI application beside Django, so that a probe needs no host name that is allowed, is not led to https://, and
leaves neither a session nor an audit entry. What it says names parts, never addresses or accounts.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models.functions import Now
from django.utils.crypto import constant_time_compare

from conversations import metrics, requests, runner, tokens
from conversations.hub import hub
from conversations.threads import Threads

logger = logging.getLogger(__name__)

Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

#: Seconds that a part has to answer.
_WITHIN_S = 3.0
#: A worker writes that it lives each second.
_WORKER_SEEN = timedelta(seconds=15)
#: Its own, so that a database that hangs takes no thread from the viewers.
_asking = Threads("opschat-health", size=1)

_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_JSON = (b"content-type", b"application/json")


def handles(path: str) -> bool:
    """True for the addresses that this application answers."""
    return path in _ANSWERS


async def application(scope: Mapping[str, Any], receive: Any, send: Send) -> None:
    """The ASGI application."""
    if scope["method"] not in ("GET", "HEAD"):
        await _refuse(send, 405, "invalid_request", "Use GET here.", (b"allow", b"GET, HEAD"))
    else:
        await _ANSWERS[scope["path"]](scope, _headless(send) if scope["method"] == "HEAD" else send)


async def _healthz(scope: Mapping[str, Any], send: Send) -> None:
    """Answered by the event loop itself: one that hangs does not answer."""
    await _send(send, 200, b"ok\n", [_TEXT])


async def _readyz(scope: Mapping[str, Any], send: Send) -> None:
    missing = await not_ready()
    body = {"ready": not missing, "not_ready": missing}
    await _send(send, 503 if missing else 200, json.dumps(body).encode() + b"\n", [_JSON])


# -- Ready -----------------------------------------------------------------------------------------------------------


async def not_ready() -> dict[str, str]:
    """Part -> what is wrong with it; empty when the server can do its work."""
    if hub.is_closed:
        return {"server": "stops"}
    parts: dict[str, Awaitable[str]] = {"database": _asking(_database)}
    if settings.DISTRIBUTED:
        parts |= {"redis": _redis(), "workers": _asking(_workers)}
    answers = await asyncio.gather(*(_within(name, part) for name, part in parts.items()))
    found = dict(zip(parts, answers, strict=True))
    if not settings.DISTRIBUTED:
        found["runner"] = "" if runner.current is not None else "executes nothing: it has not started, or has stopped"
    return {name: wrong for name, wrong in found.items() if wrong}


async def _within(name: str, part: Awaitable[str]) -> str:
    try:
        async with asyncio.timeout(_WITHIN_S):
            return await part
    except TimeoutError:
        return f"gave no answer in {_WITHIN_S:.0f} s"
    except Exception:
        # Why is for the log: the driver's words may name hosts and accounts.
        logger.warning("/readyz: %s can't be asked", name, exc_info=True)
        return "can't be reached; the server's log says why"


def _database() -> str:
    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    finally:
        connection.close()
    return f"lacks {len(plan)} migrations: manage.py migrate" if plan else ""


def _workers() -> str:
    worker = apps.get_model("procrastinate", "ProcrastinateWorker")
    try:
        is_seen = worker._default_manager.filter(last_heartbeat__gt=Now() - _WORKER_SEEN).exists()
    finally:
        connection.close()
    return "" if is_seen else f"none was seen in the last {_WORKER_SEEN.seconds} s: manage.py worker"


async def _redis() -> str:
    from redis.asyncio import Redis  # noqa: PLC0415  an extra, there where settings.DISTRIBUTED is

    async with aclosing(Redis.from_url(settings.REDIS_URL)) as redis:
        await redis.ping()
    return ""


# -- Metrics ---------------------------------------------------------------------------------------------------------


async def _metrics(scope: Mapping[str, Any], send: Send) -> None:
    try:
        is_staff = await _may_scrape(scope)
    except DatabaseError:
        logger.warning("/metrics: the database can't say whose token it is", exc_info=True)
        await _refuse(send, 500, "internal_error", "The database can't say whose token it is.")
        return
    if is_staff is None:
        said = "Send the token of OPSCHAT_METRICS_TOKEN, or of a staff user: Authorization: Bearer <token>."
        await _refuse(send, 401, "not_authenticated", said, (b"www-authenticate", b"Bearer"))
    elif not is_staff:
        await _refuse(send, 404, "not_found", "There is nothing here for you.")
    else:
        await _send(send, 200, await _scraped(), [(b"content-type", metrics.CONTENT_TYPE.encode())])


async def _may_scrape(scope: Mapping[str, Any]) -> bool | None:
    """None: nobody known asks."""
    authorization = next((value for name, value in scope["headers"] if name.lower() == b"authorization"), b"")
    text = tokens.bearer(authorization.decode("latin-1"))
    if text is None:
        return None
    if settings.OPSCHAT_METRICS_TOKEN and constant_time_compare(text, settings.OPSCHAT_METRICS_TOKEN):
        return True
    return await _asking(_is_staff, text)


def _is_staff(text: str) -> bool | None:
    try:
        token = tokens.find(text)
    finally:
        connection.close()
    return token.user.is_staff if token is not None else None


async def _scraped() -> bytes:
    try:
        async with asyncio.timeout(_WITHIN_S):
            return await _asking(metrics.text)
    except TimeoutError:
        return metrics.text_without_rows()


# -- Answers ---------------------------------------------------------------------------------------------------------

_ANSWERS: dict[str, Callable[[Mapping[str, Any], Send], Awaitable[None]]] = {
    "/healthz": _healthz,
    "/readyz": _readyz,
    "/metrics": _metrics,
}


async def _refuse(send: Send, status: int, code: str, message: str, *headers: tuple[bytes, bytes]) -> None:
    await _send(send, status, json.dumps(requests.error_body(code, message)).encode(), [_JSON, *headers])


async def _send(send: Send, status: int, body: bytes, headers: Headers) -> None:
    length = (b"content-length", str(len(body)).encode())
    kept = [length, (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *kept]})
    await send({"type": "http.response.body", "body": body})


def _headless(send: Send) -> Send:
    async def without_body(message: dict[str, Any]) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return without_body
