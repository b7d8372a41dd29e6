"""A file as rows of text: UTF-8 with or without a byte order mark, separated by comma, semicolon or tab (RFC 4180)."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from inventory.headers import Column, Layout, columns_of, layout_of

#: One cell may be this long; the csv module's own limit is 128 Ki.
MAX_CELL_CHARS = 16 * 1024 * 1024
_SEPARATORS = (",", ";", "\t")
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NEGATIVE_NUMBER = re.compile(r"-\d+(\.\d+)?")


class NotATable(Exception):
    """The file is no table: nothing was written. The message says why, for people."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that could not be taken as it stands."""

    #: As a spreadsheet counts: the header is row 1.
    row: int
    column: str
    value: str
    message: str

    def __str__(self) -> str:
        where = f"row {self.row}, {self.column}" if self.column else f"row {self.row}"
        shown = self.value if len(self.value) <= 80 else f"{self.value[:80]}…"  # noqa: PLR2004  one line of a terminal
        return f"{where}: {ascii(shown) if not shown.isprintable() else repr(shown)}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class Sheet:
    layout: Layout
    columns: Sequence[Column]
    #: Row number and cells; rows that can't be read are reported and left out, blank ones left out.
    rows: Iterator[tuple[int, list[str]]]


@contextmanager
def open_sheet(path: Path, *, on_problem: Callable[[Problem], None]) -> Iterator[Sheet]:
    """Raises NotATable for a file that is none, also later, while its rows are read; OSError when it can't be read."""
    csv.field_size_limit(MAX_CELL_CHARS)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            separator, header = _header(file)
            layout = layout_of(header)
            columns = columns_of(header, layout)
            if columns is None:
                raise NotATable("The first line names no column that assets have: name, ip_address, serial_number …")
            rows = _rows(csv.reader(file, delimiter=separator, strict=True), on_problem)
            yield Sheet(layout=layout, columns=columns, rows=rows)
    except UnicodeDecodeError as error:
        raise NotATable("The file is not text in UTF-8.") from error


def _header(file: TextIO) -> tuple[str, list[str]]:
    """Reads the first line that is not blank; of the separators the one that gives the most columns."""
    line = next((line for line in file if line.strip()), "")
    if not line:
        raise NotATable("The file is empty.")
    if "\0" in line:
        raise NotATable("The file is not text.")
    found = []
    for separator in _SEPARATORS:
        try:
            found.append((separator, next(csv.reader([line], delimiter=separator, strict=True))))
        except csv.Error as error:
            if separator == _SEPARATORS[-1] and not found:
                raise NotATable(f"The first line can't be read as a header: {error}.") from error
    separator, header = max(found, key=lambda candidate: len(candidate[1]))
    return separator, [unguarded(cell) for cell in header]


def _rows(reader: Iterator[list[str]], on_problem: Callable[[Problem], None]) -> Iterator[tuple[int, list[str]]]:
    number = 1
    while True:
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            on_problem(Problem(row=number, column="", value="", message=f"can't be read and is left out: {error}"))
            continue
        if any(cell.strip() for cell in cells):
            yield number, [unguarded(cell) for cell in cells]


def unguarded(cell: str) -> str:
    """Takes off the apostrophe that our own CSV puts before text that a spreadsheet would take for a formula."""
    text = cell[1:]
    was_guarded = cell[:1] == "'" and _FORMULA.match(text) and not _NEGATIVE_NUMBER.fullmatch(text)
    return text if was_guarded else cell
