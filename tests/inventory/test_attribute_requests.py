"""What other tools' files leave as attributes can be asked for, filtered by and exported in the chat."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from conversations import runner, threads
from conversations.hub import hub
from conversations.pipeline.embedded import EmbeddedEngine
from conversations.pipeline.tools import Cell, Filter, Query, TableResult
from conversations.runner import EmbeddedRunner
from inventory.importing import import_file
from inventory.tools import AssetTable
from tests.calls import ask, call, token_of
from tests.inventory.test_examples import eq, understood

DATA = Path(__file__).parent.parent / "data"
_FILES = (
    "snipe-it-assets.json", "servicenow-servers.csv", "servicenow-servers.json", "aws-ec2-instances.json",
    "ansible-inventory.json", "ansible-facts.json", "netbox-api-devices.json",
)  # fmt: skip


@pytest.fixture
def table(db: None, tmp_path: Path) -> AssetTable:
    load(tmp_path)
    return AssetTable()


def load(folder: Path) -> None:
    for name in _FILES:
        import_file(DATA / name)
    path = folder / "warranties.csv"
    path.write_text("name,Warranty Provider,Patch Group\nw1,Dell,A\nw2,HPE,Sunday night\n")
    import_file(path)


_FILTERS: list[tuple[str, Sequence[Filter], list[str]]] = [
    ("list hosts with Warranty Provider Dell", (eq("Warranty Provider", "Dell"),), ["w1"]),
    ("hosts with warranty provider hpe", (eq("Warranty Provider", "HPE"),), ["w2"]),
    (
        "hosts with patch group Sunday night",
        (eq("Patch Group", "Sunday night"),),
        ["", "dmi01-akron-rtr01", "example-sw-01", "lnx-app-01", "shop-web-1", "w2"],
    ),
    (
        "hosts with ansible_default_ipv4.gateway 192.0.2.1",
        (eq("ansible_default_ipv4.gateway", "192.0.2.1"),),
        ["kvm1.example.com", "web1.example.com"],
    ),
    ("hosts where State.Code is 80", (eq("State.Code", "80"),), ["shop-ad-1"]),
    ("hosts with InstanceId i-0123456789abcdef1", (eq("InstanceId", "i-0123456789abcdef1"),), ["shop-ad-1"]),
    ('assets with Purchase Cost "1,899.00"', (eq("purchase_cost", "1,899.00"),), ["lt-avaughn"]),
    ("hosts in maintenance", (eq("status", "in maintenance"),), ["edge-fw-01"]),
    ("list label printers", (eq("asset_type", "Label printers"),), ["pr-hall"]),
]


@pytest.mark.parametrize(("text", "filters", "names"), _FILTERS)
def test_an_attribute_filters_by_its_own_name(
    table: AssetTable, text: str, filters: Sequence[Filter], names: list[str]
) -> None:
    query = understood(text, table)
    assert query.filters == filters
    result = table.query(Query(table="assets", filters=query.filters, columns=("name",)))
    assert isinstance(result, TableResult)
    assert sorted(str(row[0] or "") for row in result.open_rows()) == names


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("export name and Patch Group", ("name", "Patch Group")),
        ("list name, http_port and limits.nofile", ("name", "http_port", "limits.nofile")),
        ("list name and assigned_to.email", ("name", "assigned_to.email")),
        ("list name and sys_class_name.value", ("name", "sys_class_name.value")),
    ],
)
def test_attributes_are_columns_by_their_own_names(table: AssetTable, text: str, columns: Sequence[str]) -> None:
    assert understood(text, table).columns == columns


def test_assets_are_counted_by_an_attribute(table: AssetTable) -> None:
    query = understood("how many assets per Patch Group?", table)
    result = table.query(query)
    assert isinstance(result, TableResult)
    rows: list[list[Cell]] = [list(row) for row in result.open_rows()]
    assert ["Sunday night", 6] in rows


@pytest.fixture
async def answering(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The runner of a server, with the engine that it has by default."""
    hub.open()
    embedded = EmbeddedRunner(max_runs=2, engine=EmbeddedEngine())
    monkeypatch.setattr(runner, "current", embedded)
    yield
    await embedded.stop()


async def test_the_chat_answers_and_exports_with_attributes(answering: None, alice: User, tmp_path: Path) -> None:
    await threads.working(lambda: load(tmp_path))
    assert await exported(alice, "list name and Warranty Provider of hosts with Patch Group Sunday night") == [
        ["name", "Warranty Provider"],
        ["dmi01-akron-rtr01", ""],
        ["example-sw-01", ""],
        ["lnx-app-01", ""],
        ["shop-web-1", ""],
        ["w2", "HPE"],
        ["", ""],
    ]
    header, *rows = await exported(alice, "export all hosts with Warranty Provider Dell as CSV")
    told = dict(zip(header, rows[0], strict=True))
    assert (len(rows), told["name"], told["Warranty Provider"], told["Patch Group"]) == (1, "w1", "Dell", "A")
    assert {"ansible_default_ipv4.gateway", "State.Code", "purchase_cost", "assigned_to.email"} - set(header) == set()


async def exported(user: User, request: str) -> list[list[str]]:
    """The rows of the file that the request makes."""
    events = (await ask(user, request)).events
    url = next(event for event in events if event["type"] == "export")["downloads"]["csv"]
    answer = await call("GET", url, authorization=f"Bearer {await token_of(user)}")
    return list(csv.reader(io.StringIO(answer.body.decode())))
