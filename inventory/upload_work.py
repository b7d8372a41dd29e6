"""Work on an upload, in threads of the server: a file is read, rehearsed or imported while pages go on.

One thread works; another says each second that it does, and how far it is, so that whoever looks at the row of a server
that was killed knows it.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import threading
import time
import uuid
from itertools import islice
from pathlib import Path
from typing import TypedDict

from django.db import DatabaseError, connections

from inventory import uploads
from inventory.headers import Column
from inventory.importing import ImportRunning, NotATable, Summary, Unfinished, import_file
from inventory.models import AssetUpload
from inventory.problem_file import ProblemFile
from inventory.reading import open_sheet
from inventory.sheets import Sheet, storable

logger = logging.getLogger(__name__)

#: Seconds between two looks at the thread that works.
_TICK_S = 1.0
#: Seconds that a stopping server leaves to work in the middle of a batch.
_STOP_WITHIN_S = 3.0
_PREVIEW_ROWS = 5
_PREVIEW_COLUMNS = 500
_PREVIEW_CHARS = 80

Work = AssetUpload.Work


class Preview(TypedDict):
    recognised_as: str
    n_rows: int
    #: Of all; the lists below may have fewer.
    n_columns: int
    columns: list[PreviewColumn]
    #: Texts in the order of the columns, cut.
    rows: list[list[str]]
    n_unread: int
    warnings: list[str]


class PreviewColumn(TypedDict):
    header: str
    #: As `Column.kind`.
    kind: str
    #: The fields that it writes.
    fields: list[str]
    is_kept: bool


class Result(TypedDict):
    n_rows: int
    n_new: int
    n_changed: int
    n_same: int
    n_deleted: int
    n_problems: int
    n_unread: int
    warnings: list[str]
    seconds: float


class _Stopped(Exception):
    """The server stops, or the upload has gone to somebody else."""


class _Job:
    """One piece of work, its two threads and what they tell each other."""

    def __init__(self, upload: AssetUpload, work: str, work_id: uuid.UUID) -> None:
        self.upload, self.work, self.work_id = upload, work, work_id
        self.n_done = self.n_all = 0
        self.stop = threading.Event()
        self._worker = threading.Thread(target=self._work, name="opschat-import", daemon=True)
        self.thread = threading.Thread(target=self._watch, name="opschat-import-watch", daemon=True)

    def progress(self, n_done: int, n_all: int) -> None:
        self.n_done, self.n_all = n_done, n_all
        if self.stop.is_set():
            raise _Stopped

    def _watch(self) -> None:
        try:
            self._worker.start()
            while self._worker.is_alive():
                self._worker.join(_TICK_S)
                if self.stop.is_set():
                    self._worker.join(_STOP_WITHIN_S)
                    break
                self._renew()
            if self._worker.is_alive():
                uploads.fail(upload=self.upload, work_id=self.work_id, work=self.work, message="")
        finally:
            with _lock:
                _jobs.discard(self)
            connections.close_all()

    def _renew(self) -> None:
        try:
            goes_on = uploads.renew(upload=self.upload, work_id=self.work_id, n_done=self.n_done, n_all=self.n_all)
            if not goes_on:
                self.stop.set()
        except DatabaseError:
            logger.warning("The progress of an import can't be written; it goes on", exc_info=True)

    def _work(self) -> None:
        try:
            (_read if self.work == Work.READ else _import)(self)
        except _Stopped:
            self.fail("")
        except BaseException:
            # Also what a library panics at, which is no Exception: nobody else would tell the row.
            logger.exception("Work on an upload failed: %s", self.work)
            self.fail("Something went wrong; the server's log has it.")
        finally:
            connections.close_all()

    def fail(self, message: str, problems: ProblemFile | None = None) -> None:
        uploads.fail(upload=self.upload, work_id=self.work_id, work=self.work, message=message, problems=problems)


_jobs: set[_Job] = set()
_lock = threading.Lock()


def start(*, upload: AssetUpload, work: str, wait_s: float = 0.0) -> None:
    """Returns when it is done, at the latest after `wait_s`. Does nothing when the upload is being worked on."""
    work_id = uploads.begin(upload=upload, work=work)
    if work_id is None:
        return
    job = _Job(upload, work, work_id)
    with _lock:
        _jobs.add(job)
    job.thread.start()
    job.thread.join(wait_s)


def finish() -> None:
    """Returns when everything that was started has ended."""
    for job in list(_jobs):
        job.thread.join()


def stop() -> None:
    """What is being done ends after its batch; its rows say that it was interrupted."""
    for job in list(_jobs):
        job.stop.set()
    for job in list(_jobs):
        job.thread.join(_TICK_S + 2 * _STOP_WITHIN_S)


atexit.register(stop)


# -- Reading ---------------------------------------------------------------------------------------------------------


def _read(job: _Job) -> None:
    upload, path = job.upload, uploads.path_of(job.upload)
    try:
        with path.open("rb") as file:
            sha = hashlib.file_digest(file, "sha256").hexdigest()
        with ProblemFile() as problems, open_sheet(path, on_problem=problems) as sheet:
            preview = _preview_of(sheet, n_unread=problems.n_problems)
            source = upload.source or sheet.layout.name or Path(upload.name).stem
    except (NotATable, OSError) as error:
        job.fail(_words(error))
        return
    uploads.end_reading(upload=upload, work_id=job.work_id, preview=dict(preview), source=source, sha=sha)


def _preview_of(sheet: Sheet, *, n_unread: int) -> Preview:
    columns = sheet.columns[:_PREVIEW_COLUMNS]
    rows = []
    for row in islice(sheet.rows(), _PREVIEW_ROWS):
        texts = {id(column): text for column, text in row.cells}
        rows.append([_shown(texts.get(id(column), "")) for column in columns])
    return Preview(
        recognised_as=sheet.title, n_rows=sheet.n_rows, n_columns=len(sheet.columns),
        columns=[_column(column) for column in columns], rows=rows, n_unread=n_unread, warnings=list(sheet.warnings),
    )  # fmt: skip


def _column(column: Column) -> PreviewColumn:
    return PreviewColumn(header=column.header, kind=column.kind, fields=list(column.blank), is_kept=column.is_kept)


def _shown(text: str) -> str:
    text = storable(text)
    return text if len(text) <= _PREVIEW_CHARS else f"{text[:_PREVIEW_CHARS]}…"


# -- Importing -------------------------------------------------------------------------------------------------------


def _import(job: _Job) -> None:
    upload, dry_run = job.upload, job.work == Work.DRY_RUN
    begun_at = time.monotonic()
    with ProblemFile() as problems:
        try:
            summary = import_file(
                uploads.path_of(upload), source=upload.source, dry_run=dry_run, delete_missing=upload.delete_missing,
                on_problem=problems, on_progress=job.progress,
            )  # fmt: skip
        except (NotATable, ImportRunning, Unfinished, OSError) as error:
            job.fail(_words(error), problems)
            return
        result = _result_of(summary, time.monotonic() - begun_at)
        uploads.end_import(upload=upload, work_id=job.work_id, result=dict(result), problems=problems, dry_run=dry_run)


def _result_of(summary: Summary, seconds: float) -> Result:
    return Result(
        n_rows=summary.n_rows, n_new=summary.n_new, n_changed=summary.n_changed,
        n_same=summary.n_known - summary.n_changed, n_deleted=summary.n_deleted, n_problems=summary.n_problems,
        n_unread=summary.n_unread, warnings=list(summary.warnings), seconds=round(seconds, 1),
    )  # fmt: skip


def _words(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "The uploaded file has gone. Upload it again."
    if isinstance(error, OSError):
        return f"The file can't be read: {error.strerror or error}. Nothing was written."
    if isinstance(error, Unfinished):
        return f"{error} Import it again to complete it."
    return f"{error} Nothing was written."
