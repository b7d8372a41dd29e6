"""API tokens: make, find, revoke. A token is 256 random bits, shown once; the database has its SHA-256."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import timedelta
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone

from conversations.models import ApiToken
from conversations.prepared import Prepared

#: Characters of a label.
MAX_LABEL = 60
#: Tokens of one user that are neither expired nor revoked.
MAX_LIVE = 50
_PREFIX = "opschat_"
_FORM = re.compile(rf"{_PREFIX}[A-Za-z0-9_-]{{43}}")
#: Of the text's 43 random characters, for its owner to know it again.
_HINT = 4
#: How exactly `last_used_at` is kept: a write per request would be a write per poll.
_USE_STEP = timedelta(minutes=1)


class InvalidLabel(ValueError):
    """Says what is wrong with it."""


class TooManyTokens(Exception):
    """The user has all the tokens one may have; one has to be revoked first."""

    def __init__(self) -> None:
        super().__init__(f"There are {MAX_LIVE} active tokens already. Revoke one that is not needed any more.")


class AlreadyMade(Exception):
    """A token with this id exists: the same form was sent twice."""


def check_label(text: str) -> str:
    """The label without blanks around it. Raises InvalidLabel."""
    label = text.strip()
    if len(label) > MAX_LABEL:
        raise InvalidLabel(f"A label has at most {MAX_LABEL} characters; this one has {len(label):,}.")
    if not label.isprintable():
        raise InvalidLabel("A label has no line breaks or other invisible characters.")
    return label


@transaction.atomic
def make(
    *, user: AbstractBaseUser, days: int | None = None, label: str = "", token_id: UUID | None = None
) -> tuple[ApiToken, str]:
    """A new token's row and its text, which can't be had again. `days`: it expires after them.

    With `token_id` a call that comes twice makes one. Raises InvalidLabel, TooManyTokens, AlreadyMade.
    """
    label = check_label(label)
    # One at a time of a user: what is looked up and counted below stays true until the commit.
    get_user_model().objects.select_for_update(no_key=True).get(pk=user.pk)
    if token_id is not None and ApiToken.objects.filter(pk=token_id).exists():
        raise AlreadyMade
    if ApiToken.objects.owned_by(user).live().count() >= MAX_LIVE:
        raise TooManyTokens
    text = _PREFIX + secrets.token_urlsafe(32)
    row = ApiToken(user_id=user.pk, digest=_digest(text), label=label, hint=text[-_HINT:])
    row.pk = token_id or row.pk
    row.expires_at = row.created_at + timedelta(days=days) if days is not None else None
    row.save(force_insert=True)
    return row, text


def is_formed(text: str) -> bool:
    """Whether it can be a token at all: no database is asked."""
    return _FORM.fullmatch(text) is not None


def find(text: str) -> ApiToken | None:
    """The valid token with this text and its user, or None: unknown, expired, revoked, or its user inactive."""
    token = valid(text)
    now = timezone.now()
    if token is not None and (token.last_used_at is None or now - token.last_used_at > _USE_STEP):
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def valid(text: str) -> ApiToken | None:
    """As `find`, for who only looks whether it still is: no use is noted."""
    return _valid.first(_digest(text), timezone.now())


_valid: Prepared[ApiToken] = Prepared(
    lambda digest, now: ApiToken.objects.live(now).select_related("user").filter(digest=digest, user__is_active=True),
    lambda: [ApiToken._meta.get_field("digest"), ApiToken._meta.get_field("expires_at")],
)


def revoke(*, token: ApiToken) -> bool:
    """False when it was revoked before."""
    revoked = ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now())
    return revoked > 0


def revoke_all(*, user: AbstractBaseUser) -> int:
    """Revokes the user's live tokens; how many there were."""
    return ApiToken.objects.owned_by(user).live().update(revoked_at=timezone.now())


def bearer(authorization: str) -> str | None:
    """The token's text in an Authorization header (RFC 6750), or None when it has another scheme."""
    scheme, _, text = authorization.partition(" ")
    return text.strip() if scheme.lower() == "bearer" and text.strip() else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
