"""What the embedded engine understands, on a library and on an inventory: the same grammar, other words."""

from __future__ import annotations

import pytest

from tests.pipeline.toys import BOOKS, INVENTORY, said, understand

_LIBRARY = [
    ("list all books", ""),
    ("Show everything", ""),
    ("How many volumes do we have?", "count"),
    ("novels", "genre eq novel"),
    ("how many comics?", "genre eq comic | count"),
    ("novels and comics in the cellar", "genre in novel, comic; shelf eq Cellar"),
    ("number of sf books", "genre eq science fiction | count"),
    ("books by Frank Herbert", "author eq Frank Herbert"),
    ("books written by frank herbert or jane austen", "author in Frank Herbert, Jane Austen"),
    ("books not written by Frank Herbert", "author ne Frank Herbert"),
    ("books per shelf", "per shelf"),
    ("count novels by author and shelf", "genre eq novel | per author, shelf"),
    ("top 3 authors by number of books", "per author | sort count desc | limit 3"),
    ("which author has the most novels?", "genre eq novel | per author | sort count desc | limit 1"),
    ("which shelves have comics?", "genre eq comic | per shelf"),
    ("what are the different genres?", "per genre"),
    ("just title and author of all novels, sorted by title", "genre eq novel | columns title, author | sort title asc"),
    ("author, title for comics", "genre eq comic | columns author, title"),
    ("books with more than 300 pages", "pages gt 300"),
    ("books with at most 20 EUR", "price lte 20"),
    ("price between 5 and 10", "price gte 5; price lte 10"),
    ("books under 12.5 EUR sorted by price descending", "price lt 12.5 | sort price desc"),
    ("top 5 books by pages", "sort pages desc | limit 5"),
    ("the 3 cheapest books", "declined"),
    ("books published before 2000-01-01", "published_on lt 2000-01-01"),
    ("books published in 1999", "published_on gte 1999-01-01; published_on lt 2000-01-01"),
    ("borrowed in the last 2 weeks", "borrowed_at gte 2025-11-05T12:00:00Z; borrowed_at lte 2025-11-19T12:00:00Z"),
    ("books not borrowed in the last 7 days", "borrowed_at lt 2025-11-12T12:00:00Z"),
    ("newest first: all novels", "genre eq novel | sort published_on desc"),
    ("hardcover novels", "binding contains hardcover; genre eq novel"),
    ("books without a reader", "reader is_null"),
    ("books with an isbn", "isbn not_null"),
    ("title starts with dun", "title starts_with dun"),
    ('books with "sea" in the title', "title contains sea"),
    ("Dune", "title eq Dune"),
    ("who is the author of Dune", "title eq Dune | columns author"),
    ("where is Dune?", "title eq Dune | columns shelf"),
    ("The Old Man and the Sea", "title eq The Old Man and the Sea"),
    ("isbn 0012345", "isbn eq 0012345"),
    ("books on shelf A-North", "shelf eq A-North"),
    ("north novels", "shelf eq A-North; genre eq novel"),
]

_ASSETS = [
    ("Export all assets as CSV", ""),
    ("how many routers?", "asset_type eq router | count"),
    ("assets per site", "per site"),
    ("cisco devices in DM-Akron", "manufacturer eq Cisco; site eq DM-Akron"),
    ("cisco devices in dm akron that are offline", "manufacturer eq Cisco; site eq DM-Akron; status eq offline"),
    (
        "just name and ip of all servers in production, sorted by name",
        "asset_type eq server; environment eq production | columns name, ip_address | sort name asc",
    ),
    ("top 5 sites by number of assets", "per site | sort count desc | limit 5"),
    ("count servers by environment and status", "asset_type eq server | per environment, status"),
    ("how many Linux hosts per site?", "os contains Linux | per site"),
    ("virtual machines", "asset_type eq virtual machine"),
    ("vms in prod", "asset_type eq virtual machine; environment eq production"),
    ("windows servers", "os contains Windows; asset_type eq server"),
    ("access switches", "role eq Access Switch"),
    ("patch panels in Akron", "asset_type eq patch panel; site eq DM-Akron"),
    ("routers and switches in London", "asset_type in router, switch; site eq LON1"),
    ("linux or windows hosts", "os in Ubuntu Linux, Debian Linux, Windows Server"),
    ("servers not in London or New York", "asset_type eq server; site not_in LON1, NYC1"),
    ("non-production servers", "environment ne production; asset_type eq server"),
    ("everything in LON1 except printers", "site eq LON1; asset_type ne printer"),
    ("hosts that aren't up", "status ne active"),
    ("servers running ubuntu", "asset_type eq server; os contains Ubuntu"),
    ("assets without an owner", "owner is_null"),
    ("assets with a serial number", "serial_number not_null"),
    ("owner is not set", "owner is_null"),
    ("servers with more than 64 GB of RAM", "asset_type eq server; memory_gb gt 64"),
    ("servers with at least 8 cores", "asset_type eq server; cpu_cores gte 8"),
    ("16+ cores", "cpu_cores gte 16"),
    ("servers where memory >= 64 and disk < 2 TB", "asset_type eq server; memory_gb gte 64; disk_gb lt 2048"),
    (
        "certificates expiring in the next 30 days",
        "certificate_expires_on gte 2025-11-19; certificate_expires_on lte 2025-12-19",
    ),
    ("assets with expired warranty", "warranty_expires_on lt 2025-11-19"),
    (
        "cert expires before the end of the month",
        "certificate_expires_on lt 2025-12-01",
    ),
    ("bought this year", "purchased_on gte 2025-01-01; purchased_on lt 2026-01-01"),
    ("not seen in over a month", "last_seen_at lt 2025-10-19T12:00:00Z"),
    ("seen since monday", "last_seen_at gte 2025-11-17T00:00:00Z"),
    ("hostname starts with db", "name starts_with db"),
    ("hosts in 10.0.0.0/8", "ip_address within 10.0.0.0/8"),
    ("hosts in the 192.168 range", "ip_address within 192.168.0.0/16"),
    ("servers by memory descending", "asset_type eq server | sort memory_gb desc"),
    ("oldest 3 switches", "asset_type eq switch | sort purchased_on asc | limit 3"),
    ("first 10 routers", "asset_type eq router | limit 10"),
    ("details of web-01", "name eq web-01"),
    ("10.0.0.5", "ip_address eq 10.0.0.5"),
    ("asset tag 00012", "asset_tag eq 00012"),
    ("what's the ip of web-01?", "name eq web-01 | columns ip_address"),
    ("who owns web-01?", "name eq web-01 | columns owner"),
    ("is web-01 active?", "name eq web-01 | columns name, status"),
    ("What environment is db-02 in?", "name eq db-02 | columns environment"),
    ("web-01 and db-02", "name in web-01, db-02"),
    ("show me web-99", "name eq web-99"),
    ("assets tagged ring-A", "tags eq ring-A"),
    ("owned by the platform team", "owner eq platform"),
    ("owned by Dunder Mifflin Inc", "owner eq Dunder-Mifflin, Inc."),
    ("servers owned by dunder", "asset_type eq server; owner eq Dunder-Mifflin, Inc."),
    ("rack 2", "rack eq 2"),
    ("racks R3 to R10", "rack in R3, R4, R10"),
    ("servers in racks R1 through r4", "asset_type eq server; rack in R1, R3, R4"),
    ("servers between R3 and 4", "asset_type eq server; rack in R3, R4"),
    ("servers not in racks R3 to R4", "asset_type eq server; rack not_in R3, R4"),
    ("racks R5 to R9", "declined"),
    ("servers with 8 to 16 cores", "asset_type eq server; cpu_cores gte 8; cpu_cores lte 16"),
    ("status = active and environment = production", "status eq active; environment eq production"),
    ("list servers by site", "asset_type eq server | sort site asc"),
    ("assets by site", "per site"),
]


@pytest.mark.parametrize(("text", "meaning"), _LIBRARY)
async def test_a_library_is_understood(text: str, meaning: str) -> None:
    assert said(await understand(text, BOOKS)) == meaning


@pytest.mark.parametrize(("text", "meaning"), _ASSETS)
async def test_an_inventory_is_understood(text: str, meaning: str) -> None:
    assert said(await understand(text, INVENTORY)) == meaning


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("list all swtiches", "asset_type eq switch"),
        ("windws servrs", "os contains Windows; asset_type eq server"),
        ("hosts in productoin", "environment eq production"),
    ],
)
async def test_a_typo_is_read_as_the_nearest_word_of_the_table(text: str, meaning: str) -> None:
    understood = await understand(text, INVENTORY)
    assert said(understood) == meaning
    assert understood.parsed["repairs"]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("show me all servers for Dell", "asset_type eq server | unused Dell"),
        ("servers by planet", "asset_type eq server | unused planet"),
        ("routers sorted by colour", "asset_type eq router | unused sorted, colour"),
        ("how many routers sorted by name", "asset_type eq router | count | unused sorted, name"),
        ("the fast servers", "asset_type eq server | unused fast"),
        ("all available servers", "asset_type eq server | unused available"),
        ("team servers", "asset_type eq server | unused team"),
    ],
)
async def test_a_word_that_plays_no_part_is_listed(text: str, meaning: str) -> None:
    assert said(await understand(text, INVENTORY)) == meaning


@pytest.mark.parametrize(
    "text", ["export all routers", "routers as csv", "a spreadsheet of routers", "download the routers"]
)
async def test_a_file_is_asked_for_in_many_words(text: str) -> None:
    understood = await understand(text, INVENTORY)
    assert understood.intent == "export"
    assert said(understood) == "asset_type eq router"


@pytest.mark.parametrize("word", ["xlsx", "json", "Excel"])
async def test_a_format_that_is_not_written_stays_visible(word: str) -> None:
    understood = await understand(f"export all routers as {word}", INVENTORY)
    assert understood.intent == "export"
    assert understood.unused_words == (word,)


async def test_the_table_whose_words_are_used_is_asked() -> None:
    for text, table in (
        ("how many comics?", "books"),
        ("how many routers?", "assets"),
        ("books", "books"),
        ("web-01", "assets"),
    ):
        assert (await understand(text, INVENTORY, BOOKS)).parsed["query"]["table"] == table


async def test_what_is_understood_is_shown_beside_the_query() -> None:
    understood = (await understand("title and price of novels, sorted by price", BOOKS)).understood
    assert understood.to_dict() == {
        "filters": [{"field": "genre", "op": "eq", "value": "novel"}],
        "columns": ["title", "price"],
        "sort": [{"field": "price", "direction": "asc"}],
        "limit": None,
        "group_by": [],
    }


@pytest.mark.parametrize(
    "text",
    ["'" * 50, "\x00", "🙂 🙂", "in in in of of", "a" * 8000, "1" * 400, "last 99999999999 years", "٣ books", "top 0"],
)
async def test_no_text_breaks_the_engine(text: str) -> None:
    await understand(text, BOOKS, INVENTORY)
    await understand(f"books published within {text} days sorted by {text}", BOOKS, INVENTORY)
