"""Files into assets: what a row says, which asset it is, and one transaction that writes them all."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path

from django.db import transaction
from django.utils import timezone

from inventory.headers import MAX_INDEXED, SOURCE_ID, Column
from inventory.models import Asset, AttributeName, InventoryRevision
from inventory.reading import NotATable, Problem, Sheet, open_sheet
from inventory.recognition import Identity, Recogniser, identity_of

BATCH_ROWS = 500
#: Everything but the key, and when and by whom it was first written.
_WRITTEN = tuple(
    f.name for f in Asset._meta.concrete_fields if f.name not in ("id", "source", "source_id", "created_at")
)

OnProblem = Callable[[Problem], None]


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
    """Imports a CSV file. Nothing is written when NotATable or OSError is raised, or with `dry_run`.

    A field changes only when the file has a column for it; so does an attribute. `delete_missing` removes the assets of
    the same source that the file does not have; when a row could not be read, none, because it might have been theirs.
    """
    problems = _Counted(on_problem)
    with open_sheet(path, on_problem=problems) as sheet, transaction.atomic():
        name = source or sheet.layout.name or path.stem
        run = _Import(source=name, sheet=sheet, on_problem=problems)
        run.write()
        n_deleted = run.delete_missing() if delete_missing and run.n_rows and not problems.n_unread else 0
        transaction.set_rollback(dry_run)
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
    #: Attributes that a row took away; some may be gone for good.
    _dropped: set[str] = field(default_factory=set)
    _unreadable: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._unreadable = {column.unreadable for column in self.sheet.columns if column.kind == "field"}

    def write(self) -> None:
        InventoryRevision.renew()  # first, because it lets no second import in beside this one
        drafts = (self._draft(row, cells) for row, cells in self.sheet.rows)
        for batch in _batches(drafts):
            self._write(batch)
        AttributeName.prune(self._dropped)

    def delete_missing(self) -> int:
        n_deleted, _ = Asset.objects.filter(source=self.source).exclude(import_id=self.id).delete()
        return n_deleted

    def _write(self, drafts: Sequence[Draft]) -> None:
        matched = Recogniser(source=self.source, import_id=self.id, at=self.at).match(drafts)
        for draft, asset in matched:
            self.n_rows += 1
            self.n_new += asset._state.adding
            asset._state.adding = False  # a second row of the same id is not new
            self._apply(draft, asset)
        assets = {asset.pk: asset for _, asset in matched}
        Asset.objects.bulk_create(assets.values(), update_conflicts=True, unique_fields=["id"], update_fields=_WRITTEN)

    def _apply(self, draft: Draft, asset: Asset) -> None:
        for name, value in draft.fields.items():
            setattr(asset, name, value)
        # What could not be read the last time goes, unless it still can't.
        attributes = {
            **asset.attributes,
            **dict.fromkeys(self._unreadable & asset.attributes.keys()),
            **draft.attributes,
        }
        self._dropped.update(name for name in asset.attributes if attributes[name] is None)
        asset.attributes = {name: text for name, text in attributes.items() if text is not None}
        asset.updated_at = self.at

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


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _batches(drafts: Iterable[Draft]) -> Iterator[list[Draft]]:
    rows = iter(drafts)
    while batch := list(islice(rows, BATCH_ROWS)):
        yield batch


__all__ = ["NotATable", "Problem", "Summary", "import_file"]
