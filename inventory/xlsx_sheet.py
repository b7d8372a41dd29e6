"""XLSX: the first sheet with cells. Cells have types, so they are written as the text that a CSV of them would have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time
from typing import BinaryIO

from python_calamine import CalamineError, CalamineSheet, CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum

from inventory.headers import Column
from inventory.sheets import NotATable, OnProblem, Problem, Row, Sheet, columns_from, is_blank, row_of, storable
from inventory.values import write_instant
from inventory.workbooks import check_workbook

#: Spreadsheets keep 15 digits of a number and make the others zeros.
_ROUNDED = 10.0**15
_LOST = "a spreadsheet keeps 15 digits of a number, the last ones may be wrong: format the column as text in it"
#: Sheets that a warning names.
_MOST_NAMED = 5


def xlsx_sheet(file: BinaryIO, on_problem: OnProblem) -> Sheet:
    """Holds the whole sheet. Raises NotATable for what is no workbook, or one without a table."""
    n_errors = check_workbook(file)
    file.seek(0)
    found = _first_of(_sheets(file))
    header_row, header = next(
        ((number, cells) for number, cells in _numbered(found.sheet) if not is_blank(cells)), (0, [])
    )
    while header and is_blank(header[-1:]):
        header.pop()
    layout, columns = columns_from([storable(name) for name in header])

    def rows() -> Iterator[Row]:
        return _rows(found.sheet, header_row, columns)

    n_rows = _n_rows(found.sheet, header_row, columns, on_problem)
    if not n_rows:
        raise NotATable(f"Below its header, row {header_row}, the sheet “{found.sheet.name}” has no row.")
    return Sheet(
        format="XLSX", layout=layout, columns=columns, n_rows=n_rows, rows=rows, warnings=found.warnings(n_errors)
    )


class _Found:
    def __init__(self, sheet: CalamineSheet, others: Sequence[str]) -> None:
        self.sheet = sheet
        self.others = others

    def warnings(self, n_errors: int) -> tuple[str, ...]:
        said = []
        if self.others:
            names = ", ".join(f"“{name}”" for name in self.others[:_MOST_NAMED])
            more = " …" if len(self.others) > _MOST_NAMED else ""
            said.append(
                f"Only the sheet “{self.sheet.name}” was read. Save the others ({names}{more}) as files of their own "
                "to import them too."
            )
        if n_errors:
            cells = "cell holds" if n_errors == 1 else "cells hold"
            said.append(f"{n_errors:,} {cells} an error (#N/A, #REF! …) and count as empty.")
        return tuple(said)


def _sheets(file: BinaryIO) -> list[CalamineSheet]:
    """The sheets with cells, those that people see first. Raises NotATable."""
    try:
        workbook = CalamineWorkbook.from_filelike(file)
        known = list(enumerate(workbook.sheets_metadata))
        known.sort(key=lambda item: item[1].visible != SheetVisibleEnum.Visible)
        sheets = [workbook.get_sheet_by_index(n) for n, about in known if about.typ == SheetTypeEnum.WorkSheet]
    except CalamineError as error:
        raise NotATable(f"The workbook can't be read: {error}. Save it again as XLSX.") from error
    except BaseException as error:
        # What the reader panics at is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise NotATable("The workbook can't be read: it is damaged. Save it again as XLSX.") from error
    return [
        sheet for sheet in sheets if sheet.start is not None and any(not is_blank(row) for _, row in _numbered(sheet))
    ]


def _first_of(sheets: Sequence[CalamineSheet]) -> _Found:
    if not sheets:
        raise NotATable("The workbook is empty: none of its sheets has a cell with a value.")
    return _Found(sheets[0], [sheet.name for sheet in sheets[1:]])


def _numbered(sheet: CalamineSheet) -> Iterator[tuple[int, list[str]]]:
    """Rows with their numbers in the spreadsheet, as texts."""
    for number, cells in enumerate(sheet.iter_rows(), start=1):
        yield number, [_text(cell) for cell in cells]


def _rows(sheet: CalamineSheet, header_row: int, columns: Sequence[Column]) -> Iterator[Row]:
    are_instants = [column.is_instant for column in columns]
    for number, cells in enumerate(sheet.iter_rows(), start=1):
        if number > header_row:
            texts = [_text(cell) for cell in cells]
            for n, cell in enumerate(cells[: len(columns)]):
                if are_instants[n] and isinstance(cell, datetime):
                    texts[n] = write_instant(cell.replace(tzinfo=UTC))
            if not is_blank(texts):
                yield row_of(number, columns, texts)


def _n_rows(sheet: CalamineSheet, header_row: int, columns: Sequence[Column], on_problem: OnProblem) -> int:
    """Reports the numbers that a spreadsheet has rounded."""
    n_rows = 0
    for number, cells in enumerate(sheet.iter_rows(), start=1):
        if number <= header_row or all(isinstance(cell, str) and is_blank([cell]) for cell in cells):
            continue
        n_rows += 1
        for n, cell in enumerate(cells):
            if isinstance(cell, float) and abs(cell) >= _ROUNDED:
                column = columns[n].header if n < len(columns) else f"column_{n + 1}"
                on_problem(Problem(row=number, column=column, value=_text(cell), message=_LOST))
    return n_rows


def _text(cell: object) -> str:
    """Blank for an empty cell; 12 for 12.0; ISO 8601; true or false."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else repr(cell)
    if isinstance(cell, date | time):  # a datetime is a date
        return cell.isoformat()
    return str(cell)
