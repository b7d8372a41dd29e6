"""XLSX: typed cells, identifiers as text, frozen header, filter. Written with constant memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from rustpy_xlsxwriter import Format, write_worksheet

from conversations.formats.errors import CannotHold
from conversations.formats.table import Table, Value, as_text

#: Excel's own limit of a cell, in UTF-16 units. Those of a sheet are looked at before (`kinds.cannot_hold`).
MAX_CHARACTERS = 32_767
#: So few characters are never more units.
_SHORT = MAX_CHARACTERS // 2
#: Excel's numbers are doubles: longer ones would lose digits and are text.
_MOST_EXACT = 2**53
#: Excel counts a 29 February 1900, which was none: days before the next one are text.
_FIRST_DAY = date(1900, 3, 1)

_NUMBER_FORMATS = {"date": "yyyy-mm-dd", "datetime": "yyyy-mm-dd hh:mm:ss"}
#: Characters of a column, by type; text is as wide as its header, within limits.
_WIDTHS = {"date": 12.0, "datetime": 20.0, "number": 12.0, "id": 38.0, "address": 18.0}
_NARROWEST, _WIDEST = 12.0, 40.0


def write(table: Table, path: Path) -> None:
    """Raises CannotHold, with the row and column, and OSError of a full disk; nothing of the file may be used then."""
    for key in table.keys:
        _check_length(key, "The name of a column")
    with _panics_as_errors():
        write_worksheet(
            _records(table),
            str(path),
            sheet_name="Export",
            freeze_row=1,
            autofilter=True,
            header_format=Format().set_bold(),
            column_widths=[_width(key, column.type) for key, column in zip(table.keys, table.columns, strict=True)],
            column_formats=_column_formats(table),
            ignore_errors=list(table.keys),
        )


@contextmanager
def _panics_as_errors() -> Iterator[None]:
    """The writer panics where its temporary folder is full, and a panic is no Exception: nobody would answer."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise OSError("The workbook could not be written.") from None
        raise


def _column_formats(table: Table) -> dict[str, Format]:
    return {
        key: Format().set_num_format(_NUMBER_FORMATS[column.type])
        for key, column in zip(table.keys, table.columns, strict=True)
        if column.type in _NUMBER_FORMATS
    }


def _width(key: str, kind: str) -> float:
    return max(_WIDTHS.get(kind, 0.0), min(_WIDEST, max(_NARROWEST, len(key) + 4.0)))


def _records(table: Table) -> Iterator[dict[str, Any]]:
    n_rows = 0
    for columns in table.columns_of_rows():
        cells = [_cells(values, key, n_rows) for key, values in zip(table.keys, columns, strict=True)]
        for row in zip(*cells, strict=True):
            n_rows += 1
            yield dict(zip(table.keys, row, strict=True))
    if not n_rows:
        # The writer takes the header from the first record; this one has no cells.
        yield dict.fromkeys(table.keys)


def _cells(values: Sequence[Value], key: str, n_before: int) -> Sequence[Any]:
    """The values of a column as the writer takes them. `n_before`: rows before these."""
    if _are_held(values):
        return values
    return [_cell(value, key, n_row) for n_row, value in enumerate(values, n_before + 1)]


def _are_held(values: Sequence[Any]) -> bool:
    """All of them as they are: nearly always, and a look at all costs less than one at each."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds == {str}:
        return max(map(len, filter(None, values))) <= _SHORT
    if kinds <= {int, float}:
        numbers = [value for value in values if value is not None]
        return not numbers or (min(numbers) >= -_MOST_EXACT and max(numbers) <= _MOST_EXACT)
    return False


def _cell(value: Value, key: str, n_row: int) -> Any:
    if isinstance(value, str):
        _check_length(value, f"The cell in row {n_row:,}, column “{key}”")
        return value
    if isinstance(value, int):
        return value if abs(value) <= _MOST_EXACT else str(value)
    if isinstance(value, datetime):
        is_held = value.date() >= _FIRST_DAY and not value.microsecond
        in_utc = value if value.tzinfo is UTC else value.astimezone(UTC)
        return in_utc.replace(tzinfo=None) if is_held else as_text(value)
    if isinstance(value, date):
        return value if value >= _FIRST_DAY else as_text(value)
    return value


def _check_length(text: str, what: str) -> None:
    length = len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2
    if length > MAX_CHARACTERS:
        raise CannotHold(
            f"{what} has {length:,} characters; Excel holds {MAX_CHARACTERS:,} at most. Choose CSV, JSON or Parquet."
        )
