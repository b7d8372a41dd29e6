"""CSV and TSV: UTF-8 with or without a byte order mark, separated by comma, semicolon or tab (RFC 4180)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO, TextIO

from inventory.headers import Column, columns_of, layout_of
from inventory.sheets import (
    MAX_CELL_CHARS,
    NUL,
    REPLACED,
    NotATable,
    OnProblem,
    Problem,
    Row,
    Sheet,
    columns_from,
    is_blank,
    row_of,
    storable,
)

_SEPARATORS = (",", ";", "\t")
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NEGATIVE_NUMBER = re.compile(r"-\d+(\.\d+)?")


def csv_sheet(file: BinaryIO, on_problem: OnProblem) -> Sheet:
    """Reads the file through. Reports the rows that can't be read; raises NotATable for a file that is no CSV."""
    csv.field_size_limit(MAX_CELL_CHARS)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        return _read_through(text, on_problem)
    except UnicodeDecodeError as error:
        raise NotATable(
            "The file is not text in UTF-8. Save it as UTF-8 and import that: spreadsheets call it “CSV UTF-8”."
        ) from error


def _read_through(file: TextIO, on_problem: OnProblem) -> Sheet:
    separator, reader = _reader(file)
    header = _header(reader, on_problem)
    layout, columns = columns_from(header)
    n_rows = sum(1 for _ in _rows(reader, columns, on_problem))
    if not n_rows:
        raise NotATable("Below its first line, the header, the file has no row that can be read.")

    def rows() -> Iterator[Row]:
        file.seek(0)
        _, again = _reader(file, separator)
        next(again, None)  # the header
        return _rows(again, columns, lambda problem: None)  # reported already

    return Sheet(format="TSV" if separator == "\t" else "CSV", layout=layout, columns=columns, n_rows=n_rows, rows=rows)


def _reader(file: TextIO, separator: str = "") -> tuple[str, Iterator[list[str]]]:
    """The rows of the file from the first line on that is not blank, and what separates their cells."""
    lines = _lines(file)
    first = next((line for line in lines if line.strip()), "")
    if not first:
        raise NotATable("The file is empty.")
    separator = separator or max(_SEPARATORS, key=lambda candidate: _likeness(first, candidate))
    return separator, csv.reader(_with_first(first, lines), delimiter=separator, strict=True)


def _likeness(first: str, separator: str) -> tuple[int, int]:
    """How many columns the first line names that are known, then how many at all: a name may hold another separator."""
    names = next(csv.reader([first], delimiter=separator))
    columns = columns_of([unguarded(name) for name in names], layout_of(names)) or []
    return sum(column.kind != "attribute" for column in columns), len(names)


def _with_first(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


def _lines(file: TextIO) -> Iterator[str]:
    while line := file.readline(MAX_CELL_CHARS):
        if len(line) == MAX_CELL_CHARS:
            raise NotATable(f"A line is longer than {MAX_CELL_CHARS:,} characters: this is no CSV file with lines.")
        yield line


def _header(reader: Iterator[list[str]], on_problem: OnProblem) -> list[str]:
    try:
        header = [unguarded(cell) for cell in next(reader)]
    except csv.Error as error:
        raise NotATable(f"The first line can't be read as a header: {error}.") from error
    for name in header:
        if NUL in name:
            on_problem(Problem(row=1, column=storable(name), value=name, message=REPLACED))
    return [storable(name) for name in header]


def _rows(reader: Iterator[list[str]], columns: Sequence[Column], on_problem: OnProblem) -> Iterator[Row]:
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
        if not is_blank(cells):
            yield row_of(number, columns, [unguarded(cell) for cell in cells])


def unguarded(cell: str) -> str:
    """Takes off the apostrophe that our own CSV puts before text that a spreadsheet would take for a formula."""
    if cell[:1] != "'":
        return cell
    text = cell[1:]
    return text if _FORMULA.match(text) and not _NEGATIVE_NUMBER.fullmatch(text) else cell


def guarded(text: str) -> str:
    """The inverse: one apostrophe before what a spreadsheet would run as a formula, but not before negative numbers."""
    return f"'{text}" if _FORMULA.match(text) and not _NEGATIVE_NUMBER.fullmatch(text) else text
