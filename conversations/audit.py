"""Every write of AuditEntry."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.http import HttpRequest

from conversations.models import AuditEntry

Outcome = AuditEntry.Outcome


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a request came from. `ip` is null when the server doesn't know it (a command, a UNIX socket)."""

    ip: str | None = None
    user_agent: str = ""


def origin_of(request: HttpRequest) -> Origin:
    return Origin(ip=_address(request.META.get("REMOTE_ADDR", "")), user_agent=request.headers.get("User-Agent", ""))


def origin_of_scope(scope: Mapping[str, Any]) -> Origin:
    """The same from an ASGI scope."""
    headers = dict(scope.get("headers", ()))
    client = scope.get("client") or ("",)
    return Origin(ip=_address(client[0]), user_agent=headers.get(b"user-agent", b"").decode("latin-1"))


def record(
    *,
    actor: AbstractBaseUser | AnonymousUser | None,
    action: str,
    object_type: str,
    object_id: UUID | str,
    outcome: str = Outcome.OK,
    origin: Origin | None = None,
    detail: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """Appends one entry, in the caller's transaction if there is one."""
    where = origin or Origin()
    known = actor is not None and actor.is_authenticated
    return AuditEntry.objects.create(
        actor_id=actor.pk if actor is not None and known else None,
        actor_name=actor.get_username() if actor is not None and known else "",
        action=action,
        object_type=object_type,
        object_id=str(object_id)[:64],
        outcome=outcome,
        ip=where.ip,
        user_agent=_storable(where.user_agent)[:400],
        detail={key: _storable(value) if isinstance(value, str) else value for key, value in (detail or {}).items()},
    )


def _storable(text: str) -> str:
    """PostgreSQL takes no NUL, neither as text nor in JSON."""
    return text.replace("\x00", "\ufffd")


def _address(text: str) -> str | None:
    """The address without an IPv6 zone, which only means something on this machine."""
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None
