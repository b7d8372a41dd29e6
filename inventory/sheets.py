"""A file as rows of cells, whatever its format: what the readers of formats give and the import takes."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from inventory.headers import Column, columns_of, layout_of
from inventory.layouts import Layout
from inventory.values import BLANKS

#: One cell, and one line of a file, may be this long: what is longer is no inventory, and must not fill the memory.
MAX_CELL_CHARS = 16 * 1024 * 1024

#: NUL, which no database keeps in a text. Half a surrogate pair in JSON, which nothing can keep, is read as NUL.
NUL, REPLACEMENT = "\0", "\ufffd"
REPLACED = "the characters that can't be stored (NUL, halves of surrogate pairs) were replaced by U+FFFD"


class NotATable(Exception):
    """The file is no table: nothing was written. The message says why and what to do, for people."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that could not be taken as it stands."""

    #: Of CSV as a spreadsheet counts: the header is row 1. Of JSON the n-th object or, when each has a line, the line.
    row: int
    #: Blank: the row could not be read at all.
    column: str
    value: str
    message: str

    def __str__(self) -> str:
        column = self.column if self.column.isprintable() else ascii(self.column)[1:-1]
        where = f"row {self.row}, {column}" if column else f"row {self.row}"
        shown = self.value if len(self.value) <= 80 else f"{self.value[:80]}…"  # noqa: PLR2004  one line of a terminal
        return f"{where}: {ascii(shown) if not shown.isprintable() else repr(shown)}: {self.message}"


OnProblem = Callable[[Problem], None]


class Row(NamedTuple):
    #: As in `Problem`.
    number: int
    #: In the file's order; those that are empty may be left out.
    cells: Sequence[tuple[Column, str]]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    format: Literal["CSV", "TSV", "JSON", "XLSX"]
    layout: Layout
    columns: Sequence[Column]
    n_rows: int
    #: Reads from the first row on. Rows that can't be read are left out, and blank ones. Raises OSError, ValueError or
    #: NotATable when the file has changed or gone since it was opened.
    rows: Callable[[], Iterator[Row]]
    #: What people should know of the file as a whole.
    warnings: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """For people: "NetBox devices (JSON)", or only "JSON"."""
        return f"{self.layout.title} ({self.format})" if self.layout.title else self.format


def columns_from(header: Sequence[str], *, late: Container[str] = ()) -> tuple[Layout, list[Column]]:
    """What the names in the header mean. Raises NotATable when none is known."""
    layout = layout_of(header)
    columns = columns_of(header, layout, late=late)
    if columns is None:
        shown = ", ".join(repr(name[:30]) for name in header[:4])
        raise NotATable(
            f"It names no column that assets have (name, ip_address, serial_number …), but {shown}. "
            "Name the columns in the first line of a CSV or TSV file or a sheet, or the values of each JSON object."
        )
    return layout, columns


def row_of(number: int, columns: Sequence[Column], texts: Sequence[str]) -> Row:
    """Texts beyond the header are in columns of their own."""
    cells = [(column, text) for column, text in zip(columns, texts, strict=False) if text]
    surplus = [
        (Column(header=f"column_{n}", kind="surplus"), text)
        for n, text in enumerate(texts[len(columns) :], start=len(columns) + 1)
        if not is_blank([text])
    ]
    return Row(number, cells + surplus)


def is_blank(texts: Iterable[str]) -> bool:
    return not any(text.strip(BLANKS) for text in texts)


def storable(text: str) -> str:
    return text.replace(NUL, REPLACEMENT)
