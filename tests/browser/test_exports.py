"""What a person does with a table: other formats, copies, sorting, Excel, the exports page, once more, deletion."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import openpyxl
import pytest
from playwright.sync_api import Page, Response, expect

from tests.browser.conftest import PageOf
from tests.browser.examination import ALL_VIEWS, check_accessible

pytestmark = pytest.mark.one_database


def asked(page: Page, text: str) -> None:
    """A new conversation with the answer to the text."""
    page.goto("/exports/")
    page.get_by_role("button", name="New chat").click()
    page.locator("#message").fill(text)
    page.locator("#message").press("Enter")
    expect(page.locator(".block .download").first).to_be_visible()
    expect(page.locator("[data-run-status=succeeded]")).to_be_visible()


def test_every_format_of_the_menu_is_downloaded_and_the_menu_closes(page_of: PageOf, tmp_path: Path) -> None:
    page = page_of("alice")
    asked(page, "Export all routers as CSV")
    menu = page.locator("[id^=formats-]")
    for extension in ("csv", "tsv", "xlsx", "json", "ndjson", "xml", "parquet"):
        page.get_by_role("button", name="Other formats").click()
        expect(menu).to_be_visible()
        found = "format=csv&bom=1" if extension == "csv" else f"format={extension}"
        with page.expect_download() as download:
            menu.locator(f"a[href$='{found}']").click()
        expect(menu).to_be_hidden()
        assert download.value.suggested_filename.endswith(f".{extension}")
        download.value.save_as(tmp_path / extension)
    n_rows = len(json.loads((tmp_path / "json").read_text()))
    (tmp_path / "xlsx").rename(tmp_path / "book.xlsx")
    sheet = openpyxl.load_workbook(tmp_path / "book.xlsx").active
    assert sheet.max_row == n_rows + 1
    assert n_rows == len((tmp_path / "ndjson").read_text().splitlines()) > 5
    # Sizes are known when the files are there.
    page.reload()
    page.get_by_role("button", name="Other formats").click()
    expect(menu.locator("small", has_text="on demand")).to_have_count(0)


def test_a_copy_has_all_rows(page_of: PageOf) -> None:
    page = page_of("alice")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    asked(page, "Export all routers as CSV")
    shown = page.locator(".block hgroup span").first.inner_text()
    n_rows = int(shown.split(" of ")[1].split()[0])
    for label, n_lines in (("For a spreadsheet (TSV)", n_rows + 1), ("CSV", n_rows + 1), ("Markdown", n_rows + 2)):
        page.get_by_role("button", name="Copy", exact=True).first.click()
        page.locator("[id^=copy-]").get_by_role("button", name=label, exact=True).click()
        expect(page.locator("#live-status")).to_have_text("Copied")
        expect(page.locator("[id^=copy-]")).to_be_hidden()
        copied: str = page.evaluate("navigator.clipboard.readText()")
        assert len(list(csv.reader(io.StringIO(copied)))) == n_lines
        page.evaluate("document.getElementById('live-status').textContent = ''")


@pytest.mark.whole
def test_the_rows_shown_are_sorted_by_a_column_and_back(page_of: PageOf) -> None:
    page = page_of("alice")
    asked(page, "Export all assets as CSV")
    names = page.locator(".block tbody th")
    before = names.all_inner_texts()
    heading = page.locator(".block thead th", has=page.get_by_role("button", name="name", exact=True))
    button = heading.get_by_role("button")
    for order, wanted in (("ascending", sorted(before)), ("descending", sorted(before, reverse=True))):
        button.click()
        expect(heading).to_have_attribute("aria-sort", order)
        assert names.all_inner_texts() == wanted
    button.click()
    assert heading.get_attribute("aria-sort") is None
    assert names.all_inner_texts() == before


def test_open_in_excel_hands_over_an_address_that_opens(page_of: PageOf) -> None:
    page = page_of("alice")
    asked(page, "Export all routers as CSV")

    def is_link(response: Response) -> bool:
        return response.url.endswith("/link")

    with page.expect_response(is_link) as answer:
        page.get_by_role("button", name="Open in Excel").click()
    made = answer.value.json()
    assert made["opens"] == f"ms-excel:ofv|u|{made['url']}"
    # Office has no session of the browser.
    opened = page.context.browser.new_context().request.get(made["url"])  # type: ignore[union-attr]  # launched
    assert (opened.status, opened.body()[:2]) == (200, b"PK")
    expect(page.get_by_role("button", name="Open in Excel")).to_be_enabled()


def test_an_export_is_found_run_again_and_deleted(page_of: PageOf) -> None:
    page = page_of("bob")
    asked(page, "Export all switches as CSV")
    page.get_by_role("link", name="Exports").click()
    page.locator("#find").fill("switches")
    page.locator("#find").press("Enter")
    row = page.locator("#exports tr").first
    expect(row).to_contain_text("assets.query")
    check_accessible(page, views=ALL_VIEWS)
    row.get_by_role("button", name="More for").click()
    page.get_by_role("button", name="Run again and compare").click()
    expect(page.locator("#changes")).to_be_visible()
    expect(page.locator("main")).to_contain_text("0 added, 0 removed, 0 changed")
    check_accessible(page, views=ALL_VIEWS)
    page.goto("/exports/")
    rows = page.locator("#exports tr")
    n_before = rows.count()
    rows.first.get_by_role("button", name="More for").click()
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("status").first).to_contain_text("is deleted")
    expect(rows).to_have_count(n_before - 1)


@pytest.mark.whole
def test_the_exports_page_works_without_scripts(page_of: PageOf) -> None:
    page = page_of("alice")
    asked(page, "Export all routers as CSV")
    context = page.context.browser.new_context(  # type: ignore[union-attr]  # launched
        java_script_enabled=False, storage_state=page.context.storage_state(), base_url=page.url.split("/conv")[0]
    )
    plain = context.new_page()
    plain.goto("/exports/")
    plain.locator("#exports a").first.click()
    expect(plain.get_by_role("link", name="Download CSV")).to_be_visible()
    plain.get_by_role("button", name="Run again and compare").click()
    expect(plain.locator("#changes")).to_be_visible()
    context.close()
