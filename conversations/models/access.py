"""The two rules of access, given to every queryset.

`visible_to(user)` to read: the owner, or a user with the permission `conversations.review`. `owned_by(user)` to write:
the owner alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from django.db import models

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Caller = AbstractBaseUser | AnonymousUser

REVIEW = "conversations.review"


class OwnedQuerySet(models.QuerySet[Any]):
    """Rows that have one owner; `owner_path` leads from the row to the user."""

    owner_path = "owner"

    def owned_by(self, user: Caller) -> Self:
        """Rows the user may write."""
        if not (user.is_authenticated and user.is_active):
            return self.none()
        return self.filter(**{self.owner_path: user.pk})

    def visible_to(self, user: Caller) -> Self:
        """Rows the user may read."""
        if user.is_authenticated and user.is_active and user.has_perm(REVIEW):  # type: ignore[attr-defined]  # every user model here has it
            return self.all()
        return self.owned_by(user)
