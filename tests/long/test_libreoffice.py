"""Files of exports in LibreOffice: it opens them and writes CSV of what it took them for, which is compared by cell.

What LibreOffice does by itself, whoever wrote the file:

- it guesses the type of each cell of a CSV or TSV, so that 007 becomes 7. The columns of text are imported as text,
  as its import dialog offers, and so are instants; the file has no place to say so;
- it shows numbers with the digits that a sheet shows, so they are compared as numbers;
- it writes line breaks within cells as LF;
- instants of a workbook have no zone, as in Excel: they are UTC, in the format that the file gives them.
"""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from conversations.formats import text, xlsx
from conversations.formats.table import guarded
from conversations.pipeline.tools import Cell, Column
from tests.formats.tables import given, text_of
from tests.long import libreoffice

COLUMNS = [
    Column(name="asset", type="id"), Column(name="words, “quoted”", type="text"), Column(name="serial", type="text"),
    Column(name="n", type="number"), Column(name="bought", type="date"), Column(name="seen", type="datetime"),
]  # fmt: skip
ROWS: list[tuple[Cell, ...]] = [
    ("007", "=1+1", "1234567890123456789", 5, "2026-11-22", "2026-11-22T08:30:00Z"),
    ("00000", "+49 30 1234", "9999999999999999999", -5, "1999-12-31", "1999-12-31T23:59:59Z"),
    ("1E5", "-x", "0x10", 0.1, "2024-02-29", "2024-02-29T00:00:00Z"),
    ("3-4", "@SUM(A1)", "1/2", 1234567.25, "1900-03-01", "1970-01-01T00:00:00Z"),
    ("TRUE", "two\nlines", "true", 2**40, "2100-01-01", "2038-01-19T03:14:08Z"),
    ("x", 'say "hi", he said; or\ttab', "#N/A", 0, None, None),
    ("Zürich", "🙂 👩‍👩‍👧 日本 مرحبا", "  both ends  ", None, "2026-01-02", "2026-06-01T12:00:00Z"),
    ("'quoted", "''=twice", "=HYPERLINK(\"http://example.net\")", -0.5, "2026-12-31", "2026-12-31T00:00:01Z"),
    ("10%", "$5", "12:30", 1e15, "2000-01-01", "2000-01-01T00:00:00Z"),
]  # fmt: skip
TABLE = given(COLUMNS, ROWS)


@pytest.fixture(scope="module")
def soffice() -> str:
    return libreoffice.find()


def opened(soffice: str, folder: Path, file: Path, *, separator: str | None = None) -> list[list[str]]:
    """The cells as LibreOffice shows them, with the header. `separator`: the file is text."""
    arguments = ["--headless", f"-env:UserInstallation={(folder / 'profile').as_uri()}"]
    if separator is not None:
        # 2 is text, 1 what it finds, 5 a date with the year first.
        kinds = {"number": 1, "date": 5}
        columns = "/".join(f"{n}/{kinds.get(column.type, 2)}" for n, column in enumerate(COLUMNS, 1))
        arguments.append(f"--infilter=Text - txt - csv (StarCalc):{ord(separator)},34,76,1,{columns},1033,false,false")
    written = "csv:Text - txt - csv (StarCalc):44,34,76,1,,1033,false,true,false"
    done = subprocess.run(
        [soffice, *arguments, "--convert-to", written, "--outdir", folder / "out", file],
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    made = folder / "out" / f"{file.stem}.csv"
    assert made.exists(), done.stdout + done.stderr
    with made.open(encoding="utf-8", newline="") as shown:
        return list(csv.reader(shown, strict=True))


def check(found: Sequence[Sequence[str]], *, is_guarded: bool) -> None:
    header, *rows = found
    assert header == [column.name for column in COLUMNS]
    assert len(rows) == len(ROWS)
    for row, wanted in zip(rows, ROWS, strict=True):
        for cell, value, column in zip(row, wanted, COLUMNS, strict=True):
            if column.type == "number" and value is not None:
                assert float(cell) == value
            else:
                assert cell == wanted_text(value, column, is_guarded=is_guarded), column.name


def wanted_text(value: Cell, column: Column, *, is_guarded: bool) -> str:
    """`is_guarded`: in a file without types."""
    known = text_of(value)
    if is_guarded:
        return guarded(known)
    return known.replace("T", " ").removesuffix("Z") if column.type == "datetime" else known


def test_a_csv_is_the_same_in_libreoffice(soffice: str, tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    file.write_bytes(TABLE.csv)
    check(opened(soffice, tmp_path, file, separator=","), is_guarded=True)


def test_a_csv_for_excel_is_the_same_in_libreoffice(soffice: str, tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    file.write_bytes(b"".join(text.csv_for_excel(TABLE.table)))
    check(opened(soffice, tmp_path, file, separator=","), is_guarded=True)


def test_a_tsv_is_the_same_in_libreoffice(soffice: str, tmp_path: Path) -> None:
    file = tmp_path / "export.tsv"
    file.write_bytes(b"".join(text.tsv(TABLE.table)))
    check(opened(soffice, tmp_path, file, separator="\t"), is_guarded=True)


def test_a_workbook_is_the_same_in_libreoffice_without_any_choice(soffice: str, tmp_path: Path) -> None:
    file = tmp_path / "export.xlsx"
    xlsx.write(TABLE.table, file)
    check(opened(soffice, tmp_path, file), is_guarded=False)


def test_no_formula_of_a_file_is_run(soffice: str, tmp_path: Path) -> None:
    """Opened by somebody who chooses nothing, which is what an attacker counts on."""
    hostile = given(
        [Column(name="a", type="text")], [("=1+1",), ("+1+1",), ("-1+1",), ("@SUM(1;1)",), ("\t=1+1",), ("=1+1\n",)]
    )
    workbook, plain = tmp_path / "workbook.xlsx", tmp_path / "plain.csv"
    xlsx.write(hostile.table, workbook)
    plain.write_bytes(hostile.csv)
    for file in (workbook, plain):
        cells = [row[0].strip("'\t\n") for row in opened(soffice, tmp_path, file)[1:]]
        assert cells == ["=1+1", "+1+1", "-1+1", "@SUM(1;1)", "=1+1", "=1+1"]
