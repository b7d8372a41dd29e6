"""Every format is read back by a reader that did not write it, and compared cell by cell (docs/formats.md)."""

from __future__ import annotations

import base64
import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet
from hypothesis import HealthCheck, example, given, settings
from lxml import etree
from openpyxl.utils.escape import unescape

from conversations.formats import parquet, text, xlsx
from conversations.formats.table import guarded, unguarded
from conversations.pipeline.tools import Cell, Column
from tests.formats.tables import Given, expected, tables, text_of
from tests.formats.tables import given as table_of

often = settings(max_examples=80, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
seldom = settings(often, max_examples=30)

#: What every format must hold whatever hypothesis finds.
NOTHING = table_of([Column(name="a", type="text")], [])
ONE_EMPTY = table_of([Column(name="a", type="text")], [(None,), ("",), ("x",)])
WIDE = table_of([Column(name=f"c{n}", type="text") for n in range(2000)], [tuple(f"={n}" for n in range(2000))])
OLD = table_of([Column(name="d", type="date")], [("0001-01-01",), ("1899-12-31",), ("1900-02-28",), ("1900-03-01",)])


def written(parts: Iterator[bytes]) -> bytes:
    return b"".join(parts)


def at_path(write: Callable[[Any, Path], None], table: Given) -> io.BytesIO:
    """The file that the format writes to a path."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        write(table.table, path)
        return io.BytesIO(path.read_bytes())


def cells_of_csv(content: bytes, dialect: str) -> list[list[str]]:
    rows = list(csv.reader(io.StringIO(content.decode(), newline=""), dialect=dialect, strict=True))
    return [row or [""] for row in rows]


def safe(cell: Cell) -> str:
    return guarded(cell) if isinstance(cell, str) else text_of(cell)


@often
@given(tables())
@example(NOTHING)
@example(ONE_EMPTY)
@example(WIDE)
def test_csv_and_tsv_give_every_cell_with_its_guard(table: Given) -> None:
    names, rows = [column.name for column in table.columns], [list(row) for row in table.rows]
    contents: list[tuple[bytes, str]] = [(table.csv, "excel"), (written(text.tsv(table.table)), "excel-tab")]
    for content, dialect in contents:
        header, *found = cells_of_csv(content, dialect)
        assert header == [guarded(name) for name in names]
        assert found == [[safe(cell) for cell in row] for row in rows]
        assert [[unguarded(cell) for cell in row] for row in found] == [[text_of(cell) for cell in row] for row in rows]
    every: list[Sequence[Cell]] = [names, *rows]
    texts = [cell for row in every for cell in row if isinstance(cell, str)]
    assert table.n_guarded == sum(guarded(cell) != cell for cell in texts)


@seldom
@given(tables())
def test_the_csv_for_excel_is_the_csv_behind_a_byte_order_mark(table: Given) -> None:
    assert written(text.csv_for_excel(table.table)) == b"\xef\xbb\xbf" + table.csv


def plain(value: Any) -> Any:
    """In formats without dates: ISO 8601 text."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value


def records(table: Given, form: Callable[[Any], Any]) -> list[dict[str, Any]]:
    return [
        {
            key: form(expected(cell, column))
            for key, column, cell in zip(table.table.keys, table.columns, row, strict=True)
        }
        for row in table.rows
    ]


@often
@given(tables())
@example(NOTHING)
@example(ONE_EMPTY)
@example(WIDE)
@example(OLD)
def test_json_gives_numbers_as_numbers_and_the_rest_as_text(table: Given) -> None:
    assert json.loads(written(text.json_array(table.table))) == records(table, plain)
    lines = written(text.ndjson(table.table)).decode().split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == records(table, plain)


@often
@given(tables())
@example(NOTHING)
@example(ONE_EMPTY)
@example(WIDE)
def test_xml_is_well_formed_and_gives_every_cell(table: Given) -> None:
    root = etree.fromstring(written(text.xml(table.table)), etree.XMLParser(huge_tree=True))
    assert [(name_of(each), each.get("type")) for each in root.find("columns")] == [
        (key, column.type) for key, column in zip(table.table.keys, table.columns, strict=True)
    ]
    found = [{name_of(field): text_in(field) for field in row} for row in root.find("rows")]
    assert found == [
        {key: text_of(plain(value)) for key, value in record.items() if value is not None}
        for record in records(table, lambda value: value)
    ]


def name_of(element: Any) -> str:
    name = element.get("name")
    return base64.b64decode(name).decode() if element.get("name-encoding") == "base64" else str(name)


def text_in(field: Any) -> str:
    content = field.text or ""
    return base64.b64decode(content).decode() if field.get("encoding") == "base64" else content


@often
@given(tables())
@example(NOTHING)
@example(ONE_EMPTY)
@example(OLD)
def test_parquet_gives_every_cell_in_the_columns_type(table: Given) -> None:
    found = pyarrow.parquet.read_table(at_path(parquet.write, table))
    assert found.num_rows == len(table.rows)
    for key, column, cells in zip(table.table.keys, table.columns, zip(*table.rows, strict=True), strict=False):
        values = found.column(key).to_pylist()
        wanted = [expected(cell, column) for cell in cells]
        # Values that no one type holds exactly are all text.
        is_text = str(found.schema.field(key).type) == "string"
        assert values == ([None if v is None else text_of(plain(v)) for v in wanted] if is_text else wanted)


@often
@given(tables())
@example(NOTHING)
@example(ONE_EMPTY)
@example(OLD)
def test_xlsx_gives_typed_cells(table: Given) -> None:
    sheet = openpyxl.load_workbook(at_path(xlsx.write, table)).active
    assert sheet is not None
    header, *found = sheet.iter_rows(values_only=True)
    assert [unescape(str(name)) for name in header] == table.table.keys
    rows = [row for row in found if table.rows]
    assert len(rows) >= len([row for row in table.rows if any(text_of(cell) for cell in row)])
    for row, given_row in zip(rows, table.rows, strict=False):
        for cell, value, column in zip(row, given_row, table.columns, strict=True):
            assert in_excel(cell) == wanted_in_excel(expected(value, column)), (cell, value)
    assert (sheet.freeze_panes, bool(sheet.auto_filter.ref)) == ("A2", True)


def in_excel(cell: Any) -> Any:
    return unescape(cell) if isinstance(cell, str) else cell


def wanted_in_excel(value: Any) -> Any:
    if isinstance(value, int):
        return value if abs(value) <= 2**53 else str(value)
    if isinstance(value, datetime):
        is_held = value.date() >= date(1900, 3, 1) and not value.microsecond
        return value.astimezone(UTC).replace(tzinfo=None) if is_held else plain(value)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day) if value >= date(1900, 3, 1) else plain(value)  # noqa: DTZ001  Excel has no zones
    return value


def row_counts(table: Given) -> Sequence[int]:
    return [
        len(cells_of_csv(table.csv, "excel")) - 1,
        len(cells_of_csv(written(text.tsv(table.table)), "excel-tab")) - 1,
        len(json.loads(written(text.json_array(table.table)))),
        written(text.ndjson(table.table)).count(b"\n"),
        len(etree.fromstring(written(text.xml(table.table))).find("rows")),
        pyarrow.parquet.read_metadata(at_path(parquet.write, table)).num_rows,
    ]


@seldom
@given(tables())
@example(NOTHING)
@example(ONE_EMPTY)
def test_all_formats_have_the_same_number_of_rows(table: Given) -> None:
    assert set(row_counts(table)) == {len(table.rows)}
