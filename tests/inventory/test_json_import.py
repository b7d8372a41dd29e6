"""JSON: whatever its shape, as rows; whatever its values, as they stand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inventory.importing import Summary, Unfinished, import_file
from inventory.json_stream import Checked
from inventory.models import Asset
from inventory.sheets import NotATable, Problem

pytestmark = pytest.mark.django_db


def run(folder: Path, text: str | bytes, **options: Any) -> tuple[Summary, list[Problem]]:
    problems: list[Problem] = []
    path = folder / "assets.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return import_file(path, on_problem=problems.append, **options), problems


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def attributes(folder: Path, text: str) -> dict[str, str]:
    _, problems = run(folder, text)
    assert problems == []
    found: dict[str, str] = Asset.objects.get().attributes
    return found


_SHAPES = [
    '[{"name": "a"}, {"name": "b"}]',
    '{"name": "a"}\n{"name": "b"}\n',
    '\n{"name": "a"}\r\n\r\n{"name": "b"}',
    '{\n  "name": "a"\n}\n{\n  "name": "b"\n}\n',
    '{"count": 2, "next": null, "previous": null, "results": [{"name": "a"}, {"name": "b"}]}',
    '{"total": 2, "rows": [{"name": "a"}, {"name": "b"}]}',
    '{"result": [{"name": "a"}, {"name": "b"}]}',
    '{"records": [{"name": "a"}, {"name": "b"}]}',
    '{"results": [{"name": "a"}]}\n{"results": [{"name": "b"}]}\n',
    '{"a": {"site": "x"}, "b": {"site": "y"}}',
    '\ufeff[{"name": "a"}, {"name": "b"}]',
]


@pytest.mark.parametrize("text", _SHAPES)
def test_a_list_by_any_way_of_writing_it_is_its_objects(tmp_path: Path, text: str) -> None:
    summary, problems = run(tmp_path, text)
    assert (summary.n_rows, summary.n_new, problems) == (2, 2, [])
    assert set(Asset.objects.values_list("name", flat=True)) == {"a", "b"}
    assert run(tmp_path, text)[0].n_new == 0


def test_the_content_tells_what_a_file_is_and_not_its_name(tmp_path: Path) -> None:
    path = tmp_path / "assets.csv"
    path.write_text(' \n [{"name": "a"}]')
    assert import_file(path).recognised_as == "JSON"
    path = tmp_path / "assets.json"
    path.write_text("name\nb\n")
    assert import_file(path).recognised_as == "CSV"


def test_numbers_keep_their_digits_and_texts_their_zeros(tmp_path: Path) -> None:
    text = (
        '[{"name": "a", "serial_number": 1234567890123456789, "asset_tag": "0042", "Big": 12345678901234567890123,'
        ' "Exact": 0.10000000000000000000001, "Money": 1.50, "Small": 1e-7, "Large": 1E400, "Minus": -5}]'
    )
    kept = attributes(tmp_path, text)
    assert kept["Big"] == "12345678901234567890123"
    assert kept["Exact"] == "0.10000000000000000000001"
    assert (kept["Money"], kept["Small"], kept["Large"], kept["Minus"]) == ("1.50", "0.0000001", "1E+400", "-5")
    asset = Asset.objects.get()
    assert (asset.serial_number, asset.asset_tag) == ("1234567890123456789", "0042")


def test_true_false_null_and_nothing(tmp_path: Path) -> None:
    text = '[{"name": "a", "site": null, "Yes": true, "No": false, "Null": null, "Blank": "", "List": [], "Map": {}}]'
    assert attributes(tmp_path, text) == {"Yes": "true", "No": "false"}
    assert Asset.objects.get().site == ""


def test_a_name_that_an_object_has_not_is_blank_when_others_have_it(tmp_path: Path) -> None:
    run(tmp_path, '[{"name": "a", "site": "x", "rack": "1", "Colour": "red"}]')
    run(tmp_path, '[{"name": "a", "site": "x"}, {"name": "b", "Colour": "blue"}]')
    asset = Asset.objects.get(name="a")
    # No object of the second file has a rack: it says nothing of racks.
    assert (asset.site, asset.rack, asset.attributes) == ("x", "1", {})


def test_nested_values_are_attributes_under_dotted_names(tmp_path: Path) -> None:
    text = (
        '[{"name": "a", "hw": {"bios": {"vendor": "X", "date": "2024"}, "nics": [{"mac": "1", "mtu": 1.50}]},'
        ' "dns": ["10.0.0.1", "10.0.0.2"], "odd": ["a;b", "c"], "hw.bios": {"vendor": "Y"}, "mixed": [1, [2]]}]'
    )
    assert attributes(tmp_path, text) == {
        "hw.bios.vendor": "X",
        "hw.bios.date": "2024",
        "hw.nics": '[{"mac": "1", "mtu": 1.50}]',
        "dns": "10.0.0.1;10.0.0.2",
        "odd": '["a;b", "c"]',
        "hw.bios.vendor (2)": "Y",
        "mixed": "[1, [2]]",
    }


def test_a_custom_field_is_a_field_where_the_tool_has_no_other(tmp_path: Path) -> None:
    text = (
        '[{"name": "a", "tenant": "Ops", "serial": "", "custom_fields":'
        ' {"owner": null, "environment": "prod", "serial": "x", "Patch Group": "A"}}]'
    )
    assert attributes(tmp_path, text) == {"custom_fields.serial": "x", "Patch Group": "A"}
    asset = Asset.objects.get()
    assert (asset.owner, asset.environment) == ("Ops", "production")


def test_tags_of_a_list_are_tags(tmp_path: Path) -> None:
    run(tmp_path, '[{"name": "a", "tags": ["web", "prod"]}, {"name": "b", "tags": [{"name": "x", "slug": "y"}]}]')
    assert Asset.objects.get(name="a").tags == ["web", "prod"]
    assert Asset.objects.get(name="b").tags == ["x"]
    assert Asset.objects.get(name="b").attributes == {"tags.json": '[{"name": "x", "slug": "y"}]'}


def test_what_is_no_object_is_reported_and_left_out_and_nothing_is_deleted_for_it(tmp_path: Path) -> None:
    run(tmp_path, '[{"name": "gone"}]')
    summary, problems = run(tmp_path, '[5, {"name": "a"}, null, "x", [1], {"name": "b"}, {}]', delete_missing=True)
    assert [(p.row, p.column, p.value) for p in problems] == [
        (1, "", "5"),
        (3, "", "null"),
        (4, "", '"x"'),
        (5, "", "1"),
    ]
    assert (summary.n_rows, summary.n_unread, summary.n_deleted) == (2, 4, 0)
    assert set(Asset.objects.values_list("name", flat=True)) == {"gone", "a", "b"}


def test_a_broken_line_is_reported_and_the_other_lines_go_in(tmp_path: Path) -> None:
    lines = ['{"name": "a"}', '{"name": "b"', "", '{"name": "c", "n": NaN}', "[" * 100_000, '{"name": "d"}', '{"na']
    summary, problems = run(tmp_path, "\n".join(lines))
    assert [problem.row for problem in problems] == [2, 4, 5, 7]
    assert (summary.n_rows, set(Asset.objects.values_list("name", flat=True))) == (2, {"a", "d"})


def test_a_name_that_an_object_has_twice_is_reported_and_both_values_are_kept(tmp_path: Path) -> None:
    _, problems = run(
        tmp_path, '[{"name": "a", "Colour": "red", "Colour": "blue", "x": {"y": 1, "y": 2}, "name": "b"}]'
    )
    assert [(p.row, p.column) for p in problems] == [(1, "Colour"), (1, "name"), (1, "x.y")]
    asset = Asset.objects.get()
    assert asset.name == "a"
    assert asset.attributes == {"Colour": "red", "Colour (2)": "blue", "name (2)": "b", "x.y": "1", "x.y (2)": "2"}


def test_an_object_that_is_nested_too_deeply_is_reported_and_the_others_go_in(tmp_path: Path) -> None:
    deep = '{"x": ' * 60 + "1" + "}" * 60
    lists = "[" * 60 + "]" * 60
    text = f'[{{"name": "a"}}, {{"name": "b", "x": {deep}}}, {{"name": "c", "x": {lists}}}, {{"name": "d"}}]'
    _, problems = run(tmp_path, text)
    assert [(p.row, p.column) for p in problems] == [(2, ""), (3, "")]
    assert set(Asset.objects.values_list("name", flat=True)) == {"a", "d"}


_NO_TABLES = [
    ('[{"name": "a"}, {"name": "b"', "not complete"),
    ('{"results": [{"name": "a"}', "not complete"),
    ('{"name": "a"', "not complete"),
    ("[]", "no object"),
    ('{"count": 0, "results": []}', "no object"),
    ('["a", "b"]', "no object"),
    ("[null]", "no object"),
    ("{}", "no object"),
    ('[{"name": "a"},]', "is none"),
    ('{"name": "a"},\n{"name": "b"}\n', "is none"),
    ('[{"name": NaN}]', "is none"),
    ('[{"name": "a\nb"}]', "is none"),
    ('[{"name": "a", "n": 1e99999999999999999999}]', "exponent"),
    (f'[{{"name": "a", "n": {"9" * 5000}}}]', "digits"),
    ("[" * 200_000 + "]" * 200_000, "levels deep"),
    (f'[{{"name": "a", "x": {"[" * 200_000}', "levels deep"),
    ('[{"name": "a"}] [{"name": "b"}]', "follows"),
    ('{"results": [{"name": "a"}]} {"error": "x"}', "follows"),
    ('{"status": "error", "messages": "Unauthorized", "payload": null}', "error message"),
    ('{"detail": "Invalid token"}', "names no column"),
    ('[{"foo": 1}]', "names no column"),
    ("42", "names no column"),
    ('"name"x', "header|names no column"),
    ("true", "names no column"),
    (b'[{"name": "Z\xfcrich"}]', "UTF-8"),
    (b'[{"name": "\xed\xa0\x80"}]', "UTF-8"),
    ('[{"name": "a"}]'.encode("utf-16"), "UTF-16"),
    (b'["' + b"x" * 17_000_000, "characters"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "why"), _NO_TABLES)
def test_json_that_is_no_table_says_why_and_writes_nothing(tmp_path: Path, text: str | bytes, why: str) -> None:
    with pytest.raises(NotATable, match=why):
        run(tmp_path, text)
    assert not Asset.objects.exists()


def test_halves_of_surrogate_pairs_and_nul_are_reported_and_replaced_in_names_too(tmp_path: Path) -> None:
    text = r'[{"name": "a\ud800", "b\u0000": "\udc00\\ud800\ud83d\ude00", "c": "\ud83d\u0041"}]'
    _, problems = run(tmp_path, text)
    assert [(p.row, p.column) for p in problems] == [(1, "b\ufffd"), (1, "name"), (1, "b\ufffd"), (1, "c")]
    asset = Asset.objects.get()
    assert asset.name == "a\ufffd"
    assert asset.attributes == {"b\ufffd": "\ufffd\\ud800😀", "c": "\ufffdA"}


def test_the_same_in_lines(tmp_path: Path) -> None:
    _, problems = run(tmp_path, '{"name": "a\\ud800"}\n{"name": "b\\u0000"}\n')
    assert [(p.row, p.column) for p in problems] == [(1, "name"), (2, "name")]
    assert set(Asset.objects.values_list("name", flat=True)) == {"a\ufffd", "b\ufffd"}


_ESCAPES = [rb"\ud800", rb"\ud83d\ude00", rb"\\ud800", rb"\\\ud800", rb"\"[{\\", rb"\udc00\ud800", b"]", b"\\n{"]


@pytest.mark.parametrize("n_bytes", [1, 2, 3, 5, 7, 11, 64])
def test_escapes_are_seen_wherever_a_piece_of_the_file_ends(tmp_path: Path, n_bytes: int) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'["' + b'", "'.join(_ESCAPES * 3) + b'"]')
    with path.open("rb") as file:
        checked = Checked(file)
        text = b"".join(iter(lambda: checked.read(n_bytes), b""))
    values = ["\0", "😀", "\\ud800", "\\\0", '"[{\\', "\0\0", "]", "\n{"]
    assert json.loads(text) == values * 3


def test_an_import_of_json_does_not_hold_the_file(tmp_path: Path) -> None:
    """The answer is read by a process whose memory is limited to little more than it needs for a short one."""
    path = tmp_path / "assets.json"
    row = json.dumps({"name": "host", "notes": "x" * 500, "list": list(range(50))})
    path.write_text(f"[{', '.join([row] * 60_000)}]")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_DATA, (60 * 2**20,) * 2)\n"
        "from pathlib import Path\n"
        "from inventory.reading import open_sheet\n"
        "with open_sheet(Path(sys.argv[1]), on_problem=print) as sheet: print(sum(1 for _ in sheet.rows()))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout == "60000\n"


@pytest.mark.parametrize("backend", ["python", "yajl2_c"])
def test_both_parsers_of_ijson_read_and_refuse_the_same(tmp_path: Path, backend: str) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(r'[{"name": "a\ud800", "n": 12345678901234567890, "d": 1.10, "name": "b"}]')
    bad.write_text('[{"name": "a"}, {"name":')
    code = (
        "import sys, ijson\n"
        "from pathlib import Path\n"
        "from inventory.reading import open_sheet\n"
        "from inventory.sheets import NotATable\n"
        "with open_sheet(Path(sys.argv[1]), on_problem=print) as sheet:\n"
        "    print(ijson.backend_name, [[text for _, text in row.cells] for row in sheet.rows()])\n"
        "try:\n"
        "    open_sheet(Path(sys.argv[2]), on_problem=print).__enter__()\n"
        "except NotATable as error:\n"
        "    print(error)\n"
    )
    environment = {**os.environ, "IJSON_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", code, good, bad], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.splitlines()[1:] == [
        f"{backend} [['a\\x00', '12345678901234567890', '1.10', 'b']]",
        "The JSON breaks off before its end: the file is not complete. Export it again.",
    ]


def test_brackets_and_quotes_within_texts_nest_nothing(tmp_path: Path) -> None:
    rows = [{"name": f"h{n}", "a": '"[', "b": "\\", "c": "[{" * 20} for n in range(2000)]
    summary, problems = run(tmp_path, json.dumps(rows))
    assert (summary.n_rows, problems) == (2000, [])


def test_a_file_that_changes_while_it_is_imported_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "assets.json"
    rows = [{"name": f"h{n}", "ip_address": "" if n else "bad", "site": "x" * 50} for n in range(3000)]
    path.write_text(json.dumps(rows))
    changed = path.read_bytes().replace(b'"site"', b'"sita"')
    with pytest.raises(Unfinished, match="The file changed"):
        import_file(path, on_problem=lambda problem: write(path, changed))
