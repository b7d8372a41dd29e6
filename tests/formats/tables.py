"""Random tables for the formats, and tables from rows."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from hypothesis import strategies as st

from conversations.formats.csv_file import CsvFile
from conversations.formats.table import Table
from conversations.pipeline.tools import Cell, Column


@dataclass(frozen=True, kw_only=True)
class Given:
    """What an export was given, and what was stored of it."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    table: Table
    csv: bytes
    n_guarded: int


def given(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> Given:
    file = CsvFile([column.name for column in columns], rows, lambda _: None)
    content = b"".join(file.chunks())
    assert file.n_rows == len(rows)
    table = Table(columns=columns, open_csv=lambda: io.BytesIO(content))
    return Given(columns=columns, rows=rows, table=table, csv=content, n_guarded=file.n_guarded)


def text_columns(*names: str) -> list[Column]:
    return [Column(name=name, type="text") for name in names]


def text_of(cell: Cell) -> str:
    """As the contract writes a cell, without guard; null is empty."""
    return "" if cell is None else str(cell)


def expected(cell: Cell, column: Column) -> Any:
    """What a format with types gives for the cell: docs/formats.md."""
    text = text_of(cell)
    if not text:
        return None
    if column.type == "number" and isinstance(cell, int | float):
        return cell if isinstance(cell, int) or math.isfinite(cell) else text
    if column.type == "date" and isinstance(cell, str):
        return date.fromisoformat(cell)
    if column.type == "datetime" and isinstance(cell, str):
        return datetime.fromisoformat(cell).astimezone(UTC)
    return text


_ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
_HOSTILE = st.sampled_from(
    [
        *(
            "007",
            "9223372036854775807",
            "1234567890123456789",
            "1e5",
            "TRUE",
            "null",
            "NaN",
            "1899-12-31",
            "2026-02-30",
        ),
        *("=1+1", "+49 30", "-x", "-5", "@a", "\tx", "\rx", "'=x", "''=x", "'plain"),
        *('"', 'say "hi"', "a,b", "a\tb", "a;b", "a\nb", "a\r\nb", "\r", "\n", "|", "\\", "`", " lead", "trail "),
        *(
            "\x00",
            "a\x00b",
            "\x01\x1f\x7f\x85",
            "\u2028",
            "\ufffe\uffff",
            "\ufeffbom",
            "_x0041_",
            "_x005F_",
            "x" * 5000,
        ),
        *("😀👩\u200d💻", "é", "e\u0301", "مرحبا", "http://example.net/", "mailto:a@b.c", "internal:Sheet1!A1"),
        *("<a href='x'>&amp;</a>", "]]>", "<!--", "&#0;"),
    ]
)
_TEXT = st.one_of(_ANY_TEXT, _HOSTILE)
_EDGES = st.sampled_from([0.1, -0.0, 1e22, 1e-7, 2**53, 2**53 + 1, 10**18, 10**400])
_NUMBER = st.one_of(st.integers(-(2**70), 2**70), st.integers(-1000, 1000), st.floats(), _EDGES)
_DAY = st.dates().map(date.isoformat)
_INSTANT = st.datetimes(timezones=st.just(UTC)).map(lambda at: at.isoformat().replace("+00:00", "Z"))
_CELLS: dict[str, st.SearchStrategy[Cell]] = {
    "text": _TEXT, "id": _TEXT, "address": _TEXT, "list": _TEXT, "number": _NUMBER, "date": _DAY, "datetime": _INSTANT,
}  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> Given:
    """Up to five columns of any types and eight rows; names may be empty, the same, or hostile."""
    kinds = draw(st.lists(st.sampled_from(sorted(_CELLS)), min_size=1, max_size=5))
    columns = [Column(name=draw(_TEXT), type=kind) for kind in kinds]  # type: ignore[arg-type]  # a key of _CELLS
    row = st.tuples(*(st.one_of(st.none(), _CELLS[kind]) for kind in kinds))
    return given(columns, draw(st.lists(row, max_size=8)))
