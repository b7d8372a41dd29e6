"""The typed rows of a stored CSV: what every other format is made of."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import BinaryIO

from conversations.pipeline.tools import Column

#: What a spreadsheet would run: = + - @ TAB CR at the start, also behind apostrophes (so that the guard is reversible).
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NEGATIVE_NUMBER = re.compile(r"-\d+(\.\d+)?")
_WHOLE = re.compile(r"-?(0|[1-9]\d*)")
_DECIMAL = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
#: The csv module refuses longer cells unless it is told; a cell is at most what an answer or an attribute may hold.
_LONGEST_CELL = 2**27

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

    def rows(self) -> Iterator[list[Value]]:
        """The rows with their types: without guards, null for empty cells, and text where the type doesn't fit."""
        readers = [_READERS.get(column.type, unguarded) for column in self.columns]
        for row in self.texts():
            yield [read(cell) if cell else None for read, cell in zip(readers, row, strict=True)]


def _number(cell: str) -> Value:
    if _WHOLE.fullmatch(cell):
        return int(cell) if len(cell) < _MOST_DIGITS else cell
    if _DECIMAL.fullmatch(cell):
        value = float(cell)
        return value if abs(value) != float("inf") else cell
    return unguarded(cell)


#: `int` refuses more; nobody counts so far.
_MOST_DIGITS = 4000


def _day(cell: str) -> Value:
    try:
        return date.fromisoformat(cell) if _DATE.fullmatch(cell) else unguarded(cell)
    except ValueError:
        return cell


def _instant(cell: str) -> Value:
    try:
        at = datetime.fromisoformat(cell)
    except ValueError:
        return unguarded(cell)
    # Only what is written back as it was read is an instant; anything else is text.
    return at if at.tzinfo is not None and as_text(at) == cell else unguarded(cell)


_READERS: Mapping[str, Callable[[str], Value]] = {"number": _number, "date": _day, "datetime": _instant}


def as_text(value: Value) -> str:
    """As it stands in a CSV, without the guard; null is empty."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else str(value)
