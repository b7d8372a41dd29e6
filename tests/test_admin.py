"""The review: staff read what they may see, and nobody writes."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from conversations import audit, runner, tokens
from conversations.models import AuditEntry, Conversation, Export, Run, StageRun
from tests.answers import answered, exported

MODELS: list[type[Any]] = [Conversation, Run, StageRun, Export, AuditEntry]


@pytest.fixture
def history(alice: User) -> list[Any]:
    """One row of each kind, of alice."""
    run = answered(alice, "All of them.")
    exported(run)
    return [run.conversation, run, run.stages.all()[0], run.exports.all()[0], AuditEntry.objects.all()[0]]


def page(row: Any, kind: str = "change") -> str:
    args = [] if kind in ("add", "changelist") else [row.pk]
    return reverse(f"admin:conversations_{row._meta.model_name}_{kind}", args=args)


def test_a_reviewer_reads_every_kind_of_row(history: list[Any], erin: User, client: Client) -> None:
    client.force_login(erin)
    for row in history:
        assert client.get(page(row)).status_code == 200
        assert client.get(page(row, "changelist")).status_code == 200


def test_nothing_can_be_added_changed_or_deleted(history: list[Any], admin: User, client: Client) -> None:
    client.force_login(admin)
    for row in history:
        assert client.get(page(row, "add")).status_code == 403
        assert client.get(page(row, "delete")).status_code == 403
        assert client.post(page(row), {"title": "forged"}).status_code == 403


def test_staff_without_the_permission_see_no_rows_of_others(history: list[Any], bob: User, client: Client) -> None:
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    client.force_login(bob)
    for row in history:
        assert str(row.pk) not in client.get(page(row, "changelist")).content.decode()
        assert client.get(page(row)).status_code == 302


def test_users_who_are_not_staff_have_no_admin(alice: User, client: Client) -> None:
    client.force_login(alice)
    assert client.get("/admin/").status_code == 302


def test_a_runs_page_shows_stages_events_and_exports(history: list[Any], erin: User, client: Client) -> None:
    client.force_login(erin)
    content = client.get(page(history[1])).content.decode()
    assert "one step is enough" in content
    assert "Request stored" in content
    assert "export_1795349047113" in content


def test_a_user_with_history_can_not_be_deleted(alice: User, bob: User, admin: User, client: Client) -> None:
    tokens.make(user=alice)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    client.force_login(admin)
    assert client.get(f"/admin/auth/user/{alice.pk}/delete/").status_code == 403
    assert client.get(f"/admin/auth/user/{bob.pk}/delete/").status_code == 200


def test_an_audit_entry_is_never_changed_or_deleted(alice: User) -> None:
    entry = audit.record(actor=alice, action="a.b", object_type="t", object_id="1")
    with pytest.raises(TypeError):
        entry.save()
    with pytest.raises(TypeError):
        entry.delete()
    with pytest.raises(TypeError):
        AuditEntry.objects.all().update(outcome="denied")
    with pytest.raises(TypeError):
        AuditEntry.objects.all().delete()


def test_an_audit_entry_outlives_its_actor(bob: User) -> None:
    audit.record(actor=bob, action="a.b", object_type="t", object_id="1")
    bob.delete()
    assert AuditEntry.objects.get().actor_name == "bob"


def test_list_pages_take_the_same_queries_for_many_rows(
    alice: User, erin: User, client: Client, django_assert_max_num_queries: Any
) -> None:
    for _ in range(12):
        runner.submit(user=alice, text="Hi")
    client.force_login(erin)
    for model in MODELS:
        with django_assert_max_num_queries(14):
            client.get(reverse(f"admin:conversations_{model._meta.model_name}_changelist"))
