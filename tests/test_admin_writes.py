"""Nothing is written through the admin but accounts, and those by superusers alone."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin as django_admin
from django.contrib.auth.models import Group, Permission, User
from django.core import serializers
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from conversations import audit, tokens
from conversations.models import AuditEntry
from inventory.models import Asset
from tests.answers import answered, exported

#: What superusers may change; everything else that is registered is for reading.
CHANGEABLE: set[type[Model]] = {User, Group}
BROWSER = {"accept": "text/html"}


@pytest.fixture
def staff(bob: User) -> User:
    """May do everything by single permissions, but is no superuser."""
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    bob.user_permissions.set(Permission.objects.all())
    return User.objects.get(pk=bob.pk)


@pytest.fixture
def rows(alice: User, erin: User, admin: User, staff: User) -> None:
    """At least one row of each registered model, of alice and of each who tries."""
    Asset.objects.create(name="web-01")
    Group.objects.create(name="night shift")
    for user in (alice, erin, admin, staff):
        exported(answered(user, "All of them."))
        tokens.make(user=user)


def stored() -> dict[str, str]:
    """All rows but those that looking leaves: audit entries are compared by what was there before."""
    kept = [model for model in apps.get_models() if model._meta.app_label in ("conversations", "inventory", "auth")]
    return {
        model.__name__: serializers.serialize("json", model._default_manager.order_by("pk"))
        for model in kept
        if model.__name__ not in ("AuditEntry", "BrowserSession")
    }


def attempts(model: type[Any], row: Model) -> list[tuple[str, dict[str, Any]]]:
    """(address, form) of every way in which Django's admin writes."""

    def address(kind: str, *args: Any) -> str:
        return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{kind}", args=args)

    forged = {field.name: "forged" for field in model._meta.fields if not field.is_relation and field.name != "id"} | {
        "_save": "Save"
    }
    action = {"action": "delete_selected", "_selected_action": [str(row.pk)], "post": "yes", "index": "0"}
    return [
        (address("add"), forged),
        (address("change", row.pk), forged),
        (address("change", row.pk), {**forged, "_saveasnew": "1"}),
        (address("delete", row.pk), {"post": "yes"}),
        (address("history", row.pk), {}),
        (address("changelist"), action),
        (address("changelist"), {**action, "_save": "Save", "form-TOTAL_FORMS": "1", "form-0-id": str(row.pk)}),
    ]


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("who", ["erin", "admin", "staff"])
def test_no_registered_model_can_be_written(who: str, client: Client, request: pytest.FixtureRequest) -> None:
    user: User = request.getfixturevalue(who)
    client.force_login(user)
    before, entries = stored(), AuditEntry.objects.count()
    tried = {model for model in django_admin.site._registry if who != "admin" or model not in CHANGEABLE}
    for model in tried:
        row = model._default_manager.order_by("pk").first()
        assert row is not None, model
        for address, form in attempts(model, row):
            assert client.post(address, form, headers=BROWSER).status_code in (400, 403, 404, 200), address
    assert stored() == before
    assert AuditEntry.objects.count() >= entries
    assert len(tried) > 8


def test_the_chats_models_are_registered_for_reading() -> None:
    names = {model.__name__ for model in django_admin.site._registry}
    assert {"Conversation", "Message", "Run", "StageRun", "RunEvent", "Export", "AuditEntry", "ApiToken"} <= names
    assert {model.__name__ for model in CHANGEABLE} <= names


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


# -- Accounts --------------------------------------------------------------------------------------------------------


def account(user: User, **changes: Any) -> dict[str, Any]:
    """The form of a user's page."""
    form = {
        "username": user.username, "is_active": "on", "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00",
        "first_name": "", "last_name": "", "email": "",
    } | changes  # fmt: skip
    return {name: value for name, value in form.items() if value is not None}


def test_a_superuser_deactivates_an_account(alice: User, admin: User, client: Client) -> None:
    client.force_login(admin)
    address = reverse("admin:auth_user_change", args=[alice.pk])
    assert client.post(address, account(alice, is_active=None)).status_code == 302
    assert not User.objects.get(pk=alice.pk).is_active


@pytest.mark.parametrize("who", ["erin", "staff"])
def test_nobody_else_sees_accounts(who: str, alice: User, client: Client, request: pytest.FixtureRequest) -> None:
    client.force_login(request.getfixturevalue(who))
    address = reverse("admin:auth_user_change", args=[alice.pk])
    assert client.get(address, headers=BROWSER).status_code == 403
    assert client.post(address, account(alice, is_superuser="on"), headers=BROWSER).status_code == 403
    assert client.get(reverse("admin:auth_user_changelist"), headers=BROWSER).status_code == 403
    assert not User.objects.get(pk=alice.pk).is_superuser


def test_a_superuser_sees_nothing_of_a_password(alice: User, admin: User, client: Client) -> None:
    client.force_login(admin)
    content = client.get(reverse("admin:auth_user_change", args=[alice.pk])).content.decode()
    algorithm, _, salt, digest = alice.password.split("$")
    for secret in (algorithm, salt[:4], digest[:4]):
        assert secret not in content
    assert "Reset password" in content


def test_a_user_with_history_can_not_be_deleted(alice: User, bob: User, admin: User, client: Client) -> None:
    tokens.make(user=alice)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    client.force_login(admin)
    assert client.get(f"/admin/auth/user/{alice.pk}/delete/").status_code == 403
    assert client.get(f"/admin/auth/user/{bob.pk}/delete/").status_code == 200
