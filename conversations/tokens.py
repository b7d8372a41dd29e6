"""API tokens: make, find, revoke. A token is 256 random bits, shown once; the database has its SHA-256."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Q
from django.utils import timezone

from conversations.models import ApiToken

_PREFIX = "opschat_"
#: How exactly `last_used_at` is kept: a write per request would be a write per poll.
_USE_STEP = timedelta(minutes=1)


def make(*, user: AbstractBaseUser, days: int | None = None) -> tuple[ApiToken, str]:
    """A new token's row and its text, which can't be had again. `days`: it expires after them."""
    text = _PREFIX + secrets.token_urlsafe(32)
    expires_at = timezone.now() + timedelta(days=days) if days is not None else None
    return ApiToken.objects.create(user_id=user.pk, digest=_digest(text), expires_at=expires_at), text


def find(text: str) -> ApiToken | None:
    """The valid token with this text and its user, or None: unknown, expired, revoked, or its user inactive."""
    now = timezone.now()
    token: ApiToken | None = (
        ApiToken.objects.select_related("user")
        .filter(Q(expires_at=None) | Q(expires_at__gt=now), digest=_digest(text), revoked_at=None, user__is_active=True)
        .first()
    )
    if token is not None and (token.last_used_at is None or now - token.last_used_at > _USE_STEP):
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def revoke(*, token: ApiToken) -> None:
    ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now())


def bearer(authorization: str) -> str | None:
    """The token's text in an Authorization header (RFC 6750), or None when it has another scheme."""
    scheme, _, text = authorization.partition(" ")
    return text.strip() if scheme.lower() == "bearer" and text.strip() else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
