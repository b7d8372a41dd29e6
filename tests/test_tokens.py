from __future__ import annotations

import hashlib
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from conversations import tokens
from conversations.models import ApiToken, AuditEntry, Conversation


def test_create_token_prints_the_token_alone(alice: User) -> None:
    out = StringIO()
    call_command("create_token", "alice", "--days", "3", stdout=out)
    text = out.getvalue().strip()
    found = tokens.find(text)
    assert found is not None
    assert (found.user, found.expires_at is not None) == (alice, True)
    assert AuditEntry.objects.get().action == "token.create"


def test_only_the_hash_is_stored(alice: User) -> None:
    row, text = tokens.make(user=alice)
    assert row.digest == hashlib.sha256(text.encode()).hexdigest()
    assert text not in str(ApiToken.objects.values())


def test_its_last_use_is_kept(alice: User) -> None:
    row, text = tokens.make(user=alice)
    tokens.find(text)
    row.refresh_from_db()
    assert row.last_used_at is not None


@pytest.mark.parametrize("arguments", [["nobody"], ["alice", "--days", "0"], ["alice", "--days", "x"]])
def test_a_wrong_call_is_refused_in_words(alice: User, arguments: list[str]) -> None:
    with pytest.raises(CommandError, match=r"nobody|days"):
        call_command("create_token", *arguments)
    assert ApiToken.objects.count() == 0


def test_a_page_post_takes_a_token_without_csrf(alice: User) -> None:
    _, text = tokens.make(user=alice)
    client = Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {text}"})
    assert client.post("/conversations/").status_code == 302
    assert Conversation.objects.get().owner == alice
    assert Client(enforce_csrf_checks=True, headers={"Authorization": "Bearer x"}).post("/").status_code == 401
