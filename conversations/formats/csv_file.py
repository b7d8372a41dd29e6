"""The CSV that is written once, from which every other format is made.

RFC 4180 (CRLF, quotes doubled), UTF-8 without byte order mark, header of column names; null is an empty cell.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext

from conversations.formats.table import guarded
from conversations.pipeline.tools import FORMULA_STARTS, Cell, TableResult

#: Rows kept with the export, for the page.
PREVIEW = 10
#: Bytes handed on together.
_CHUNK = 256 * 1024
#: Rows between two looks at the clock, the stop flag and the progress.
_STEP = 500


class CsvFile:
    """Written while it is read: memory stays flat whatever the number of rows.

    A row that is a text is its line, with nothing to be guarded; the first `PREVIEW` rows are cells.

    After it has been read: `n_rows`, `n_guarded`, `first_rows`. `on_step` is called with the rows so far and may raise
    to stop.
    """

    def __init__(
        self, header: Sequence[str], rows: Iterable[str | Sequence[Cell]], on_step: Callable[[int], None]
    ) -> None:
        self._header = header
        self._rows = rows
        self._on_step = on_step
        self.n_rows = self.n_guarded = 0
        self.first_rows: list[list[Cell]] = []

    def chunks(self) -> Generator[bytes]:
        """The file's bytes, once. Close it when it isn't read to its end: that closes the rows."""
        with closing(self._rows) if isinstance(self._rows, Generator) else nullcontext():
            yield from self._chunks()

    def _chunks(self) -> Iterator[bytes]:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(self._safe(self._header))
        for row in self._rows:
            if self.n_rows < PREVIEW:
                self.first_rows.append(list(row))
            self.n_rows += 1
            if row.__class__ is str:
                text.write(row)  # type: ignore[arg-type]  # its class says that it is text
            else:
                writer.writerow(self._safe(row))
            if self.n_rows % _STEP == 0:
                self._on_step(self.n_rows)
                if text.tell() >= _CHUNK:
                    yield _taken(text)
        yield _taken(text)

    def _safe(self, row: Sequence[Cell]) -> Sequence[Cell]:
        for cell in row:
            if cell.__class__ is str and cell[:1] in FORMULA_STARTS:  # type: ignore[index]  # its class says that it is text
                return self._guard(row)
        return row

    def _guard(self, row: Sequence[Cell]) -> Sequence[Cell]:
        cells = [guarded(cell) if isinstance(cell, str) else cell for cell in row]
        self.n_guarded += sum(1 for before, after in zip(row, cells, strict=True) if before is not after)
        return cells


def of(result: TableResult, on_step: Callable[[int], None]) -> CsvFile:
    """The file of a tool's rows."""
    rows = result.open_rows() if result.open_lines is None else result.open_lines(PREVIEW)
    return CsvFile([column.name for column in result.columns], rows, on_step)


def _taken(text: io.StringIO) -> bytes:
    chunk = text.getvalue().encode()
    text.seek(0)
    text.truncate()
    return chunk
