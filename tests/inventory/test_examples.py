"""The requests that the page offers to click, asked of the sample."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import TypeVar

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from conversations.pipeline.embedded import EmbeddedEngine
from conversations.pipeline.engine import KnownTable, Request
from conversations.pipeline.tools import Cell, CountResult, Filter, Query, Sort
from inventory.demo import load_sample
from inventory.fields import ASSETS
from inventory.tools import AssetTable

T = TypeVar("T")
pytestmark = pytest.mark.django_db


async def in_thread(work: Callable[..., T], *args: object) -> T:
    return await sync_to_async(work)(*args)


def understood(text: str, table: AssetTable) -> Query:
    """The one query that the embedded engine makes of the text, every word of which it has used."""
    known = KnownTable(spec=table.spec, vocabulary=table.vocabulary(), find=table.find)
    request = Request(text=text, now=datetime(2026, 3, 1, tzinfo=UTC), tables=(known,), in_thread=in_thread)

    async def ask() -> Query:
        engine = EmbeddedEngine()
        classification = await engine.classify(request)
        assert classification.unused_words == ()
        selection = await engine.select(request, classification)
        assert len(selection.calls) == 1
        return Query.from_dict(selection.calls[0].arguments)

    return async_to_sync(ask)()


def eq(field: str, value: Cell) -> Filter:
    return Filter(field=field, op="eq", value=value)


_EXAMPLES = {
    "Export all assets as CSV": Query(table="assets"),
    "How many servers are there per site?": Query(
        table="assets", filters=(eq("asset_type", "server"),), group_by=("site",)
    ),
    "Cisco devices that are offline": Query(
        table="assets", filters=(eq("manufacturer", "Cisco"), eq("status", "offline"))
    ),
    "Name, IP and owner of all production firewalls": Query(
        table="assets",
        filters=(eq("environment", "production"), eq("asset_type", "firewall")),
        columns=("name", "ip_address", "owner"),
    ),
    "Top 5 sites by number of assets": Query(
        table="assets", group_by=("site",), sort=(Sort(field="count", descending=True),), limit=5
    ),
    "How many routers?": Query(table="assets", filters=(eq("asset_type", "router"),), count_only=True),
}


def test_the_examples_are_the_page_s_in_its_order() -> None:
    assert ASSETS.examples == tuple(_EXAMPLES)


@pytest.mark.parametrize("text", ASSETS.examples)
def test_an_example_means_what_it_says_and_finds_something_in_the_sample(text: str) -> None:
    load_sample(today=date(2026, 3, 1))
    table = AssetTable()
    query = understood(text, table)
    assert query == _EXAMPLES[text]
    result = table.query(query)
    if isinstance(result, CountResult):
        assert result.total > 0
    else:
        assert len(list(result.open_rows())) > 1


@pytest.mark.parametrize(
    ("text", "columns"), [("where is lon1-fw-01?", ("site", "location")), ("who owns lon1-fw-01?", ("owner",))]
)
def test_where_is_site_and_location_and_who_is_the_owner(text: str, columns: tuple[str, ...]) -> None:
    load_sample(today=date(2026, 3, 1))
    query = understood(text, AssetTable())
    assert (query.filters, query.columns) == ((eq("name", "lon1-fw-01"),), columns)


@pytest.mark.parametrize("word", ["srv", "srvs", "server", "servers"])
def test_srv_is_a_server(word: str) -> None:
    load_sample(today=date(2026, 3, 1))
    assert understood(f"how many {word}?", AssetTable()).filters == (eq("asset_type", "server"),)
