"""The CSV that is written once, from which every other format is made.

RFC 4180 (CRLF, quotes doubled), UTF-8 without byte order mark, header of column names; null is an empty cell.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence

from conversations.formats.table import guarded
from conversations.pipeline.tools import Cell, TableResult

#: Rows kept with the export, for the page.
PREVIEW = 10
#: Bytes handed on together.
_CHUNK = 256 * 1024
#: Rows between two looks at the clock, the stop flag and the progress.
_STEP = 500
#: What a cell begins with that `guarded` may change: most cells are let through at this look.
_SUSPECT = frozenset("=+-@\t\r'")


class CsvFile:
    """Written while it is read: memory stays flat whatever the number of rows.

    After it has been read: `n_rows`, `n_guarded`, `first_rows`. `on_step` is called with the rows so far and may raise
    to stop.
    """

    def __init__(self, header: Sequence[str], rows: Iterable[Sequence[Cell]], on_step: Callable[[int], None]) -> None:
        self._header = header
        self._rows = rows
        self._on_step = on_step
        self.n_rows = self.n_guarded = 0
        self.first_rows: list[list[Cell]] = []

    def chunks(self) -> Iterator[bytes]:
        """The file's bytes, once."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(self._safe(self._header))
        for row in self._rows:
            if self.n_rows < PREVIEW:
                self.first_rows.append(list(row))
            self.n_rows += 1
            writer.writerow(self._safe(row))
            if self.n_rows % _STEP == 0:
                self._on_step(self.n_rows)
                if text.tell() >= _CHUNK:
                    yield _taken(text)
        yield _taken(text)

    def _safe(self, row: Sequence[Cell]) -> Sequence[Cell]:
        for cell in row:
            if cell.__class__ is str and cell[:1] in _SUSPECT:  # type: ignore[index]  # its class says that it is text
                return self._guard(row)
        return row

    def _guard(self, row: Sequence[Cell]) -> Sequence[Cell]:
        cells = [guarded(cell) if isinstance(cell, str) else cell for cell in row]
        self.n_guarded += sum(1 for before, after in zip(row, cells, strict=True) if before is not after)
        return cells


def of(result: TableResult, on_step: Callable[[int], None]) -> CsvFile:
    """The file of a tool's rows."""
    return CsvFile([column.name for column in result.columns], result.open_rows(), on_step)


def _taken(text: io.StringIO) -> bytes:
    chunk = text.getvalue().encode()
    text.seek(0)
    text.truncate()
    return chunk
