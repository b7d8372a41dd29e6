"""Problems of an import as CSV: each of them, whole, for people to correct the file by."""

from __future__ import annotations

import csv
import io
import tempfile
from types import TracebackType
from typing import Self

from inventory.csv_sheet import guarded
from inventory.sheets import Problem

HEADER = ("row", "column", "value", "message")


class ProblemFile:
    """Called with each problem; a temporary file holds them, so that a million are no more than one."""

    def __init__(self) -> None:
        self.n_problems = 0
        self.file = tempfile.TemporaryFile()  # noqa: SIM115  closed by __exit__
        self._text = io.TextIOWrapper(self.file, encoding="utf-8", errors="replace", newline="", write_through=True)
        self._writer = csv.writer(self._text, lineterminator="\r\n")
        self._writer.writerow(HEADER)

    def __call__(self, problem: Problem) -> None:
        """Raises OSError when the disk is full."""
        self.n_problems += 1
        self._writer.writerow([problem.row, *map(guarded, (problem.column, problem.value, problem.message))])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._text.close()
