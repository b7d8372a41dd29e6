"""The typed rows of a stored CSV: what every other format is made of."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from itertools import islice
from math import isfinite
from typing import BinaryIO

from conversations.pipeline.tools import Column

#: What a spreadsheet would run: = + - @ TAB CR at the start, also behind apostrophes (so that the guard is reversible).
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NEGATIVE_NUMBER = re.compile(r"-\d+(\.\d+)?")
#: A whole number has none of the groups.
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
#: The csv module refuses longer cells unless it is told; a cell is at most what an answer or an attribute may hold.
_LONGEST_CELL = 2**27
#: Rows that are given their types together: few, because cells may be long.
_TOGETHER = 64

#: A cell with its type: null, text, number, day, instant (aware, UTC).
Value = str | int | float | date | datetime | None


def guarded(cell: str) -> str:
    """The text behind one apostrophe when a spreadsheet would run it as a formula; plain negative numbers stay."""
    is_run = _FORMULA.match(cell) and not _NEGATIVE_NUMBER.fullmatch(cell)
    return "'" + cell if is_run else cell


def unguarded(cell: str) -> str:
    """The text that `guarded` was given."""
    return cell[1:] if cell[:1] == "'" and guarded(cell[1:]) == cell else cell


@dataclass(frozen=True, kw_only=True)
class Table:
    """A stored CSV, read anew as often as it is needed: memory stays flat whatever the number of rows."""

    columns: Sequence[Column]
    #: Opens the CSV's bytes at their beginning.
    open_csv: Callable[[], BinaryIO]
    #: Title of sheets and the like.
    title: str = "Export"

    @cached_property
    def keys(self) -> list[str]:
        """The columns' names made unique and not empty, for formats that find a cell by its column's name."""
        given = {column.name for column in self.columns}
        keys: dict[str, None] = {}
        for number, column in enumerate(self.columns, 1):
            key = base = column.name or f"column_{number}"
            again = 1
            while key in keys or (again > 1 and key in given):
                again += 1
                key = f"{base}_{again}"
            keys[key] = None
        return list(keys)

    def texts(self) -> Iterator[list[str]]:
        """The rows as they stand in the file, without the header."""
        csv.field_size_limit(_LONGEST_CELL)
        with io.TextIOWrapper(self.open_csv(), encoding="utf-8", newline="") as text:
            rows = csv.reader(text)
            next(rows, None)
            # A row of one empty cell is an empty line to csv.
            yield from (row or [""] for row in rows)

    def columns_of_rows(self) -> Iterator[list[list[Value]]]:
        """The columns' typed values, of some rows at a time: without guards, null for empty cells, and text where the
        type doesn't fit. A column at a time, which saves a call for each cell."""
        readers = [_READERS.get(column.type, _texts) for column in self.columns]
        rows = self.texts()
        while some := list(islice(rows, _TOGETHER)):
            yield [read(cells) for read, cells in zip(readers, zip(*some, strict=True), strict=True)]

    def rows(self) -> Iterator[tuple[Value, ...]]:
        """The same, row by row."""
        for columns in self.columns_of_rows():
            yield from zip(*columns, strict=True)


def _texts(cells: Sequence[str]) -> list[Value]:
    return [(unguarded(cell) if cell[0] == "'" else cell) if cell else None for cell in cells]


def _numbers(cells: Sequence[str]) -> list[Value]:
    return [_number(cell) if cell else None for cell in cells]


def _number(cell: str) -> Value:
    found = _NUMBER.fullmatch(cell)
    if found is None:
        return unguarded(cell)
    if found.lastindex is None:
        return int(cell) if len(cell) < _MOST_DIGITS else cell
    value = float(cell)
    return value if isfinite(value) else cell


#: `int` refuses more; nobody counts so far.
_MOST_DIGITS = 4000


def _days(cells: Sequence[str]) -> list[Value]:
    return [_day(cell) if cell else None for cell in cells]


def _day(cell: str) -> Value:
    try:
        return date.fromisoformat(cell) if _DATE.fullmatch(cell) else unguarded(cell)
    except ValueError:
        return cell


def _instants(cells: Sequence[str]) -> list[Value]:
    return [_instant(cell) if cell else None for cell in cells]


def _instant(cell: str) -> Value:
    try:
        at = datetime.fromisoformat(cell)
    except ValueError:
        return unguarded(cell)
    # Only what is written back as it was read is an instant; anything else is text.
    return at if at.tzinfo is not None and as_text(at) == cell else unguarded(cell)


_READERS: Mapping[str, Callable[[Sequence[str]], list[Value]]] = {
    "number": _numbers, "date": _days, "datetime": _instants,
}  # fmt: skip


def as_text(value: Value) -> str:
    """As it stands in a CSV, without the guard; null is empty."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else str(value)
