"""Fenced ```csv blocks of a markdown answer: found by CommonMark's own rules, read as RFC 4180."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass

from markdown_it import MarkdownIt

_MARKDOWN = MarkdownIt("commonmark")
#: What the parser counts as the end of a line.
_LINE_END = re.compile(r"\r\n?|\n")


@dataclass(frozen=True, kw_only=True)
class CsvBlock:
    #: Where the fence stands in the text, in code points, the closing line included.
    start: int
    end: int
    header: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]


def find(markdown: str) -> list[CsvBlock]:
    """The csv blocks of the text in their order; blocks without a header line are left out.

    A row shorter than the widest is filled with nulls, columns without a name are called `column_<n>`: no cell is lost.
    """
    offsets = [0, *(line_end.end() for line_end in _LINE_END.finditer(markdown)), len(markdown)]
    blocks = []
    for token in _MARKDOWN.parse(markdown):
        if token.type != "fence" or token.map is None or token.info.strip().lower().split(" ")[0] != "csv":
            continue
        table = [row for row in csv.reader(io.StringIO(token.content, newline="")) if row]
        if table:
            first, last = token.map
            header, rows = _rectangular(table)
            blocks.append(CsvBlock(start=offsets[first], end=offsets[last], header=header, rows=rows))
    return blocks


def _rectangular(table: list[list[str]]) -> tuple[tuple[str, ...], tuple[tuple[str | None, ...], ...]]:
    width = max(len(row) for row in table)
    names = table[0] + [""] * (width - len(table[0]))
    header = tuple(name.strip() or f"column_{n}" for n, name in enumerate(names, start=1))
    rows = tuple(tuple(cell or None for cell in row) + (None,) * (width - len(row)) for row in table[1:])
    return header, rows
