"""What the command says and does when a file is not what it should be."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from inventory.importing import BATCH_ROWS, import_file
from inventory.management.commands.import_assets import Command
from inventory.models import Asset, InventoryRevision
from inventory.sheets import Problem

pytestmark = pytest.mark.django_db


def write(folder: Path, content: str | bytes, *, name: str = "assets.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def command(path: Path, **options: object) -> tuple[str, str, CommandError | None]:
    """What it prints, what it reports, and how it fails."""
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command("import_assets", path, stdout=out, stderr=err, **options)
    except CommandError as error:
        return out.getvalue(), err.getvalue(), error
    return out.getvalue(), err.getvalue(), None


def test_a_good_file_is_told_by_its_format_source_and_counts(tmp_path: Path) -> None:
    path = write(tmp_path, "inventory_hostname,ansible_host\na,10.0.0.1\nb,10.0.0.2\n")
    out, err, failed = command(path)
    assert out == (
        "assets.csv: Ansible inventory (CSV), 2 rows as source “ansible-inventory”: 2 new, 0 known already.\n"
    )
    assert (err, failed) == ("", None)


_NO_TABLES = [
    (b"", "empty"),
    (b"\n \n", "empty"),
    (b"name,site\n", "no row"),
    (b"name,site\n\n,\n", "no row"),
    (b'name,site\n"a"b,c\n', "no row"),
    (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "picture"),
    (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF"),
    (b"PK\x03\x04\x14\x00\x06\x00", "XLSX"),
    (b"\x1f\x8b\x08\x00name", "Unpack"),
    (b"\n<!DOCTYPE html><html><title>Sign in</title>", "sign-in page"),
    (b"<?xml version='1.0'?><assets/>", "XML"),
    ("name,site\nZürich,x\n".encode("utf-16"), "UTF-16"),
    ("name,site\nZürich,x\n".encode("utf-16-le"), "UTF-16"),
    ("name,site\nZürich,x\n".encode("latin-1"), "UTF-8"),
    (b"host\x00\x01\x02\x03\x04\x00\x00\x00\x00\x00\x00", "no text"),
    (b"foo,bar\n1,2\n", "'foo', 'bar'"),
    (b"x" * 17_000_000, "longer than 16,777,216 characters"),
    (b"name\n" + b"x" * 17_000_000, "longer than 16,777,216 characters"),
]


@pytest.mark.parametrize(("content", "why"), _NO_TABLES)
def test_a_file_that_is_no_table_says_why_and_writes_nothing(tmp_path: Path, content: bytes, why: str) -> None:
    _, _, failed = command(write(tmp_path, content))
    assert failed is not None
    assert why in str(failed)
    assert str(failed).endswith("Nothing was written.")
    assert failed.returncode == 2
    assert (Asset.objects.exists(), InventoryRevision.current()) == (False, None)


def _rows(n_bad: int) -> list[dict[str, str]]:
    """As many good ones, one after each."""
    return [
        {"name": f"h{n}", "ip_address": "bad" if n < n_bad * 2 and n % 2 else "10.0.0.1", "purchased_on": ""}
        for n in range(n_bad * 2 + 1)
    ]


@pytest.mark.parametrize("format", ["csv", "json"])
def test_of_1000_bad_values_each_is_reported_and_every_row_goes_in(tmp_path: Path, format: str) -> None:
    rows = _rows(1000)
    rows[-1]["purchased_on"] = "soon"
    text = "\n".join(["name,ip_address,purchased_on", *(",".join(row.values()) for row in rows)])
    path = write(tmp_path, text if format == "csv" else json.dumps(rows), name=f"assets.{format}")
    out, err, failed = command(path)
    assert "2,001 rows" in out
    assert len(err.splitlines()) == 1001
    assert failed is not None
    assert failed.returncode == 1
    assert "1,001 problems, listed above. By column: ip_address 1,000, purchased_on 1." in str(failed)
    assert Asset.objects.count() == 2001
    assert Asset.objects.filter(ip_address="").count() == 1000


def test_of_1000_rows_that_can_not_be_read_each_is_reported_and_the_others_go_in(tmp_path: Path) -> None:
    import_file(write(tmp_path, "name\ngone\n"))
    rows = [line for n in range(1000) for line in (f"h{n},x", f'"b{n}"b,x')]
    out, err, failed = command(write(tmp_path, "\n".join(["name,site", *rows])), delete_missing=True)
    assert "1,000 rows" in out
    assert len(err.splitlines()) == 1000
    assert failed is not None
    assert "1,000 rows could not be read and did not go in. So nothing was removed as missing." in str(failed)
    assert Asset.objects.count() == 1001


def test_problems_are_handed_on_and_not_gathered(tmp_path: Path) -> None:
    """Before the last batch is written the problems of the first have been reported."""
    seen: list[int] = []

    def look(problem: Problem) -> None:
        seen.append(Asset.objects.count())

    rows = [f"h{n},bad" for n in range(BATCH_ROWS * 2)]
    import_file(write(tmp_path, "\n".join(["name,ip_address", *rows])), on_problem=look)
    assert (seen[0], seen[-1]) == (0, BATCH_ROWS)


def test_only_the_most_frequent_columns_are_named(tmp_path: Path) -> None:
    names = "name,ip_address,purchased_on,last_seen_at,cpu_cores,memory_gb,disk_gb"
    _, _, failed = command(write(tmp_path, f"{names}\na,x,x,x,x,x,x\nb,x,,,,,\n"))
    assert "By column: ip_address 2, purchased_on 1, last_seen_at 1, cpu_cores 1, memory_gb 1 …." in str(failed)


def test_nul_in_a_header_is_replaced_and_reported(tmp_path: Path) -> None:
    problems: list[Problem] = []
    import_file(write(tmp_path, "name,Col\0our\na,red\n"), on_problem=problems.append)
    assert [(p.row, p.column, p.value) for p in problems] == [(1, "Col\ufffdour", "Col\0our")]
    assert Asset.objects.get().attributes == {"Col\ufffdour": "red"}


def test_a_header_may_hold_line_breaks_and_other_control_characters(tmp_path: Path) -> None:
    import_file(write(tmp_path, '\n"name","Serial\nNumber","Bell\x07"\na,1,x\n'))
    asset = Asset.objects.get()
    assert (asset.serial_number, asset.attributes) == ("1", {"Bell\x07": "x"})


def test_a_thousand_columns_of_one_name_are_a_thousand_attributes(tmp_path: Path) -> None:
    header = ",".join(["name", *["Note"] * 1000])
    import_file(write(tmp_path, f"{header}\n{','.join(['a', *map(str, range(1000))])}\n"))
    asset = Asset.objects.get()
    assert asset.notes == "0"
    assert (len(asset.attributes), asset.attributes["Note (1000)"]) == (999, "999")


def test_the_help_names_the_formats() -> None:
    words = " ".join(Command().create_parser("manage.py", "import_assets").format_help().split())
    for tool in (
        "CSV",
        "TSV",
        "JSON",
        "XLSX",
        "NetBox",
        "Snipe-IT",
        "ServiceNow",
        "ansible-inventory --list",
        "aws ec2",
    ):
        assert tool in words
