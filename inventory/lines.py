"""Rows as PostgreSQL draws them: the lines of the exported CSV, by COPY, which costs a fraction of reading the values.

The database draws the ordinary rows and marks the others, which are read here as they always are: what is text, a guard
or an odd number is decided in one place, in Python.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence

from django.core.exceptions import EmptyResultSet
from django.db import connections

from conversations.pipeline.tools import FORMULA_STARTS, Cell, FieldSpec, FieldType
from inventory.cells import column_of, number
from inventory.conditions import is_attribute
from inventory.models import AssetQuerySet, AttributeText

#: PostgreSQL allows 1,664 columns in one SELECT, and pays for each: above this all attributes are read at once.
MAX_COLUMNS = 200
#: The csv module refuses longer cells unless it is told; PostgreSQL's are at most as long.
_LONGEST_CELL = 2**27
#: Ends the line of a row that the database could draw: the mark, its last column, is null.
_DRAWN = b",\n"

_LIKE_FORMULAS = "ASCII({{0}}) IN ({})".format(", ".join(str(ord(start)) for start in sorted(FORMULA_STARTS)))
_AT = "{0} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS"
#: Type -> the cell's text, and what marks it as not ordinary. As `cells.reader_of` and the csv module write it.
_SQL: Mapping[FieldType, tuple[str, str]] = {
    "id": ("{0}", ""),
    # Above the limit PostgreSQL and Python write numbers differently; so it is with infinity and NaN. Never "-0".
    "number": ("{0} + 0", "NOT (ABS({0}) < 1e15)"),
    "date": ("TO_CHAR({0}, 'YYYY-MM-DD')", ""),
    "datetime": (
        f"CASE WHEN DATE_TRUNC('second', {{0}}) = {{0}} THEN TO_CHAR({_AT}\"Z\"') ELSE TO_CHAR({_AT}.US\"Z\"') END", ""
    ),
    # Made of the tags' lines: no tag holds a line break.
    "list": ("NULLIF(REPLACE(BTRIM({0}, E'\\n'), E'\\n', ';'), '')", _LIKE_FORMULAS.format("BTRIM({0}, E'\\n')")),
}  # fmt: skip
_TEXT = ("NULLIF({0}, '')", _LIKE_FORMULAS)


def can_draw(assets: AssetQuerySet, fields: Sequence[FieldSpec]) -> bool:
    """Whether `drawn` can be asked. The csv module writes a single empty cell in quotes, COPY does not."""
    return connections[assets.db].vendor == "postgresql" and 1 < len(fields) <= MAX_COLUMNS


def drawn(assets: AssetQuerySet, fields: Sequence[FieldSpec], n_cells: int) -> Iterator[str | Sequence[Cell]]:
    """The rows as `TableResult.open_lines` gives them. Close it when it isn't read to its end: that ends the COPY."""
    try:
        statement, params = _copy(assets, fields)
    except EmptyResultSet:
        return
    connection = connections[assets.db]
    with connection.wrap_database_errors, connection.cursor() as cursor, cursor.cursor.copy(statement, params) as copy:
        # One row each: the protocol says so.
        for number, line in enumerate(map(bytes, copy)):
            if number >= n_cells and line.endswith(_DRAWN):
                yield line[: -len(_DRAWN)].decode() + "\r\n"
            else:
                yield _cells(line, fields)


def _copy(assets: AssetQuerySet, fields: Sequence[FieldSpec]) -> tuple[str, Sequence[object]]:
    """The statement and its parameters. Raises EmptyResultSet when no row can meet the filters."""
    found, params = assets.values_list(*(_source(field) for field in fields)).query.sql_with_params()
    names = [f"c{number}" for number in range(len(fields))]
    cells, marks = [], []
    for name, field in zip(names, fields, strict=True):
        cell, mark = _SQL.get(field.type, _TEXT)
        cells.append(cell.format(name))
        if mark:
            marks.append(mark.format(name))
    mark = f"CASE WHEN {' OR '.join(marks) or 'FALSE'} THEN 1 END"
    drawing = f"SELECT {', '.join(cells)}, {mark} FROM ({found}) AS found({', '.join(names)})"  # noqa: S608  values are parameters
    return f"COPY ({drawing}) TO STDOUT (FORMAT csv)", params


def _source(field: FieldSpec) -> str | AttributeText:
    if is_attribute(field):
        return AttributeText(field.name)
    return "tag_text" if field.type == "list" else column_of(field)


def _cells(line: bytes, fields: Sequence[FieldSpec]) -> list[Cell]:
    """The row's cells, as `open_rows` gives them."""
    csv.field_size_limit(_LONGEST_CELL)
    (texts,) = csv.reader([line.decode()])
    return [_READERS.get(field.type, _text)(text) for field, text in zip(fields, texts, strict=False)]


def _text(text: str) -> Cell:
    return text or None


def _number(text: str) -> Cell:
    return number(float(text)) if text else None


_READERS: Mapping[FieldType, Callable[[str], Cell]] = {"number": _number}
