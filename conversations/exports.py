"""Every write to Export and ExportFile: stored, deleted, expired. `conversions` adds formats, `files` has the bytes."""

from __future__ import annotations

import logging
import threading
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BufferedReader
from itertools import takewhile
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from conversations import audit, commit, files, threads
from conversations.formats import csv_file, kinds
from conversations.formats.comparing import Comparison
from conversations.formats.table import Table
from conversations.hub import Fence
from conversations.models import Export, ExportFile, Run, RunEvent
from conversations.pipeline.events import ExportStored
from conversations.pipeline.job import StoredExport
from conversations.pipeline.tools import Column, Progress, TableResult, ToolError

logger = logging.getLogger(__name__)

# -- Storing ---------------------------------------------------------------------------------------------------------


class Stopped(Exception):
    """The run was stopped while its file was written."""


class RunExports:
    """The export sink of one run: a file in the storage, then its rows and audit entry in one transaction."""

    def __init__(self, *, run: Run, fence: Fence, first_position: int = 0) -> None:
        self._run = run
        self._fence = fence
        self._n_stored = first_position

    async def store(
        self, result: TableResult, *, source: str, tool: str, query: dict[str, Any], title: str, progress: Progress
    ) -> StoredExport:
        """Stores every row of the result. When it raises, neither file nor rows are left.

        ToolError, in words, when there is no room or the storage can't be reached.
        """
        stop = threading.Event()
        position = self._n_stored
        self._n_stored += 1

        def write() -> Export:
            export = new_export(
                run=self._run, position=position, source=source, tool=tool, query=query, title=title, result=result
            )
            write_export(
                export,
                result,
                on_step=_reporting(result, progress, stop),
                beside=lambda: commit.hold(self._fence),
            )
            progress(100, f"wrote {export.n_rows:,} rows")
            return export

        try:
            export = await threads.working(write)
        except CancelledError:
            stop.set()
            raise
        except files.NotStored as error:
            raise ToolError(str(error), code="storage_failed") from error
        return StoredExport(
            export_id=str(export.pk),
            filename=export.filename(),
            n_rows=export.n_rows,
            preview=tuple(tuple(row) for row in export.preview),
            downloads=downloads(export),
        )


def new_export(
    *,
    run: Run,
    position: int,
    source: str,
    tool: str,
    query: dict[str, Any],
    title: str,
    result: TableResult,
    again_of: Export | None = None,
) -> Export:
    """The row of an export that is about to be written; not saved."""
    now = timezone.now()
    days = settings.OPSCHAT_EXPORT_DAYS
    return Export(
        owner_id=run.user_id,
        run=run,
        position=position,
        source=source,
        tool=tool,
        query=query,
        title=title,
        name=f"export_{time.time_ns() // 1_000_000}",
        columns=[{"name": c.name, "type": c.type} for c in result.columns],
        preview_columns=list(result.preview_columns),
        created_at=now,
        expires_at=now + timedelta(days=days) if days else None,
        again_of=again_of,
    )


def _reporting(result: TableResult, progress: Progress, stop: threading.Event) -> Callable[[int], None]:
    expected = result.expected if result.expected is not None else result.matched

    def step(n_rows: int) -> None:
        if stop.is_set():
            raise Stopped
        progress(100 * n_rows / max(expected, n_rows), f"wrote {n_rows:,} of {expected:,} rows")

    return step


def write_export(
    export: Export, result: TableResult, *, on_step: Callable[[int], None], beside: Callable[[], None]
) -> None:
    """Writes the CSV, then stores the file, the rows and the audit entry together: all or nothing is left.

    `on_step` is told the rows so far and may raise to stop; `beside` is called first in the transaction and may too.
    """
    file = csv_file.of(result, on_step)
    with files.Scratch() as scratch:
        with closing(file.chunks()) as chunks:
            content = scratch.write(chunks)
        export.n_rows = file.n_rows
        export.n_guarded = file.n_guarded
        export.preview = file.first_rows
        files.upload(content)
        with left_clean(content):
            _save(export, content, beside)


@threads.write_turn()
@transaction.atomic
def _save(export: Export, content: files.Content, beside: Callable[[], None]) -> None:
    beside()
    export.save(force_insert=True)
    keep_file(export, kinds.CSV.key, content)
    audit.record(
        actor=export.run.user, action="export.create", object_type="export", object_id=export.pk,
        detail={
            "rows": export.n_rows, "bytes": content.n_bytes, "sha256": content.sha256, "guarded": export.n_guarded,
            "run": str(export.run_id), **({"again_of": str(export.again_of_id)} if export.again_of_id else {}),
        },
    )  # fmt: skip


def keep_file(export: Export, key: str, content: files.Content) -> ExportFile:
    files.keep(content)
    stored: ExportFile = ExportFile.objects.create(
        export=export, format=key, path=content.path, sha256=content.sha256, n_bytes=content.n_bytes,
        digests=content.digests,
    )  # fmt: skip
    return stored


@contextmanager
def left_clean(content: files.Content) -> Iterator[None]:
    """When the transaction inside fails, its file goes too, unless another export has the same."""
    try:
        yield
    except BaseException:
        # What can't be deleted now is an orphan, which `expire` finds: why the transaction failed says more.
        with suppress(OSError), threads.write_turn(), transaction.atomic():
            _discard_file(content.path, content.sha256)
        raise


def _discard_file(path: str, sha256: str) -> None:
    files.discard(path=path, sha256=sha256, is_needed=ExportFile.objects.filter(path=path).exists)


# -- Reading ---------------------------------------------------------------------------------------------------------


class Gone(Exception):
    """The export was deleted, or has expired, meanwhile."""


def unavailable(export: Export, key: str) -> str:
    """Why the format can't hold the rows, as far as it is known; else empty."""
    size = kinds.cannot_hold(key, n_rows=export.n_rows, n_columns=len(export.columns))
    return size or str(export.unavailable.get(key, ""))


def table_of(export: Export) -> Table:
    """The export's typed rows, read anew from its verified CSV as often as they are asked for. Raises Gone."""
    csv = ExportFile.objects.defer(None).filter(export=export, format=kinds.CSV.key).first()
    if csv is None:
        raise Gone("The export was deleted meanwhile.")
    return Table(
        columns=[Column(name=each["name"], type=each["type"]) for each in export.columns],
        open_csv=lambda: BufferedReader(files.Verified(csv), files.CHUNK),
        title=export.title,
    )


def set_comparison(*, export: Export, comparison: Comparison) -> None:
    """What has changed since the export that this one is a later run of."""
    export.comparison = comparison.to_dict()
    Export.objects.filter(pk=export.pk).update(comparison=export.comparison)


def downloads(export: Export) -> dict[str, str]:
    """Format -> path of the file, for the formats that can hold the rows."""
    return {key: address_of(export.pk, key) for key in kinds.KEYS if not unavailable(export, key)}


def address_of(export_id: UUID, key: str) -> str:
    """Path of the export's file in the format, whose key may be that of a stored file."""
    address = reverse("export", args=[export_id])
    if key == kinds.CSV.key:
        return address
    return f"{address}?{'format=csv&bom=1' if key == kinds.CSV_FOR_EXCEL.key else f'format={key}'}"


# -- Deleting --------------------------------------------------------------------------------------------------------


class Held(Exception):
    """A legal hold lies on the conversation: its exports stay."""


def delete(
    *, export: Export, actor: Any, origin: audit.Origin | None, action: str = "export.delete", **detail: Any
) -> None:
    """Marks the export deleted and removes its files, as far as no other export has the same; the rows stay.

    Raises Held. Does nothing when it is deleted already.
    """
    with threads.write_turn(), transaction.atomic():
        # The conversation too: a hold waits, and so does the deletion for it.
        locked = Export.objects.select_for_update(of=("self", "run__conversation"), no_key=True)
        row = locked.select_related("run__conversation").get(pk=export.pk)
        if row.is_held:
            raise Held("A legal hold lies on this conversation: its exports can't be deleted.")
        if row.deleted_at is not None:
            return
        gone = _delete(row, actor=actor, origin=origin, action=action, detail=detail)
    for path, sha256 in gone:
        _discard_orphan(path, sha256)


def _discard_orphan(path: str, sha256: str) -> None:
    """After the rows, so that none names a file that isn't there. What can't be deleted now goes by `expire`."""
    try:
        with threads.write_turn(), transaction.atomic():
            _discard_file(path, sha256)
    except OSError:
        logger.exception("The file %s could not be deleted; expire_exports tries again", path)


def _delete(
    row: Export, *, actor: Any, origin: audit.Origin | None, action: str, detail: dict[str, Any]
) -> list[tuple[str, str]]:
    """Path and digest of the files that no row of this export names any more."""
    Export.objects.filter(pk=row.pk).update(deleted_at=timezone.now())
    gone = list(row.files.order_by("sha256").values_list("path", "sha256"))
    row.files.all().delete()
    what = {"files": [sha256 for _, sha256 in gone], **detail}
    audit.record(actor=actor, action=action, object_type="export", object_id=row.pk, origin=origin, detail=what)
    return gone


def discard_unannounced(run: Run) -> int:
    """Deletes the exports of lost attempts that no event of the run tells; the position after all that the run stored.

    Their files go; the rows stay, deleted, for the audit trail.
    """
    told = RunEvent.objects.filter(run=run, type=ExportStored.type).values_list("data", flat=True)
    ids = {data["export_id"] for data in told}
    stored = list(Export.objects.filter(run=run))
    for export in stored:
        if str(export.pk) not in ids and export.deleted_at is None and export.again_of_id is None:
            with suppress(Held):
                delete(export=export, actor=None, origin=None, why="its run was begun anew", run=str(run.pk))
    return max((export.position + 1 for export in stored), default=0)


@dataclass(frozen=True, kw_only=True)
class Expired:
    n_exports: int
    n_bytes: int
    #: Exports that would have gone, were it not for a legal hold.
    n_held: int
    #: Files in the storage that no export needs: of processes that were killed between file and row.
    n_orphans: int


#: Seconds after which a file that no row needs is nobody's: a row follows its file within moments.
_ORPHAN_S = 24 * 3600.0


def expire(
    *, now: datetime | None = None, dry_run: bool = False, is_over: Callable[[], bool] = lambda: False
) -> Expired:
    """Deletes the files of expired exports, and files that no export needs; the rows and the ledger stay.

    `is_over` is asked before each and ends it early: what is left goes the next time.
    """
    due = Export.objects.filter(deleted_at=None, expires_at__lte=now or timezone.now())
    n_held = due.filter(run__conversation__held_at__isnull=False).count()
    n_exports = n_bytes = 0
    # Not an iterator: SQLite lets nobody write who still reads, when others have written meanwhile.
    ids = list(due.filter(run__conversation__held_at=None).order_by("pk").values_list("pk", flat=True))
    for export_id in takewhile(lambda _: not is_over(), ids):
        export = Export.objects.prefetch_related("files").get(pk=export_id)
        try:
            if not dry_run:
                delete(export=export, actor=None, origin=None, action="export.expire")
        except Held:
            n_held += 1
            continue
        n_exports += 1
        n_bytes += sum(file.n_bytes for file in export.files.all())
    n_orphans = _orphans(dry_run=dry_run, is_over=is_over)
    return Expired(n_exports=n_exports, n_bytes=n_bytes, n_held=n_held, n_orphans=n_orphans)


def _orphans(*, dry_run: bool, is_over: Callable[[], bool]) -> int:
    n_orphans = 0
    for path in takewhile(lambda _: not is_over(), list(files.addresses())):
        # A look at the rows first: it costs less than one at a file in a bucket.
        if ExportFile.objects.filter(path=path).exists() or files.age_s(path) < _ORPHAN_S:
            continue
        n_orphans += 1
        if not dry_run:
            _discard_orphan(path, path.rpartition("/")[2])
    return n_orphans
