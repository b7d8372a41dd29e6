"""What leaves the server: formats, ranges, unchanged files, and never a byte that wasn't written."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User

from conversations import conversions, downloads, exports, files, threads
from conversations.formats import kinds
from conversations.formats.table import Table
from conversations.models import Export, ExportFile
from conversations.pipeline.tools import Cell, Column, TableResult
from conversations.runner import EmbeddedRunner
from tests.calls import ask, calling, cookie_of
from tests.exporting import entries, exported, file_of, got

pytestmark = pytest.mark.django_db(transaction=True)


async def stored(export: Export, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> Export:
    """Another export of the same run, of these rows."""
    run = await threads.reading(lambda: Export.objects.select_related("run__conversation").get(pk=export.pk).run)
    result = TableResult(kind="rows", columns=tuple(columns), open_rows=lambda: iter(rows), matched=len(rows))

    def write() -> Export:
        position = Export.objects.filter(run=run).count()
        new = exports.new_export(run=run, position=position, source="tool", tool="t", query={}, title="", result=result)
        exports.write_export(new, result, on_step=lambda _: None, beside=lambda: None)
        return new

    return await threads.reading(write)


# -- Formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", kinds.KEYS)
async def test_every_format_is_downloaded_under_the_same_name(alice: User, running: EmbeddedRunner, key: str) -> None:
    export, kind = await exported(alice), kinds.BY_KEY[key]
    answer = await got(export, alice, f"?format={key}")
    assert (answer.status, answer.headers["content-type"]) == (200, kind.mime)
    assert answer.headers["content-disposition"] == f'attachment; filename="{export.name}.{kind.extension}"'
    assert int(answer.headers["content-length"]) == len(answer.body)
    sha256 = hashlib.sha256(answer.body).hexdigest()
    assert answer.headers["etag"] == f'"{sha256}"'
    (entry,) = await entries("export.download")
    assert (entry.detail["format"], entry.detail["rows"], entry.detail["sha256"]) == (key, 12, sha256)


async def test_the_export_event_names_every_format(alice: User, running: EmbeddedRunner) -> None:
    answer = await ask(alice, "rows 3\nHere:")
    (event,) = [event for event in answer.events if event["type"] == "export"]
    path = f"/exports/{event['export_id']}/"
    wanted = {key: path if key == "csv" else f"{path}?format={key}" for key in kinds.KEYS}
    assert event["downloads"] == wanted


async def test_the_byte_order_mark_is_a_choice(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    plain, marked = await got(export, alice, "?bom=0"), await got(export, alice, "?format=csv&bom=1")
    assert marked.body == b"\xef\xbb\xbf" + plain.body
    assert marked.headers["content-disposition"] == plain.headers["content-disposition"]


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("?format=docx", "unknown_format", "format"), ("?format=csv-bom", "unknown_format", "format"),
        ("?format=XLSX", "unknown_format", "format"), ("?format=", "unknown_format", "format"),
        ("?format=../../etc/passwd", "unknown_format", "format"), ("?bom=2", "invalid_request", "bom"),
        ("?format=xlsx&bom=1", "invalid_request", "bom"),
    ],
)  # fmt: skip
async def test_what_is_no_format_is_refused_by_name(
    alice: User, running: EmbeddedRunner, query: str, code: str, field: str
) -> None:
    answer = await got(await exported(alice), alice, query)
    assert (answer.status, answer.error["code"], answer.error["field"]) == (400, code, field)
    (entry,) = await entries("export.download")
    assert entry.outcome == "failed"


async def test_a_format_is_made_once_for_all_who_ask_at_once(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice, 3000)
    answers = await asyncio.gather(*(got(export, alice, "?format=parquet") for _ in range(4)))
    assert {(answer.status, answer.body) for answer in answers} == {(200, answers[0].body)}
    assert len(await entries("export.convert")) == 1
    assert await threads.reading(lambda: ExportFile.objects.filter(export=export, format="parquet").count()) == 1


async def test_typed_formats_hold_what_the_csv_guards(alice: User, running: EmbeddedRunner) -> None:
    export = await stored(
        await exported(alice), [Column(name="t", type="text")], [("=1+1",), ("'+x",), ("-5",), (None,)]
    )
    rows = list(csv.reader(io.StringIO((await got(export, alice)).body.decode(), newline="")))
    assert rows == [["t"], ["'=1+1"], ["''+x"], ["-5"], [""]]
    assert json.loads((await got(export, alice, "?format=json")).body) == [
        {"t": "=1+1"}, {"t": "'+x"}, {"t": "-5"}, {"t": None},
    ]  # fmt: skip


# -- What a format can't hold ----------------------------------------------------------------------------------------


async def test_a_table_of_ten_thousand_columns_is_had_in_every_format(alice: User, running: EmbeddedRunner) -> None:
    columns = [Column(name=f"column {n}", type="text") for n in range(10_000)]
    export = await stored(await exported(alice), columns, [tuple(str(n) for n in range(10_000))])
    for key in kinds.KEYS:
        assert (await got(export, alice, f"?format={key}")).status == 200


async def test_more_columns_than_a_sheet_has_are_no_workbook(alice: User, running: EmbeddedRunner) -> None:
    columns = [Column(name=f"c{n}", type="text") for n in range(16_385)]
    export = await stored(await exported(alice), columns, [tuple("x" * 16_385)])
    answer = await got(export, alice, "?format=xlsx")
    assert (answer.status, answer.error["code"]) == (422, "cannot_hold")
    assert "16,384 columns" in answer.error["message"]
    assert "xlsx" not in exports.downloads(export)


async def test_a_longer_cell_than_a_workbook_takes_is_named_and_remembered(
    alice: User, running: EmbeddedRunner
) -> None:
    rows = [("x",), ("y" * 32_768,)]
    export = await stored(await exported(alice), [Column(name="notes", type="text")], rows)
    for _ in range(2):
        answer = await got(export, alice, "?format=xlsx")
        assert (answer.status, answer.error["field"]) == (422, "format")
        assert "row 2, column “notes”" in answer.error["message"]
    export = await threads.reading(lambda: Export.objects.get(pk=export.pk))
    assert "32,768 characters" in exports.unavailable(export, "xlsx")
    assert "xlsx" not in exports.downloads(export)
    assert (await got(export, alice, "?format=json")).status == 200


async def test_more_rows_than_a_sheet_has_are_no_workbook() -> None:
    assert "1,048,575 rows" in kinds.cannot_hold("xlsx", n_rows=1_048_576, n_columns=2)
    assert not kinds.cannot_hold("xlsx", n_rows=1_048_575, n_columns=2)
    assert not kinds.cannot_hold("parquet", n_rows=10**9, n_columns=2)


@pytest.fixture
async def long_export(alice: User, running: EmbeddedRunner) -> Export:
    """A file of several chunks."""
    return await exported(alice, 60_000)


# -- The ledger ------------------------------------------------------------------------------------------------------


async def test_a_download_has_an_entry_before_its_first_byte_and_one_after_its_last(
    alice: User, running: EmbeddedRunner
) -> None:
    export = await exported(alice)
    answer = await got(export, alice)
    (begin,), (end,) = await entries("export.download"), await entries("export.download_end")
    assert begin.seq < end.seq
    assert end.detail == {"download": str(begin.pk), "bytes_sent": len(answer.body), "complete": True}
    assert (end.outcome, end.actor_name) == ("ok", "alice")


async def test_who_goes_away_in_the_middle_leaves_how_far_it_came(alice: User, long_export: Export) -> None:
    path, cookie = f"/exports/{long_export.pk}/", await cookie_of(alice)
    async with calling("GET", path, cookie=cookie) as caller:
        # A client that takes one piece at a time.
        caller.output_queue._maxsize = 1
        await caller.receive_output(timeout=5)
        first = await caller.receive_output(timeout=5)
    (end,) = await entries("export.download_end")
    assert (end.outcome, end.detail["complete"]) == ("failed", False)
    size = (await file_of(long_export)).stat().st_size
    assert len(first["body"]) <= end.detail["bytes_sent"] < size


async def test_who_goes_away_while_the_file_is_made_leaves_that_nothing_was_sent(
    alice: User, long_export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cookie = f"/exports/{long_export.pk}/?format=json", await cookie_of(alice)
    begun, file_of_export = threading.Event(), conversions.file_of

    def told(*args: Any) -> ExportFile:
        begun.set()
        return file_of_export(*args)

    monkeypatch.setattr(conversions, "file_of", told)
    async with calling("GET", path, cookie=cookie):
        assert await asyncio.to_thread(begun.wait, 20)
    async with asyncio.timeout(20):
        while not (ends := await entries("export.download_end")):
            pass
    (entry,), (end,) = await entries("export.download"), ends
    assert end.detail == {"download": str(entry.pk), "bytes_sent": 0, "complete": False}


async def test_what_waits_for_a_thread_is_forgotten_when_its_client_goes(alice: User, running: EmbeddedRunner) -> None:
    export, cookie = await exported(alice), await cookie_of(alice)
    go = threading.Event()
    busy = [threads.answering.submit(go.wait, 30) for _ in range(threads.answering.size)]
    try:
        async with calling("GET", f"/exports/{export.pk}/", cookie=cookie):
            pass
    finally:
        go.set()
    await asyncio.gather(*map(asyncio.wrap_future, busy))
    # Behind whatever was in line.
    await asyncio.gather(*(threads.answering(lambda: None) for _ in range(threads.answering.size)))
    assert await entries("export.download") == []


# -- Tampering -------------------------------------------------------------------------------------------------------


async def receive(path: str, cookie: str, received: list[bytes]) -> None:
    """Adds the pieces of an answer until it ends or breaks off."""
    async with calling("GET", path, cookie=cookie) as caller:
        await caller.receive_output(timeout=5)
        while (message := await caller.receive_output(timeout=5)).get("more_body"):
            received.append(message["body"])


def changed(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


async def test_a_file_that_was_changed_at_its_beginning_is_not_sent(alice: User, long_export: Export) -> None:
    changed(await file_of(long_export), 0)
    answer = await got(long_export, alice)
    assert (answer.status, answer.error["code"]) == (500, "corrupt_export")
    (entry,) = await entries("export.download")
    assert (entry.outcome, entry.detail["why"]) == ("failed", "The stored file is not what was written.")
    # What lies before it in another range is as it was written; the first chunk is not.
    assert (await got(long_export, alice, range="bytes=262144-262150")).status == 206


async def test_no_byte_of_a_changed_chunk_leaves(alice: User, long_export: Export) -> None:
    whole = (await file_of(long_export)).read_bytes()
    changed(await file_of(long_export), 2 * files.CHUNK + 5)
    received: list[bytes] = []
    with pytest.raises(files.Corrupt):
        await receive(f"/exports/{long_export.pk}/", await cookie_of(alice), received)
    assert b"".join(received) == whole[: 2 * files.CHUNK]
    (end,) = await entries("export.download_end")
    assert (end.outcome, end.detail["why"]) == ("failed", "The stored file is not what was written.")


async def test_a_file_that_is_cut_off_while_it_is_read_is_not_taken_for_its_end(
    alice: User, long_export: Export
) -> None:
    stored = await threads.reading(lambda: ExportFile.objects.defer(None).get(export=long_export))
    for read_on in (files.Verified.chunk, lambda file: file.chunks_at_hand(2)):
        file = files.Verified(stored)
        assert len(file.chunk()) == files.CHUNK
        path = await file_of(long_export)
        content = path.read_bytes()
        with path.open("r+b") as cut:
            cut.truncate(0)
        with pytest.raises(files.Corrupt):
            # What isn't there isn't at hand.
            read_on(file) or file.chunk()
        path.write_bytes(content)
        file.close()


async def test_no_format_is_made_of_a_changed_file(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    changed(await file_of(export), 3)
    answer = await got(export, alice, "?format=json")
    assert (answer.status, answer.error["code"]) == (500, "corrupt_export")
    assert await threads.reading(lambda: ExportFile.objects.filter(export=export).count()) == 1


@pytest.mark.parametrize("is_changed", [False, True])
async def test_a_file_stored_before_there_were_digests_is_verified_whole(
    alice: User, long_export: Export, is_changed: bool
) -> None:
    await threads.reading(lambda: ExportFile.objects.update(digests=b""))
    if is_changed:
        changed(await file_of(long_export), 2 * files.CHUNK + 5)
    answer = await got(long_export, alice)
    assert answer.status == (500 if is_changed else 200)


# -- The storage -----------------------------------------------------------------------------------------------------


async def test_identical_content_is_stored_once_and_goes_with_its_last_export(
    alice: User, running: EmbeddedRunner
) -> None:
    one, other = await exported(alice), await exported(alice)
    assert await file_of(one) == await file_of(other)
    path = await file_of(one)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for export, is_there in ((one, True), (other, False)):
        gone = await threads.reading(lambda export=export: Export.objects.get(pk=export.pk))
        await threads.reading(lambda gone=gone: exports.delete(export=gone, actor=alice, origin=None))
        assert path.exists() == is_there


@pytest.mark.parametrize("broken", [b"n,", None])
async def test_a_broken_copy_is_replaced_by_the_next_export_of_the_same(
    alice: User, running: EmbeddedRunner, broken: bytes | None
) -> None:
    one = await exported(alice)
    path = await file_of(one)
    path.write_bytes(broken or bytes(path.stat().st_size))
    other = await exported(alice)
    assert (await got(other, alice)).status == (await got(one, alice)).status == 200


async def test_a_full_disk_leaves_nothing_and_is_said(
    alice: User, running: EmbeddedRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    export = await exported(alice)
    (tmp_path / "file").touch()
    monkeypatch.setattr(settings, "OPSCHAT_SCRATCH_DIR", tmp_path / "file" / "scratch")
    answer = await got(export, alice, "?format=xml")
    assert (answer.status, answer.error["code"]) == (507, "storage_failed")
    assert await threads.reading(lambda: ExportFile.objects.filter(export=export).count()) == 1


async def test_the_scratch_folder_is_empty_after_every_write(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    await got(export, alice, "?format=xlsx")
    assert list(settings.OPSCHAT_SCRATCH_DIR.iterdir()) == []


def test_what_a_killed_writer_left_is_swept_and_what_is_written_is_not() -> None:
    with files.Scratch() as scratch:
        left = scratch.path.with_name("export-left")
        left.write_bytes(b"half")
        assert files.sweep() == 1
        assert (scratch.path.exists(), left.exists()) == (True, False)


def test_the_digests_are_those_of_the_chunks_whatever_the_parts() -> None:
    content = bytes(range(256)) * (5 * files.CHUNK // 512)
    for size in (1000, files.CHUNK - 1, files.CHUNK, files.CHUNK + 1, len(content)):
        digests = files.Digests()
        for at in range(0, len(content), size):
            digests.add(content[at : at + size])
        found = digests.content(Path())
        chunks = [content[at : at + files.CHUNK] for at in range(0, len(content), files.CHUNK)]
        assert found.digests == b"".join(hashlib.sha256(chunk).digest() for chunk in chunks)
        assert (found.sha256, found.n_bytes) == (hashlib.sha256(content).hexdigest(), len(content))


def test_an_etag_is_the_content() -> None:
    assert downloads.etag(ExportFile(sha256="ab")) == '"ab"'


async def test_an_export_deleted_while_a_format_is_made_gets_none(
    alice: User, running: EmbeddedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = await exported(alice)
    xml = kinds.BY_KEY["xml"]
    assert xml.parts is not None
    written = xml.parts

    def deleted_meanwhile(table: Table) -> Iterator[bytes]:
        yield from written(table)
        exports.delete(export=export, actor=alice, origin=None)

    monkeypatch.setitem(kinds.BY_KEY, "xml", replace(xml, parts=deleted_meanwhile))
    answer = await got(export, alice, "?format=xml")
    assert (answer.status, answer.error["code"]) == (410, "gone")
    assert await threads.reading(lambda: ExportFile.objects.filter(export=export).count()) == 0


async def test_who_asks_for_too_much_at_once_is_told_to_wait(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    with ExitStack() as places:
        for _ in range(6):
            places.enter_context(conversions.place())
        answer = await got(export, alice, "?format=xml")
        assert (answer.status, answer.error["code"], "retry-after" in answer.headers) == (503, "busy", True)
        # What is there is sent all the same.
        assert (await got(export, alice)).status == 200
    assert (await got(export, alice, "?format=xml")).status == 200
