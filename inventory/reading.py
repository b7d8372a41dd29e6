"""A file as a sheet, by what it holds and not by its name.

A file is read through once before anybody gets a row of it, so that one that turns out to be no table has no effect.
"""

from __future__ import annotations

import codecs
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from inventory.csv_sheet import csv_sheet
from inventory.json_sheet import json_sheet
from inventory.sheets import NotATable, OnProblem, Sheet
from inventory.xlsx_sheet import xlsx_sheet

#: What other files begin with -> what they are, and what to do.
_OTHERS: Mapping[bytes, str] = {
    b"\x89PNG": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
    b"GIF8": "a picture (GIF)",
    b"%PDF": "a PDF document. Export the table itself, as CSV or JSON",
    b"\xd0\xcf\x11\xe0": "an old Excel file (XLS), or one with a password. Save it as XLSX, without a password",
    b"\x1f\x8b": "compressed (gzip). Unpack it first",
    b"SQLite format 3": "a database (SQLite). Export the table itself, as CSV or JSON",
    codecs.BOM_UTF16_LE: "text in UTF-16. Save it as UTF-8: spreadsheets call it “CSV UTF-8”",
    codecs.BOM_UTF16_BE: "text in UTF-16. Save it as UTF-8: spreadsheets call it “CSV UTF-8”",
}
#: Of workbooks (XLSX), and of other archives.
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
#: Bytes that are looked at to tell what a file is.
_HEAD = 4096


@contextmanager
def open_sheet(path: Path, *, on_problem: OnProblem) -> Iterator[Sheet]:
    """Reports the rows that can't be read. Raises NotATable for a file that is none, OSError when it can't be read."""
    with path.open("rb") as raw, _seekable(raw) as file:
        head = file.read(_HEAD).removeprefix(codecs.BOM_UTF8).lstrip()
        file.seek(0)
        yield _reader(head)(file, on_problem)


def _reader(head: bytes) -> Callable[[BinaryIO, OnProblem], Sheet]:
    """Raises NotATable."""
    if head.startswith(_ZIP):
        return xlsx_sheet
    _refuse_others(head)
    return json_sheet if head[:1] in (b"[", b"{") else csv_sheet


def _refuse_others(head: bytes) -> None:
    for signature, what in _OTHERS.items():
        if head.startswith(signature):
            raise NotATable(f"The file is no table but {what}.")
    if head[:1] == b"<":
        raise NotATable("The file is a web page or XML, maybe a tool's sign-in page. Export the table as CSV or JSON.")
    if head[:64].count(0) > len(head[:64]) // 4:
        raise NotATable("The file is no text, or text in UTF-16. Save it as UTF-8 and import that.")


@contextmanager
def _seekable(raw: BinaryIO) -> Iterator[BinaryIO]:
    """The file itself or, of a pipe, which can be read only once, a copy."""
    if raw.seekable():
        yield raw
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(raw, copy)
        copy.seek(0)
        yield copy
