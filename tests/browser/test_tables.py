"""The buttons of a table in an answer, and of the Exports page, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from python_calamine import CalamineWorkbook

from tests.browser.conftest import PageOf

#: The page.
pytestmark = pytest.mark.one_database

REQUEST = "list all firewalls"


def asked(page: Page) -> Locator:
    """The table of an answer."""
    page.get_by_role("button", name="New chat").click()
    page.wait_for_load_state()
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    page.locator("#message").fill(REQUEST)
    page.locator("#message").press("Enter")
    expect(page.locator(".run")).to_have_attribute("data-run-status", "succeeded", timeout=20_000)
    return page.locator(".block[data-kind=table]")


def n_rows_of(block: Locator) -> int:
    """Of the whole file, as the menu of formats says."""
    said = block.locator(".menu").first.locator("p").first.text_content() or ""
    found = re.search(r"All ([\d,]+)", said)
    assert found, said
    return int(found[1].replace(",", ""))


def test_the_menu_of_formats_gives_a_workbook_with_every_row(page_of: PageOf, tmp_path: Path) -> None:
    page = page_of("alice")
    block = asked(page)
    n_rows = n_rows_of(block)
    assert n_rows > block.locator("tbody tr").count()
    block.get_by_role("button", name="Other formats").click()
    with page.expect_download() as downloading:
        block.get_by_role("link", name="Excel workbook").click()
    download = downloading.value
    assert re.fullmatch(r"export_\d+\.xlsx", download.suggested_filename)
    download.save_as(tmp_path / "export.xlsx")
    sheet = CalamineWorkbook.from_path(tmp_path / "export.xlsx").get_sheet_by_index(0)
    assert len(sheet.to_python()) == n_rows + 1
    expect(block.locator(".menu").first).to_be_hidden()


def test_copy_puts_all_rows_on_the_clipboard(page_of: PageOf) -> None:
    page = page_of("alice")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    block = asked(page)
    block.get_by_role("button", name="Copy", exact=True).click()
    block.get_by_role("button", name="For a spreadsheet").click()
    expect(page.get_by_text("Copied", exact=True).first).to_be_attached()
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert len(lines) == n_rows_of(block) + 1
    assert {line.count("\t") for line in lines} == {lines[0].count("\t")}


def test_a_column_is_sorted_up_down_and_back(page_of: PageOf) -> None:
    page = page_of("alice")
    block = asked(page)
    heading = block.locator("thead th").first
    cells = block.locator("tbody th")
    given = cells.all_inner_texts()
    seen = []
    for order in ("ascending", "descending", None):
        heading.get_by_role("button").click()
        if order is None:
            expect(heading).not_to_have_attribute("aria-sort", re.compile(""))
        else:
            expect(heading).to_have_attribute("aria-sort", order)
        seen.append(cells.all_inner_texts())
    up, down, back = seen
    assert up != down
    assert up == down[::-1]
    assert sorted(up) == sorted(given)
    assert back == given


def test_open_in_excel_asks_for_a_link_that_works_without_a_session(page_of: PageOf, problems: list[str]) -> None:
    page = page_of("alice")
    block = asked(page)
    with page.expect_response(lambda answer: answer.request.method == "POST" and "/exports/" in answer.url) as asking:
        block.get_by_role("button", name="Open in Excel").click()
    answer = asking.value
    assert answer.status == 201
    said = answer.json()
    assert said["opens"] == f"ms-excel:ofv|u|{said['url']}"
    expect(block.get_by_role("button", name="Open in Excel")).to_be_visible()
    browser = page.context.browser
    assert browser is not None
    stranger = browser.new_context()
    file = stranger.request.get(said["url"])
    assert (file.status, file.body()[:2]) == (200, b"PK")
    stranger.close()
    # This machine has no Excel, which the browser says.
    problems[:] = [problem for problem in problems if "ms-excel" not in problem]


def test_an_export_is_run_again_and_deleted_on_the_exports_page(page_of: PageOf) -> None:
    page = page_of("alice")
    name = asked(page).locator("footer .mono").inner_text()
    page.goto("/exports/")
    row = page.get_by_role("row").filter(has_text=name)
    row.get_by_role("button", name="More for").click()
    row.get_by_role("button", name="Run again and compare").click()
    expect(page.get_by_role("heading", name="What has changed")).to_be_visible()
    page.goto("/exports/")
    row.get_by_role("button", name="More for").click()
    row.get_by_role("button", name="Delete…").click()
    row.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text(f"{name} is deleted.")).to_be_visible()
    expect(row).to_have_count(0)
