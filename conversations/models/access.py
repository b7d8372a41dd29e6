"""The two rules of access, given to every queryset.

`visible_to(user)` to read: the owner, or a user with the permission `conversations.review`. `owned_by(user)` to write:
the owner alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import models

from conversations.prepared import Prepared

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Caller = AbstractBaseUser | AnonymousUser

M = TypeVar("M", bound=models.Model)

REVIEW = "conversations.review"


class OwnedQuerySet(models.QuerySet[Any]):
    """Rows that have one owner; `owner_path` leads from the row to the user."""

    owner_path = "owner"

    def owned_by(self, user: Caller) -> Self:
        """Rows the user may write."""
        return self._of(user.pk) if _is_known(user) else self.none()

    def _of(self, user_id: Any) -> Self:
        return self.filter(**{self.owner_path: user_id})

    def visible_to(self, user: Caller) -> Self:
        """Rows the user may read."""
        if _is_known(user) and user.has_perm(REVIEW):  # type: ignore[union-attr]  # every user model here has it
            return self.all()
        return self.owned_by(user)


class Visible(Generic[M]):
    """Looks up one row by its key for who may read it, in one short query when it is the caller's own."""

    def __init__(self, rows: Callable[[], OwnedQuerySet]) -> None:
        """`rows`: those among which it is looked for, with what is to be read beside each."""
        self._rows = rows
        self._own: Prepared[M] = Prepared(
            lambda user_id, key: rows()._of(user_id).filter(pk=key),
            lambda: [get_user_model()._meta.pk, rows().model._meta.pk],
        )

    def get(self, user: Caller, key: UUID) -> M | None:
        """The row, when it is among those `visible_to` the user. Who may review is asked of others' rows only."""
        if not _is_known(user):
            return None
        return self._own.first(user.pk, key) or self._rows().visible_to(user).filter(pk=key).first()


def _is_known(user: Caller) -> bool:
    return bool(user.is_authenticated and user.is_active)
