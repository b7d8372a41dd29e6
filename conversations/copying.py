"""Rows of an export as text for the clipboard."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from conversations import exports
from conversations.formats.csv_file import PREVIEW
from conversations.formats.table import Table, guarded, unguarded
from conversations.models import Export
from conversations.pipeline.tables import markdown_table

#: More rows than this nobody pastes: only those of the preview are copied then, and the page says so.
MOST_ROWS = 10_000
MOST_BYTES = 5_000_000


def n_rows(export: Export) -> int:
    """How many rows a copy has."""
    n_bytes = max((file.n_bytes for file in export.files.all() if file.format == "csv"), default=0)
    return export.n_rows if export.n_rows <= MOST_ROWS and n_bytes <= MOST_BYTES else min(PREVIEW, export.n_rows)


def text_of(export: Export, way: str) -> str:
    """The rows with their header. `way` is one of WAYS. Raises files.Corrupt."""
    table = exports.table_of(export)
    return WAYS[way](table, list(islice(table.texts(), n_rows(export))))


def _tsv(table: Table, rows: Sequence[Sequence[str]]) -> str:
    """For spreadsheets, which read no quotes in what is pasted: tabs and line breaks become spaces. Guards stay."""
    header = [guarded(column.name) for column in table.columns]
    return "\n".join("\t".join(_on_a_line(cell) for cell in row) for row in (header, *rows))


def _on_a_line(cell: str) -> str:
    if not {"\t", "\r", "\n"} & set(cell):
        return cell
    # What stood behind a line break stands first now.
    return guarded(" ".join(unguarded(cell).split()))


def _csv(table: Table, rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([guarded(column.name) for column in table.columns])
    writer.writerows(rows)
    return text.getvalue()


def _markdown(table: Table, rows: Iterable[Sequence[str]]) -> str:
    """Read by people, so without guards."""
    header = [column.name for column in table.columns]
    return "\n".join(markdown_table(header, [[unguarded(cell) for cell in row] for row in rows])) + "\n"


WAYS: Mapping[str, Callable[[Table, Sequence[Sequence[str]]], str]] = {"tsv": _tsv, "csv": _csv, "markdown": _markdown}
