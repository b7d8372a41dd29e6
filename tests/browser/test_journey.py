"""The main job in a real browser: sign in, ask, watch, download."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PageOf

ASK = "Export all assets as CSV"


def ask(page: Page, text: str) -> Locator:
    """Types and sends with Enter; the run's element once it has ended."""
    n_before = page.locator(".run").count()
    page.locator("#message").fill(text)
    page.locator("#message").press("Enter")
    run = page.locator(".run").nth(n_before)
    expect(run).to_have_attribute("data-run-status", "succeeded", timeout=20_000)
    return run


def new_chat(page: Page) -> None:
    page.get_by_role("button", name="New chat").click()
    page.wait_for_load_state()


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_alice_asks_watches_five_stages_and_downloads_every_asset(page_of: PageOf, tmp_path: Path) -> None:
    page = page_of("alice")
    new_chat(page)
    ask(page, "Hi")
    run = ask(page, ASK)
    expect(run.locator(".stage")).to_have_count(5)
    states = [stage.get_attribute("data-status") for stage in run.locator(".stage").all()]
    assert states == ["completed", "completed", "skipped", "completed", "completed"]
    run.locator("summary").click()
    expect(run.locator(".stage .state").first).to_contain_text("ms")
    button = page.get_by_title("Download CSV file")
    expect(button).to_have_text("Download CSV")
    expect(page.locator(".top .badge")).to_have_text("Sample data")
    assert button.evaluate("e => getComputedStyle(e).fontWeight") == "700"
    with page.expect_download() as downloading:
        button.click()
    path = tmp_path / downloading.value.suggested_filename
    downloading.value.save_as(path)
    assert path.name.startswith("export_")
    rows = rows_of(path)
    shown = page.locator(".block hgroup p").inner_text()
    assert f"10 of {len(rows)} rows" in shown
    assert len(rows) > 400
    assert len({row["id"] for row in rows}) == len(rows)


@pytest.mark.one_database
def test_the_page_is_the_same_after_a_reload(page_of: PageOf) -> None:
    page = page_of("alice")
    new_chat(page)
    ask(page, "how many routers?")
    before = page.locator("#content").inner_text()
    page.reload()
    assert page.locator("#content").inner_text() == before


@pytest.mark.one_database
def test_two_tabs_of_one_user_show_the_same_live(page_of: PageOf) -> None:
    page = page_of("alice")
    new_chat(page)
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.locator("#connection")).to_have_attribute("data-state", "live")
    ask(page, "top 5 sites by number of assets")
    expect(other.locator("[data-run-status=succeeded]")).to_have_count(1)
    assert other.locator("#content").inner_text() == page.locator("#content").inner_text()


def test_bob_sees_nothing_of_alices(page_of: PageOf, problems: list[str]) -> None:
    hers, his = page_of("alice"), page_of("bob")
    new_chat(hers)
    new_chat(his)
    ask(hers, ASK)
    link = hers.get_by_title("Download CSV file").get_attribute("href")
    expect(his.locator(".run")).to_have_count(0)
    assert "Export all assets" not in his.locator("#conversations").inner_text()
    for address in (hers.url, link):
        answer = his.request.get(str(address), headers={"Accept": "text/html"})
        assert answer.status == 404
    assert problems == []


@pytest.mark.one_database
@pytest.mark.whole
def test_the_draft_and_the_focus_stay_while_frames_arrive(page_of: PageOf) -> None:
    page = page_of("alice")
    new_chat(page)
    other = page.context.new_page()
    other.goto(page.url)
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    page.locator("#message").fill("half a thou")
    page.locator("#message").focus()
    ask(other, ASK)
    expect(page.locator("[data-run-status=succeeded]")).to_have_count(1)
    assert page.locator("#message").input_value() == "half a thou"
    assert page.evaluate("document.activeElement.id") == "message"


@pytest.mark.one_database
@pytest.mark.whole
def test_shift_enter_breaks_the_line_and_a_double_enter_sends_once(page_of: PageOf) -> None:
    page = page_of("alice")
    new_chat(page)
    box = page.locator("#message")
    box.fill("Hi")
    box.press("Shift+Enter")
    box.type("there")
    assert box.input_value() == "Hi\nthere"
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator("[data-run-status=succeeded]")).to_have_count(1)
    assert page.locator(".ask").count() == 1


@pytest.mark.one_database
def test_it_works_without_scripts(page_of: PageOf) -> None:
    signed_in = page_of("alice")
    browser = signed_in.context.browser
    assert browser is not None
    base_url = signed_in.url.split("/conversations")[0]
    context = browser.new_context(
        java_script_enabled=False, base_url=base_url, storage_state=signed_in.context.storage_state()
    )
    page = context.new_page()
    page.goto("/")
    page.get_by_role("button", name="New chat").click()
    page.locator("#message").fill(ASK)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_title("Download CSV file")).to_be_visible(timeout=20_000)
    context.close()


@pytest.mark.one_database
@pytest.mark.whole
def test_it_works_without_a_socket(page_of: PageOf) -> None:
    signed_in = page_of("alice")
    page = signed_in.context.new_page()
    page.add_init_script("window.WebSocket = function () { throw new Error('no sockets here'); };")
    page.goto(signed_in.url)
    page.get_by_role("button", name="New chat").click()
    page.locator("#message").fill(ASK)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_title("Download CSV file")).to_be_visible(timeout=20_000)
