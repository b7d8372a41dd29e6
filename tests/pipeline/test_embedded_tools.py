"""Several tables, and tools that people ask for in words of their own."""

from __future__ import annotations

from typing import Any

import pytest

from conversations.pipeline.embedded import calls
from conversations.pipeline.engine import Classification
from conversations.pipeline.tools import Registry, SpokenTool
from tests.engines import ToyTool
from tests.pipeline.toys import BOOKS, INVENTORY, understand

TOOLS = (
    SpokenTool(name="net.reach", phrasings=("is {host} up", "can {source} reach {host}")),
    SpokenTool(name="net.owner", phrasings=("who looks after {host}",)),
)


def called(text: str) -> Any:
    call = calls.find(text, TOOLS)
    return (call.tool, dict(call.arguments)) if call else None


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("is web-01 up", ("net.reach", {"host": "web-01"})),
        ("  Is  web-01 UP ?! ", ("net.reach", {"host": "web-01"})),
        ("Please, is web-01 up?", ("net.reach", {"host": "web-01"})),
        ("is web-01 up, please", ("net.reach", {"host": "web-01"})),
        ('can "the old box" reach 10.0.0.5?', ("net.reach", {"source": "the old box", "host": "10.0.0.5"})),
        ("who looks after web-01.example.net?", ("net.owner", {"host": "web-01.example.net"})),
        ("is any server up", None),
        ("is web-01 up and running", None),
        ("how many routers?", None),
    ],
)
def test_a_tool_is_called_when_the_whole_request_is_one_of_its_phrasings(text: str, call: Any) -> None:
    assert called(text) == call


def test_a_tool_that_changes_something_cannot_be_called_by_words_alone() -> None:
    tool = ToyTool()
    tool.read_only = False
    with pytest.raises(ValueError, match=r"toy\.make changes something"):
        Registry().add_tool(tool, phrasings=("make {n}",))


async def table_of(text: str) -> str:
    found: Classification = await understand(text, INVENTORY, BOOKS)
    return str(found.parsed["query"]["table"] if "query" in found.parsed else found.parsed["reason"])


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("export all assets as csv", "assets"),
        ("export all books as csv", "books"),
        ("how many books by Jane Austen?", "books"),
        ("routers in LON1", "assets"),
        ("novels in the Cellar", "books"),
        ("books without a Shop address", "books"),
    ],
)
async def test_the_table_whose_noun_is_said_is_asked(text: str, table: str) -> None:
    assert await table_of(text) == table


async def test_two_tables_in_one_request_are_declined() -> None:
    assert await table_of("which assets have books?") == "I can ask one table at a time: assets or books."
