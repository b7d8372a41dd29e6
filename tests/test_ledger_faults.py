"""What a hand does to the ledger in SQL is found, and named: the first entry that is wrong, and what was done to it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from conversations import audit, chain, ledger, statements
from conversations.chain import End
from conversations.faults import Reason
from conversations.ledger import Report
from conversations.models import AuditEntry

TABLE = "conversations_auditentry"
N = 8


@pytest.fixture(autouse=True)
def recorded(db: None) -> list[AuditEntry]:
    """Eight entries, of numbers 1 to 8."""
    origin = audit.Origin(ip="192.0.2.7", user_agent="curl/8.5.0")
    return [
        audit.record(
            actor=None, action="export.download", object_type="export", object_id=f"e{n}",
            origin=origin, detail={"rows": n, "format": "csv"},
        )
        for n in range(1, N + 1)
    ]  # fmt: skip


def sql(statement: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement.replace("ledger", TABLE), values)


def change(column: str, value: Any) -> None:
    """Of the fifth."""
    sql(f"UPDATE ledger SET {column} = %s WHERE seq = 5", value)  # noqa: S608  a name of this file


def found() -> tuple[int | None, Reason | None]:
    fault = ledger.verify().fault
    return (fault.seq, fault.reason) if fault else (None, None)


def numbered_anew(first: int, by: int) -> None:
    """Number and row stay together; in two steps, because numbers are unique."""
    sql("UPDATE ledger SET seq = seq + 1000 WHERE seq >= %s", first)
    sql("UPDATE ledger SET seq = seq - 1000 + %s WHERE seq >= 1000", by)


def insert(seq: int, *, follows: str | None = None) -> AuditEntry:
    """By hand; with `follows` its hash is that of an entry behind that one."""
    entry = AuditEntry(seq=seq, action="run.submit", object_type="run", object_id="forged", outcome="ok", hash="f" * 64)
    statements.add_entry(entry, "{}")
    if follows is not None:
        (row,) = statements.entries(after=seq - 1, n=1)
        sql("UPDATE ledger SET hash = %s WHERE seq = %s", chain.digest(follows, seq, row[2:]), seq)
    return entry


def rewritten(first: int) -> End:
    """All hashes from an entry on computed anew, as everybody can."""
    previous = ledger.verify().end.hash
    for row in statements.entries(after=first - 1, n=N):
        previous = chain.digest(previous, row[0], row[2:])
        sql("UPDATE ledger SET hash = %s WHERE seq = %s", previous, row[0])
    return End(seq=row[0], hash=previous)


def test_what_nobody_touched_is_intact() -> None:
    assert ledger.verify() == Report(end=End(seq=N, hash=AuditEntry.objects.get(seq=N).hash))


CHANGES = {
    "id": uuid.uuid4().hex, "at": "2020-01-01 00:00:00", "actor_id": 7, "actor_name": "mallory", "action": "x.y",
    "object_type": "run", "object_id": "e0", "outcome": "denied", "ip": "192.0.2.8", "user_agent": "",
    "detail": '{"rows": 5, "format": "xlsx"}', "hash": "0" * 64,
}  # fmt: skip


@pytest.mark.parametrize("column", CHANGES)
def test_an_entry_that_was_changed(column: str) -> None:
    change(column, CHANGES[column])
    assert found() == (5, Reason.CHANGED)


def test_every_column_is_covered() -> None:
    assert {field.column for field in AuditEntry._meta.concrete_fields} == CHANGES.keys() | {"seq"}


def test_a_value_that_was_taken() -> None:
    change("ip", None)
    assert found() == (5, Reason.CHANGED)


@pytest.mark.parametrize("which", ["first", "last"])
def test_the_first_and_the_last_entry_are_covered(which: str) -> None:
    seq = 1 if which == "first" else N
    sql("UPDATE ledger SET actor_name = 'mallory' WHERE seq = %s", seq)
    assert found() == (seq, Reason.CHANGED)


@pytest.mark.parametrize("seq", [1, 5, N])
def test_an_entry_that_was_deleted(seq: int) -> None:
    sql("DELETE FROM ledger WHERE seq = %s", seq)
    assert found() == (seq, Reason.MISSING)
    assert ledger.verify().n_entries == seq - 1


@pytest.mark.parametrize("seq", [1, 5, N - 1])
def test_one_that_was_deleted_and_the_numbers_closed_up(seq: int) -> None:
    sql("DELETE FROM ledger WHERE seq = %s", seq)
    numbered_anew(seq + 1, -1)
    assert found() == (seq, Reason.MISSING)


def test_all_that_were_deleted() -> None:
    sql("DELETE FROM ledger WHERE seq > 0")
    assert found() == (1, Reason.MISSING)


def test_all_that_were_deleted_with_the_end() -> None:
    sql("DELETE FROM ledger")
    assert found() == (0, Reason.UNSIGNED)
    entry = audit.record(actor=None, action="a.b", object_type="t", object_id="1")
    assert (entry.seq, found()) == (1, (1, Reason.UNSIGNED))


@pytest.mark.parametrize("is_fitting", [False, True])
@pytest.mark.parametrize("seq", [1, 5, N])
def test_an_entry_that_was_inserted(seq: int, is_fitting: bool) -> None:
    before = AuditEntry.objects.filter(seq=seq - 1).values_list("hash", flat=True).first() or chain.GENESIS
    numbered_anew(seq, 1)
    stranger = insert(seq, follows=before if is_fitting else None)
    fault = ledger.verify().fault
    assert fault
    assert (fault.seq, fault.reason, fault.entry_id) == (seq, Reason.INSERTED, stranger.pk)


@pytest.mark.parametrize("is_fitting", [False, True])
@pytest.mark.parametrize("seq", [N + 1, N + 50])
def test_an_entry_that_was_added_behind_the_end(seq: int, is_fitting: bool) -> None:
    stranger = insert(seq, follows=AuditEntry.objects.get(seq=N).hash if is_fitting else None)
    fault = ledger.verify().fault
    assert fault
    assert (fault.reason, fault.entry_id) == (Reason.INSERTED, stranger.pk)


@pytest.mark.parametrize("is_fitting", [False, True])
def test_one_in_the_way_of_the_next_entry_keeps_nobody_from_working(is_fitting: bool) -> None:
    stranger = insert(N + 1, follows=AuditEntry.objects.get(seq=N).hash if is_fitting else None)
    assert audit.record(actor=None, action="a.b", object_type="t", object_id="1").seq == N + 2
    assert audit.record(actor=None, action="a.b", object_type="t", object_id="2").seq == N + 3
    fault = ledger.verify().fault
    assert fault
    assert (fault.seq, fault.reason, fault.entry_id) == (N + 1, Reason.INSERTED, stranger.pk)


@pytest.mark.parametrize(("one", "other"), [(3, 6), (3, 4), (1, N), (N - 1, N)])
def test_numbers_that_were_swapped(one: int, other: int) -> None:
    for old, new in ((one, 1000), (other, one), (1000, other)):
        sql("UPDATE ledger SET seq = %s WHERE seq = %s", new, old)
    assert found() == (one, Reason.MISPLACED)


@pytest.mark.parametrize("with_id", [False, True])
@pytest.mark.parametrize(("one", "other"), [(3, 6), (3, 4), (1, N), (N - 1, N)])
def test_contents_that_were_swapped(one: int, other: int, with_id: bool) -> None:
    kept = {row[0]: row for row in AuditEntry.objects.values_list("seq", "object_id", "at", "detail__rows", "id")}
    if with_id:
        sql("UPDATE ledger SET id = %s WHERE seq = %s", uuid.uuid4().hex, one)
    for seq, source in ((other, one), (one, other)):
        _, object_id, at, rows, id_ = kept[source]
        detail = f'{{"rows": {rows}, "format": "csv"}}'
        stored = AuditEntry._meta.get_field("at").get_db_prep_value(at, connection)
        sql("UPDATE ledger SET object_id = %s, at = %s, detail = %s WHERE seq = %s", object_id, stored, detail, seq)
        if with_id:
            sql("UPDATE ledger SET id = %s WHERE seq = %s", id_.hex, seq)
    assert found() == (one, Reason.MISPLACED)


def test_a_number_that_was_changed() -> None:
    sql("UPDATE ledger SET seq = 500 WHERE seq = 5")
    assert found() == (5, Reason.MISPLACED)


# -- The end ---------------------------------------------------------------------------------------------------------


def test_an_entry_rewritten_with_its_hash_and_all_behind_it() -> None:
    sql("UPDATE ledger SET actor_name = 'mallory' WHERE seq = 5")
    rewritten(5)
    assert found() == (N, Reason.REWRITTEN)


def test_an_entry_rewritten_with_its_hash_alone() -> None:
    sql("UPDATE ledger SET actor_name = 'mallory' WHERE seq = 5")
    sql("UPDATE ledger SET hash = %s WHERE seq = 6", rewritten(5).hash)
    assert found() == (6, Reason.CHANGED)


def forge_end(end: End) -> None:
    said = f'{{"seq": {end.seq}, "signature": "forged"}}'
    sql("UPDATE ledger SET hash = %s, detail = %s WHERE seq = 0", end.hash, said)


def cut_off() -> None:
    sql("DELETE FROM ledger WHERE seq > 5")
    forge_end(End(seq=5, hash=AuditEntry.objects.get(seq=5).hash))


def rewrite_all() -> None:
    sql("UPDATE ledger SET actor_name = 'mallory' WHERE seq = 5")
    forge_end(rewritten(5))


def lose() -> None:
    sql("DELETE FROM ledger WHERE seq = 0")


def damage() -> None:
    sql("UPDATE ledger SET detail = '[]' WHERE seq = 0")


@pytest.mark.parametrize("forge", [cut_off, rewrite_all, lose, damage])
def test_an_end_that_was_forged_is_not_made_good_by_the_next_entry(forge: Callable[[], None]) -> None:
    forge()
    last = AuditEntry.objects.count()
    assert found() == (last, Reason.UNSIGNED)
    assert audit.record(actor=None, action="a.b", object_type="t", object_id="1").seq == last + 1
    assert found() == (last + 1, Reason.UNSIGNED)


def test_rows_that_are_bad_are_named_even_when_the_end_is_forged_too() -> None:
    sql("DELETE FROM ledger WHERE seq = 3")
    lose()
    assert found() == (3, Reason.MISSING)


def test_the_end_is_no_entry() -> None:
    assert list(AuditEntry.objects.order_by("seq").values_list("seq", flat=True)) == [*range(1, N + 1)]
    assert AuditEntry.objects.count() == N


# -- What only looks the same ----------------------------------------------------------------------------------------

SAME: list[Any] = [
    ("sqlite", "detail", '{"rows": 9, "format": "csv", "rows": 5}'),
    ("sqlite", "detail", '{"rows": 5, "format": "csv", "x": 1e999999999}'),
    ("sqlite", "detail", "[" * 900 + "]" * 900),
    ("sqlite", "at", "2026-11-22T10:00:00"),
    ("sqlite", "at", "yesterday"),
    ("postgresql", "at", "infinity"),
    ("postgresql", "at", "2026-11-22 10:00:00+00 BC"),
    ("postgresql", "ip", "192.0.2.7/24"),
    ("postgresql", "detail", '{"rows": 5.00000000000000000001, "format": "csv"}'),
]


@pytest.mark.parametrize(("vendor", "column", "value"), SAME)
def test_what_readers_may_take_for_the_same_is_a_change(vendor: str, column: str, value: str) -> None:
    if connection.vendor == vendor:
        change(column, value)
        assert found() == (5, Reason.CHANGED)


def test_bytes_that_are_no_text_are_a_change() -> None:
    if connection.vendor == "sqlite":
        sql("UPDATE ledger SET actor_name = CAST(x'ff' AS text) WHERE seq = 5")
        assert found() == (5, Reason.CHANGED)
        sql("UPDATE ledger SET hash = CAST(x'ff' AS text) WHERE seq = 2")
        assert found() == (2, Reason.CHANGED)
