"""The streaming half of the HTTP contract: POST /pipeline, POST /pipeline/stream, GET /pipeline/runs/<id>/stream.

A plain ASGI application beside Django, because a Django view holds a thread for each open stream (measured: 305 threads
at 300 streams against 6) and Channels' HTTP consumer notices a departed client late or never.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, quote
from uuid import UUID

from channels.auth import AuthMiddlewareStack
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.handlers.asgi import ASGIRequest
from django.http.request import split_domain_port, validate_host
from django.shortcuts import resolve_url

from conversations import audit, event_log, metrics, requests, runner, runs, sessions, threads, tokens
from conversations.hub import StoredEvent
from conversations.models import Conversation, Run, Visible

logger = logging.getLogger(__name__)

Scope = Mapping[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_NUMBER = re.compile(r"[0-9]{1,9}")
_FOLLOW = re.compile(r"/pipeline/runs/([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})/stream")
_KEEP_ALIVE = b": keep-alive\n\n"
_NO_STORE = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
_SSE = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no"), *_NO_STORE]


class ApiError(Exception):
    """An answer of the contract's error form."""

    def __init__(self, status: int, code: str, message: str, *, field: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = requests.error_body(code, message, field=field)
        self.headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]


def handles(path: str) -> bool:
    """True for the addresses that this application answers; Django answers all others."""
    return path in ("/pipeline", "/pipeline/stream") or _FOLLOW.fullmatch(path) is not None


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application."""
    answer = _Answer(send)
    try:
        await _handle(scope, receive, answer)
    except ApiError as error:
        await _send_json(send, error.status, error.body, error.headers)
    except _ClientGone:
        pass
    except _Refused:
        await _end_refused(answer)
    except Exception:
        logger.exception("%s %s failed", scope["method"], scope["path"])
        if answer.has_begun:
            raise  # The server ends the connection; an answer can't be begun twice.
        body = requests.error_body("internal_error", "Something went wrong; the server's log has it.")
        await _send_json(send, 500, body)


class _Answer:
    """`send`, and whether anything has been sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        self.has_begun = True
        await self._send(message)


async def _handle(scope: Scope, receive: Receive, send: Send) -> None:
    _check_host(scope)
    _check_scheme(scope)
    if followed := _FOLLOW.fullmatch(scope["path"]):
        _check_method(scope, "GET")
        await _with_session(dict(scope, run_id=UUID(followed[1])), receive, send)
    else:
        _check_method(scope, "POST")
        await _ask(scope, receive, send)


class _ClientGone(Exception):
    """The client closed the connection."""


class _Refused(Exception):
    """The caller may not read the run any more."""


async def _end_refused(answer: _Answer) -> None:
    """An end without a terminal event: the client asks again, and is told why."""
    if answer.has_begun:
        await answer({"type": "http.response.body", "body": b""})
    else:
        await _send_json(answer, 401, requests.error_body("not_authenticated", "The token is not valid any more."))


def _check_host(scope: Scope) -> None:
    """As Django does for its own views."""
    domain, _ = split_domain_port(_header(scope, b"host"))
    allowed = settings.ALLOWED_HOSTS or (["localhost", "127.0.0.1", "[::1]"] if settings.DEBUG else [])
    if not (domain and validate_host(domain, allowed)):
        raise ApiError(400, "invalid_request", "This server does not answer for that host name.")


def _check_scheme(scope: Scope) -> None:
    """Refuses plain HTTP where Django redirects: a client that follows would send its token in the clear each time."""
    if settings.SECURE_SSL_REDIRECT and not ASGIRequest(dict(scope), BytesIO()).is_secure():
        raise ApiError(400, "invalid_request", "Use https://.")


def _check_method(scope: Scope, method: str) -> None:
    if scope["method"] != method:
        raise ApiError(405, "invalid_request", f"Use {method} here.", allow=method)


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name), "")


# -- Asking ----------------------------------------------------------------------------------------------------------


async def _ask(scope: Scope, receive: Receive, send: Send) -> None:
    token = tokens.bearer(_header(scope, b"authorization"))
    if token is None or not tokens.is_formed(token):
        raise _unknown_token()
    body = await _body(scope, receive)
    # One thread, one way there: what waits in line with a hundred others waits once.
    run = await threads.reading(_submit, token, scope, body)
    work = _stream_new(send, run) if scope["path"] == "/pipeline/stream" else _answer(send, run)
    await _until_gone(receive, work, _until_refused(scope, run.user_id, run.pk))


def _unknown_token() -> ApiError:
    message = "Send a valid token: Authorization: Bearer <token>."
    return ApiError(401, "not_authenticated", message, www_authenticate="Bearer")


def _user_of_token(authorization: str) -> AbstractBaseUser | None:
    text = tokens.bearer(authorization)
    token = tokens.find(text) if text else None
    return token.user if token else None


async def _body(scope: Scope, receive: Receive) -> bytes:
    declared = _header(scope, b"content-length")
    if declared.isdigit() and int(declared) > requests.MAX_BODY:
        raise ApiError(413, "too_large", f"The body has more than {requests.MAX_BODY // 1024} KiB.")
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > requests.MAX_BODY:
            raise ApiError(413, "too_large", f"The body has more than {requests.MAX_BODY // 1024} KiB.")
    return bytes(body)


def _submit(token: str, scope: Scope, body: bytes) -> Run:
    found = tokens.find(token)
    if found is None:
        raise _unknown_token()
    user = found.user
    try:
        ask = requests.parse(body, idempotency_key=_header(scope, b"idempotency-key") or None)
        return runner.submit(
            user=user,
            text=ask.text,
            conversation=_conversation(user, ask.conversation_id),
            session_name=ask.session_name,
            context=ask.context,
            idempotency_key=ask.idempotency_key,
            origin=audit.origin_of_scope(scope),
        )
    except runs.InvalidRequest as error:
        raise ApiError(400, "invalid_request", error.message, field=error.field) from None
    except runs.TooManyRuns as error:
        raise ApiError(429, "too_many", str(error), retry_after=str(error.retry_after_s)) from None


def _conversation(user: AbstractBaseUser, conversation_id: UUID | None) -> Conversation | None:
    if conversation_id is None:
        return None
    found: Conversation | None = Conversation.objects.owned_by(user).filter(pk=conversation_id).first()
    if found is None:
        raise ApiError(404, "not_found", "There is no such conversation, or it isn't yours.", field="session_id")
    return found


async def _stream_new(send: Send, run: Run) -> None:
    """The run's first event is known without asking; a run that the idempotency key made before may be further."""
    await _begin(send)
    await _send_events(send, _sse(run.pk, StoredEvent(seq=1, event=runs.start_event(run))))
    await _stream(send, run.pk, after=1, is_new=run.last_seq == 1)


async def _answer(send: Send, run: Run) -> None:
    async for _ in event_log.tail(run.pk, after=1, is_new=run.last_seq == 1):
        pass
    await _send_json(send, 200, await threads.reading(_summary, run.pk))


def _summary(run_id: UUID) -> dict[str, Any]:
    run = Run.objects.select_related("ask", "answer").get(pk=run_id)
    if not run.is_finished:
        raise ApiError(503, "stopping", f"The server stops. Ask it for run {run_id} when it is back.", retry_after="5")
    return runs.summary(run)


# -- Following -------------------------------------------------------------------------------------------------------


async def _follow(scope: Scope, receive: Receive, send: Send) -> None:
    user = await _caller(scope)
    run = await threads.reading(_visible_run, user, scope)
    if run is None:
        raise ApiError(404, "not_found", "There is no such run, or it isn't yours.")
    after = _after(scope)
    if run.is_finished and after >= run.last_seq:
        await send({"type": "http.response.start", "status": 204, "headers": _NO_STORE})
        await send({"type": "http.response.body"})
        return
    await _begin(send)
    await _until_gone(receive, _stream(send, run.pk, after=after), _until_refused(scope, user.pk, run.pk))


_visible: Visible[Run] = Visible(lambda: Run.objects.select_related("conversation"))


def _visible_run(user: AbstractBaseUser | AnonymousUser, scope: Scope) -> Run | None:
    """The run; a reviewer's look at another user's is audited, a reader that only comes back for the rest is not."""
    run = _visible.get(user, scope["run_id"])
    if run is not None:
        audit.opened(
            actor=user, owner_id=run.conversation.owner_id, object_type="conversation", object_id=run.conversation_id,
            through="stream", origin=audit.origin_of_scope(scope), detail={"run": str(run.pk)}, by_itself=True,
        )  # fmt: skip
    return run


_with_session = AuthMiddlewareStack(_follow)


async def _caller(scope: Scope) -> AbstractBaseUser:
    """The token's user, else the session's."""
    authorization = _header(scope, b"authorization")
    user = await threads.reading(_user_of_token, authorization) if tokens.bearer(authorization) else scope["user"]
    if not isinstance(user, AbstractBaseUser) or not user.is_active:
        if "text/html" in _header(scope, b"accept"):
            sign_in = f"{resolve_url(settings.LOGIN_URL)}?next={quote(scope['path'])}"
            raise ApiError(302, "not_authenticated", "Sign in first.", location=sign_in)
        raise ApiError(
            401,
            "not_authenticated",
            "Sign in, or send a token: Authorization: Bearer <token>.",
            www_authenticate="Bearer",
        )
    return user


def _after(scope: Scope) -> int:
    query = parse_qs(scope["query_string"].decode("latin-1"))
    text = _header(scope, b"last-event-id") or query.get("after", ["0"])[-1]
    if not _NUMBER.fullmatch(text):
        raise ApiError(400, "invalid_request", "The number of the last event must be 0 or more.", field="after")
    return int(text)


async def _begin(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _SSE})


async def _stream(send: Send, run_id: UUID, *, after: int, is_new: bool = False) -> None:
    """What comes after the event of that number, to the end, of an answer that has begun."""
    with metrics.viewing("stream"):
        async for events in event_log.tail(run_id, after=after, is_new=is_new):
            await _send_events(send, b"".join(_sse(run_id, stored) for stored in events) or _KEEP_ALIVE)
    await send({"type": "http.response.body", "body": b""})


async def _send_events(send: Send, chunk: bytes) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})


def _sse(run_id: UUID, stored: StoredEvent) -> bytes:
    return f"id: {stored.seq}\ndata: {event_log.as_wire(run_id, stored)}\n\n".encode()


async def _until_gone(receive: Receive, work: Awaitable[None], refused: Awaitable[bool]) -> None:
    """Does the work, or stops it when the client leaves first; the run goes on either way. Raises _Refused."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(receive))
    guarding = asyncio.ensure_future(refused)
    tasks = (working, leaving, guarding)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if guarding.done() and guarding.result():
            raise _Refused
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until_refused(scope: Scope, user_id: int, run_id: UUID) -> bool:
    """True as soon as the caller may not read the run any more; False when the server stops."""
    session_key = scope["session"].session_key if "session" in scope else None
    credentials = (_header(scope, b"authorization"), session_key)
    return await sessions.until_refused(user_id, _refusal, *credentials, run_id) or False


def _refusal(authorization: str, session_key: str | None, run_id: UUID) -> bool | None:
    """True, when the token or the session has ended, or the run is out of sight."""
    visible = Run.objects.visible_to(_user_now(authorization, session_key))
    return None if visible.filter(pk=run_id).exists() else True


def _user_now(authorization: str, session_key: str | None) -> AbstractBaseUser | AnonymousUser:
    text = tokens.bearer(authorization)
    if text is None:
        return sessions.user_of(session_key)
    token = tokens.valid(text)
    return token.user if token else AnonymousUser()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_json(
    send: Send, status: int, body: Mapping[str, Any], headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    content = json.dumps(body, ensure_ascii=False).encode()
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(content)).encode()),
                *_NO_STORE,
                *(headers or []),
            ],
        }
    )
    await send({"type": "http.response.body", "body": content})
