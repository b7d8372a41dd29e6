from __future__ import annotations

import io
from datetime import date
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from inventory.models import Asset
from inventory.sample import sample_assets
from inventory.tools import AssetTable

pytestmark = pytest.mark.django_db
TODAY = date(2026, 3, 1)


def seed() -> str:
    out = io.StringIO()
    call_command("seed_demo", stdout=out)
    return out.getvalue()


def test_the_first_call_loads_the_sample_and_makes_four_accounts_with_the_printed_password() -> None:
    password = seed().split("Password (all four): ")[1].split()[0]
    assert 450 <= Asset.objects.sample().count() == Asset.objects.count() <= 550
    assert all(User.objects.get(username=name).check_password(password) for name in ("alice", "bob", "erin", "admin"))
    erin, alice, admin = (User.objects.get(username=name) for name in ("erin", "alice", "admin"))
    assert erin.is_staff
    assert erin.has_perm("conversations.review")
    assert not alice.is_staff
    assert not alice.has_perm("conversations.review")
    assert admin.is_superuser
    assert [user.first_name for user in (alice, erin)] == ["Alice", "Erin"]


def test_sample_data_says_so_until_it_is_gone() -> None:
    table = AssetTable()
    assert table.spec.notice == ""
    seed()
    assert "sample data" in table.spec.notice
    assert table.spec.label == "Sample data"
    Asset.objects.sample().delete()
    assert table.spec.notice == ""


def test_a_second_call_changes_nothing_and_shows_no_password() -> None:
    seed()
    before = list(User.objects.values_list("username", "password")), set(Asset.objects.values_list("pk", flat=True))
    said = seed()
    assert "Password" not in said
    assert "exist already" in said
    assert (
        list(User.objects.values_list("username", "password")),
        set(Asset.objects.values_list("pk", flat=True)),
    ) == before


def test_assets_that_are_there_already_get_no_sample_beside_them() -> None:
    Asset.objects.create(name="mine")
    seed()
    assert Asset.objects.get().name == "mine"


def test_a_given_password_is_used(settings: Any) -> None:
    settings.DEMO_PASSWORD = "a password of one's own"
    assert "a password of one's own" in seed()
    assert User.objects.get(username="bob").check_password("a password of one's own")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "ops.example.com", ""])  # noqa: S104  compared, not bound
def test_a_host_that_others_reach_gets_no_demo_accounts_unless_forced(settings: Any, host: str) -> None:
    settings.HOST = host
    with pytest.raises(CommandError, match="no demo accounts"):
        seed()
    assert not User.objects.exists()
    assert not Asset.objects.exists()
    settings.DEMO_FORCE = True
    seed()
    assert User.objects.count() == 4


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_hosts_get_them(settings: Any, host: str) -> None:
    settings.HOST = host
    seed()
    assert User.objects.count() == 4


def test_the_sample_is_the_same_each_time() -> None:
    first, second = sample_assets(today=TODAY), sample_assets(today=TODAY)
    fields = [field.name for field in Asset._meta.concrete_fields if field.name not in ("created_at", "updated_at")]
    assert [[getattr(asset, name) for name in fields] for asset in first] == [
        [getattr(asset, name) for name in fields] for asset in second
    ]


def test_the_sample_is_varied_and_holds_what_breaks_files() -> None:
    assets = sample_assets(today=TODAY)
    assert len({asset.asset_type for asset in assets}) == 13
    assert len({asset.site for asset in assets}) == 12
    assert len({asset.os for asset in assets}) > 10
    notes = {asset.notes[:1] for asset in assets if asset.notes}
    assert {"=", "-", "+", "@"} <= notes
    assert any("\n" in asset.notes for asset in assets)
    assert any('"' in asset.notes for asset in assets)
    assert any(asset.serial_number.startswith("0") for asset in assets)
    assert any(len(asset.serial_number) == 19 for asset in assets)
    assert any(":" in asset.ip_address for asset in assets)
    assert any(not asset.name for asset in assets)
    assert any(not asset.ip_address for asset in assets)
    certificates = [asset.certificate_expires_on for asset in assets if asset.certificate_expires_on]
    assert min(certificates) < TODAY < max(certificates)
    addresses = [asset.ip_address for asset in assets if asset.ip_address]
    assert len(addresses) == len(set(addresses))


def test_staff_see_assets_read_only_and_others_do_not(client: Client, erin: User, alice: User) -> None:
    asset = Asset.objects.create(name="web-01", asset_type="server")
    client.force_login(erin)
    assert b"web-01" in client.get("/admin/inventory/asset/?q=web&asset_type=server").content
    assert client.get(f"/admin/inventory/asset/{asset.pk}/change/").status_code == 200
    assert client.post(f"/admin/inventory/asset/{asset.pk}/change/", {"name": "changed"}).status_code == 403
    assert client.get("/admin/inventory/asset/add/").status_code == 403
    assert client.post(f"/admin/inventory/asset/{asset.pk}/delete/", {"post": "yes"}).status_code == 403
    client.force_login(alice)
    assert client.get("/admin/inventory/asset/").status_code == 404
