"""Legal holds: while one lies on a conversation, its exports neither expire nor can they be deleted."""

from __future__ import annotations

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone

from conversations import audit, threads
from conversations.audit import Origin
from conversations.models import Conversation

#: Who may place and lift them, beside superusers.
PERMISSION = "conversations.hold"


@threads.write_turn()
@transaction.atomic
def place(*, conversation: Conversation, user: AbstractBaseUser | None, origin: Origin | None, why: str = "") -> bool:
    """False: there is one already. `user` is null for commands."""
    free = Conversation.objects.filter(pk=conversation.pk, held_at=None)
    if not free.update(held_at=timezone.now()):
        return False
    _record("conversation.hold", conversation, user, origin, why)
    return True


@threads.write_turn()
@transaction.atomic
def lift(*, conversation: Conversation, user: AbstractBaseUser | None, origin: Origin | None, why: str = "") -> bool:
    """False: there is none. What would have expired meanwhile expires at once."""
    held = Conversation.objects.filter(pk=conversation.pk, held_at__isnull=False)
    if not held.update(held_at=None):
        return False
    _record("conversation.release", conversation, user, origin, why)
    return True


def _record(
    action: str, conversation: Conversation, user: AbstractBaseUser | None, origin: Origin | None, why: str
) -> None:
    audit.record(
        actor=user, action=action, object_type="conversation", object_id=conversation.pk, origin=origin,
        detail={"why": why} if why else {},
    )  # fmt: skip
