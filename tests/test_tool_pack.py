"""A tool pack is added by one line in INSTALLED_APPS: the toy pack in tests/toypack, beside the real inventory."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.process.clients import Browser, api_of, ask, download
from tests.server import ROOT, Server, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), DJANGO_SETTINGS_MODULE="tests.toypack.settings") as server:
        server.manage("loaddata", "windows", "-v0")
        yield server


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[httpx.Client]:
    with api_of(server) as api:
        yield api


def result_of(api: httpx.Client, request: str) -> dict[str, Any]:
    """The one result of a request that must be understood whole."""
    run = ask(api, request)
    assert run["response"]["unused_words"] == []
    (result,) = run["response"]["results"]
    return {**result, "run": run}


def test_the_packs_table_is_listed_and_every_row_is_in_the_file(api: httpx.Client) -> None:
    result = result_of(api, "Export all maintenance windows as CSV")
    assert (result["tool"], result["kind"], result["total"]) == ("windows.query", "rows", 4)
    rows = list(csv.DictReader(io.StringIO(download(api, result["run"]).decode())))
    assert [row["title"] for row in rows] == ["Firmware", "Kernel update", "New disks", "Line cards"]
    assert rows[0]["starts_at"] == "2030-01-05T22:00:00Z"


@pytest.mark.parametrize(
    ("request_", "total"),
    [
        ("How many maintenance windows are there?", 4),
        ("How many maintenance windows of the Network team?", 2),
        ("How many maintenance windows longer than 60 minutes?", 3),
        ("How many maintenance windows start in January 2030?", 2),
        ("How many outages of db-primary?", 2),
        ("How many maintenance windows that are not of team Network?", 2),
    ],
)
def test_the_packs_rows_are_counted(api: httpx.Client, request_: str, total: int) -> None:
    result = result_of(api, request_)
    assert (result["tool"], result["kind"], result["total"]) == ("windows.query", "count", total)


def test_the_packs_rows_are_grouped_by_its_fields(api: httpx.Client) -> None:
    assert result_of(api, "maintenance windows per team")["rows"] == [["Network", 2], ["Databases", 1], ["Storage", 1]]


def test_the_packs_own_tool_is_called_by_its_own_words(api: httpx.Client) -> None:
    result = result_of(api, "Who works on DB-primary?")
    assert (result["tool"], result["arguments"]) == ("windows.who", {"asset": "DB-primary"})
    assert [row[0] for row in result["rows"]] == ["Databases", "Storage"]
    assert "windows.who" in result["run"]["message"]
    refused = ask(api, "Who works on web-99?")
    assert refused["message"] == "Nothing is planned for web-99."
    assert refused["status"] == "succeeded"


@pytest.mark.parametrize(
    "request_",
    ["Export all assets as CSV", "How many windows servers?", "assets in maintenance", "How many assets per team?"],
)
def test_the_inventory_answers_as_it_did_before(api: httpx.Client, request_: str) -> None:
    assert result_of(api, request_)["tool"] == "assets.query"


def test_a_question_to_both_tables_at_once_is_declined(api: httpx.Client) -> None:
    run = ask(api, "Which assets have maintenance windows?")
    assert run["response"]["response_type"] == "declined"
    assert "one table at a time: assets or maintenance windows" in run["message"]


def test_help_and_the_start_page_name_the_pack(server: Server, api: httpx.Client) -> None:
    help_ = ask(api, "help")["message"]
    assert "assets and maintenance windows" in help_
    assert "- who works on …" in help_
    with Browser(server, "bob") as bob:
        page = bob.http.get(bob.path).text
    assert "4 maintenance windows" in page
    assert 'value="maintenance windows per team"' in page


def test_nothing_else_of_the_project_knows_the_pack() -> None:
    folders = ("conversations", "inventory", "opschat", "templates")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".html")]
    assert [path for path in files if re.search("toypack|windows\\.query", path.read_text(encoding="utf-8"))] == []


def test_the_pack_is_three_files_and_what_django_writes() -> None:
    written = {path.relative_to(ROOT / "tests/toypack") for path in (ROOT / "tests/toypack").rglob("*.py")}
    own = {path.name for path in written if path.name != "__init__.py" and path.parent == Path()}
    assert own == {"models.py", "tools.py", "settings.py"}
