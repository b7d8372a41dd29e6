"""Files into assets: what a row says, which asset it is, and a short transaction for each batch of rows.

One transaction for the whole file would lock a server on SQLite out for as long as it takes. So an import that dies
leaves the batches that it has written; another of the same file finds them again and completes it.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar

from django.db import transaction
from django.utils import timezone

from inventory.headers import MAX_INDEXED, SOURCE_ID, Column
from inventory.import_lock import ImportRunning, import_lock
from inventory.models import Asset, AttributeName, InventoryRevision
from inventory.reading import NotATable, Problem, Sheet, open_sheet
from inventory.recognition import Identity, Recogniser, identity_of
from inventory.rehearsal import Rehearsal

T = TypeVar("T")

BATCH_ROWS = 500
#: Between two transactions. Who waits for SQLite's lock is not called but looks again, each 100 ms at most: a shorter
#: gap may be missed again and again.
GAP_S = 0.1
#: Everything but the key, and when and by whom it was first written.
_WRITTEN = tuple(
    f.name for f in Asset._meta.concrete_fields if f.name not in ("id", "source", "source_id", "created_at")
)

OnProblem = Callable[[Problem], None]


class Unfinished(Exception):
    """The file was not the same when it was read again, or problems could not be reported: some rows were written."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What an import did, in rows of the file. `n_known`: rows whose asset was there already (and was updated)."""

    source: str
    n_rows: int
    n_new: int
    n_known: int
    n_deleted: int
    n_problems: int


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What one row says of its asset."""

    row: int
    fields: Mapping[str, object]
    #: Null: the row says that the asset has none of this name.
    attributes: Mapping[str, str | None]
    identity: Identity


def import_file(
    path: Path,
    *,
    source: str | None = None,
    dry_run: bool = False,
    delete_missing: bool = False,
    on_problem: OnProblem = lambda problem: None,
) -> Summary:
    """Imports a CSV file. Nothing is written when NotATable, ImportRunning or OSError is raised, or with `dry_run`.

    A field changes only when the file has a column for it; so does an attribute. `delete_missing` removes the assets of
    the same source that the file does not have; when a row could not be read, none, because it might have been theirs.
    Raises Unfinished, after having written, when the file changes or `on_problem` raises OSError.
    """
    problems = _Counted(on_problem)
    with nullcontext() if dry_run else import_lock(), open_sheet(path, on_problem=problems) as sheet:
        name = source or sheet.layout.name or path.stem
        run = (_DryRun if dry_run else _Import)(source=name, sheet=sheet, on_problem=problems)
        run.write()
        n_deleted = run.delete_missing() if delete_missing and run.n_rows and not problems.n_unread else 0
        run.tidy()
    return Summary(
        source=name,
        n_rows=run.n_rows,
        n_new=run.n_new,
        n_known=run.n_rows - run.n_new,
        n_deleted=n_deleted,
        n_problems=problems.n,
    )


class _Counted:
    """Counts problems and hands them on."""

    def __init__(self, on_problem: OnProblem) -> None:
        self.n = self.n_unread = 0
        self._on_problem = on_problem

    def __call__(self, problem: Problem) -> None:
        self.n += 1
        self.n_unread += not problem.column
        self._on_problem(problem)


@dataclass(kw_only=True)
class _Import:
    """One pass over one file."""

    source: str
    sheet: Sheet
    on_problem: OnProblem
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    at: datetime = field(default_factory=timezone.now)
    n_rows: int = 0
    n_new: int = 0
    _unreadable: set[str] = field(default_factory=set)
    #: When the last transaction ended, on the monotonic clock.
    _wrote_at: float = 0.0

    def __post_init__(self) -> None:
        self._unreadable = {column.unreadable for column in self.sheet.columns if column.kind == "field"}

    def write(self) -> None:
        try:
            for batch in _batches(self._drafts()):  # made outside the transaction: reading and reporting may take long
                self._write(batch)
                self.n_rows += len(batch)
        except OSError as error:
            raise self._unfinished(f"A problem could not be reported ({error.strerror or error})") from error
        if self.n_rows != self.sheet.n_rows:  # nothing may be deleted for want of rows that were there
            raise self._unfinished("The file changed")

    def delete_missing(self) -> int:
        missing = Asset.objects.filter(source=self.source).exclude(import_id=self.id)
        ids = missing.values_list("pk", flat=True)
        n_deleted = 0
        for batch in _batches(list(ids)):
            with self._transaction():
                n_deleted += missing.filter(pk__in=batch).delete(prune=False)[0]
        return n_deleted

    def tidy(self) -> None:
        """Of all names, because an import that died before this may have left some."""
        AttributeName.prune()

    def _write(self, drafts: Sequence[Draft]) -> None:
        with self._transaction():
            InventoryRevision.renew()  # first, because it keeps other writers of assets out
            matched = Recogniser(source=self.source, import_id=self.id, at=self.at).match(drafts)
            n_new = sum(self._apply(draft, asset) for draft, asset in matched)
            assets = {asset.pk: asset for _, asset in matched}
            Asset.objects.bulk_create(
                assets.values(), update_conflicts=True, unique_fields=["id"], update_fields=_WRITTEN
            )
        self.n_new += n_new

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """A short one, so long after the last that others had their turn."""
        time.sleep(max(0.0, self._wrote_at + GAP_S - time.monotonic()))
        with transaction.atomic():
            yield
        self._wrote_at = time.monotonic()

    def _apply(self, draft: Draft, asset: Asset) -> bool:
        """Whether the asset is new."""
        is_new = asset._state.adding
        asset._state.adding = False  # a second row of the same id is not new
        for name, value in draft.fields.items():
            setattr(asset, name, value)
        # What could not be read the last time goes, unless it still can't.
        attributes = {
            **asset.attributes,
            **dict.fromkeys(self._unreadable & asset.attributes.keys()),
            **draft.attributes,
        }
        asset.attributes = {name: text for name, text in attributes.items() if text is not None}
        asset.updated_at = self.at
        return is_new

    def _drafts(self) -> Iterator[Draft]:
        """The rows with ids first, because they name their asset; then the others, which take what is left."""
        id_columns = [n for n, column in enumerate(self.sheet.columns) if column.kind in ("own id", "source id")]
        for with_id in (True, False) if id_columns else (False,):
            for row, cells in self._rows():
                if any(cells[n].strip() for n in id_columns if n < len(cells)) is with_id:
                    yield self._draft(row, cells)

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        try:
            yield from self.sheet.rows()
        except (OSError, UnicodeDecodeError) as error:
            raise self._unfinished("The file changed") from error

    def _unfinished(self, why: str) -> Unfinished:
        return Unfinished(f"{why} after {self.n_rows:,} rows had been written.")

    def _draft(self, row: int, cells: Sequence[str]) -> Draft:
        fields = dict(self.sheet.layout.constant)
        attributes: dict[str, str | None] = {}
        ids: dict[str, str] = {}
        for column, raw in zip(self.sheet.columns, cells, strict=False):
            text = self._without_nul(row, column.header, raw)
            if column.kind == "field":
                self._read(row, column, text, fields, attributes)
            elif column.kind == "attribute":
                attributes[column.header] = text if text.strip() else None
            else:
                ids[column.kind] = text.strip()
        self._keep_surplus(row, cells, attributes)
        own_id, source_id = self._ids(row, ids, attributes)
        identity = identity_of(fields, own_id=own_id, source_id=source_id, row_key=lambda: self._row_key(cells))
        return Draft(row=row, fields=fields, attributes=attributes, identity=identity)

    def _read(
        self, row: int, column: Column, raw: str, fields: dict[str, object], attributes: dict[str, str | None]
    ) -> None:
        fields.update(column.blank)
        text = raw.strip()
        if not text or column.read is None:
            return
        try:
            made = column.read(raw if column.keeps_space else text)
            fields.update((name, made[name]) for name in column.blank)
        except ValueError as error:
            attributes[column.unreadable] = raw
            message = f"{error}; kept as attribute “{column.unreadable}”"
            self.on_problem(Problem(row=row, column=column.header, value=raw, message=message))

    def _keep_surplus(self, row: int, cells: Sequence[str], attributes: dict[str, str | None]) -> None:
        """Cells beyond the header, usually from a separator that was not quoted."""
        for n in range(len(self.sheet.columns), len(cells)):
            name = f"column_{n + 1}"
            text = self._without_nul(row, name, cells[n])
            if text.strip():
                attributes[name] = text
                message = f"the header has no such column; kept as attribute “{name}”"
                self.on_problem(Problem(row=row, column=name, value=text, message=message))

    def _ids(self, row: int, ids: Mapping[str, str], attributes: dict[str, str | None]) -> tuple[uuid.UUID | None, str]:
        """Our id and the source's. A column named `id` or `ID` that holds no UUID is the source's."""
        own, source_id = ids.get("own id", ""), ids.get("source id", "")
        own_id = _uuid(own)
        if own and own_id is None:
            if source_id:
                attributes["id (unreadable)"] = own
                message = "no UUID; kept as attribute “id (unreadable)”"
                self.on_problem(Problem(row=row, column="id", value=own, message=message))
            source_id = source_id or own
        if ids:
            attributes[SOURCE_ID] = source_id or None
        if len(source_id) > MAX_INDEXED:
            source_id = hashlib.sha256(source_id.encode()).hexdigest()
        return own_id, source_id

    def _without_nul(self, row: int, column: str, text: str) -> str:
        """No database keeps NUL in a text."""
        if "\0" not in text:
            return text
        message = "the NUL characters were replaced by U+FFFD"
        self.on_problem(Problem(row=row, column=column, value=text, message=message))
        return text.replace("\0", "\ufffd")

    def _row_key(self, cells: Sequence[str]) -> str:
        """The same for the same cells under the same headers, in whatever order the columns stand."""
        headers = [column.header for column in self.sheet.columns]
        told = sorted((header, cell) for header, cell in zip(headers, cells, strict=False) if cell.strip())
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


class _DryRun(_Import):
    """Says what the import would do. Writes nothing and locks nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._rehearsal = Rehearsal(source=self.source)

    def delete_missing(self) -> int:
        return self._rehearsal.n_missing()

    def tidy(self) -> None:
        pass

    def _write(self, drafts: Sequence[Draft]) -> None:
        self._rehearsal.count([draft.identity for draft in drafts])
        self.n_new = self._rehearsal.n_new


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, BATCH_ROWS)):
        yield batch


__all__ = ["ImportRunning", "NotATable", "Problem", "Summary", "Unfinished", "import_file"]
