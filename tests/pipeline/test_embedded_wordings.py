"""Wordings that once were misread, by the rule behind each; on the inventory unless a table is named."""

from __future__ import annotations

import pytest

from tests.pipeline.toys import BOOKS, INVENTORY, said, understand

_STATES = [
    ("list running servers", "status eq active; asset_type eq server"),
    ("running linux servers", "status eq active; os contains Linux; asset_type eq server"),
    ("running vms in London", "status eq active; asset_type eq virtual machine; site eq LON1"),
    ("vms running in London", "asset_type eq virtual machine; status eq active; site eq LON1"),
    ("servers running linux", "asset_type eq server; os contains Linux"),
    ("servers running on ubuntu", "asset_type eq server; os contains Ubuntu"),
    ("live servers", "status eq active; asset_type eq server"),
    ("which servers live in London?", "asset_type eq server; site eq LON1"),
    ("which servers are up?", "asset_type eq server; status eq active"),
    ("high memory of at least 64 GB", "declined"),
    ("high criticality servers", "criticality eq high; asset_type eq server"),
]
_VERBS = [
    ("look up the routers", "asset_type eq router"),
    ("pull up the offline routers", "status eq offline; asset_type eq router"),
    ("look up asset tag 00012", "asset_tag eq 00012"),
    ("make me a list of routers", "asset_type eq router"),
    ("build a csv with all routers", "asset_type eq router"),
    ("write a report of offline routers", "status eq offline; asset_type eq router"),
    ("run a query for routers", "asset_type eq router"),
    ("set of routers in London", "asset_type eq router; site eq LON1"),
    ("if you can, list the routers", "asset_type eq router"),
    ("# of routers", "asset_type eq router | count"),
    ("hw mny routers", "asset_type eq router | count"),
    ("lsit teh routers", "asset_type eq router"),
]
_PARTS = [
    ("access switches", "role eq Access Switch"),
    ("palo switches", "manufacturer eq Palo Alto Networks; asset_type eq switch"),
    ("R760 servers", "model contains r760; asset_type eq server"),
    ("servers owned by dunder", "asset_type eq server; owner eq Dunder-Mifflin, Inc."),
    ("slot 39", "Slot (U) eq 39.0"),
    ("tag 00012", "asset_tag eq 00012"),
]
_NEGATIONS = [
    ("not the vms, the servers in London", "asset_type ne virtual machine; asset_type eq server; site eq LON1"),
    ("anything but printers in London", "asset_type ne printer; site eq LON1"),
    ("all hosts but the printers", "asset_type ne printer"),
    ("every host including retired ones", ""),
    ("active hosts including retired ones", "status in active, retired"),
    ("unnamed switches", "name is_null; asset_type eq switch"),
    ("ownerless servers", "owner is_null; asset_type eq server"),
    ("servers not owned", "asset_type eq server; owner is_null"),
    ("never seen hosts", "last_seen_at is_null"),
    ("servers not owned by platform", "asset_type eq server; owner ne platform"),
]
_AMOUNTS = [
    ("16-core servers", "cpu_cores eq 16; asset_type eq server"),
    ("vms with 4 to 8 cores", "asset_type eq virtual machine; cpu_cores gte 4; cpu_cores lte 8"),
    ("4-8 cores", "cpu_cores gte 4; cpu_cores lte 8"),
    ("servers sorted by number of cores", "asset_type eq server | sort cpu_cores asc"),
    ("hosts between 10.0.0.1 and 10.0.0.9", "ip_address gte 10.0.0.1; ip_address lte 10.0.0.9"),
    ("ubuntu 22.04 servers", "os contains Ubuntu; os_version eq 22.04; asset_type eq server"),
    ("windows server 2019", "os contains Windows Server; os_version eq 2019"),
    ("switches under warranty", "asset_type eq switch; warranty_expires_on gte 2025-11-19"),
    ("switches out of warranty", "asset_type eq switch; warranty_expires_on lt 2025-11-19"),
    ("warranties ended last year", "warranty_expires_on gte 2024-01-01; warranty_expires_on lt 2025-01-01"),
]
_TEXTS = [
    ("name like %web%", "name contains web"),
    ("hosts matching lon1-*", "name starts_with lon1-"),
    ("serial starting 02x", "serial_number starts_with 02x"),
    ("anything with rtr in its name", "name contains rtr"),
    ("hosts with ticket OPS-4211 in the notes", "notes contains ticket OPS-4211"),
]
_SHAPES = [
    ("oldest server", "asset_type eq server | sort purchased_on asc | limit 1"),
    ("oldest servers", "asset_type eq server | sort purchased_on asc"),
    ("the server with the most cores", "asset_type eq server | sort cpu_cores desc | limit 1"),
    ("most recently seen server", "asset_type eq server | sort last_seen_at desc | limit 1"),
    ("the last 5 hosts seen", "sort last_seen_at desc | limit 5"),
    ("max 6 routers please", "asset_type eq router | limit 6"),
    ("routers alphabetically", "asset_type eq router | sort name asc"),
    ("distinct vendors of switches", "asset_type eq switch | per manufacturer"),
    ("what makes of switches do we have", "asset_type eq switch | per manufacturer"),
    ("breakdown of servers by owner", "asset_type eq server | per owner"),
    ("servers per os and version", "asset_type eq server | per os, os_version"),
    ("servers per site, biggest first", "asset_type eq server | per site | sort count desc"),
    ("hostname site and owner of servers", "asset_type eq server | columns name, site, owner"),
    ("names only for servers", "asset_type eq server | columns name"),
    ("gimme hostname n site of servers", "asset_type eq server | columns name, site"),
    ("top 3 servers by disk, name and disk only",
     "asset_type eq server | columns name, disk_gb | sort disk_gb desc | limit 3"),
    ("hosts tagged both legacy and critical", "tags eq legacy; tags eq critical"),
    ("legacy or ring-A hosts", "tags in legacy, ring-A"),
]  # fmt: skip
_LIBRARY = [
    ("oldest book", "sort published_on asc | limit 1"),
    ("unread novels", "declined"),
    ("readerless novels", "reader is_null; genre eq novel"),
    ("books never borrowed", "borrowed_at is_null"),
    ("200-page novels", "pages eq 200; genre eq novel"),
    ("novels with 200 to 300 pages", "genre eq novel; pages gte 200; pages lte 300"),
    ("titles like *sea*", "title contains sea"),
    ("title and shelf only for comics", "genre eq comic | columns title, shelf"),
    ("anything but novels", "genre ne novel"),
    ("create a list of comics", "genre eq comic"),
    ("look up the novels", "genre eq novel"),
    ("distinct authors of novels", "genre eq novel | per author"),
]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [*_STATES, *_VERBS, *_PARTS, *_NEGATIONS, *_AMOUNTS, *_TEXTS, *_SHAPES],
)
async def test_a_wording_means_one_thing(text: str, meaning: str) -> None:
    assert said(await understand(text, INVENTORY)) == meaning


@pytest.mark.parametrize(("text", "meaning"), _LIBRARY)
async def test_the_same_rules_read_another_table(text: str, meaning: str) -> None:
    assert said(await understand(text, BOOKS)) == meaning


@pytest.mark.parametrize(
    ("text", "left_out"),
    [
        ("all columns except notes for routers", ["notes"]),
        ("routers without the notes and tags columns", ["tags", "notes"]),
        ("all fields but the serial number of routers", ["serial_number"]),
    ],
)
async def test_columns_are_left_out_by_name(text: str, left_out: list[str]) -> None:
    understood = (await understand(text, INVENTORY)).understood
    assert [f.value for f in understood.filters] == ["router"]
    assert [f.name for f in INVENTORY.spec.fields if f.name not in understood.columns] == left_out
