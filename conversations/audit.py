"""Every write of AuditEntry."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.http import HttpRequest
from django.utils import timezone

from conversations import ledger
from conversations.models import AuditEntry

Outcome = AuditEntry.Outcome
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: What a page does by itself for a reviewer who looked within this time is the same look.
SAME_LOOK = timedelta(minutes=15)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a request came from. `ip` is null when the server doesn't know it (a command, a UNIX socket)."""

    ip: str | None = None
    user_agent: str = ""


def origin_of(request: HttpRequest) -> Origin:
    """Behind trusted proxies the `ip` is the client's that they saw."""
    ip = _client(request.META.get("REMOTE_ADDR", ""), request.headers.get("X-Forwarded-For", ""))
    return Origin(ip=ip, user_agent=request.headers.get("User-Agent", ""))


def origin_of_scope(scope: Mapping[str, Any]) -> Origin:
    """The same from an ASGI scope."""
    headers = dict(scope.get("headers", ()))
    peer = scope.get("client") or ("",)
    # Each proxy may add a header of its own.
    forwarded = b",".join(value for name, value in scope.get("headers", ()) if name == b"x-forwarded-for")
    ip = _client(peer[0], forwarded.decode("latin-1"))
    return Origin(ip=ip, user_agent=headers.get(b"user-agent", b"").decode("latin-1"))


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
    """Appends one entry, in the caller's transaction if there is one, which must write nothing after it (`ledger`)."""
    where = origin or Origin()
    known = actor is not None and actor.is_authenticated
    entry = AuditEntry(
        actor_id=actor.pk if actor is not None and known else None,
        actor_name=actor.get_username() if actor is not None and known else "",
        action=action,
        object_type=object_type,
        object_id=str(object_id)[:64],
        outcome=str(outcome),
        ip=where.ip,
        user_agent=_storable(where.user_agent)[:400],
        detail={key: _storable(value) if isinstance(value, str) else value for key, value in (detail or {}).items()},
    )
    ledger.append(entry)
    return entry


def opened(
    *,
    actor: AbstractBaseUser | AnonymousUser,
    owner_id: int,
    object_type: str,
    object_id: UUID | str,
    through: str,
    origin: Origin | None = None,
    detail: Mapping[str, Any] | None = None,
    by_itself: bool = False,
) -> AuditEntry | None:
    """Appends `<object_type>.review` when the actor reads what is another user's; one's own leaves no entry.

    `through` says where: page, socket, run, stream, code, admin. `by_itself`: the reader's page asked, not the reader
    (a socket that connects, a refresh); it adds nothing to a look of the same actor within `SAME_LOOK`.
    """
    if actor.pk == owner_id:
        return None
    action = f"{object_type}.review"
    if by_itself and _has_looked(actor, action, object_type, object_id):
        return None
    return record(
        actor=actor, action=action, object_type=object_type, object_id=object_id, origin=origin,
        detail={"through": through, "owner_id": owner_id, **(detail or {})},
    )  # fmt: skip


def _has_looked(actor: AbstractBaseUser | AnonymousUser, action: str, object_type: str, object_id: UUID | str) -> bool:
    return AuditEntry.objects.filter(
        actor_id=actor.pk, action=action, object_type=object_type, object_id=str(object_id),
        at__gt=timezone.now() - SAME_LOOK,
    ).exists()  # fmt: skip


def _storable(text: str) -> str:
    """PostgreSQL takes no NUL, neither as text nor in JSON."""
    return text.replace("\x00", "\ufffd")


def _client(peer: str, forwarded: str) -> str | None:
    """The first address on the way back from here that is no trusted proxy's; what is left of it anybody can write."""
    client = _address(peer)
    for entry in reversed(forwarded.split(",")):
        before = _address(entry.strip())
        if client is None or before is None or not _is_trusted(client):
            break
        client = before
    return str(client) if client else None


def _is_trusted(address: _Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return any((mapped or address) in network for network in settings.OPSCHAT_TRUSTED_PROXIES)


def _address(text: str) -> _Address | None:
    """The address without an IPv6 zone, which only means something on this machine."""
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
