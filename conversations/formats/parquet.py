"""Parquet: typed columns, a row group at a time."""

from __future__ import annotations

from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from conversations.formats.table import Table, Value, as_text

#: Cells held at a time, and the most rows.
_CELLS_A_GROUP = 200_000
_ROWS_A_GROUP = 20_000
_LEAST_INT, _MOST_INT = -(2**63), 2**63 - 1
_MOST_EXACT = 2**53


def write(table: Table, path: Path) -> None:
    """Reads the table twice: a column's type is one in which every cell is held exactly, or else text."""
    schema = _schema(table)
    n_rows = max(1, min(_ROWS_A_GROUP, _CELLS_A_GROUP // max(1, len(schema))))
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        rows = table.rows()
        while group := list(islice(rows, n_rows)):
            columns = [
                pa.array([_cell(row[n], field.type) for row in group], type=field.type)
                for n, field in enumerate(schema)
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    # Arrow keeps what it was given for the next time.
    pa.default_memory_pool().release_unused()


class _Seen:
    """What kinds of values a column has."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()

    def add(self, value: Value) -> None:
        if isinstance(value, int):
            self.kinds.add(
                "exact" if abs(value) <= _MOST_EXACT else "long" if _LEAST_INT <= value <= _MOST_INT else "text"
            )
        elif isinstance(value, float):
            self.kinds.add("float")
        elif isinstance(value, datetime):
            self.kinds.add("instant")
        elif isinstance(value, date):
            self.kinds.add("day")
        elif value is not None:
            self.kinds.add("text")

    @property
    def type(self) -> pa.DataType:
        if self.kinds <= {"exact", "long"} and self.kinds:
            return pa.int64()
        if self.kinds <= {"exact", "float"} and self.kinds:
            return pa.float64()
        if self.kinds == {"day"}:
            return pa.date32()
        if self.kinds == {"instant"}:
            return pa.timestamp("us", tz="UTC")
        return pa.string()


_DEFAULTS = {"number": pa.float64(), "date": pa.date32(), "datetime": pa.timestamp("us", tz="UTC")}


def _schema(table: Table) -> pa.Schema:
    typed = [n for n, column in enumerate(table.columns) if column.type in _DEFAULTS]
    seen = {n: _Seen() for n in typed}
    if typed:
        for row in table.rows():
            for n in typed:
                seen[n].add(row[n])
    fields = []
    for n, (key, column) in enumerate(zip(table.keys, table.columns, strict=True)):
        kind = pa.string()
        if n in seen:
            kind = seen[n].type if seen[n].kinds else _DEFAULTS[column.type]
        fields.append(pa.field(key, kind))
    return pa.schema(fields)


def _cell(value: Value, kind: pa.DataType) -> Any:
    if value is not None and kind == pa.string():
        return as_text(value)
    return float(value) if isinstance(value, int) and kind == pa.float64() else value
