"""What an account is used with: API tokens and browser sessions."""

from __future__ import annotations

import uuid
from datetime import datetime
from importlib import import_module
from typing import Any, Self

from django.conf import settings
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.db.models import Q
from django.utils import timezone

from conversations.models.access import OwnedQuerySet


class TokenQuerySet(OwnedQuerySet):
    owner_path = "user"

    def live(self, now: datetime | None = None) -> Self:
        """Neither expired nor revoked."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now or timezone.now()), revoked_at=None)


class ApiToken(models.Model):
    """A bearer token: only its SHA-256 is stored."""

    class State(models.TextChoices):
        ACTIVE = "active"
        EXPIRED = "expired"
        REVOKED = "revoked"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="api_tokens")
    digest = models.CharField(max_length=64, unique=True)
    #: What it is for, in its owner's words.
    label = models.CharField(max_length=60, blank=True)
    #: The text's last characters, by which its owner knows it again.
    hint = models.CharField(max_length=4, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = TokenQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at", "-id")
        verbose_name = "API token"

    def __str__(self) -> str:
        return self.label or f"token of {self.user}"

    @property
    def state(self) -> State:
        if self.revoked_at is not None:
            return self.State.REVOKED
        is_over = self.expires_at is not None and self.expires_at <= timezone.now()
        return self.State.EXPIRED if is_over else self.State.ACTIVE


class BrowserSession(AbstractBaseSession):
    """A browser's session, with its user beside the encoded data: so all sessions of a user can be found and ended.

    The user is a plain value. A foreign key that fails would look like a taken session key, for which Django's engine
    tries another, without end.
    """

    user_id = models.BigIntegerField(null=True, db_index=True, editable=False)

    @classmethod
    def get_session_store_class(cls) -> Any:
        return import_module(settings.SESSION_ENGINE).SessionStore
