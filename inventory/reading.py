"""A file as rows of text: UTF-8 with or without a byte order mark, separated by comma, semicolon or tab (RFC 4180).

A file is read through once before anybody gets a row of it, so that one that turns out to be no table has no effect.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

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
    n_rows: int
    #: Reads from the first row on: row number and cells. Rows that can't be read are left out, and blank ones. Raises
    #: OSError or ValueError when the file has changed or gone since it was opened.
    rows: Callable[[], Iterator[tuple[int, list[str]]]]


@contextmanager
def open_sheet(path: Path, *, on_problem: Callable[[Problem], None]) -> Iterator[Sheet]:
    """Reports the rows that can't be read. Raises NotATable for a file that is none, OSError when it can't be read."""
    csv.field_size_limit(MAX_CELL_CHARS)
    with path.open("rb") as raw, _seekable(raw) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        try:
            sheet = _read_through(text, on_problem)
        except UnicodeDecodeError as error:
            raise NotATable("The file is not text in UTF-8.") from error
        yield sheet


@contextmanager
def _seekable(raw: BinaryIO) -> Iterator[BinaryIO]:
    """The file itself or, of a pipe, which can be read only once, a copy."""
    if raw.seekable():
        yield raw
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(raw, copy)
        copy.seek(0)
        yield copy


def _read_through(file: TextIO, on_problem: Callable[[Problem], None]) -> Sheet:
    separator, header = _header(_header_line(file))
    layout = layout_of(header)
    columns = columns_of(header, layout)
    if columns is None:
        raise NotATable("The first line names no column that assets have: name, ip_address, serial_number …")
    n_rows = sum(1 for _ in _rows(csv.reader(file, delimiter=separator, strict=True), on_problem))

    def rows() -> Iterator[tuple[int, list[str]]]:
        file.seek(0)
        _header_line(file)
        return _rows(csv.reader(file, delimiter=separator, strict=True), lambda problem: None)  # reported already

    return Sheet(layout=layout, columns=columns, n_rows=n_rows, rows=rows)


def _header_line(file: TextIO) -> str:
    """The first line that is not blank."""
    return next((line for line in file if line.strip()), "")


def _header(line: str) -> tuple[str, list[str]]:
    """Of the separators the one that gives the most columns, and those."""
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
