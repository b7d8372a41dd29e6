"""What an answer looks like while it is written and when it is done, with an engine that the request dictates."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PageOf
from tests.browser.examination import check_accessible
from tests.server import Server

#: The page.
pytestmark = pytest.mark.one_database


@pytest.fixture(scope="module")
def server(dictated_server: Server) -> Server:
    return dictated_server


def send(page: Page, text: str) -> None:
    page.get_by_role("button", name="New chat").click()
    page.wait_for_load_state()
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    page.locator("#message").fill(text)
    page.locator("#message").press("Enter")


def ended(page: Page) -> None:
    expect(page.locator("[data-run-status]")).to_have_count(1, timeout=20_000)


def test_stages_tick_and_the_answer_appears_while_it_is_written(page_of: PageOf, server: Server) -> None:
    gate = server.folder / "data" / "go"
    gate.unlink(missing_ok=True)
    page = page_of("alice")
    send(page, "rows 3\nWritten **before**.\nwait\nWritten after.")
    run = page.locator(".run")
    expect(run.locator(".stage[data-status=running] .name")).to_contain_text("Response Generation")
    expect(run.locator(".stage[data-status=completed]")).to_have_count(3)
    expect(page.locator(".prose strong")).to_have_text("before")
    expect(run).to_have_attribute("open", "")
    clock = run.locator("summary time")
    first = clock.inner_text()
    expect(clock).not_to_have_text(first)
    assert "after" not in page.locator("#content .prose").inner_text()
    check_accessible(page)
    gate.touch()
    ended(page)
    expect(page.locator(".prose").first).to_contain_text("Written after.")
    expect(run).not_to_have_attribute("open", "")


@pytest.mark.whole
def test_a_second_message_waits_behind_the_first(page_of: PageOf, server: Server) -> None:
    gate = server.folder / "data" / "go"
    gate.unlink(missing_ok=True)
    page = page_of("alice")
    send(page, "wait\nFirst.")
    expect(page.locator(".run[data-status=running]")).to_have_count(1)
    page.locator("#message").fill("Second.")
    page.locator("#message").press("Enter")
    expect(page.locator(".run[data-status=queued]")).to_have_count(1)
    gate.touch()
    expect(page.locator("[data-run-status=succeeded]")).to_have_count(2)


def test_code_has_its_language_a_copy_button_and_a_grey_download(page_of: PageOf, server: Server) -> None:
    page = page_of("alice")
    send(page, "Use this:\n```python\nprint('<b>hi</b>')\n```\nThat is all.")
    ended(page)
    block = page.locator(".block[data-kind=code]")
    expect(block.locator("header")).to_contain_text("python")
    expect(block.get_by_role("button", name="Copy")).to_be_visible()
    link = block.get_by_title("Download code")
    expect(link).to_have_text("Download")
    with page.expect_download() as downloading:
        link.click()
    assert downloading.value.suggested_filename == "code.py"
    assert downloading.value.path().read_text() == "print('<b>hi</b>')\n"


def test_typed_csv_is_an_export_that_says_who_typed_it(page_of: PageOf, server: Server) -> None:
    page = page_of("alice")
    send(page, "Here:\n```csv\nname,formula\nweb-01,=1+1\n```\nDone.")
    ended(page)
    block = page.locator(".block[data-source=model]")
    expect(block).to_contain_text("1 cell guarded")
    with page.expect_download() as downloading:
        block.get_by_title("Download CSV file").click()
    assert downloading.value.path().read_bytes() == b"name,formula\r\nweb-01,'=1+1\r\n"


def test_script_in_an_answer_is_text(page_of: PageOf, server: Server) -> None:
    page = page_of("alice")
    send(page, "<script>alert(1)</script> and <img src=x onerror=alert(1)>")
    ended(page)
    expect(page.locator("#content .prose").first).to_contain_text("<script>alert(1)</script>")
    assert page.locator("#content script, #content img").count() == 0


@pytest.mark.whole
def test_a_failed_run_says_so_in_words(page_of: PageOf, server: Server) -> None:
    page = page_of("alice")
    send(page, "So far.\nfail D")
    expect(page.locator("[data-run-status=failed]")).to_have_count(1, timeout=20_000)
    check_accessible(page)
    expect(page.locator(".trouble")).to_contain_text("Something went wrong in Response Generation")
    assert "secret" not in page.content()
