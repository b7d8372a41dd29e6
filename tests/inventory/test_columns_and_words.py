"""Columns that a file brings do not take words away from what they mean: "linux servers" stays what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from conversations.pipeline.tools import Filter, Query, TableResult
from inventory.importing import import_file
from inventory.tools import AssetTable
from tests.inventory.test_examples import eq, understood

ROWS = """\
name,asset_type,status,os,environment,manufacturer,site,ID,Class,Lifecycle,Kind,Patch Group
h1,server,active,Ubuntu,production,Dell,Berlin,7,Server,Production,Linux Server,Production Servers
h2,server,offline,Debian,production,Dell,Berlin,8,Servers,Staging,Offline,
h3,switch,active,Cisco IOS,staging,Cisco,Munich,9,Switch,Production Server,Cisco Router,
h4,router,active,Cisco IOS,staging,Cisco,Munich,10,Server,Production,Cisco Routers,
h5,server,active,Windows Server,production,HPE,Munich,11,Active Servers,Production Servers,Windows,
h6,server,active,Red Hat Linux,production,HPE,Munich,12,Server,Production,Linux Server,
"""

LINUX = Filter(field="os", op="contains", value="Linux")


@pytest.fixture
def table(db: None, tmp_path: Path) -> AssetTable:
    path = tmp_path / "cmdb.csv"
    path.write_text(ROWS)
    import_file(path)
    return AssetTable()


@pytest.mark.parametrize(
    ("text", "filters", "names"),
    [
        ("linux servers", (LINUX, eq("asset_type", "server")), "h1 h2 h6"),
        ("production servers", (eq("environment", "production"), eq("asset_type", "server")), "h1 h2 h5 h6"),
        ("active servers", (eq("status", "active"), eq("asset_type", "server")), "h1 h5 h6"),
        ("cisco routers", (eq("manufacturer", "Cisco"), eq("asset_type", "router")), "h4"),
        ("assets with os linux", (LINUX,), "h1 h2 h6"),
        ("machines running linux", (LINUX,), "h1 h2 h6"),
        ("hosts not running linux", (Filter(field="os", op="not_contains", value="Linux"),), "h3 h4 h5"),
        ("ubuntu machines", (Filter(field="os", op="contains", value="Ubuntu"),), "h1"),
        ("assets where Kind is Linux Server", (eq("Kind", "Linux Server"),), "h1 h6"),
        ("assets with Patch Group Production Servers", (eq("Patch Group", "Production Servers"),), "h1"),
        ("assets where ID is 7", (eq("ID", "7"),), "h1"),
        ("device with ID 11", (eq("ID", "11"),), "h5"),
    ],
)
def test_the_words_of_the_inventory_keep_their_meaning(
    table: AssetTable, text: str, filters: tuple[Filter, ...], names: str
) -> None:
    query = understood(text, table)
    assert query.filters == filters
    result = table.query(Query(table="assets", filters=query.filters, columns=("name",)))
    assert isinstance(result, TableResult)
    assert sorted(str(row[0]) for row in result.open_rows()) == names.split()


def test_linux_or_windows_means_every_system_of_both(table: AssetTable) -> None:
    (condition,) = understood("linux or windows servers", table).filters[:1]
    assert set(condition.value or ()) == {"Ubuntu", "Debian", "Red Hat Linux", "Windows Server"}  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "column"), [("export name, ID of all assets", "ID"), ("export name and id", "id")])
def test_a_column_is_the_one_written_so(table: AssetTable, text: str, column: str) -> None:
    assert understood(text, table).columns == ("name", column)
