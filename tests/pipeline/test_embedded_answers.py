"""What the embedded engine says, and what it declines."""

from __future__ import annotations

import pytest

from conversations.pipeline.embedded import EmbeddedEngine
from conversations.pipeline.embedded.answers import escape
from conversations.pipeline.engine import TextPiece
from tests.pipeline.toys import BOOKS, INVENTORY, answer, request, said, understand


@pytest.mark.parametrize(
    ("text", "n", "spoken"),
    [
        ("cisco devices", 1, "**1 asset matches**: manufacturer = Cisco.\n\n[table] <result>"),
        ("how many routers?", 72, "**72 assets match**: asset type = router. <result>"),
        ("assets", 0, "There are no assets yet. <result>"),
        ("assets per site", 14, "**14 groups** of assets by site.\n\n[table] <result>"),
        (
            "all assets",
            1204,
            "**1,204 assets** are there in all.\n\n[table]\n\nThe file has all 1,204 rows and every field. <result>",
        ),
        (
            "top 5 servers by memory",
            72,
            "**72 assets match**: asset type = server. Here are the first 5 of 72, by memory descending."
            "\n\n[table] <result>",
        ),
        (
            "swtiches in london",
            0,
            "**No assets match**: asset type = switch, site = LON1.\n\nI read “swtiches” as “switches”. <result>",
        ),
        (
            "owned by platfrm_x",
            0,
            "**No assets match**: owner = platfrm\\_x.\n\nNear values of owner: platform. <result>",
        ),
    ],
)
async def test_the_answer_states_the_tools_numbers(text: str, n: int, spoken: str) -> None:
    assert await answer(text, INVENTORY, n=n) == spoken


async def test_words_that_were_not_used_are_said_before_the_table() -> None:
    spoken = await answer("show me all servers for Dell as xlsx", INVENTORY)
    assert (
        spoken.index("**Not used: Dell.**")
        < spoken.index("Not used: xlsx. Files are written as CSV.")
        < spoken.index("[table]")
    )


async def test_a_refusal_is_said_in_the_tools_words() -> None:
    assert (
        await answer("routers", INVENTORY, refusal="That table is *closed*.") == "That table is \\*closed\\*. <result>"
    )


async def test_an_answer_comes_in_several_pieces() -> None:
    engine, asked = EmbeddedEngine(), request("what can you do?", BOOKS)
    pieces = [piece async for piece in engine.respond(asked, await engine.classify(asked), ())]
    assert len([piece for piece in pieces if isinstance(piece, TextPiece)]) > 5


@pytest.mark.parametrize("text", ["Hi", "hello!", "good evening", "Thanks, that's all for today", "ok cool thx", "bye"])
async def test_small_talk_is_answered_without_a_tool(text: str) -> None:
    assert (await understand(text, BOOKS)).intent == "smalltalk"
    assert (await answer(text, BOOKS)).endswith("<information>")


@pytest.mark.parametrize(
    "text", ["what can you do?", "help", "How do I export data?", "who are you", "list the tools you can use"]
)
async def test_help_names_what_the_tables_offer(text: str) -> None:
    assert (await understand(text, BOOKS)).intent == "help"
    spoken = await answer(text, BOOKS)
    assert "- how many comics?" in spoken
    assert spoken.endswith("<information>")


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("explain DNS", "knowledge"),
        ("what is a VLAN?", "knowledge"),
        ("What is DHCP?", "knowledge"),
        ("What is a router?", "knowledge"),
        ("why is web-01 slow?", "knowledge"),
        ("How does SSH work?", "knowledge"),
        ("What's the weather in London?", "knowledge"),
        ("restart nginx", "unsupported"),
        ("can you please reboot web-01", "unsupported"),
        ("delete web-01", "asset_change"),
        ("Set the status of web-01 to maintenance", "asset_change"),
        ("switch web-01 to maintenance", "asset_change"),
        ("delete everything", "asset_change"),
        ("list all servers and then delete them", "asset_change"),
        ("ping 10.0.0.5", "network_check"),
        ("is port 443 open on web-01", "network_check"),
        ("list all servers and ping each of them", "network_check"),
        ("if web-01 is down, show me all routers", "unsupported"),
        ("What percentage of our servers are offline?", "unsupported"),
        ("List all pods in London", "unsupported"),
        ("show running processes on 10.0.0.5", "unsupported"),
        ("show me all Dell assets", "unsupported"),
        ("what assets are in DC-West-99?", "unsupported"),
        ("assets per planet", "unsupported"),
        ("only the ones in London", "unsupported"),
        ("what about London?", "unsupported"),
        ("Wie viele Server sind in London offline?", "unsupported"),
        ("asdf qwer", "unsupported"),
        ("resolve db-02", "network_check"),
        ("?!", "unsupported"),
    ],
)
async def test_what_cannot_be_answered_is_declined_without_a_tool(text: str, intent: str) -> None:
    understood = await understand(text, INVENTORY)
    assert (understood.intent, said(understood)) == (intent, "declined")
    spoken = await answer(text, INVENTORY)
    assert "- how many routers?" in spoken
    assert spoken.endswith("<declined>")


async def test_a_declined_request_names_the_words_that_were_not_understood() -> None:
    assert (await understand("show me all Dell assets", INVENTORY)).unused_words == ("Dell",)


async def test_without_a_table_everything_is_declined() -> None:
    assert (await answer("list all books")).endswith("<declined>")


def test_text_in_an_answer_reads_as_typed() -> None:
    assert escape("a*b_[c](d) <x>\n|y| `z` #1") == "a\\*b\\_\\[c\\](d) \\<x\\> \\|y\\| \\`z\\` \\#1"
