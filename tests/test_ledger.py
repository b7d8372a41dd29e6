"""The ledger: a chain of the audit entries, and who verifies it. What a hand does to it: `test_ledger_faults.py`."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection, migrations, transaction
from django.db.migrations.executor import MigrationExecutor
from django.test import Client
from django.urls import reverse

from conversations import audit, chain, ledger, statements
from conversations.chain import End
from conversations.faults import Reason
from conversations.models import AuditEntry


def record(object_id: str = "1", **facts: Any) -> AuditEntry:
    facts = {"actor": None, "action": "export.download", "object_type": "export", **facts}
    return audit.record(object_id=object_id, **facts)


def change(seq: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE conversations_auditentry SET actor_name = 'mallory' WHERE seq = %s", [seq])


def lose_end() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM conversations_auditentry WHERE seq = 0")


# -- The chain -------------------------------------------------------------------------------------------------------


def test_entries_are_numbered_and_each_covers_the_one_before(alice: User) -> None:
    first, second = record(actor=alice), record()
    assert (first.seq, second.seq) == (1, 2)
    assert AuditEntry.objects.get(seq=2) == second
    previous = chain.GENESIS
    for row in statements.entries(after=0, n=10):
        assert chain.fits(previous, row)
        previous = row[1]
    assert ledger.verify() == ledger.Report(end=End(seq=2, hash=second.hash))


def test_a_ledger_without_entries_is_intact(db: None) -> None:
    assert ledger.verify() == ledger.Report(end=End(seq=0, hash=chain.GENESIS))


def test_a_hash_is_that_of_a_text_that_everybody_can_write() -> None:
    """Never changed: every chain that was ever written has to verify."""
    facts = (
        *("0" * 31 + "7", "2026-11-22T15:18:00.000000+00:00", 5, "älice", "export.download", "export", "x", "ok"),
        *("2001:db8::1", "curl", '{"rows": 1.0, "format": "csv"}'),
    )
    text = (
        '{"action":"export.download","actor_id":5,"actor_name":"älice","at":"2026-11-22T15:18:00.000000+00:00",'
        '"detail":{"format":"csv","rows":1},"id":"00000000000000000000000000000007",'
        '"ip":"2001:0db8:0000:0000:0000:0000:0000:0001","object_id":"x","object_type":"export","outcome":"ok",'
        f'"previous":"{chain.GENESIS}","seq":1,"user_agent":"curl"}}'
    )
    assert chain.digest(chain.GENESIS, 1, facts) == hashlib.sha256(text.encode()).hexdigest()


NUMBERS = [0, -1, 1.0, -0.0, 0.1, 1e5, 1e15, 1e16, 1e22, 1e23, 1.5e300, 1.7976931348623157e308, 5e-324, 1.5e-10, 10**40]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "detail",
    [
        *({"number": number} for number in NUMBERS),
        {"z": 1, "a": 2, "long name": [3, {"ü": "ß", "b": None, "a": True}]},
        {"text": "line\nbreak \"quoted\" \\ \x7f \u2028 é 🙂 \x00"},
        {"list": [], "object": {}, "ä": [1.50, 2, "3"]},
    ],
)  # fmt: skip
def test_every_detail_verifies_as_it_was_stored(detail: dict[str, Any]) -> None:
    record(detail=detail)
    assert ledger.verify().fault is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    "ip", [None, "10.0.0.1", "::1", "2001:db8::1", "2001:DB8:0:0:1:0:0:1", "::ffff:10.0.0.1", "::10.0.0.1", "::"]
)
def test_every_address_verifies_as_it_was_stored(ip: str | None) -> None:
    record(origin=audit.Origin(ip=ip, user_agent="Gerät\x00 🙂"))
    assert ledger.verify().fault is None


@pytest.mark.django_db
@pytest.mark.parametrize("microsecond", [0, 1, 120000, 999999])
def test_every_instant_verifies_as_it_was_stored(microsecond: int) -> None:
    at = datetime(2026, 11, 22, 15, 18, 0, microsecond, tzinfo=UTC)
    ledger.append(AuditEntry(at=at, action="a.b", object_type="t", object_id="1", outcome="ok"))
    assert ledger.verify().fault is None
    assert AuditEntry.objects.get().at == at


def test_the_ledger_survives_the_deletion_of_a_user(bob: User) -> None:
    record(actor=bob)
    bob.delete()
    assert ledger.verify() == ledger.Report(end=End(seq=1, hash=AuditEntry.objects.get().hash))


def test_what_is_rolled_back_leaves_no_gap(db: None) -> None:
    record()
    with transaction.atomic():
        record()
        transaction.set_rollback(True)
    assert record().seq == 2
    assert ledger.verify().n_entries == 2


# -- Keys ------------------------------------------------------------------------------------------------------------


def test_a_new_key_believes_what_the_old_one_signed_while_it_is_named(db: None, settings: Any) -> None:
    record()
    old, settings.SECRET_KEY = settings.SECRET_KEY, "another key" * 5
    fault = ledger.verify().fault
    assert fault
    assert fault.reason is Reason.UNSIGNED
    settings.SECRET_KEY_FALLBACKS = [old]
    assert ledger.verify().fault is None
    record()
    settings.SECRET_KEY_FALLBACKS = []
    assert ledger.verify().n_entries == 2


def test_who_lost_the_key_signs_anew(db: None, settings: Any) -> None:
    record()
    settings.SECRET_KEY = "another key" * 5
    with pytest.raises(CommandError, match=r"Entry 1 is not signed"):
        call_command("verify_ledger")
    assert said("--sign-anew").startswith("2 entries, chain intact")
    assert AuditEntry.objects.get(seq=2).action == "ledger.sign"


@pytest.mark.parametrize("is_signed", [False, True])
def test_a_broken_ledger_is_not_signed_anew(db: None, is_signed: bool) -> None:
    record()
    record()
    change(1)
    if not is_signed:
        lose_end()
    with pytest.raises(CommandError, match="Entry 1 is changed"):
        call_command("verify_ledger", "--sign-anew")
    assert not AuditEntry.objects.filter(action="ledger.sign").exists()


# -- The command -----------------------------------------------------------------------------------------------------


def said(*arguments: str) -> str:
    out = StringIO()
    call_command("verify_ledger", *arguments, stdout=out)
    return out.getvalue().strip()


def test_the_command_prints_the_end(db: None) -> None:
    record()
    end = f"2:{record().hash}"
    assert said() == f"2 entries, chain intact, ends in {end}"


def test_the_command_names_the_first_bad_entry(db: None) -> None:
    record()
    entry = record()
    record()
    change(2)
    with pytest.raises(CommandError) as failed:
        call_command("verify_ledger")
    expected = rf"Entry 2 is changed: .*\. There is {entry.pk}, at {entry.at:%Y-%m-%dT%H:%M}.*, export\.download\."
    assert re.fullmatch(expected, str(failed.value))
    assert failed.value.returncode == 1


def test_an_end_that_was_noted_is_still_part_of_the_chain(db: None) -> None:
    noted = f"1:{record().hash}"
    record()
    assert said("--expect", noted).startswith("2 entries, chain intact; 1 is as noted")
    assert said("--expect", f"0:{chain.GENESIS}")


@pytest.mark.parametrize("seq", [1, 2, 3])
def test_an_end_that_was_noted_and_is_not_there_any_more(db: None, seq: int) -> None:
    """As after an old copy of the database was put in its place."""
    record()
    record()
    with pytest.raises(CommandError, match=f"Entry {seq} is not as noted"):
        said("--expect", f"{seq}:{'a' * 64}")


def test_an_end_that_is_none_is_refused(db: None) -> None:
    with pytest.raises(CommandError, match="--expect"):
        said("--expect", "7")


# -- The button ------------------------------------------------------------------------------------------------------

VERIFY = "admin:conversations_auditentry_verify"
LIST = "admin:conversations_auditentry_changelist"


def pressed(client: Client) -> str:
    return client.post(reverse(VERIFY), follow=True).text


def test_the_button_says_that_the_ledger_is_intact(erin: User, client: Client) -> None:
    client.force_login(erin)
    end = record()
    page = client.get(reverse(LIST)).text
    assert f'action="{reverse(VERIFY)}"' in page
    assert f"The ledger is intact: 1 entries. It ends in 1:{end.hash}" in pressed(client)
    entry = AuditEntry.objects.get(action="ledger.verify")
    assert (entry.actor_name, entry.outcome, entry.detail) == (
        "erin", "ok", {"entries": 1, "end": f"1:{end.hash}"},
    )  # fmt: skip
    assert ledger.verify().n_entries == 2


def test_the_button_leads_to_the_first_bad_entry(erin: User, client: Client) -> None:
    client.force_login(erin)
    record()
    bad = record()
    record()
    change(2)
    page = pressed(client)
    assert "The ledger is not intact. Entry 2 is changed" in page
    assert reverse("admin:conversations_auditentry_change", args=[bad.pk]) in page
    entry = AuditEntry.objects.get(action="ledger.verify")
    assert (entry.outcome, entry.detail["fault"], entry.detail["number"]) == ("failed", "changed", 2)


def test_a_fault_without_a_row_has_no_link(erin: User, client: Client) -> None:
    client.force_login(erin)
    record()
    lose_end()
    assert "Entry 1 is not signed" in pressed(client)


def test_who_may_not_review_has_no_button(alice: User, client: Client) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    client.force_login(alice)
    assert reverse(VERIFY) not in client.get(reverse(LIST)).text
    assert client.post(reverse(VERIFY)).status_code == 404
    assert not AuditEntry.objects.exists()


def test_only_a_form_of_the_page_verifies(erin: User, client: Client) -> None:
    client.force_login(erin)
    assert client.get(reverse(VERIFY)).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(erin)
    assert strict.post(reverse(VERIFY)).status_code == 403


def test_the_page_of_an_entry_shows_its_place_in_the_ledger(erin: User, client: Client) -> None:
    client.force_login(erin)
    entry = record()
    page = client.get(reverse("admin:conversations_auditentry_change", args=[entry.pk])).text
    assert f'<span class="breaking">{entry.hash}</span>' in page


# -- Entries from before ---------------------------------------------------------------------------------------------

BEFORE, AFTER = [("conversations", "0004_stopped_stages")], [("conversations", "0005_ledger")]


def migrated(targets: list[tuple[str, str]]) -> Any:
    executor = MigrationExecutor(connection)
    executor.migrate([*targets])
    return MigrationExecutor(connection).loader.project_state(targets).apps.get_model("conversations", "AuditEntry")


@pytest.mark.django_db(transaction=True)
def test_entries_from_before_become_a_chain_in_the_order_of_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    migration = MigrationExecutor(connection).loader.get_migration(*AFTER[0])
    (number,) = (step for step in migration.operations if isinstance(step, migrations.RunPython))
    monkeypatch.setitem(number.code.__globals__, "_N", 3)  # type: ignore[attr-defined]  # a function
    latest: Any = MigrationExecutor(connection).loader.graph.leaf_nodes()
    try:
        old = migrated(BEFORE)
        times = [datetime(2026, 1, 1 + n // 4, n % 2, 0, 0, n % 3, tzinfo=UTC) for n in range(10)]
        kept = [
            old(
                id=uuid.uuid4(), at=at, actor_name="alice", action="a.b", object_type="t", object_id=str(n),
                outcome="ok", ip="2001:db8::1", detail={"n": 1e22},
            )
            for n, at in enumerate(times)
        ]  # fmt: skip
        old.objects.bulk_create(kept)
        migrated(AFTER)
        expected = [row.object_id for row in sorted(kept, key=lambda row: (row.at, row.id))]
        assert list(AuditEntry.objects.order_by("seq").values_list("object_id", flat=True)) == expected
        assert ledger.verify().n_entries == 10
        assert record().seq == 11
        assert migrated(BEFORE).objects.count() == 11
    finally:
        migrated(latest)
    assert ledger.verify().n_entries == 11


def test_the_end_says_what_it_covers(db: None) -> None:
    entry = record()
    kept = AuditEntry._base_manager.get(seq=0)
    assert (kept.hash, kept.detail["seq"]) == (entry.hash, 1)
    assert json.dumps(kept.detail) == chain.detail_of(End(seq=1, hash=entry.hash), is_signed=True)
