"""Requests that must not run: orders, two questions in one, words that no value has. A wrong number is worse."""

from __future__ import annotations

import pytest

from tests.pipeline.toys import BOOKS, INVENTORY, said, understand

_ORDERS = [
    "tag all servers as legacy",
    "make all offline servers active",
    "web-01 should be retired",
    "the routers need to be offline",
    "test the servers in London",
    "build a server",
    "take the London routers offline",
    "bring web-01 back up",
    "shut down all retired servers",
    "shut the routers down",
    "back up all switches",
    "power off web-01",
    "flag all servers as critical",
    "offline the printers in London",
    "copy all servers to New York",
    "switch web-01 to maintenance",
    "mail the list of servers to bob",
]
_TWO_QUESTIONS = [
    "routers in London and switches in New York",
    "cisco hosts or offline hosts",
    "active servers and offline printers",
    "active routers plus the servers in London",
    "how many active servers and offline routers",
    "servers in London or with 512 GB memory",
    "top 5 servers by memory and top 3 by disk",
    "offline hosts and cisco hosts",
    "hosts in rack R1 to rack 2",
]
_UNKNOWN = [
    ("servers in Atlantis", "Atlantis"),
    ("all Dell servers", "Dell"),
    ("stopped vms", "stopped"),
    ("internal web servers", "internal"),
    ("network hosts", "network"),
    ("physical servers", "physical"),
    ("hosts in production on Mars", "Mars"),
    ("servers running centos", "centos"),
    ("UPS hosts", "UPS"),
    ("room hosts in London", "room"),
]
_NO_ANSWER = [
    "which sites have no routers?",
    "vendors without switches",
    "what is the total memory of all servers",
    "max memory of any vm",
    "how many cores do the servers have",
    "how much memory do we have",
    "high memory servers",
    "lots of disk",
    "servers with 64 GB or more",
    "hosts ending in -01",
    "hosts not in 10.0.0.0/8",
    "skip the first 10 servers",
    "retired and not retired hosts",
    "SELECT * FROM assets WHERE site = 1",
    "how many ports does a C9200-48P have?",
    "show me how to configure a router",
    "are all servers backed up?",
    "what port does the web server use?",
]


@pytest.mark.parametrize("text", _ORDERS)
async def test_an_order_runs_nothing(text: str) -> None:
    assert said(await understand(text, INVENTORY)) == "declined"


@pytest.mark.parametrize("text", _TWO_QUESTIONS)
async def test_two_questions_in_one_are_declined_with_the_reason(text: str) -> None:
    understood = await understand(text, INVENTORY)
    assert said(understood) == "declined"
    assert "one question at a time" in understood.parsed["reason"]


@pytest.mark.parametrize(("text", "word"), _UNKNOWN)
async def test_an_unknown_word_in_the_place_of_a_value_is_named(text: str, word: str) -> None:
    understood = await understand(text, INVENTORY)
    assert said(understood) == "declined"
    assert f"“{word}”" in understood.parsed["reason"]


@pytest.mark.parametrize("text", _NO_ANSWER)
async def test_what_no_query_says_is_declined(text: str) -> None:
    assert said(await understand(text, INVENTORY)) == "declined"


@pytest.mark.parametrize(
    "text",
    [
        "novels in the cellar and comics on A-North",
        "novels or anything under 300 pages",
        "which authors have no novels",
        "total pages of all novels",
        "how many pages do the novels have",
        "thick novels",
        "put all comics on shelf A-North",
        "long novels in the attic",
    ],
)
async def test_the_same_doubts_hold_for_another_table(text: str) -> None:
    assert said(await understand(text, BOOKS)) == "declined"


async def test_help_is_given_for_any_kind_of_question() -> None:
    assert (await understand("what kind of questions can I ask you?", INVENTORY)).intent == "help"


async def test_a_part_that_was_read_as_a_value_is_said() -> None:
    assert (await understand("switches in akron", INVENTORY)).parsed["repairs"] == [["akron", "DM-Akron"]]
