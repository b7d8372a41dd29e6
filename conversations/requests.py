"""What a request may hold: `POST /pipeline` field by field (HTTP contract, "Asking"), and forms; and the form of every
error."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from math import isfinite
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

from django.contrib.auth.models import AbstractBaseUser
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from conversations.runs import InvalidRequest, check_request, check_text

MAX_BODY = 64 * 1024
MAX_CONTEXT = 16 * 1024
MAX_SESSION_NAME = 128
MAX_KEY = 200
#: Objects and lists within each other.
MAX_DEPTH = 50


def error_body(code: str, message: str, *, field: str | None = None) -> dict[str, Any]:
    """The contract's error object. `field` names what the caller has to change."""
    return {"error": {"code": code, "message": message, "field": field}}


def wants_page(request: HttpRequest) -> bool:
    """A browser asks; anything else gets the contract's error object."""
    return "text/html" in request.headers.get("Accept", "")


def signed_in(request: HttpRequest) -> AbstractBaseUser:
    """The caller; the middleware lets nobody else reach the views that ask."""
    assert isinstance(request.user, AbstractBaseUser)  # noqa: S101  narrows the type, never false
    return request.user


def is_from_here(request: HttpRequest) -> bool:
    """One of our own pages sent the form: what it holds may be shown again."""
    here = f"{request.scheme}://{request.get_host()}"
    referrer, origin = request.headers.get("Referer", ""), request.headers.get("Origin", here)
    return referrer.startswith(f"{here}/") and origin == here


def refusal(request: HttpRequest, status: int, code: str, message: str, *, field: str | None = None) -> HttpResponse:
    """The page `<status>.html`, or a plain one, for a browser; else the error object."""
    if wants_page(request):
        context = {"message": message, "status": status}
        # 500.html is for faults that nobody foresaw.
        named = [] if status == HTTPStatus.INTERNAL_SERVER_ERROR else [f"{status}.html"]
        return render(request, [*named, "refused.html"], context, status=status)
    return JsonResponse(error_body(code, message, field=field), status=status)


def check_form(request: HttpRequest) -> None:
    """Raises InvalidRequest for what Django would read with losses: other types, files, bytes that are no text."""
    if request.content_type == "multipart/form-data":
        _check_parts(request)
    elif request.content_type in ("application/x-www-form-urlencoded", ""):
        _check_encoding(request.body)
    else:
        raise InvalidRequest(None, "Send the form as application/x-www-form-urlencoded.")
    for field, value in request.POST.items():
        check_text(field, str(value))


def _check_encoding(body: bytes) -> None:
    try:
        unquote_to_bytes(body).decode()
    except UnicodeDecodeError:
        raise InvalidRequest(None, "The form is not UTF-8.") from None


def _check_parts(request: HttpRequest) -> None:
    for field in request.FILES:
        raise InvalidRequest(field, f"“{field}” is a file; send text.")
    for field, value in request.POST.items():
        # Django has put it where bytes were no text, and the bytes are gone.
        if "\ufffd" in str(value):
            raise InvalidRequest(field, f"“{field}” is not UTF-8.")


@dataclass(frozen=True, kw_only=True)
class Ask:
    text: str
    context: dict[str, Any]
    #: The conversation meant, when `session_id` parses as a UUID …
    conversation_id: uuid.UUID | None
    #: … else the name of one of the caller's own.
    session_name: str | None
    idempotency_key: str | None


def parse(body: bytes, *, idempotency_key: str | None = None) -> Ask:
    """The request in a body. Raises InvalidRequest that names the first field that is wrong."""
    data = _object(body)
    for field, value in data.items():
        check_text("a field's name", field)
        _check_texts(field, value)
    conversation_id, session_name = _session(data.get("session_id"))
    return Ask(
        text=check_request("request", _text(data, "request")),
        context=_context(data.get("context")),
        conversation_id=conversation_id,
        session_name=session_name,
        idempotency_key=_key(idempotency_key),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body.decode(), parse_constant=_no_constant, parse_float=_finite)
    except UnicodeDecodeError:
        raise InvalidRequest(None, "The body is not UTF-8.") from None
    except (ValueError, RecursionError):
        raise InvalidRequest(None, 'The body is not JSON; send an object like {"request": "…"}.') from None
    if not isinstance(data, dict):
        raise InvalidRequest(None, 'The body is not a JSON object; send one like {"request": "…"}.')
    return data


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    """A number that JSON can hold again: 1e999 would be read as infinity."""
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _check_texts(field: str, value: Any, depth: int = 0) -> None:
    """NUL and lone surrogates are refused wherever they stand, and so is nesting that would break whoever reads it."""
    if depth > MAX_DEPTH:
        raise InvalidRequest(field, f"“{field}” is nested more than {MAX_DEPTH} deep.")
    if isinstance(value, str):
        check_text(field, value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            check_text(field, key)
            _check_texts(field, inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_texts(field, inner, depth + 1)


def _text(data: Mapping[str, Any], field: str) -> str:
    value = data.get(field)
    if not isinstance(value, str):
        raise InvalidRequest(field, f"“{field}” must be a text.")
    return value


def _session(value: Any) -> tuple[uuid.UUID | None, str | None]:
    if value is None or value == "":
        return None, None
    if not isinstance(value, str):
        raise InvalidRequest("session_id", "“session_id” must be a text.")
    try:
        return uuid.UUID(value), None
    except ValueError:
        pass
    if len(value) > MAX_SESSION_NAME:
        raise InvalidRequest("session_id", f"“session_id” has more than {MAX_SESSION_NAME} characters.")
    return None, value


def _context(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest("context", "“context” must be a JSON object.")
    if len(json.dumps(value, ensure_ascii=False).encode()) > MAX_CONTEXT:
        raise InvalidRequest("context", f"“context” has more than {MAX_CONTEXT // 1024} KiB.")
    return value


def _key(value: str | None) -> str | None:
    if value is None:
        return None
    if not 1 <= len(value) <= MAX_KEY or not value.isprintable():
        raise InvalidRequest("Idempotency-Key", f"“Idempotency-Key” must have 1 to {MAX_KEY} printable characters.")
    return value
