"""What `POST /pipeline` takes, checked field by field (HTTP contract, "Asking"), and the form of every error."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, NoReturn

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
