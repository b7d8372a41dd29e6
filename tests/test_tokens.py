from __future__ import annotations

import hashlib
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

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


def test_create_token_keeps_what_it_is_for(alice: User) -> None:
    out = StringIO()
    call_command("create_token", "alice", "--label", " Nightly export ", stdout=out)
    row = ApiToken.objects.get()
    assert (row.label, row.hint) == ("Nightly export", out.getvalue().strip()[-4:])
    assert AuditEntry.objects.get().detail == {"by": "create_token", "label": "Nightly export", "days": None}


def test_create_token_stops_at_fifty(alice: User) -> None:
    for _ in range(tokens.MAX_LIVE):
        tokens.make(user=alice)
    with pytest.raises(CommandError, match="50 active tokens already"):
        call_command("create_token", "alice")
    assert not AuditEntry.objects.exists()


def test_only_the_hash_is_stored(alice: User) -> None:
    row, text = tokens.make(user=alice)
    assert row.digest == hashlib.sha256(text.encode()).hexdigest()
    assert text not in str(ApiToken.objects.values())


def test_its_last_use_is_kept(alice: User) -> None:
    row, text = tokens.make(user=alice)
    tokens.find(text)
    row.refresh_from_db()
    assert row.last_used_at is not None


@pytest.mark.parametrize(
    "arguments",
    [
        ["nobody"],
        ["alice", "--days", "0"],
        ["alice", "--days", "x"],
        ["alice", "--label", "x" * 61],
        ["alice", "--label", "two\nlines"],
    ],
)
def test_a_wrong_call_is_refused_in_words(alice: User, arguments: list[str]) -> None:
    with pytest.raises(CommandError, match=r"nobody|days|label"):
        call_command("create_token", *arguments)
    assert ApiToken.objects.count() == 0


def test_looking_whether_it_is_valid_is_no_use(alice: User) -> None:
    row, text = tokens.make(user=alice)
    assert tokens.valid(text) == row
    row.refresh_from_db()
    assert row.last_used_at is None


def test_an_expired_a_revoked_and_a_closed_accounts_token_is_none(alice: User, bob: User) -> None:
    texts = [tokens.make(user=alice, days=1)[1], tokens.make(user=alice)[1], tokens.make(user=bob)[1]]
    assert all(tokens.find(text) for text in texts)
    ApiToken.objects.filter(user=alice).exclude(expires_at=None).update(expires_at=timezone.now())
    assert tokens.revoke_all(user=alice) == 1
    User.objects.filter(pk=bob.pk).update(is_active=False)
    assert not any(tokens.find(text) for text in texts)


def test_a_page_post_takes_a_token_without_csrf(alice: User) -> None:
    _, text = tokens.make(user=alice)
    client = Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {text}"})
    assert client.post("/conversations/").status_code == 302
    assert Conversation.objects.get().owner == alice
    assert Client(enforce_csrf_checks=True, headers={"Authorization": "Bearer x"}).post("/").status_code == 401
