"""What becomes of exports: the page, once more, copies, deletion, expiry, legal holds."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.utils import timezone

from conversations import again, copying, execution, exports, files, holds, threads
from conversations.audit import Origin
from conversations.formats.comparing import compare
from conversations.models import Conversation, Export
from conversations.pipeline.tools import Column
from conversations.runner import EmbeddedRunner
from tests.calls import ask, call, cookie_of
from tests.exporting import browse, entries, exported, path_of
from tests.formats.tables import given, text_columns
from tests.test_runner import engine_of

pytestmark = pytest.mark.django_db(transaction=True)


async def changed(export: Export, **values: Any) -> Export:
    """The row with these values."""

    def change() -> Export:
        Export.objects.filter(pk=export.pk).update(**values)
        row: Export = Export.objects.select_related("run__conversation", "run__user").get(pk=export.pk)
        return row

    return await threads.reading(change)


# -- The page --------------------------------------------------------------------------------------------------------


async def test_the_page_lists_ones_own_exports(alice: User, bob: User, running: EmbeddedRunner) -> None:
    export, other = await exported(alice), await exported(bob)
    page = (await browse(alice, "GET", "/exports/")).text
    assert export.filename() in page
    assert other.filename() not in page
    assert "toy.make" in page


async def test_the_page_counts_downloads_but_no_refusals(alice: User, bob: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    for user in (alice, alice, bob):
        await call("GET", f"/exports/{export.pk}/", cookie=await cookie_of(user))
    page = (await browse(alice, "GET", "/exports/")).text
    assert '<td role="cell" class="number" data-label="Downloads">2</td>' in page


@pytest.mark.parametrize(("sought", "is_found"), [("Here", True), ("export_", True), ("nowhere", False), ("%", False)])
async def test_exports_are_found_by_their_request_and_file(
    alice: User, running: EmbeddedRunner, sought: str, is_found: bool
) -> None:
    export = await exported(alice)
    page = (await browse(alice, "GET", f"/exports/?q={sought}")).text
    assert (export.filename() in page) == is_found


@pytest.mark.parametrize("query", ["?q=" + "x" * 201, "?q=%00"])
async def test_a_search_that_is_none_is_refused(alice: User, query: str) -> None:
    assert (await browse(alice, "GET", f"/exports/{query}")).status_code == 400


@pytest.mark.parametrize("query", ["?page=0", "?page=99999999999", "?page=x"])
async def test_a_page_that_is_none_is_the_nearest(alice: User, running: EmbeddedRunner, query: str) -> None:
    export = await exported(alice)
    assert export.filename() in (await browse(alice, "GET", f"/exports/{query}")).text


async def test_the_details_tell_who_had_the_file(alice: User, erin: User, bob: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    await call("GET", f"/exports/{export.pk}/?format=json", cookie=await cookie_of(erin))
    page = (await browse(alice, "GET", f"/exports/{export.pk}/details/")).text
    for words in ("export.download", "export.create", "erin", "json"):
        assert words in page
    assert (await browse(bob, "GET", f"/exports/{export.pk}/details/")).status_code == 404
    # A reviewer's look is an entry of its own.
    assert (await browse(erin, "GET", f"/exports/{export.pk}/details/")).status_code == 200
    assert len(await entries("export.review", actor_name="erin")) == 1


# -- Once more -------------------------------------------------------------------------------------------------------


async def test_run_again_gives_a_new_export_and_says_what_has_changed(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    # As if the rows had been others then.
    export = await changed(export, query={"kind": "rows", "n": 14})
    answer = await browse(alice, "POST", f"/exports/{export.pk}/again/")
    new = await threads.reading(lambda: Export.objects.select_related("run").get(again_of=export))
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/exports/{new.pk}/details/")
    assert (new.n_rows, new.run_id, new.query) == (14, export.run_id, {"kind": "rows", "n": 14})
    counts = {key: value for key, value in new.comparison.items() if key.startswith("n_")}
    assert counts == {"n_added": 2, "n_removed": 0, "n_changed": 0, "n_unchanged": 12}
    page = (await browse(alice, "GET", f"/exports/{new.pk}/details/")).text
    assert "<b>2</b> added, <b>0</b> removed" in page
    (entry,) = await entries("export.again")
    assert (entry.object_id, entry.detail["new"], entry.detail["n_added"]) == (str(export.pk), str(new.pk), 2)
    # The conversation shows what was answered then.
    assert f"block-{new.pk}" not in (await browse(alice, "GET", f"/conversations/{new.run.conversation_id}/")).text


async def test_run_again_of_an_expired_export_compares_with_nothing(alice: User, running: EmbeddedRunner) -> None:
    export = await changed(await exported(alice), expires_at=timezone.now() - timedelta(days=1))
    await threads.reading(exports.expire)
    assert (await browse(alice, "POST", f"/exports/{export.pk}/again/")).status_code == 302
    new = await threads.reading(lambda: Export.objects.get(again_of=export))
    assert (new.n_rows, new.comparison) == (12, None)
    assert "The earlier file is gone" in (await browse(alice, "GET", f"/exports/{new.pk}/details/")).text


async def test_a_changed_old_file_is_said_and_the_new_one_is_there(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    await changed(export, query={"kind": "rows", "n": 3})
    path = await threads.reading(path_of, export)
    path.write_bytes(bytes(path.stat().st_size))
    assert (await browse(alice, "POST", f"/exports/{export.pk}/again/")).status_code == 302
    new = await threads.reading(lambda: Export.objects.get(again_of=export))
    assert (new.n_rows, new.comparison) == (3, None)


async def test_typed_rows_have_no_query_to_run(alice: User, bob: User, running: EmbeddedRunner) -> None:
    await ask(alice, "```csv\na\n1\n```")
    export = await threads.reading(Export.objects.get)
    assert (await browse(alice, "POST", f"/exports/{export.pk}/again/")).status_code == 409
    assert (await browse(bob, "POST", f"/exports/{export.pk}/again/")).status_code == 404
    outcomes = [(entry.actor_name, entry.outcome) for entry in await entries("export.again")]
    assert outcomes == [("alice", "failed"), ("bob", "denied")]
    with pytest.raises(again.NotRepeatable):
        await threads.reading(lambda: again.run_again(export=export, user=alice, origin=Origin()))


def test_rows_are_told_apart_by_a_key(tmp_path: Path) -> None:
    columns = [Column(name="id", type="id"), *text_columns("name", "site")]
    old = given(columns, [("1", "a", "x"), ("2", "=b", "x"), ("3", "c", "x")])
    new = given(
        [*columns, Column(name="more", type="text")],
        [("2", "=B", "x", "m"), ("3", "c", "x", None), ("4", "d", None, "")],
    )
    found = compare(old.table, new.table, tmp_path / "c", keys=[["name"], ["site"], ["id"]])
    # Names are unique too, and stand first.
    assert (found.key, found.n_added, found.n_removed, found.n_changed, found.n_unchanged) == (["name"], 2, 2, 0, 1)
    found = compare(old.table, new.table, tmp_path / "d", keys=[["site"], ["id"]])
    assert (found.key, found.n_added, found.n_removed, found.n_changed, found.n_unchanged) == (["id"], 1, 1, 1, 1)
    assert found.changed == [{"key": {"id": "2"}, "cells": {"name": ["=b", "=B"]}}]
    assert (found.added, found.removed) == (
        [{"id": "4", "name": "d", "site": ""}],
        [{"id": "1", "name": "a", "site": "x"}],
    )
    assert (found.columns_added, found.columns_removed) == (["more"], [])


def test_rows_without_a_key_are_compared_whole(tmp_path: Path) -> None:
    columns = text_columns("a", "b")
    old = given(columns, [("1", "x"), ("1", "x"), ("1", "x"), ("2", "y"), (None, None)])
    new = given(columns, [("1", "x"), ("2", "y"), ("2", "y"), (None, None)])
    found = compare(old.table, new.table, tmp_path / "c", keys=[["a"], ["a", "b"], [], ["nowhere"]])
    assert (found.key, found.n_added, found.n_removed, found.n_unchanged) == ([], 1, 2, 3)


# -- Copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "first"),
    [
        ("tsv", "n\ttext\n0\t\n1\t'=text 1\n"),
        ("csv", "n,text\r\n0,\r\n1,'=text 1\r\n"),
        ("markdown", "| n | text |\n| --- | --- |\n"),
    ],
)
async def test_a_copy_has_all_rows_and_an_entry(alice: User, running: EmbeddedRunner, way: str, first: str) -> None:
    export = await exported(alice, 25)
    answer = await call("GET", f"/exports/{export.pk}/copy?as={way}", cookie=await cookie_of(alice))
    assert answer.body.decode().startswith(first)
    assert len(answer.body.decode().splitlines()) == 25 + (2 if way == "markdown" else 1)
    (entry,) = await entries("export.copy")
    assert (entry.detail["format"], entry.detail["rows"]) == (way, 25)


async def test_a_copy_of_a_large_table_has_the_rows_of_the_preview(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice, copying.MOST_ROWS + 1)
    answer = await call("GET", f"/exports/{export.pk}/copy", cookie=await cookie_of(alice))
    assert len(answer.body.decode().splitlines()) == 11


async def test_an_unknown_way_to_copy_is_refused(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    answer = await call("GET", f"/exports/{export.pk}/copy?as=html", cookie=await cookie_of(alice))
    assert (answer.status, answer.error["field"]) == (400, "as")


# -- Deletion, expiry, legal holds -----------------------------------------------------------------------------------


async def test_the_owner_deletes_an_export(alice: User, bob: User, erin: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    path = await threads.reading(path_of, export)
    for user in (bob, erin):
        assert (await browse(user, "POST", f"/exports/{export.pk}/delete/")).status_code == 404
    assert path.exists()
    assert (await browse(alice, "POST", f"/exports/{export.pk}/delete/")).status_code == 302
    assert not path.exists()
    page = (await browse(alice, "GET", "/exports/")).text
    assert f'id="export-{export.pk}"' not in page
    answer = await call("GET", f"/exports/{export.pk}/", cookie=await cookie_of(alice))
    assert (answer.status, answer.error["code"]) == (410, "gone")
    outcomes = [(entry.actor_name, entry.outcome) for entry in await entries("export.delete")]
    assert outcomes == [("bob", "denied"), ("erin", "denied"), ("alice", "ok")]
    # What was said of it stays in the conversation, without a way to a file that is gone.
    said = (await browse(alice, "GET", f"/conversations/{export.run.conversation_id}/")).text
    assert "file deleted" in said
    assert f'href="/exports/{export.pk}/"' not in said


def expired(**options: Any) -> str:
    out = io.StringIO()
    call_command("expire_exports", stdout=out, **options)
    return out.getvalue()


async def test_an_expired_exports_file_goes_and_its_ledger_stays(alice: User, running: EmbeddedRunner) -> None:
    export = await changed(await exported(alice), expires_at=timezone.now() - timedelta(seconds=1))
    young = await exported(alice, 5)
    path, other = await threads.reading(path_of, export), await threads.reading(path_of, young)
    assert "1 expired exports would go" in await threads.reading(lambda: expired(dry_run=True))
    assert path.exists()
    assert "1 expired exports deleted" in await threads.reading(expired)
    assert (path.exists(), other.exists()) == (False, True)
    assert "0 expired exports deleted" in await threads.reading(expired)
    (entry,) = await entries("export.expire")
    assert (entry.actor_name, entry.object_id) == ("", str(export.pk))
    assert len(await entries("export.create")) == 2
    assert "ended " in (await browse(alice, "GET", "/exports/")).text


async def test_what_executes_runs_deletes_what_has_expired_by_itself(
    alice: User, running: EmbeddedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = await changed(await exported(alice), expires_at=timezone.now() - timedelta(seconds=1))
    path = await threads.reading(path_of, export)
    assert (await threads.reading(lambda: exports.expire(is_over=lambda: True))).n_exports == 0
    assert path.exists()
    monkeypatch.setattr(execution, "FIRST_EXPIRY_S", 0.0)
    executor = execution.Executor(engine=engine_of(running), enqueue=running.enqueue)
    try:
        async with asyncio.timeout(10):
            while not await entries("export.expire"):
                pass
    finally:
        await executor.stop()
    assert not path.exists()


async def test_exports_are_kept_as_long_as_the_setting_says(
    alice: User, running: EmbeddedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = await exported(alice)
    assert export.expires_at == export.created_at + timedelta(days=30)
    monkeypatch.setattr(settings, "OPSCHAT_EXPORT_DAYS", 0)
    assert (await exported(alice)).expires_at is None


async def test_a_file_that_no_export_needs_goes_after_a_day(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    path = await threads.reading(path_of, export)
    orphan, young = (path.parent / (path.parent.name + digit * 62) for digit in "01")
    for file in (orphan, young):
        file.write_bytes(b"left by a process that was killed")
    two_days_ago = time.time() - 2 * 24 * 3600
    for file in (orphan, path):
        os.utime(file, (two_days_ago, two_days_ago))
    found = await threads.reading(lambda: exports.expire(dry_run=True))
    assert (found.n_orphans, orphan.exists()) == (1, True)
    await threads.reading(expired)
    assert (orphan.exists(), young.exists(), path.exists()) == (False, True, True)
    young.unlink()


async def test_a_legal_hold_keeps_exports_from_expiring_and_deletion(alice: User, running: EmbeddedRunner) -> None:
    export = await changed(await exported(alice), expires_at=timezone.now() - timedelta(seconds=1))
    conversation = str(export.run.conversation_id)
    await threads.reading(lambda: call_command("legal_hold", conversation, why="case 7", stdout=io.StringIO()))
    assert (await call("GET", f"/exports/{export.pk}/", cookie=await cookie_of(alice))).status == 200
    assert "1 are kept by legal holds" in await threads.reading(expired)
    assert (await browse(alice, "POST", f"/exports/{export.pk}/delete/")).status_code == 409
    assert "legal hold" in (await browse(alice, "GET", "/exports/")).text
    await threads.reading(lambda: call_command("legal_hold", conversation, lift=True, stdout=io.StringIO()))
    assert (await call("GET", f"/exports/{export.pk}/", cookie=await cookie_of(alice))).status == 410
    (placed,), (lifted,) = await entries("conversation.hold"), await entries("conversation.release")
    assert (placed.detail, lifted.object_id) == ({"why": "case 7"}, conversation)


async def test_a_hold_that_is_there_already_or_is_not_is_said(alice: User, running: EmbeddedRunner) -> None:
    conversation = await threads.reading(lambda: Conversation.objects.create(owner=alice))
    with pytest.raises(CommandError, match="no hold"):
        await threads.reading(lambda: call_command("legal_hold", str(conversation.pk), lift=True))
    await threads.reading(lambda: holds.place(conversation=conversation, user=alice, origin=None))
    with pytest.raises(CommandError, match="already"):
        await threads.reading(lambda: call_command("legal_hold", str(conversation.pk)))
    with pytest.raises(CommandError, match="no conversation"):
        await threads.reading(lambda: call_command("legal_hold", "00000000-0000-0000-0000-000000000000"))


async def test_a_hold_is_placed_in_the_review_by_who_may(alice: User, erin: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    address = f"/admin/conversations/conversation/{export.run.conversation_id}/"
    assert "legal hold</button>" not in (await browse(erin, "GET", f"{address}change/")).text
    assert (await browse(erin, "POST", f"{address}hold/")).status_code == 404
    hold = await threads.reading(lambda: Permission.objects.get(codename="hold"))
    await threads.reading(erin.user_permissions.add, hold)
    assert "Place a legal hold</button>" in (await browse(erin, "GET", f"{address}change/")).text
    assert (await browse(erin, "POST", f"{address}hold/")).status_code == 302
    assert "Lift the legal hold</button>" in (await browse(erin, "GET", f"{address}change/")).text
    (entry,) = await entries("conversation.hold")
    assert entry.actor_name == "erin"


async def test_files_stay_verifiable_inside_the_server(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    table = await threads.reading(exports.table_of, export)
    with pytest.raises(files.Corrupt):
        await threads.reading(lambda: _read_changed(export, table))


def _read_changed(export: Export, table: Any) -> None:
    path = path_of(export)
    path.write_bytes(bytes(path.stat().st_size))
    list(table.rows())


async def test_a_column_may_be_called_as_a_method(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    row = {"items": "a", "key": "b"}
    changed_row = {"key": {"items": "a"}, "cells": {"items": ["", "x"]}}
    counts = {"n_added": 1, "n_removed": 0, "n_changed": 1, "n_unchanged": 0, "key": ["items"]}
    comparison = {
        **counts,
        "columns_added": [],
        "columns_removed": [],
        "added": [row],
        "removed": [],
        "changed": [changed_row],
    }
    await changed(export, comparison=comparison, again_of=export)
    assert (await browse(alice, "GET", f"/exports/{export.pk}/details/")).status_code == 200


def test_a_line_break_before_a_formula_is_guarded_in_a_copy() -> None:
    table = given(text_columns("a"), [("\n=1+1",), ("'x\ty",), ("=2\n3",)]).table
    assert copying.WAYS["tsv"](table, list(table.texts())).split("\n")[1:] == ["'=1+1", "'x y", "'=2 3"]
    table = given(text_columns("a", "b"), [("ok\r=HYPERLINK(1)", "b")]).table
    assert len(list(csv.reader(io.StringIO(copying.WAYS["csv"](table, list(table.texts())), newline="")))) == 2
