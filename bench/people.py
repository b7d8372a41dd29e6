"""Run beside the product, in its environment: `python -m bench.people make N` or `python -m bench.people recorded`.

`make` prints a JSON list of people, each with a token, a session and an empty conversation: the sign-in page would take
minutes. `recorded` reads run ids from stdin and prints run id -> [[when its first piece was recorded, text], …] of its
token events: what delivery times count from.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bench.product_settings")

import django

django.setup()

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model  # noqa: E402
from django.db import transaction  # noqa: E402

from conversations import runs, tokens  # noqa: E402
from conversations.models import RunEvent  # noqa: E402
from conversations.sessions import SessionStore  # noqa: E402


@transaction.atomic
def make(n_people: int) -> list[dict[str, str]]:
    return [_person(number) for number in range(n_people)]


def _person(number: int) -> dict[str, str]:
    user = get_user_model().objects.create(username=f"bench{number}", password="!")  # noqa: S106  nobody can sign in
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    _, token = tokens.make(user=user)
    conversation = runs.open_conversation(owner=user)
    return {"token": token, "session": str(session.session_key), "conversation": str(conversation.pk)}


def recorded(run_ids: list[str]) -> dict[str, list[list[Any]]]:
    """Times are nanoseconds since 1970."""
    found: dict[str, list[list[Any]]] = {}
    rows = RunEvent.objects.filter(run__in=run_ids, type="token").order_by("run", "seq")
    for run_id, at, data in rows.values_list("run", "at", "data"):
        found.setdefault(str(run_id), []).append([int(at.timestamp() * 1e6) * 1000, data["text"]])
    return found


if __name__ == "__main__":
    done: Any = make(int(sys.argv[2])) if sys.argv[1] == "make" else recorded(json.load(sys.stdin))
    json.dump(done, sys.stdout)
