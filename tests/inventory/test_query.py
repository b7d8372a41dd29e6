from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from conversations.pipeline.tools import (
    Cell,
    CountResult,
    Filter,
    Match,
    Op,
    Query,
    Sort,
    TableResult,
    ToolError,
    registry,
)
from inventory.models import Asset
from inventory.tools import AssetTable

pytestmark = pytest.mark.django_db


@pytest.fixture
def table() -> AssetTable:
    Asset.objects.bulk_create(
        [
            Asset(
                id="00000000-0000-4000-8000-000000000001",
                name="web-01",
                fqdn="web-01.example.com",
                ip_address="10.0.0.9",
                asset_type="server",
                status="active",
                environment="production",
                os="Ubuntu Linux",
                os_version="22.04",
                manufacturer="Dell",
                serial_number="0042",
                site="LON1",
                tags=["pci", "DMZ"],
                cpu_cores=4,
                memory_gb=1.5,
                purchased_on=date(2024, 5, 1),
                last_seen_at=datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
                attributes={'Size "': "15", "2024": "x"},
            ),
            Asset(
                name="Web-02",
                ip_address="10.0.0.10",
                asset_type="virtual machine",
                status="offline",
                site="Zürich",
                tags=["pci"],
                cpu_cores=16,
                last_seen_at=datetime(2025, 1, 3, tzinfo=UTC),
                attributes={"Colour": "Red"},
            ),
            Asset(name="db-100%", ip_address="2001:db8::1", asset_type="server", site="FRA1", tags=["dmz-old"]),
            Asset(asset_type="patch panel", site="FRA1", cpu_cores=None),
        ]
    )
    return AssetTable()


def rows(table: AssetTable, query: Query) -> list[list[Cell]]:
    result = table.query(query)
    assert isinstance(result, TableResult)
    return [list(row) for row in result.open_rows()]


def names(table: AssetTable, field: str, op: Op, value: Cell | tuple[Cell, ...] = None) -> list[Cell]:
    filters = (Filter(field=field, op=op, value=value),)
    return [row[0] for row in rows(table, Query(table="assets", filters=filters, columns=("name",)))]


ALL = ["db-100%", "web-01", "Web-02", None]


def test_the_table_is_found_and_asked_through_its_query_tool() -> None:
    assert [table.spec.name for table in registry.tables] == ["assets"]
    assert registry.tool("assets.query").read_only


def test_without_columns_every_field_comes_in_order_and_then_the_attributes(table: AssetTable) -> None:
    result = table.query(Query(table="assets"))
    assert isinstance(result, TableResult)
    header = [column.name for column in result.columns]
    assert header[:6] == ["id", "name", "fqdn", "ip_address", "mac_address", "asset_type"]
    assert header[-5:] == ["last_seen_at", "notes", "2024", "Colour", 'Size "']
    cells = next(dict(zip(header, row, strict=True)) for row in result.open_rows() if row[1] == "web-01")
    assert cells["id"] == "00000000-0000-4000-8000-000000000001"
    assert (cells["cpu_cores"], cells["memory_gb"], cells["disk_gb"]) == (4, 1.5, None)
    assert isinstance(cells["cpu_cores"], int)
    assert (cells["purchased_on"], cells["last_seen_at"]) == ("2024-05-01", "2025-01-02T03:04:05Z")
    assert (cells["serial_number"], cells["tags"], cells["notes"]) == ("0042", "pci;DMZ", None)
    assert (cells["2024"], cells["Colour"], cells['Size "']) == ("x", None, "15")


def test_columns_come_as_asked_for_also_twice(table: AssetTable) -> None:
    query = Query(table="assets", columns=("site", "name", "site"), limit=1)
    assert rows(table, query) == [["FRA1", "db-100%", "FRA1"]]


def test_matched_counts_before_the_limit(table: AssetTable) -> None:
    result = table.query(Query(table="assets", limit=1))
    assert isinstance(result, TableResult)
    assert (result.matched, len(list(result.open_rows()))) == (4, 1)


def test_names_sort_without_regard_to_case_and_blank_ones_last(table: AssetTable) -> None:
    assert [row[0] for row in rows(table, Query(table="assets", columns=("name",)))] == ALL


@pytest.mark.parametrize(
    ("field", "descending", "expected"),
    [
        ("cpu_cores", False, ["web-01", "Web-02", None, None]),
        ("cpu_cores", True, ["Web-02", "web-01", None, None]),
        ("ip_address", False, ["web-01", "Web-02", "db-100%", None]),
        ("Colour", True, ["Web-02", None, None, None]),
    ],
)
def test_empty_values_sort_last_both_ways(
    table: AssetTable, field: str, descending: bool, expected: list[str | None]
) -> None:
    sort = (Sort(field=field, descending=descending),)
    found = rows(table, Query(table="assets", columns=("name", field), sort=sort))
    assert [row[0] if row[1] is not None else None for row in found] == expected


@pytest.mark.parametrize(
    ("field", "op", "value", "expected"),
    [
        ("name", "eq", "WEB-01", ["web-01"]),
        ("name", "ne", "WEB-01", ["db-100%", "Web-02", None]),
        ("name", "in", ("web-01", "WEB-02"), ["web-01", "Web-02"]),
        ("name", "not_in", ("web-01", "WEB-02"), ["db-100%", None]),
        ("name", "contains", "0%", ["db-100%"]),
        ("name", "contains", "_", []),
        ("name", "starts_with", "WEB", ["web-01", "Web-02"]),
        ("name", "not_contains", "web", ["db-100%", None]),
        ("name", "is_null", None, [None]),
        ("name", "not_null", None, ["db-100%", "web-01", "Web-02"]),
        ("site", "eq", "ZÜRICH", ["Web-02"]),
        ("site", "eq", "zürich", ["Web-02"]),
        ("site", "contains", "ZÜR", ["Web-02"]),
        ("os", "contains", "linux", ["web-01"]),
        ("os_version", "eq", 22.04, ["web-01"]),
        ("ip_address", "eq", "2001:0DB8:0:0::1", ["db-100%"]),
        ("ip_address", "eq", "nonsense", []),
        ("ip_address", "within", "10.0.0.0/8", ["web-01", "Web-02"]),
        ("ip_address", "within", "10.0.0.8/31", ["web-01"]),
        ("ip_address", "within", "2001:db8::/32", ["db-100%"]),
        ("ip_address", "within", "::/0", ["db-100%"]),
        ("ip_address", "gt", "10.0.0.9", ["db-100%", "Web-02"]),
        ("ip_address", "lt", "10.0.0.10", ["web-01"]),
        ("ip_address", "starts_with", "10.0.0.", ["web-01", "Web-02"]),
        ("ip_address", "is_null", None, [None]),
        ("tags", "eq", "dmz", ["web-01"]),
        ("tags", "ne", "pci", ["db-100%", None]),
        ("tags", "in", ("dmz", "dmz-old"), ["db-100%", "web-01"]),
        ("tags", "contains", "dmz", ["db-100%", "web-01"]),
        ("tags", "is_null", None, [None]),
        ("cpu_cores", "eq", 4, ["web-01"]),
        ("cpu_cores", "ne", 4, ["db-100%", "Web-02", None]),
        ("cpu_cores", "gte", "4", ["web-01", "Web-02"]),
        ("cpu_cores", "lt", 16, ["web-01"]),
        ("cpu_cores", "is_null", None, ["db-100%", None]),
        ("memory_gb", "in", (1.5, 2), ["web-01"]),
        ("purchased_on", "lte", "2024-05-01", ["web-01"]),
        ("purchased_on", "lt", "2024-05-01T12:00:00Z", []),
        ("last_seen_at", "eq", "2025-01-02", ["web-01"]),
        ("last_seen_at", "gt", "2025-01-02", ["Web-02"]),
        ("last_seen_at", "lte", "2025-01-02", ["web-01"]),
        ("last_seen_at", "lt", "2025-01-02T03:04:06Z", ["web-01"]),
        ("id", "eq", "00000000-0000-4000-8000-000000000001", ["web-01"]),
        ("id", "eq", "1", []),
        ("Colour", "eq", "red", ["Web-02"]),
        ("Colour", "ne", "red", ["db-100%", "web-01", None]),
        ("Colour", "contains", "RE", ["Web-02"]),
        ("Colour", "is_null", None, ["db-100%", "web-01", None]),
        ('Size "', "eq", "15", ["web-01"]),
        ("2024", "not_null", None, ["web-01"]),
    ],
)
def test_filters(
    table: AssetTable, field: str, op: Op, value: Cell | tuple[Cell, ...], expected: list[str | None]
) -> None:
    assert names(table, field, op, value) == expected


def test_filters_are_joined_by_and(table: AssetTable) -> None:
    filters = (Filter(field="tags", op="eq", value="pci"), Filter(field="Colour", op="eq", value="red"))
    assert table.query(Query(table="assets", filters=filters, count_only=True)) == CountResult(total=1)


@pytest.mark.parametrize(
    "query",
    [
        Query(table="assets", columns=("colour of the door",)),
        Query(table="assets", filters=(Filter(field="nothing", op="eq", value="x"),)),
        Query(table="assets", filters=(Filter(field="name", op="lt", value="x"),)),
        Query(table="assets", filters=(Filter(field="cpu_cores", op="eq", value="many"),)),
        Query(table="assets", filters=(Filter(field="purchased_on", op="lt", value="yesterday"),)),
        Query(table="assets", filters=(Filter(field="ip_address", op="within", value="10.0.0.0/99"),)),
        Query(table="assets", filters=(Filter(field="name", op="eq", value=None),)),
        Query(table="assets", filters=(Filter(field="name", op="eq", value=("a", "b")),)),
        Query(table="assets", filters=(Filter(field="name", op="in", value="a"),)),
        Query(table="assets", sort=(Sort(field="count"),)),
        Query(table="assets", group_by=("site",), sort=(Sort(field="name"),)),
        Query(table="assets", limit=-1),
    ],
)
def test_what_can_not_be_asked_is_a_bad_query(table: AssetTable, query: Query) -> None:
    with pytest.raises(ToolError) as caught:
        table.query(query)
    assert caught.value.code == "bad_query"


# Groups


def test_groups_come_with_the_largest_first_and_an_empty_value_is_null(table: AssetTable) -> None:
    result = table.query(Query(table="assets", group_by=("status",)))
    assert isinstance(result, TableResult)
    assert ([column.name for column in result.columns], result.matched, result.kind) == (
        ["status", "count"],
        3,
        "groups",
    )
    assert [list(row) for row in result.open_rows()] == [[None, 2], ["active", 1], ["offline", 1]]


def test_groups_may_be_sorted_and_limited(table: AssetTable) -> None:
    query = Query(table="assets", group_by=("site",), sort=(Sort(field="site", descending=True),), limit=2)
    assert rows(table, query) == [["Zürich", 1], ["LON1", 1]]


def test_an_asset_counts_once_for_each_of_its_tags(table: AssetTable) -> None:
    assert rows(table, Query(table="assets", group_by=("tags",))) == [["pci", 2], ["DMZ", 1], ["dmz-old", 1], [None, 1]]
    by_two = rows(
        table, Query(table="assets", group_by=("tags", "asset_type"), sort=(Sort(field="tags", descending=True),))
    )
    assert by_two == [
        ["pci", "server", 1],
        ["pci", "virtual machine", 1],
        ["dmz-old", "server", 1],
        ["DMZ", "server", 1],
        [None, "patch panel", 1],
    ]


def test_groups_by_number_date_and_attribute(table: AssetTable) -> None:
    assert rows(table, Query(table="assets", group_by=("cpu_cores",))) == [[None, 2], [4, 1], [16, 1]]
    assert rows(table, Query(table="assets", group_by=("purchased_on",))) == [[None, 3], ["2024-05-01", 1]]
    assert rows(table, Query(table="assets", group_by=("Colour", "site")))[0] == [None, "FRA1", 2]


# Words


def test_the_vocabulary_has_the_values_of_categories_and_single_tags(table: AssetTable) -> None:
    words = table.vocabulary()
    assert words["site"] == ["FRA1", "LON1", "Zürich"]
    assert words["tags"] == ["DMZ", "dmz-old", "pci"]
    assert "name" not in words


def test_what_changes_is_learnt_and_what_does_not_is_not_asked_again(table: AssetTable) -> None:
    table.vocabulary()
    with CaptureQueriesContext(connection) as captured:
        table.vocabulary()
    assert len(captured) == 1
    asset = Asset.objects.get(name="web-01")
    asset.site, asset.attributes = "OSL1", {"Door": "blue"}
    asset.save()
    assert "OSL1" in table.vocabulary()["site"]
    assert table.spec.field("Door") is not None


def test_attributes_are_fields_only_while_some_asset_has_them(table: AssetTable) -> None:
    assert table.spec.field("Colour") is not None
    Asset.objects.get(name="Web-02").delete()
    assert table.spec.field("Colour") is None
    Asset.objects.all().delete()
    assert table.spec.field('Size "') is None


def test_a_city_names_its_only_site(table: AssetTable) -> None:
    site = table.spec.field("site")
    assert site is not None
    assert site.value_aliases["london"] == "LON1"
    Asset.objects.create(name="x", site="LON2")
    site = table.spec.field("site")
    assert site is not None
    assert "london" not in site.value_aliases


def test_identifiers_are_found_whole_and_in_any_case(table: AssetTable) -> None:
    found = table.find(["WEB-01", "web", "0042", "42", "2001:DB8::0:1", "Web-01.Example.com", "", "x' OR 1=1"])
    assert found == [
        Match(term="WEB-01", field="name", value="web-01"),
        Match(term="0042", field="serial_number", value="0042"),
        Match(term="2001:DB8::0:1", field="ip_address", value="2001:db8::1"),
        Match(term="Web-01.Example.com", field="fqdn", value="web-01.example.com"),
    ]


def test_looking_identifiers_up_is_one_query_that_uses_the_indexes(table: AssetTable) -> None:
    with CaptureQueriesContext(connection) as captured:
        table.find(["web-01", "db"])
    assert len(captured) == 1
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {captured[0]['sql']}")
            assert not [row for row in cursor.fetchall() if "SCAN inventory_asset" in row[3]]


# Writing


def test_updates_keep_the_derived_columns_right(table: AssetTable) -> None:
    Asset.objects.filter(name="web-01").update(ip_address="192.0.2.1", tags=["new"])
    assert names(table, "ip_address", "within", "192.0.2.0/24") == ["web-01"]
    assert names(table, "tags", "eq", "new") == ["web-01"]
    asset = Asset.objects.get(name="web-01")
    asset.ip_address = "192.0.2.77"
    Asset.objects.bulk_update([asset], ["ip_address"])
    assert names(table, "ip_address", "within", "192.0.2.64/26") == ["web-01"]
    asset.ip_address = ""
    asset.save(update_fields=["ip_address"])
    assert names(table, "ip_address", "within", "0.0.0.0/0") == ["Web-02"]
