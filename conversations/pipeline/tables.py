"""Markdown tables, written by the server from a tool's rows (GitHub's pipe tables)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from conversations.pipeline.tools import Cell

#: What markdown would read as markup inside a cell; underscores only at a word's edge (CommonMark's flanking rule).
_MARKUP = re.compile(r"[\\`*\[\]<>|~&]|(?<![^\W_])_|_(?![^\W_])")
_BREAKS = re.compile(r"\r\n|[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]")


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Iterator[str]:
    """The table's lines, without line ends: header, rule, rows. An empty cell is null."""
    yield _line(columns)
    yield _line_of(["---"] * len(columns))
    for row in rows:
        yield _line(row)


def _line(cells: Sequence[Cell]) -> str:
    return _line_of([_cell(cell) for cell in cells])


def _line_of(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(cell: Cell) -> str:
    if cell is None:
        return ""
    return _MARKUP.sub(lambda found: "\\" + found.group(), _BREAKS.sub(" ", str(cell)))
