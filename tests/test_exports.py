"""Exports: what is written, who may have it, and what the audit trail says of it."""

from __future__ import annotations

import csv
import hashlib
import io
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User

from conversations import exports, runs, threads
from conversations.commit import LeaseLost
from conversations.formats.csv_file import CsvFile
from conversations.formats.table import guarded
from conversations.models import AuditEntry, Export, ExportFile
from conversations.pipeline.tools import Cell, Column, TableResult
from conversations.runner import EmbeddedRunner
from tests.calls import ask, call, cookie_of, token_of

pytestmark = pytest.mark.django_db(transaction=True)


def written(header: list[str], rows: list[tuple[Cell, ...]]) -> tuple[bytes, CsvFile]:
    file = CsvFile(header, rows, lambda _: None)
    return b"".join(file.chunks()), file


def stored_files() -> list[Path]:
    return [path for path in (settings.DATA_DIR / "exports").rglob("*") if path.is_file()]


async def exported(user: User, n_rows: int = 12) -> Export:
    await ask(user, f"rows {n_rows}\nHere:")
    return await threads.reading(lambda: Export.objects.latest("created_at"))


def test_csv_is_rfc_4180_in_utf_8() -> None:
    content, file = written(["a", "b"], [("x,y", 'say "hi"'), ("Zürich\nline", None), (-5, 2.5)])
    assert content == b'a,b\r\n"x,y","say ""hi"""\r\n"Z\xc3\xbcrich\nline",\r\n-5,2.5\r\n'
    assert (file.n_rows, file.n_guarded) == (3, 0)


@pytest.mark.parametrize(
    ("cell", "stored"),
    [
        ("=1+1", "'=1+1"), ("+49 30", "'+49 30"), ("-x", "'-x"), ("@a", "'@a"), ("\tx", "'\tx"), ("\rx", "'\rx"),
        ("'=x", "''=x"), ("''=x", "'''=x"), ("-5", "-5"), ("-5.25", "-5.25"), ("--5", "'--5"), ("-5e3", "'-5e3"),
        ("a=b", "a=b"), ("'plain", "'plain"), ("", ""),
    ],
)  # fmt: skip
def test_formulas_are_guarded_by_one_apostrophe(cell: str, stored: str) -> None:
    assert guarded(cell) == stored


def test_guarded_cells_are_counted() -> None:
    assert written(["=head", "b"], [("=a", "b"), ("+c", "@d")])[1].n_guarded == 4


def test_the_first_ten_rows_are_kept_as_they_are() -> None:
    _, file = written(["n"], [(f"={n}",) for n in range(25)])
    assert file.first_rows == [[f"={n}"] for n in range(10)]


async def test_an_export_is_stored_with_what_proves_it(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice, 1200)
    file = await threads.reading(export.files.get)
    (path,) = [path for path in stored_files() if path.stem == file.sha256]
    content = path.read_bytes()
    assert (export.n_rows, export.n_guarded, export.source, export.tool) == (1200, 600, "tool", "toy.make")
    assert export.columns == [{"name": "n", "type": "number"}, {"name": "text", "type": "text"}]
    assert export.query == {"kind": "rows", "n": 1200}
    assert (file.n_bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert export.filename().startswith("export_")
    entry = await threads.reading(lambda: AuditEntry.objects.get(action="export.create"))
    assert (entry.object_id, entry.detail["sha256"]) == (str(export.pk), file.sha256)


async def test_the_owner_downloads_every_row(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice, 1200)
    answer = await call("GET", f"/exports/{export.pk}/", cookie=await cookie_of(alice))
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="{export.filename()}"'
    assert int(answer.headers["content-length"]) == len(answer.body)
    rows = list(csv.reader(io.StringIO(answer.body.decode(), newline="")))
    assert (rows[0], len(rows), rows[-1]) == (["n", "text"], 1201, ["1199", "'=text 1199"])
    again = await call("GET", f"/exports/{export.pk}/?format=csv", authorization=f"Bearer {await token_of(alice)}")
    assert again.body == answer.body


async def test_the_preview_has_ten_rows_and_the_types(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    answer = await call("GET", f"/exports/{export.pk}/preview", cookie=await cookie_of(alice))
    assert answer.json()["columns"] == [{"name": "n", "type": "number"}, {"name": "text", "type": "text"}]
    assert (len(answer.json()["rows"]), answer.json()["total"]) == (10, 12)


async def test_a_download_is_audited_before_its_first_byte(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    await call("GET", f"/exports/{export.pk}/", cookie=await cookie_of(alice), user_agent="tester")
    entry = await threads.reading(lambda: AuditEntry.objects.get(action="export.download"))
    assert (entry.actor_id, entry.actor_name, entry.outcome) == (alice.pk, "alice", "ok")
    assert (entry.object_type, entry.object_id) == ("export", str(export.pk))
    assert (entry.ip, entry.user_agent) == ("127.0.0.1", "tester")
    assert entry.detail["rows"] == 12


@pytest.mark.parametrize("path", ["/exports/{}/", "/exports/{}/preview", "/exports/{}/?format=nonsense"])
async def test_a_stranger_gets_404_and_an_entry(alice: User, bob: User, running: EmbeddedRunner, path: str) -> None:
    export = await exported(alice)
    answer = await call("GET", path.format(export.pk), cookie=await cookie_of(bob))
    assert (answer.status, answer.error["code"]) == (404, "not_found")
    entry = await threads.reading(lambda: AuditEntry.objects.get(actor_id=bob.pk))
    assert (entry.outcome, entry.object_id) == ("denied", str(export.pk))


async def test_an_unknown_export_is_404_and_audited(alice: User, transactional_db: None) -> None:
    answer = await call("GET", f"/exports/{uuid.uuid4()}/", cookie=await cookie_of(alice))
    assert answer.status == 404
    assert (await threads.reading(AuditEntry.objects.get)).outcome == "not_found"


async def test_a_browser_sees_the_404_page(alice: User, transactional_db: None) -> None:
    answer = await call("GET", f"/exports/{uuid.uuid4()}/", cookie=await cookie_of(alice), accept="text/html")
    assert (answer.status, b"<h" in answer.body) == (404, True)


async def test_a_reviewer_may_download(alice: User, erin: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    assert (await call("GET", f"/exports/{export.pk}/", cookie=await cookie_of(erin))).status == 200


async def test_the_signed_out_are_led_to_sign_in(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    page = await call("GET", f"/exports/{export.pk}/", accept="text/html,*/*")
    assert (page.status, page.headers["location"]) == (302, f"/accounts/login/?next=/exports/{export.pk}/")
    assert (await call("GET", f"/exports/{export.pk}/", accept="*/*")).status == 401


async def test_an_unknown_format_is_400(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    answer = await call("GET", f"/exports/{export.pk}/?format=docx", cookie=await cookie_of(alice))
    assert (answer.status, answer.error["code"], answer.error["field"]) == (400, "unknown_format", "format")


@pytest.mark.parametrize("change", [{"expires_at": "2020-01-01T00:00Z"}, {"deleted_at": "2020-01-01T00:00Z"}])
async def test_expired_and_deleted_exports_are_410(alice: User, running: EmbeddedRunner, change: Any) -> None:
    export = await exported(alice)
    await threads.reading(lambda: Export.objects.filter(pk=export.pk).update(**change))
    for path in (f"/exports/{export.pk}/", f"/exports/{export.pk}/preview"):
        answer = await call("GET", path, cookie=await cookie_of(alice))
        assert (answer.status, answer.error["code"]) == (410, "gone")


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_missing_or_shortened_file_is_said_and_audited(
    alice: User, running: EmbeddedRunner, is_there: bool
) -> None:
    export = await exported(alice)
    for path in stored_files():
        path.write_bytes(b"n,text") if is_there else path.unlink()
    answer = await call("GET", f"/exports/{export.pk}/", cookie=await cookie_of(alice))
    assert (answer.status, answer.error["code"]) == (500, "corrupt_export")
    assert (await threads.reading(lambda: AuditEntry.objects.get(action="export.download"))).outcome == "failed"


async def test_a_failing_source_leaves_neither_file_nor_rows(alice: User, running: EmbeddedRunner) -> None:
    def breaking() -> Iterator[tuple[Cell, ...]]:
        yield from ((n,) for n in range(50_000))
        raise OSError("disk full")

    run = (await exported(alice)).run_id
    before = stored_files()
    row = await threads.reading(lambda: Export.objects.get(run=run).run)
    sink = exports.RunExports(run=row, fence=runs.fence_of(row), first_position=1)
    result = TableResult(kind="rows", columns=(Column(name="n", type="number"),), open_rows=breaking, matched=9)
    with pytest.raises(OSError, match="disk full"):
        await sink.store(result, source="tool", tool="t", query={}, title="", progress=lambda *_: None)
    assert stored_files() == before
    assert await threads.reading(ExportFile.objects.count) == 1


async def test_who_has_lost_the_run_stores_no_export(alice: User, running: EmbeddedRunner) -> None:
    await exported(alice)
    row = await threads.reading(lambda: Export.objects.select_related("run").get())
    before = stored_files()
    # The run has ended: whoever still writes for it is too late.
    sink = exports.RunExports(run=row.run, fence=runs.fence_of(row.run), first_position=1)
    columns = (Column(name="n", type="number"),)
    result = TableResult(kind="rows", columns=columns, open_rows=lambda: iter([(1,)]), matched=1)
    with pytest.raises(LeaseLost):
        await sink.store(result, source="tool", tool="t", query={}, title="", progress=lambda *_: None)
    assert stored_files() == before
    assert await threads.reading(Export.objects.count) == 1


@pytest.mark.parametrize("path", ["/exports/junk/", "/pipeline/runs/junk", "/pipeline/nope", "/nothing"])
async def test_an_address_that_is_none_is_said_as_the_caller_reads_it(
    alice: User, transactional_db: None, path: str
) -> None:
    cookie = await cookie_of(alice)
    assert (await call("GET", path, cookie=cookie)).error["code"] == "not_found"
    assert b"<h" in (await call("GET", path, cookie=cookie, accept="text/html")).body
