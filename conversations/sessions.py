"""Browser sessions: Django's database engine with the user beside each session, so that all of a user's can be ended.

Also who asks again: a socket or a stream outlives the request that opened it, so it looks soon after
it opened and then each `RECHECK_S` whether its viewer may still see what it shows, and at once when a session is ended
or a token revoked.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

from django.contrib.auth import SESSION_KEY, get_user
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.contrib.sessions.backends import db
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from conversations import threads
from conversations.hub import hub, topic_of_account
from conversations.models import BrowserSession

#: Seconds between two looks whether a viewer may still see what it sees.
RECHECK_S = 60.0
#: Seconds to the first one, between these: after a restart all viewers come at once.
_SOON_S = 1.0, 3.0

R = TypeVar("R")


class SessionStore(db.SessionStore):
    """The engine (SESSION_ENGINE); see Django's "Extending database-backed session engines"."""

    @classmethod
    def get_model_class(cls) -> type[BrowserSession]:
        return BrowserSession

    def create_model_instance(self, data: dict[str, Any]) -> BrowserSession:
        row = cast(BrowserSession, super().create_model_instance(data))
        row.user_id = int(data[SESSION_KEY]) if SESSION_KEY in data else None
        return row

    def delete(self, session_key: str | None = None) -> None:
        """Also tells the viewers of the session's user."""
        row = BrowserSession.objects.filter(session_key=session_key or self.session_key).first()
        super().delete(session_key)
        if row is not None and row.user_id is not None:
            look_again(row.user_id)


def count_of(user: AbstractBaseUser) -> int:
    """How many browsers the user is signed in with."""
    return BrowserSession.objects.filter(user_id=user.pk, expire_date__gt=timezone.now()).count()


def end_all(*, user: AbstractBaseUser, keep: str | None = None) -> int:
    """Signs the user out everywhere, but for the session `keep`. How many sessions were ended."""
    ended, _ = BrowserSession.objects.filter(user_id=user.pk).exclude(session_key=keep).delete()
    look_again(user.pk)
    return ended


def look_again(user_id: int) -> None:
    """Makes the user's open sockets and streams look at once, when the transaction is committed. From any thread."""
    transaction.on_commit(partial(hub.look_again, topic_of_account(user_id)))


def user_of(session_key: str | None) -> AbstractBaseUser | AnonymousUser:
    """Whom a session belongs to by what is stored now; anonymous when it ended, or the account did."""
    request = HttpRequest()
    request.session = SessionStore(session_key)
    return get_user(request)


async def until_refused(user_id: int, look: Callable[..., R | None], *args: Any) -> R | None:
    """Calls `look(*args)` in a thread, soon, each RECHECK_S and when told to, until it gives a refusal.

    None when the hub closes first: the server stops.
    """
    with hub.subscribe(topic_of_account(user_id)) as viewer:
        # Access may have ended since the caller was let in and before it was told anything: looked at soon, but not
        # beside its first event.
        wait_s = min(random.uniform(*_SOON_S), RECHECK_S)  # noqa: S311  no secret
        while not hub.is_closed:
            if not viewer.lagged:
                await viewer.next(timeout_s=wait_s)
            viewer.lagged, wait_s = False, RECHECK_S
            refusal = await threads.reading(look, *args)
            if refusal is not None:
                return refusal
    return None
