from __future__ import annotations

import io
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from conversations.formats.csv_file import CsvFile
from conversations.formats.table import guarded
from conversations.pipeline.tools import Cell, Query, TableResult
from inventory.csv_sheet import unguarded
from inventory.importing import BATCH_ROWS, Summary, import_file
from inventory.models import Asset, AttributeName, InventoryRevision
from inventory.sheets import NotATable, Problem
from inventory.tools import AssetTable

DATA = Path(__file__).parent.parent / "data"
DEVICES, MACHINES = DATA / "netbox-demo-devices.csv", DATA / "netbox-demo-virtual-machines.csv"

pytestmark = pytest.mark.django_db


def write(folder: Path, text: str, *, name: str = "assets.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def run(folder: Path, text: str, *, name: str = "assets.csv", **options: object) -> tuple[Summary, list[Problem]]:
    problems: list[Problem] = []
    summary = import_file(write(folder, text, name=name), on_problem=problems.append, **options)  # type: ignore[arg-type]  # as the command's
    return summary, problems


def test_both_netbox_tables_twice_are_252_assets_that_keep_their_ids() -> None:
    import_file(DEVICES)
    import_file(MACHINES)
    ids = set(Asset.objects.values_list("pk", flat=True))
    assert len(ids) == 252
    assert import_file(DEVICES).n_new == import_file(MACHINES).n_new == 0
    assert set(Asset.objects.values_list("pk", flat=True)) == ids
    assert Asset.objects.filter(name="").count() == 22


def test_a_netbox_device_has_its_model_type_owner_and_leftover_columns() -> None:
    import_file(DEVICES)
    router = Asset.objects.get(name="dmi01-akron-rtr01")
    assert (router.asset_type, router.role, router.model) == ("router", "Router", "ISR 1111-8P")
    assert (router.owner, router.status, router.os, router.os_version) == (
        "Dunder-Mifflin, Inc.",
        "active",
        "Cisco IOS",
        "",
    )
    assert router.attributes == {"ID": "1", "Position (U)": "4.0"}
    kinds = set(Asset.objects.values_list("asset_type", flat=True))
    assert kinds == {"router", "switch", "pdu", "patch panel", "server"}


def test_a_netbox_virtual_machine_has_its_type_system_and_cluster() -> None:
    import_file(MACHINES)
    machine = Asset.objects.get(name="vm1")
    assert (machine.asset_type, machine.os, machine.os_version) == ("virtual machine", "Ubuntu Linux", "20.04")
    assert machine.attributes == {"ID": "361", "Cluster": "DO-AMS3"}


def test_netbox_memory_is_in_megabytes(tmp_path: Path) -> None:
    run(tmp_path, "Name,Cluster,VCPUs,Memory (MB),Disk\nvm,c,2,8192,40\n")
    machine = Asset.objects.get()
    assert (machine.cpu_cores, machine.memory_gb, machine.disk_gb) == (2, 8, 40)


def test_every_field_is_read_by_its_own_name(tmp_path: Path) -> None:
    run(
        tmp_path,
        "name,ip_address,asset_type,status,environment,criticality,tags,cpu_cores,memory_gb,purchased_on,last_seen_at\n"
        'a,10.0.0.5/24,VM,Down,prod,HIGH,"x; y,x",4,16 GB,2024-02-29,2025-01-02T03:04:05+02:00\n',
    )
    asset = Asset.objects.get()
    assert (asset.ip_address, asset.asset_type, asset.status) == ("10.0.0.5", "virtual machine", "offline")
    assert (asset.environment, asset.criticality, asset.tags) == ("production", "high", ["x", "y"])
    assert (asset.cpu_cores, asset.memory_gb, asset.purchased_on) == (4, 16, date(2024, 2, 29))
    assert asset.last_seen_at == datetime(2025, 1, 2, 1, 4, 5, tzinfo=UTC)


def test_an_unknown_status_is_kept_in_small_letters_and_an_unknown_type_as_it_is(tmp_path: Path) -> None:
    run(tmp_path, "name,status,asset_type\na,Under Repair,Load Balancer\n")
    assert list(Asset.objects.values_list("status", "asset_type")) == [("under repair", "Load Balancer")]


def test_an_unknown_column_is_an_attribute_of_the_assets_that_have_it(tmp_path: Path) -> None:
    run(tmp_path, 'name,Size ("),2024\na,15,x\nb, ,\n')
    assert Asset.objects.get(name="a").attributes == {'Size (")': "15", "2024": "x"}
    assert Asset.objects.get(name="b").attributes == {}
    assert {known.name for known in AttributeName.objects.all()} == {'Size (")', "2024"}


def test_a_column_that_the_file_has_not_leaves_its_field_alone_and_a_blank_cell_empties_it(tmp_path: Path) -> None:
    run(tmp_path, "name,site,serial_number,cpu_cores,tags,Colour\na,S,1,4,x,red\n")
    run(tmp_path, "serial_number,cpu_cores,tags,Colour\n1,,,\n")
    asset = Asset.objects.get()
    assert (asset.name, asset.site, asset.cpu_cores, asset.tags, asset.attributes) == ("a", "S", None, [], {})
    assert not AttributeName.objects.exists()


def test_bad_values_are_reported_and_kept_and_the_rest_goes_in(tmp_path: Path) -> None:
    summary, problems = run(tmp_path, "Name,IP Address,purchased_on\na,999.1.1.1,2024-01-01\nb,10.0.0.1,31/12/2024\n")
    assert (summary.n_rows, summary.n_problems) == (2, 2)
    assert [(p.row, p.column, p.value) for p in problems] == [
        (2, "IP Address", "999.1.1.1"),
        (3, "purchased_on", "31/12/2024"),
    ]
    first, second = Asset.objects.order_by("name")
    assert (first.ip_address, first.purchased_on) == ("", date(2024, 1, 1))
    assert first.attributes == {"IP Address (unreadable)": "999.1.1.1"}
    assert second.attributes == {"purchased_on (unreadable)": "31/12/2024"}


def test_a_value_that_was_bad_and_is_good_now_leaves_no_trace(tmp_path: Path) -> None:
    run(tmp_path, "name,ip_address\na,nonsense\n")
    run(tmp_path, "name,ip_address\na,10.0.0.1\n")
    assert Asset.objects.get().attributes == {}
    assert not AttributeName.objects.exists()


@pytest.mark.parametrize("bad", ["nan", "inf", "1e999", "1_000", "12 apples", "99999999999999999999999"])
def test_a_number_is_a_finite_decimal_that_is_kept_exactly(tmp_path: Path, bad: str) -> None:
    _, problems = run(tmp_path, f"name,cpu_cores\na,{bad}\n")
    assert len(problems) == 1


def test_cells_beyond_the_header_are_reported_and_kept(tmp_path: Path) -> None:
    _, problems = run(tmp_path, "name,site\na,S,surplus\nb\n")
    assert [problem.column for problem in problems] == ["column_3"]
    assert Asset.objects.get(name="a").attributes == {"column_3": "surplus"}
    assert Asset.objects.get(name="b").site == ""


def test_nul_is_replaced_and_reported(tmp_path: Path) -> None:
    _, problems = run(tmp_path, "name,notes\na,x\0y\n")
    assert Asset.objects.get().notes == "x\ufffdy"
    assert len(problems) == 1


def test_a_row_that_is_no_csv_is_reported_and_the_others_go_in(tmp_path: Path) -> None:
    _, problems = run(tmp_path, 'name,notes\na,"x"y\nb,fine\n')
    assert [problem.row for problem in problems] == [2]
    assert Asset.objects.get().name == "b"


def test_a_quote_that_is_never_closed_swallows_no_rows_silently(tmp_path: Path) -> None:
    summary, problems = run(tmp_path, 'name,notes\na,fine\nb,"open\nc,lost\n')
    assert (summary.n_rows, len(problems)) == (1, 1)


# Recognition


def test_our_id_comes_before_everything_else(tmp_path: Path) -> None:
    run(tmp_path, "name,serial_number\na,1\n")
    asset = Asset.objects.get()
    run(tmp_path, f"id,name,serial_number\n{asset.pk},renamed,2\n", name="other.csv")
    assert list(Asset.objects.values_list("pk", "name", "serial_number")) == [(asset.pk, "renamed", "2")]


def test_an_unknown_id_of_ours_is_given_to_the_new_asset(tmp_path: Path) -> None:
    run(tmp_path, "id,name\n6f1b7e0e-6a5d-4d7c-9a43-0b7a6c8f2d11,a\n")
    assert str(Asset.objects.get().pk) == "6f1b7e0e-6a5d-4d7c-9a43-0b7a6c8f2d11"


def test_source_ids_count_within_their_source(tmp_path: Path) -> None:
    run(tmp_path, "ID,name\n1,a\n", source="one")
    run(tmp_path, "ID,name\n1,b\n", source="two")
    run(tmp_path, "ID,name\n1,renamed\n", source="one")
    assert set(Asset.objects.values_list("source", "name")) == {("one", "renamed"), ("two", "b")}


def test_rows_that_share_an_id_are_one_asset_and_the_last_one_counts(tmp_path: Path) -> None:
    summary, _ = run(tmp_path, "ID,name\n1,a\n1,b\n")
    assert (summary.n_new, Asset.objects.get().name) == (1, "b")


@pytest.mark.parametrize(
    "text",
    [
        "name,serial_number\na,S\nb,S\n",
        "name,asset_tag\na,T\nb,T\n",
        "name,site\na,S\na,S\n",
        "notes,site\nn,S\nn,S\n",
    ],
)
def test_two_rows_without_an_id_never_become_one_asset(tmp_path: Path, text: str) -> None:
    run(tmp_path, text)
    ids = set(Asset.objects.values_list("pk", flat=True))
    assert len(ids) == 2
    assert run(tmp_path, text)[0].n_new == 0
    assert set(Asset.objects.values_list("pk", flat=True)) == ids


def test_more_equal_rows_than_one_batch_holds_stay_apart(tmp_path: Path) -> None:
    text = "name,site\n" + "switch,S\n" * (BATCH_ROWS + 100)
    assert run(tmp_path, text)[0].n_new == BATCH_ROWS + 100
    assert run(tmp_path, text)[0].n_new == 0
    assert Asset.objects.count() == BATCH_ROWS + 100


def test_a_serial_number_is_recognised_whatever_the_source_and_a_placeholder_is_none(tmp_path: Path) -> None:
    run(tmp_path, "name,serial_number\na,0042\nb,N/A\n", source="one")
    run(tmp_path, "name,serial_number\nrenamed,0042\nc,N/A\n", source="two")
    assert set(Asset.objects.values_list("name", flat=True)) == {"renamed", "b", "c"}


def test_a_row_with_nothing_else_is_recognised_by_itself_in_any_order_of_columns(tmp_path: Path) -> None:
    run(tmp_path, "notes,site\nn,S\n")
    assert run(tmp_path, "site,notes\nS,n\n")[0].n_new == 0


def test_a_copied_row_without_id_before_the_original_is_an_asset_of_its_own(tmp_path: Path) -> None:
    run(tmp_path, "name,site\na,S\n")
    original = Asset.objects.get()
    run(tmp_path, f"id,name,site\n,a,S\n{original.pk},a,S\n")
    assert Asset.objects.count() == 2


# What is no table, and what the command says


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"\x89PNG\r\n\x1a\n\x00\x00",
        b"hello world\nname,site\n",
        b"10.0.0.1,server\n",
        b'{"status": "error"}\n',
        b"name\nZ\xfcrich\n",
    ],
)
def test_a_file_that_is_no_table_writes_nothing_and_exits_with_2(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(CommandError) as caught:
        call_command("import_assets", path)
    assert caught.value.returncode == 2
    assert not Asset.objects.exists()
    assert InventoryRevision.current() is None


def test_a_missing_file_exits_with_2(tmp_path: Path) -> None:
    with pytest.raises(CommandError) as caught:
        call_command("import_assets", tmp_path / "missing.csv")
    assert caught.value.returncode == 2


def test_bad_encoding_far_into_the_file_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"name\n" + b"host\n" * 3_000 + b"Z\xfcrich\n")
    with pytest.raises(NotATable):
        import_file(path)
    assert not Asset.objects.exists()
    assert InventoryRevision.current() is None


def test_the_command_names_file_row_column_and_value_and_exits_with_1(tmp_path: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("import_assets", write(tmp_path, "name,ip_address\na,bad\nb,10.0.0.1\n"), stdout=out, stderr=err)
    assert caught.value.returncode == 1
    assert "assets.csv: row 2, ip_address: 'bad': no IP address" in err.getvalue()
    assert "2 rows as source “assets”: 2 new" in out.getvalue()


def test_a_byte_order_mark_semicolons_and_other_cases_are_understood(tmp_path: Path) -> None:
    run(tmp_path, "\ufeffHOSTNAME;Serial Number\r\nweb;0042\r\n")
    assert list(Asset.objects.values_list("name", "serial_number")) == [("web", "0042")]


def test_a_dry_run_reports_and_writes_nothing(tmp_path: Path) -> None:
    summary, _ = run(tmp_path, "name\na\n", dry_run=True)
    assert (summary.n_new, Asset.objects.count(), InventoryRevision.current()) == (1, 0, None)


def test_delete_missing_removes_only_what_the_same_source_has_no_more(tmp_path: Path) -> None:
    run(tmp_path, "name,Colour\na,red\nb,\n", source="one")
    run(tmp_path, "name\nc\n", source="two")
    summary, _ = run(tmp_path, "name\nb\n", source="one", delete_missing=True)
    assert summary.n_deleted == 1
    assert set(Asset.objects.values_list("name", flat=True)) == {"b", "c"}
    assert not AttributeName.objects.exists()


def test_delete_missing_removes_nothing_when_a_row_could_not_be_read(tmp_path: Path) -> None:
    run(tmp_path, "name\na\nb\n")
    run(tmp_path, 'name\na\n"b"x\n', delete_missing=True)
    assert Asset.objects.count() == 2


def test_an_import_renews_the_revision(tmp_path: Path) -> None:
    run(tmp_path, "name\na\n")
    before = InventoryRevision.current()
    run(tmp_path, "name\na\n")
    assert InventoryRevision.current() != before


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("'=1+1", "=1+1"),
        ("''=1+1", "'=1+1"),
        ("'-x", "-x"),
        ("'\tx", "\tx"),
        ("'-5", "'-5"),
        ("''-5", "'-5"),
        ("-5.5", "-5.5"),
        ("'plain", "'plain"),
        ("'", "'"),
    ],
)
def test_the_guard_apostrophe_is_taken_off_again(cell: str, text: str) -> None:
    assert unguarded(cell) == text


@pytest.mark.parametrize("text", ["=1", "'=1", "''=1", "-5", "'-5", "''-5", "-5e3", "+", "@x", "\tx", "'x", "''", "-"])
def test_what_an_export_guards_is_read_as_it_was(text: str) -> None:
    assert unguarded(str(guarded(text))) == text


def test_our_own_export_imports_to_the_same_values_in_another_inventory(tmp_path: Path) -> None:
    import_file(DEVICES)
    run(tmp_path, 'name,notes,tags\nx,"=a,""b""\nc",p;q\n')
    before = rows_of(AssetTable())
    path = tmp_path / "export_1.csv"
    header, *rows = before
    path.write_bytes(b"".join(CsvFile([str(name) for name in header], rows, lambda _: None).chunks()))
    Asset.objects.all().delete()
    summary = import_file(path)
    assert (summary.n_new, summary.n_problems) == (73, 0)
    assert rows_of(AssetTable()) == before
    assert import_file(path).n_new == 0


def rows_of(table: AssetTable) -> list[list[Cell]]:
    result = table.query(Query(table="assets"))
    assert isinstance(result, TableResult)
    header: list[Cell] = [column.name for column in result.columns]
    return [header, *(list(row) for row in result.open_rows())]
