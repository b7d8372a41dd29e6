"""The Big List of Naughty Strings as values of assets: through import, query, our own CSV, and import again.

What is altered, and why: white space around a field (not a control character, and not in notes and attributes) is
nobody's meaning; `;`, `,` and line breaks separate tags; in CSV, an apostrophe before what a spreadsheet would run is
the guard of our own exports; and what no database keeps (NUL) becomes U+FFFD and is reported.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from conversations.formats.csv_file import CsvFile
from conversations.pipeline.tools import Cell, Query, TableResult
from inventory.csv_sheet import unguarded
from inventory.importing import import_file
from inventory.models import Asset
from inventory.sheets import Problem
from inventory.tools import AssetTable
from inventory.values import BLANKS

STRINGS: list[str] = json.loads((Path(__file__).parent.parent / "data" / "blns.json").read_text(encoding="utf-8"))
#: Fields of every kind of text. The id tells which string a row has.
COLUMNS = ("fqdn", "notes", "role", "owner", "Naughty one")

pytestmark = pytest.mark.django_db


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def write_json(path: Path, rows: Sequence[Sequence[str]]) -> None:
    path.write_text(json.dumps([dict(zip(rows[0], row, strict=True)) for row in rows[1:]]))


def write_lines(path: Path, rows: Sequence[Sequence[str]]) -> None:
    path.write_text("".join(json.dumps(dict(zip(rows[0], row, strict=True))) + "\n" for row in rows[1:]))


Writer = Callable[[Path, Sequence[Sequence[str]]], None]
WRITERS = [write_csv, write_json, write_lines]


def values(columns: Sequence[str]) -> dict[str, list[Cell]]:
    """Source id -> the cells that the query tool gives."""
    result = AssetTable().query(Query(table="assets", columns=("ID", *columns)))
    assert isinstance(result, TableResult)
    return {str(row[0]): list(row[1:]) for row in result.open_rows()}


def export(path: Path) -> None:
    """As the chat exports all assets."""
    result = AssetTable().query(Query(table="assets"))
    assert isinstance(result, TableResult)
    file = CsvFile([column.name for column in result.columns], result.open_rows(), lambda _: None)
    path.write_bytes(b"".join(file.chunks()))


def expected(text: str, column: str, *, is_csv: bool) -> str | None:
    read = unguarded(text) if is_csv else text
    if column not in ("notes", "Naughty one"):
        read = read.strip(BLANKS)
    return read if read.strip(BLANKS) else None


@pytest.mark.parametrize("write", WRITERS)
def test_every_string_survives_import_query_and_our_own_csv(tmp_path: Path, write: Writer) -> None:
    path = tmp_path / "assets"
    write(path, [("ID", *COLUMNS), *((str(n), *[text] * len(COLUMNS)) for n, text in enumerate(STRINGS))])
    problems: list[Problem] = []
    summary = import_file(path, on_problem=problems.append)
    assert (summary.n_new, problems) == (515, [])
    told = {
        str(n): [expected(text, column, is_csv=write is write_csv) for column in COLUMNS]
        for n, text in enumerate(STRINGS)
    }
    assert values(COLUMNS) == told
    export(tmp_path / "export.csv")
    Asset.objects.all().delete()
    assert import_file(tmp_path / "export.csv", on_problem=problems.append).n_new == 515
    assert (values(COLUMNS), problems) == (told, [])


def test_of_all_strings_csv_alters_none_and_five_lose_white_space_around_a_field() -> None:
    assert [text for text in STRINGS if unguarded(text) != text] == []
    assert len([text for text in STRINGS if text.strip(BLANKS) != text]) == 5
    control = "".join(map(chr, [*range(1, 9), 11, 12, *range(14, 32), *range(127, 160)]))
    assert f" {control}\n".strip(BLANKS) == control


@pytest.mark.parametrize("write", WRITERS)
def test_every_string_is_its_tags(tmp_path: Path, write: Writer) -> None:
    path = tmp_path / "assets"
    write(path, [("ID", "tags"), *((str(n), text) for n, text in enumerate(STRINGS))])
    import_file(path)
    for asset in Asset.objects.all():
        text = STRINGS[int(asset.source_id)]
        parts = [part.strip(BLANKS) for part in re.split("[;,\r\n]", unguarded(text) if write is write_csv else text)]
        assert asset.tags == list(dict.fromkeys(filter(None, parts)))
    before = values(["tags"])
    export(tmp_path / "export.csv")
    Asset.objects.all().delete()
    import_file(tmp_path / "export.csv")
    assert values(["tags"]) == before


@pytest.mark.parametrize("write", WRITERS)
def test_every_string_survives_as_the_name_of_an_attribute(tmp_path: Path, write: Writer) -> None:
    """But for white space around it. Some of them are the names of fields."""
    strings = [text for text in dict.fromkeys(unguarded(t.strip(BLANKS)).strip(BLANKS)[:200] for t in STRINGS) if text]
    path = tmp_path / "assets"
    write(path, [("name", *strings), ("a", *["x"] * len(strings))])
    import_file(path)
    asset = Asset.objects.get()
    assert set(asset.attributes) == set(strings)
    export(tmp_path / "export.csv")
    Asset.objects.all().delete()
    import_file(tmp_path / "export.csv")
    assert Asset.objects.get().attributes == asset.attributes


@pytest.mark.parametrize("write", WRITERS)
def test_strings_with_nul_and_halves_of_pairs_are_replaced_and_reported(tmp_path: Path, write: Writer) -> None:
    broken = "\0" if write is write_csv else "\0\ud800"
    path = tmp_path / "assets"
    rows = [(str(n), *[f"{text}{broken}"] * 3) for n, text in enumerate(STRINGS)]
    write(path, [("ID", "notes", "tags", "Kept"), *rows])
    problems: list[Problem] = []
    assert import_file(path, on_problem=problems.append).n_new == 515
    assert len(problems) == 515 * 3
    for asset in Asset.objects.all():
        whole = STRINGS[int(asset.source_id)] + "\ufffd" * len(broken)
        assert asset.notes == asset.attributes["Kept"] == whole
