"""Tables with tabs and workbooks: recognised by what they hold, read as a CSV of the same table would be."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from rustpy_xlsxwriter import FastExcel

from conversations.formats.table import guarded
from conversations.pipeline.tools import Query, TableResult
from inventory import workbooks
from inventory.importing import NotATable, Summary, import_file
from inventory.models import Asset
from inventory.sheets import Problem
from inventory.tools import AssetTable

pytestmark = pytest.mark.django_db

Rows = Sequence[Sequence[Any]]


def tsv(folder: Path, rows: Rows, *, name: str = "assets.tsv") -> Path:
    path = folder / name
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, "excel-tab").writerows(rows)
    return path


def xlsx(folder: Path, *sheets: Rows, name: str = "assets.xlsx") -> Path:
    """A workbook with the rows of each sheet."""
    book = openpyxl.Workbook()
    for n, rows in enumerate(sheets):
        sheet = book.active if n == 0 else book.create_sheet()
        for row in rows:
            sheet.append(row)
    book.save(folder / name)
    return folder / name


def run(path: Path, **options: Any) -> tuple[Summary, list[Problem]]:
    problems: list[Problem] = []
    return import_file(path, on_problem=problems.append, **options), problems


def refused(path: Path) -> str:
    with pytest.raises(NotATable) as error:
        import_file(path)
    assert not Asset.objects.exists()
    return str(error.value)


# -- TSV -------------------------------------------------------------------------------------------------------------


def test_tabs_quotes_and_line_breaks_in_cells_of_a_tsv_are_kept(tmp_path: Path) -> None:
    notes = 'a "quoted"\ttab,\r\nand a second line'
    summary, problems = run(tsv(tmp_path, [["name", "notes"], ["h1", notes], ["h2", '"']]))
    assert (summary.recognised_as, summary.n_rows, problems) == ("TSV", 2, [])
    assert set(Asset.objects.values_list("name", "notes")) == {("h1", notes), ("h2", '"')}


def test_commas_in_names_of_columns_do_not_make_a_tsv_a_csv(tmp_path: Path) -> None:
    summary, _ = run(tsv(tmp_path, [["name", "Size, weight, colour, price, age"], ["h1", "9"]]))
    assert summary.recognised_as == "TSV"
    assert Asset.objects.get().attributes == {"Size, weight, colour, price, age": "9"}


def test_tabs_in_names_of_columns_do_not_make_a_csv_a_tsv(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('name,"a\tb\tc\td",site\nh1,9,here\n')
    summary, _ = run(tmp_path / "x.csv")
    assert (summary.recognised_as, Asset.objects.get().attributes) == ("CSV", {"a\tb\tc\td": "9"})


def test_the_extension_means_nothing(tmp_path: Path) -> None:
    assert run(tsv(tmp_path, [["name", "site"], ["h", "x"]], name="a.json"))[0].recognised_as == "TSV"
    assert run(xlsx(tmp_path, [["name"], ["h"]], name="a.xlsx").rename(tmp_path / "a.csv"))[0].recognised_as == "XLSX"


# -- Cells of a workbook ---------------------------------------------------------------------------------------------


def test_typed_cells_are_written_as_a_csv_would_have_them(tmp_path: Path) -> None:
    cells: dict[str, Any] = {
        "name": "h1", "cpu_cores": 12.0, "memory_gb": 1.5, "purchased_on": date(2026, 1, 2),
        "last_seen_at": datetime(2026, 1, 2, 3, 4, 5), "Floor": 3, "Leased": True, "Spare": False,  # noqa: DTZ001
        "Backup": time(3, 30), "Built": datetime(2026, 1, 2, 3, 4), "Blank": None, "Ratio": 0.25,  # noqa: DTZ001
    }  # fmt: skip
    rows: Rows = [[*cells], [*cells.values()]]
    _, problems = run(xlsx(tmp_path, rows))
    asset = Asset.objects.get()
    assert problems == []
    assert (asset.cpu_cores, asset.memory_gb, asset.purchased_on) == (12, 1.5, date(2026, 1, 2))
    assert asset.last_seen_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert asset.attributes == {
        "Floor": "3", "Leased": "true", "Spare": "false", "Backup": "03:30:00", "Built": "2026-01-02T03:04:00",
        "Ratio": "0.25",
    }  # fmt: skip


def test_long_digits_as_text_stay_and_as_a_number_are_reported(tmp_path: Path) -> None:
    rows: Rows = [
        ["name", "serial_number", "asset_tag"],
        ["h", "0012345678901234567", 1234567890123456789],
        ["i", "1", 7],
    ]
    _, problems = run(xlsx(tmp_path, rows))
    assert set(Asset.objects.values_list("name", "serial_number")) == {("h", "0012345678901234567"), ("i", "1")}
    assert Asset.objects.get(name="i").asset_tag == "7"
    assert [(p.row, p.column, p.value[:15]) for p in problems] == [(2, "asset_tag", "123456789012345")]
    assert "as text" in problems[0].message


def test_dates_before_1900_which_spreadsheets_keep_as_text_are_read(tmp_path: Path) -> None:
    _, problems = run(xlsx(tmp_path, [["name", "purchased_on"], ["a", "1899-12-31"], ["b", date(1900, 1, 1)]]))
    assert problems == []
    assert set(Asset.objects.values_list("purchased_on", flat=True)) == {date(1899, 12, 31), date(1900, 1, 1)}


def test_apostrophes_and_formulas_as_text_are_left_as_they_are_in_a_workbook(tmp_path: Path) -> None:
    path = tmp_path / "x.xlsx"
    FastExcel(str(path)).sheet("s", [{"name": "h", "notes": "'=1+1"}, {"name": "=2+2", "notes": "-5"}]).save()
    run(path)
    assert set(Asset.objects.values_list("name", "notes")) == {("h", "'=1+1"), ("=2+2", "-5")}


def test_the_values_of_formulas_are_taken_and_errors_are_counted(tmp_path: Path) -> None:
    path = xlsx(tmp_path, [["name", "Sum", "Gone"], ["h", "=40+2", "#N/A"]])
    parts = {info: zipfile.ZipFile(path).read(info) for info in zipfile.ZipFile(path).namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content.replace(b"<f>40+2</f><v></v>", b"<f>40+2</f><v>42</v>").replace(
                b"<f>40+2</f><v />", b"<f>40+2</f><v>42</v>"
            ))  # fmt: skip
    summary, _ = run(path)
    assert Asset.objects.get().attributes == {"Sum": "42"}
    assert summary.warnings == ("1 cell holds an error (#N/A, #REF! …) and count as empty.",)


def test_rows_are_counted_as_the_spreadsheet_does(tmp_path: Path) -> None:
    rows = [[], [], [None, "name", "ip_address"], [], [None, "h", "bad"], [None, "i", "10.0.0.1", "more"]]
    summary, problems = run(xlsx(tmp_path, rows))
    assert summary.n_rows == 2
    assert [(p.row, p.column, p.value) for p in problems] == [(5, "ip_address", "bad"), (6, "column_3", "more")]


# -- Sheets of a workbook --------------------------------------------------------------------------------------------


def test_of_several_sheets_the_first_with_cells_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    path = xlsx(tmp_path, [], [["name"], ["h"]], [["name"], ["other"]])
    summary, problems = run(path)
    assert (summary.n_rows, problems, Asset.objects.get().name) == (1, [], "h")
    (warning,) = summary.warnings
    assert "Only the sheet “Sheet1” was read. Save the others (“Sheet2”) as files of their own" in warning


def test_a_hidden_sheet_is_read_after_those_that_people_see(tmp_path: Path) -> None:
    path = xlsx(tmp_path, [["name"], ["hidden"]], [["name"], ["seen"]])
    book = openpyxl.load_workbook(path)
    book.worksheets[0].sheet_state = "veryHidden"
    book.active = 1
    book.save(path)
    run(path)
    assert Asset.objects.get().name == "seen"


# -- Workbooks that are none -----------------------------------------------------------------------------------------


def test_a_workbook_without_a_table_says_so(tmp_path: Path) -> None:
    assert "The workbook is empty" in refused(xlsx(tmp_path, []))
    assert "names no column" in refused(xlsx(tmp_path, [["foo", "bar"], [1, 2]]))
    assert "Below its header, row 1, the sheet “Sheet” has no row" in refused(xlsx(tmp_path, [["name"]]))


def archive(folder: Path, parts: dict[str, bytes]) -> Path:
    path = folder / "x.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return path


def shared(folder: Path, texts: Sequence[str], rows: Sequence[tuple[int, int]]) -> Path:
    """As Excel writes a workbook: cells name texts, which stand in a part of their own."""
    path = xlsx(folder, [["name"], ["h"]])
    parts = {name: zipfile.ZipFile(path).read(name) for name in zipfile.ZipFile(path).namelist()}
    xmlns = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    cells = "".join(
        f'<row r="{n}"><c r="A{n}" t="s"><v>{name}</v></c><c r="B{n}" t="s"><v>{notes}</v></c></row>'
        for n, (name, notes) in enumerate(rows, start=1)
    )
    parts["xl/worksheets/sheet1.xml"] = f"<worksheet {xmlns}><sheetData>{cells}</sheetData></worksheet>".encode()
    told = "".join(f"<si><t>{text}</t></si>" for text in texts)
    parts["xl/sharedStrings.xml"] = f"<sst {xmlns}>{told}</sst>".encode()
    return archive(folder, parts)


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ("readme.txt", "Unpack it"), ("xl/workbook.bin", "Save it as XLSX"), ("content.xml", "OpenDocument"),
        ("word/document.xml", "Word"), ("ppt/presentation.xml", "PowerPoint"), ("xl/workbook.xml", "Save it again"),
    ],
)  # fmt: skip
def test_other_archives_are_told_what_they_are(tmp_path: Path, part: str, why: str) -> None:
    assert why in refused(archive(tmp_path, {part: b"<x/>"}))


def test_a_password_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.xlsx"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    assert "password" in refused(path)
    locked = bytearray(archive(tmp_path, {"xl/workbook.xml": b"<x/>"}).read_bytes())
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(locked)
    assert "password" in refused(path)


@pytest.mark.parametrize("n_bytes", [40, 400, 3000])
def test_a_workbook_that_was_cut_off_says_so(tmp_path: Path, n_bytes: int) -> None:
    path = xlsx(tmp_path, [["name"], ["h"]])
    path.write_bytes(path.read_bytes()[:n_bytes])
    assert "damaged" in refused(path)


def test_a_damaged_part_is_found(tmp_path: Path) -> None:
    path = xlsx(tmp_path, [["name"], *([f"host {n * 7919}"] for n in range(200))])
    content = bytearray(path.read_bytes())
    at = content.index(b"xl/worksheets/sheet1.xml") + 200
    content[at : at + 8] = b"\xff" * 8
    path.write_bytes(content)
    assert "damaged" in refused(path)


def test_a_workbook_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "MAX_UNPACKED", 1_000_000)
    parts = {"xl/workbook.xml": b"<x/>", "xl/worksheets/sheet1.xml": b" " * 1_000_001}
    path = archive(tmp_path, parts)
    assert "unpacks to more than" in refused(path)
    # Also when the archive says that it is short.
    size = (1_000_001).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, (99).to_bytes(4, "little")))
    assert sum(info.file_size for info in zipfile.ZipFile(path).infolist()) < 1000
    assert "unpacks to more than" in refused(path)


@pytest.mark.parametrize(
    "cells",
    [
        b'<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>',
        b"<row>" + b"<c><v>1</v></c>" * 200 + b"</row>" + b"<row/>" * 120_000 + b"<row><c><v>1</v></c></row>",
    ],
)
def test_a_sheet_that_reaches_too_far_is_refused_before_it_is_held(tmp_path: Path, cells: bytes) -> None:
    path = xlsx(tmp_path, [["name"], ["h"]])
    parts = {name: zipfile.ZipFile(path).read(name) for name in zipfile.ZipFile(path).namelist()}
    parts["xl/worksheets/sheet1.xml"] = (
        b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
        + cells
        + b"</sheetData></worksheet>"
    )
    assert "reaches over more than 20,000,000 cells" in refused(archive(tmp_path, parts))


def test_a_text_that_very_many_cells_share_is_refused_before_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbooks, "MAX_TEXT", 10_000)
    run(shared(tmp_path, ["name", "notes", "h", "x" * 4_000], [(0, 1), (2, 3), (2, 3)]))
    assert list(Asset.objects.values_list("name", "notes")) == [("h", "x" * 4_000)] * 2
    Asset.objects.all().delete()
    assert "share long texts" in refused(
        shared(tmp_path, ["name", "notes", "h", "x" * 4_000], [(0, 1), (2, 3), (2, 3), (2, 3)])
    )


# -- There and back --------------------------------------------------------------------------------------------------


def everything() -> tuple[list[str], list[list[Any]]]:
    """The export of all assets: its header and its rows."""
    result = AssetTable().query(Query(table="assets"))
    assert isinstance(result, TableResult)
    return [column.name for column in result.columns], [list(row) for row in result.open_rows()]


def hostile() -> Iterable[Asset]:
    texts = ["=1+1", "'=1", "-5", "\ttab", 'a "b"\n, c', "é 漢 🦊", "0012345678901234567", "true", "1e5", "12.0", " x "]
    for n, text in enumerate(texts):
        yield Asset(
            name=f"h{n}", notes=text, serial_number=f"00{n}", tags=["a", "b c"], cpu_cores=n, memory_gb=n + 0.5,
            purchased_on=date(1999, 1, n + 1), last_seen_at=datetime(2026, 1, 2, 3, 4, n, tzinfo=UTC),
            attributes={"Note": text.strip() or "x"} if n % 2 else {}, ip_address=f"10.0.0.{n}", source="test",
        )  # fmt: skip


def test_a_tsv_export_gives_the_same_assets_back(tmp_path: Path) -> None:
    Asset.objects.bulk_create(hostile())
    header, rows = everything()
    path = tsv(
        tmp_path, [header, *([guarded(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)]
    )
    Asset.objects.all().delete()
    assert run(path)[1] == []
    assert sorted(everything()[1]) == sorted(rows)


def test_an_xlsx_export_gives_the_same_assets_back(tmp_path: Path) -> None:
    Asset.objects.bulk_create(hostile())
    header, rows = everything()
    content = io.BytesIO()
    FastExcel(content).sheet("assets", [dict(zip(header, row, strict=True)) for row in rows]).save()
    (tmp_path / "assets.xlsx").write_bytes(content.getvalue())
    Asset.objects.all().delete()
    assert run(tmp_path / "assets.xlsx")[1] == []
    assert sorted(everything()[1], key=str) == sorted(rows, key=str)
