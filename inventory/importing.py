"""Files into assets: what a row says, which asset it is, and a short transaction for each batch of rows.

One transaction for the whole file would lock a server on SQLite out for as long as it takes. So an import that dies
leaves the batches that it has written; another of the same file finds them again and completes it.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

from django.db import transaction
from django.utils import timezone

from inventory.drafts import Draft, Drafter, has_id
from inventory.import_lock import ImportRunning, import_lock
from inventory.models import Asset, AttributeName, InventoryRevision
from inventory.reading import open_sheet
from inventory.recognition import Recogniser
from inventory.rehearsal import Rehearsal
from inventory.sheets import NotATable, OnProblem, Problem, Row, Sheet

#: Is told the rows that are done, and all of them.
OnProgress = Callable[[int, int], None]
T = TypeVar("T")

BATCH_ROWS = 500
#: Between two transactions. Who waits for SQLite's lock is not called but looks again, each 100 ms at most: a shorter
#: gap may be missed again and again.
GAP_S = 0.1
#: Everything but the key, and when and by whom it was first written.
_WRITTEN = tuple(
    f.name for f in Asset._meta.concrete_fields if f.name not in ("id", "source", "source_id", "created_at")
)


class Unfinished(Exception):
    """The file was not the same when it was read again, or problems could not be reported: some rows were written."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What an import did, in rows of the file. `n_known`: rows whose asset was there already (and was updated)."""

    source: str
    #: As `Sheet.title`.
    recognised_as: str
    n_rows: int
    n_new: int
    n_known: int
    n_deleted: int
    #: Of the known ones, those of which a field or an attribute was not what the file says.
    n_changed: int
    #: Column -> its problems; blank: rows that could not be read.
    problems: Mapping[str, int]
    #: What people should know of the file as a whole.
    warnings: tuple[str, ...] = ()

    @property
    def n_problems(self) -> int:
        return sum(self.problems.values())

    @property
    def n_unread(self) -> int:
        return self.problems.get("", 0)


def import_file(
    path: Path,
    *,
    source: str | None = None,
    dry_run: bool = False,
    delete_missing: bool = False,
    on_problem: OnProblem = lambda problem: None,
    on_progress: OnProgress = lambda n_rows, n_all: None,
) -> Summary:
    """Imports a CSV, TSV, JSON or XLSX file. NotATable, ImportRunning and OSError: nothing was written, as with
    `dry_run`.

    `on_progress` is called between transactions, with the rows that are done and all of them, and may raise to stop.
    A field changes only when the file has a column for it; so does an attribute. `delete_missing` removes the assets of
    the same source that the file does not have; when a row could not be read, none, because it might have been theirs.
    Raises Unfinished, after having written, when the file changes or `on_problem` raises OSError.
    """
    problems = _Counted(on_problem)
    with nullcontext() if dry_run else import_lock(), open_sheet(path, on_problem=problems) as sheet:
        name = source or sheet.layout.name or path.stem
        kind = _DryRun if dry_run else _Import
        run = kind(source=name, sheet=sheet, on_problem=problems, on_progress=on_progress)
        try:
            run.write()
            n_deleted = run.delete_missing() if delete_missing and not problems.by_column[""] else 0
            run.tidy()
        finally:
            run.end()
    return Summary(
        source=name,
        recognised_as=sheet.title,
        n_rows=run.n_rows,
        n_new=run.n_new,
        n_known=run.n_rows - run.n_new,
        n_deleted=n_deleted,
        n_changed=run.n_changed,
        problems=problems.by_column,
        warnings=sheet.warnings,
    )


class _Counted:
    """Counts problems and hands them on."""

    def __init__(self, on_problem: OnProblem) -> None:
        self.by_column: Counter[str] = Counter()
        self._on_problem = on_problem

    def __call__(self, problem: Problem) -> None:
        self.by_column[problem.column] += 1
        self._on_problem(problem)


@dataclass(kw_only=True)
class _Import:
    """One pass over one file."""

    source: str
    sheet: Sheet
    on_problem: OnProblem
    on_progress: OnProgress
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    at: datetime = field(default_factory=timezone.now)
    n_rows: int = 0
    n_new: int = 0
    n_changed: int = 0
    #: When the last transaction ended, on the monotonic clock.
    _wrote_at: float = 0.0

    def __post_init__(self) -> None:
        self._drafter = Drafter(self.sheet, self.on_problem)

    def write(self) -> None:
        try:
            for batch in _batches(self._drafts()):  # made outside the transaction: reading and reporting may take long
                self._write(batch)
                self.n_rows += len(batch)
                self.on_progress(self.n_rows, self.sheet.n_rows)
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
            self.on_progress(self.n_rows, self.sheet.n_rows)
        return n_deleted

    def tidy(self) -> None:
        """Of all names, because an import that died before this may have left some."""
        AttributeName.prune()

    def end(self) -> None:
        InventoryRevision.end_import()

    def _write(self, drafts: Sequence[Draft]) -> None:
        with self._transaction():
            InventoryRevision.renew_for_import()  # first, because it keeps other writers of assets out
            matched = Recogniser(source=self.source, import_id=self.id, at=self.at).match(drafts)
            done = Counter(self._apply(draft, asset) for draft, asset in matched)
            assets = {asset.pk: asset for _, asset in matched}
            Asset.objects.overwrite(assets.values(), _WRITTEN)
        self.n_new += done["new"]
        self.n_changed += done["changed"]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """A short one, so long after the last that others had their turn."""
        time.sleep(max(0.0, self._wrote_at + GAP_S - time.monotonic()))
        with transaction.atomic():
            yield
        self._wrote_at = time.monotonic()

    def _apply(self, draft: Draft, asset: Asset) -> Literal["new", "changed", "same"]:
        """What the row means for the asset."""
        is_new = asset._state.adding
        asset._state.adding = False  # a second row of the same id is not new
        left = {name: text for name, text in asset.attributes.items() if name not in self._drafter.attributes}
        said = {**draft.fields, "attributes": {**left, **draft.attributes}}
        is_same = all(getattr(asset, name) == value for name, value in said.items())
        for name, value in said.items():
            setattr(asset, name, value)
        asset.updated_at = self.at
        return "new" if is_new else "same" if is_same else "changed"

    def _drafts(self) -> Iterator[Draft]:
        """The rows with ids first, because they name their asset; then the others, which take what is left."""
        n_drafted = 0
        for with_id in (True, False) if self._may_have_ids() else (False,):
            if n_drafted == self.sheet.n_rows:
                return
            for row in self._rows():
                if has_id(row) is with_id:
                    n_drafted += 1
                    yield self._drafter.draft(row)

    def _may_have_ids(self) -> bool:
        return any(column.kind in ("own id", "source id") for column in self.sheet.columns)

    def _rows(self) -> Iterator[Row]:
        try:
            yield from self.sheet.rows()
        except (OSError, UnicodeDecodeError, NotATable) as error:
            raise self._unfinished("The file changed") from error

    def _unfinished(self, why: str) -> Unfinished:
        return Unfinished(f"{why} after {self.n_rows:,} rows had been written.")


class _DryRun(_Import):
    """Says what the import would do. Writes nothing and locks nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._rehearsal = Rehearsal(source=self.source)

    def delete_missing(self) -> int:
        return self._rehearsal.n_missing()

    def tidy(self) -> None:
        pass

    def end(self) -> None:
        pass

    def _write(self, drafts: Sequence[Draft]) -> None:
        found = self._rehearsal.find([draft.identity for draft in drafts])
        assets = Asset.objects.in_bulk([pk for pk in found if pk])
        for draft, pk in zip(drafts, found, strict=True):
            asset = assets.get(pk) if pk else None
            self.n_changed += asset is not None and self._apply(draft, asset) == "changed"
        self.n_new = self._rehearsal.n_new


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, BATCH_ROWS)):
        yield batch


__all__ = ["ImportRunning", "NotATable", "Problem", "Summary", "Unfinished", "import_file"]
