"""The main job in a real browser when uvicorn serves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PageOf
from tests.browser.test_journey import ASK, ask, new_chat, rows_of
from tests.server import Server, running

#: The server program; the same journey runs on both databases under the other.
pytestmark = pytest.mark.one_database


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """In the place of the server that the other browser tests share."""
    with running(
        tmp_path_factory.mktemp("uvicorn"), program="uvicorn", DJANGO_SETTINGS_MODULE="tests.settings"
    ) as server:
        yield server


@pytest.mark.whole
def test_alice_asks_watches_and_downloads_under_uvicorn(page_of: PageOf, tmp_path: Path) -> None:
    page = page_of("alice")
    new_chat(page)
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    run = ask(page, ASK)
    expect(run.locator(".stage")).to_have_count(5)
    with page.expect_download() as downloading:
        page.get_by_title("Download CSV file").click()
    path = tmp_path / downloading.value.suggested_filename
    downloading.value.save_as(path)
    rows = rows_of(path)
    assert len({row["id"] for row in rows}) == len(rows) > 400
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
