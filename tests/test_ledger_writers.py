"""Many write the ledger at once: no gap, no deadlock; and what else a transaction writes, it writes before."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Event
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from conversations import audit, commit, exports, ledger, runner, runs, threads, tokens
from conversations.faults import Reason
from conversations.models import AuditEntry, Export, Run
from tests.answers import answered
from tests.server import ROOT

pytestmark = pytest.mark.django_db(transaction=True)

N_WRITERS, N_ENTRIES = 6, 20


def record(object_id: object = 1) -> AuditEntry:
    return audit.record(actor=None, action="a.b", object_type="t", object_id=str(object_id))


@contextmanager
def others(n: int) -> Iterator[Callable[..., Future[Any]]]:
    """Calls functions in threads of their own, with connections of their own."""

    def called(function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(n) as pool:
        yield lambda function, *args: pool.submit(called, function, *args)


def write(writer: int) -> None:
    """Alone, in transactions, two in one, and in some that are taken back."""
    for n in range(N_ENTRIES // 4):
        record(f"{writer} {n}")
        with transaction.atomic():
            record(f"{writer} {n} in a transaction")
        with transaction.atomic():
            record(f"{writer} {n} first")
            record(f"{writer} {n} second")
        with transaction.atomic():
            record("never")
            transaction.set_rollback(True)


def test_many_writers_make_one_chain_without_a_gap() -> None:
    with others(N_WRITERS) as call:
        for done in [call(write, writer) for writer in range(N_WRITERS)]:
            done.result()
    expected = [*range(1, N_WRITERS * N_ENTRIES + 1)]
    assert list(AuditEntry.objects.order_by("seq").values_list("seq", flat=True)) == expected
    assert not AuditEntry.objects.filter(object_id="never").exists()
    assert ledger.verify().n_entries == len(expected)


def test_a_ledger_that_is_written_meanwhile_is_intact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_PAGE", 7)
    with others(2) as call:
        writing = [call(write, writer) for writer in range(2)]
        while not all(done.done() for done in writing):
            assert ledger.verify().fault is None
    assert ledger.verify().n_entries == 2 * N_ENTRIES


def test_writers_who_find_no_end_make_one() -> None:
    """As after the tables were emptied. It isn't signed: somebody may have deleted everything."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM conversations_auditentry")
    together = Barrier(N_WRITERS)

    def first(writer: int) -> None:
        together.wait()
        record(writer)

    with others(N_WRITERS) as call:
        for done in [call(first, writer) for writer in range(N_WRITERS)]:
            done.result()
    report = ledger.verify()
    assert report.fault
    assert (report.n_entries, report.fault.reason) == (N_WRITERS, Reason.UNSIGNED)


def test_who_holds_a_user_and_who_names_it_do_not_wait_for_each_other(alice: User) -> None:
    """A row that names a user makes PostgreSQL lock the user when it commits, after the ledger's end."""
    run = answered(alice, "Yes.")
    is_held, has_recorded = Event(), Event()

    def submitted() -> None:
        with threads.write_turn(), transaction.atomic():
            runner._known(alice, None)
            is_held.set()
            if connection.vendor == "postgresql":
                assert has_recorded.wait(timeout=20)
            record("of the one who holds")

    def named() -> None:
        assert is_held.wait(timeout=20)
        with threads.write_turn(), transaction.atomic():
            commit.hold(runs.fence_of(run))
            Export.objects.create(owner=alice, run=run, position=9, source="tool", name="x", n_rows=0)
            record("of the one who names")
            has_recorded.set()

    run.status, run.owner = Run.Status.RUNNING, "me"
    run.save()
    with others(2) as call:
        for done in [call(submitted), call(named)]:
            done.result(timeout=30)
    assert ledger.verify().fault is None


def test_rows_are_locked_so_that_others_may_name_them() -> None:
    """See above: FOR UPDATE would let a commit wait, which holds the ledger's end."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "conversations").rglob("*.py"))
    locks = re.findall(r"select_for_update\(([^\n]*)", code)
    assert len(locks) > 8
    assert [lock for lock in locks if "no_key=True" not in lock] == []


# -- What comes last in a transaction --------------------------------------------------------------------------------


@contextmanager
def watched() -> Iterator[None]:
    """Each transaction writes to the ledger, and then nothing but that."""
    with CaptureQueriesContext(connection) as captured:
        yield
    has_recorded, n_recorded, late = False, 0, []
    for query in captured.captured_queries:
        said = query["sql"]
        if re.match("BEGIN|COMMIT|ROLLBACK$", said):
            has_recorded = False
        elif "conversations_auditentry" in said:
            is_end = said.startswith(("UPDATE", "QUERY = 'UPDATE"))
            n_recorded += is_end
            has_recorded = has_recorded or is_end
        elif has_recorded and re.match("INSERT|UPDATE|DELETE|.*FOR (NO KEY )?UPDATE", said):
            late.append(said)
    assert n_recorded
    assert late == []


def posted(client: Client, path: str, **form: str) -> None:
    assert client.post(path, form).status_code in (200, 204, 302)


def test_a_message_is_stored_before_its_entry(alice: User) -> None:
    with watched():
        run = runner.submit(user=alice, text="How many?")
    with watched():
        runner.cancel(run=run, user=alice)
    with watched():
        runner.resume(run=run, user=alice)
    assert [entry.action for entry in AuditEntry.objects.order_by("seq")] == ["run.submit", "run.cancel", "run.resume"]


def test_an_export_is_discarded_before_its_entry(alice: User) -> None:
    run = answered(alice, "Yes.")
    Export.objects.create(owner=alice, run=run, position=0, source="tool", name="x", n_rows=0)
    with watched():
        exports.discard_unannounced(run)


def test_an_account_is_changed_before_its_entry(alice: User, client: Client) -> None:
    client.force_login(alice)
    with watched():
        posted(client, "/account/tokens/", id="6ab8ed19-8b8a-4bd4-8d4b-f9d2f2b9b5b1", label="x")
    token, _ = tokens.make(user=alice)
    with watched():
        posted(client, f"/account/tokens/{token.pk}/revoke/")
    with watched():
        posted(client, "/account/sign-out-everywhere/", revoke_tokens="on")


def test_a_message_costs_two_statements_more_than_its_entry(alice: User) -> None:
    with CaptureQueriesContext(connection) as captured:
        runner.submit(user=alice, text="How many?")
    of_the_ledger = [query for query in captured.captured_queries if "conversations_auditentry" in query["sql"]]
    assert len(of_the_ledger) == 3
