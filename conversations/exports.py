"""Every write to Export and ExportFile and their files. Files go through Django's storage `exports`.

CSV: RFC 4180 (CRLF, quotes doubled), UTF-8 without BOM, header of column names; null is an empty cell.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import threading
import time
from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from django.core.files import File
from django.core.files.storage import storages
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from conversations import audit, commit, threads
from conversations.hub import Fence
from conversations.models import Export, ExportFile, Run, RunEvent
from conversations.pipeline.events import ExportStored
from conversations.pipeline.job import StoredExport
from conversations.pipeline.tools import Cell, Progress, TableResult

#: Rows kept with the export, for the page.
_PREVIEW = 10
#: Bytes handed to the storage and to a client at a time.
_CHUNK = 256 * 1024
#: Rows between two looks at the clock, the stop flag and the progress.
_STEP = 500

#: What a spreadsheet would run: = + - @ TAB CR at the start, also behind apostrophes (so that the guard is reversible).
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NEGATIVE_NUMBER = re.compile(r"-\d+(\.\d+)?")

FORMATS = ("csv",)


class Stopped(Exception):
    """The run was stopped while its file was written."""


class CorruptExport(Exception):
    """The stored file is not what was written."""


# -- CSV -------------------------------------------------------------------------------------------------------------


def guarded(cell: Cell) -> Cell:
    """The cell, behind one apostrophe when a spreadsheet would run it as a formula; plain negative numbers stay."""
    if isinstance(cell, str) and _FORMULA.match(cell) and not _NEGATIVE_NUMBER.fullmatch(cell):
        return "'" + cell
    return cell


class CsvFile(File):  # type: ignore[type-arg]  # django-stubs: File is generic only for type checkers
    """A CSV that is written while a storage reads it: memory stays flat whatever the number of rows.

    After it has been read: `n_rows`, `n_bytes`, `n_guarded`, `sha256`, `first_rows`.
    """

    def __init__(self, header: Sequence[str], rows: Iterable[Sequence[Cell]], on_step: Callable[[int], None]) -> None:
        super().__init__(file=None, name="export.csv")
        self._header = header
        self._rows = rows
        self._on_step = on_step
        self._digest = hashlib.sha256()
        self.n_rows = self.n_bytes = self.n_guarded = 0
        self.first_rows: list[list[Cell]] = []

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """The file's bytes, once. `on_step` is called with the rows so far and may raise to stop."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(self._guard(self._header))
        for row in self._rows:
            if self.n_rows < _PREVIEW:
                self.first_rows.append(list(row))
            self.n_rows += 1
            writer.writerow(self._guard(row))
            if self.n_rows % _STEP == 0:
                self._on_step(self.n_rows)
                if text.tell() >= _CHUNK:
                    yield self._taken(text)
        yield self._taken(text)

    def _guard(self, row: Sequence[Cell]) -> list[Cell]:
        cells = [guarded(cell) for cell in row]
        self.n_guarded += sum(1 for before, after in zip(row, cells, strict=True) if before is not after)
        return cells

    def _taken(self, text: io.StringIO) -> bytes:
        chunk = text.getvalue().encode()
        text.seek(0)
        text.truncate()
        self._digest.update(chunk)
        self.n_bytes += len(chunk)
        return chunk


# -- Storing ---------------------------------------------------------------------------------------------------------


class RunExports:
    """The export sink of one run: a file in the storage, then its rows and audit entry in one transaction."""

    def __init__(self, *, run: Run, fence: Fence, first_position: int = 0) -> None:
        self._run = run
        self._fence = fence
        self._n_stored = first_position

    async def store(
        self, result: TableResult, *, source: str, tool: str, query: dict[str, Any], title: str, progress: Progress
    ) -> StoredExport:
        """Stores every row of the result. When it raises, neither file nor rows are left."""
        stop = threading.Event()
        position = self._n_stored
        self._n_stored += 1

        def write() -> Export:
            export = Export(
                owner_id=self._run.user_id,
                run=self._run,
                position=position,
                source=source,
                tool=tool,
                query=query,
                title=title,
                name=f"export_{time.time_ns() // 1_000_000}",
                columns=[{"name": c.name, "type": c.type} for c in result.columns],
                preview_columns=list(result.preview_columns),
            )
            return self._write(export, result, progress, stop)

        try:
            export = await threads.working(write)
        except CancelledError:
            stop.set()
            raise
        return StoredExport(
            export_id=str(export.pk),
            filename=export.filename(),
            n_rows=export.n_rows,
            preview=tuple(tuple(row) for row in export.preview),
            downloads=downloads(export),
        )

    def _write(self, export: Export, result: TableResult, progress: Progress, stop: threading.Event) -> Export:
        expected = result.expected if result.expected is not None else result.matched

        def step(n_rows: int) -> None:
            if stop.is_set():
                raise Stopped
            progress(100 * n_rows / max(expected, n_rows), f"wrote {n_rows:,} of {expected:,} rows")

        file = CsvFile([c.name for c in result.columns], result.open_rows(), step)
        path = _saved(export, file)
        try:
            self._save_rows(export, file, path)
        except BaseException:
            storages["exports"].delete(path)
            raise
        progress(100, f"wrote {file.n_rows:,} rows")
        return export

    @threads.write_turn()
    @transaction.atomic
    def _save_rows(self, export: Export, file: CsvFile, path: str) -> None:
        export.n_rows = file.n_rows
        export.n_guarded = file.n_guarded
        export.preview = file.first_rows
        commit.hold(self._fence)
        export.save(force_insert=True)
        ExportFile.objects.create(export=export, format="csv", path=path, sha256=file.sha256, n_bytes=file.n_bytes)
        audit.record(
            actor=self._run.user,
            action="export.create",
            object_type="export",
            object_id=export.pk,
            detail={"rows": file.n_rows, "bytes": file.n_bytes, "sha256": file.sha256, "run": str(self._run.pk)},
        )


def _saved(export: Export, file: CsvFile) -> str:
    """Streams the file into the storage; its name there. A half-written file is removed before the error goes on."""
    path = f"{export.created_at:%Y/%m}/{export.pk}.csv"
    try:
        return str(storages["exports"].save(path, file))
    except BaseException:
        storages["exports"].delete(path)
        raise


def discard_unannounced(run: Run) -> int:
    """Deletes the exports of lost attempts that no event of the run tells; the position after all that the run stored.

    Their files go; the rows stay, deleted, for the audit trail.
    """
    told = RunEvent.objects.filter(run=run, type=ExportStored.type).values_list("data", flat=True)
    ids = {data["export_id"] for data in told}
    stored = list(Export.objects.filter(run=run).prefetch_related("files"))
    for export in stored:
        if str(export.pk) not in ids and export.deleted_at is None:
            _discard(export)
    return max((export.position + 1 for export in stored), default=0)


@transaction.atomic
def _discard(export: Export) -> None:
    Export.objects.filter(pk=export.pk).update(deleted_at=timezone.now())
    detail = {"why": "its run was begun anew", "run": str(export.run_id)}
    audit.record(actor=None, action="export.delete", object_type="export", object_id=export.pk, detail=detail)
    for file in export.files.all():
        transaction.on_commit(partial(storages["exports"].delete, file.path))


# -- Serving ---------------------------------------------------------------------------------------------------------


def downloads(export: Export) -> dict[str, str]:
    """Format -> path of the file, for the formats that exist."""
    address = reverse("export", args=[export.pk])
    return {"csv": address}


def is_gone(export: Export, now: datetime | None = None) -> bool:
    """Expired or deleted: the file is not served any more."""
    return export.deleted_at is not None or (
        export.expires_at is not None and export.expires_at <= (now or timezone.now())
    )


async def file_chunks(file: File) -> AsyncIterator[bytes]:  # type: ignore[type-arg]  # as above
    """The stored file, read in a worker thread and closed at the end.

    An async iterator, because Django reads a synchronous FileResponse whole into memory under ASGI (measured: 634 MiB
    for a file of 200 MB).
    """
    try:
        while chunk := await threads.reading(file.read, _CHUNK):
            yield chunk
    finally:
        file.close()


def opened(stored: ExportFile) -> File:  # type: ignore[type-arg]  # as above
    """The file in the storage, open for reading. Raises CorruptExport when it isn't there in its full size."""
    try:
        file = storages["exports"].open(stored.path, "rb")
    except OSError as error:
        raise CorruptExport("The stored file can't be read.") from error
    if file.size != stored.n_bytes:
        file.close()
        raise CorruptExport("The stored file is not as long as it was when it was written.")
    return file
