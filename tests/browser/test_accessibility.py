"""For everybody: axe-core finds nothing on any page, and all can be done with the keyboard alone."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PageOf
from tests.browser.examination import ALL_VIEWS, check_accessible
from tests.browser.test_journey import ASK, ask, new_chat
from tests.people import PASSWORD

pytestmark = pytest.mark.one_database


def test_an_answer_with_a_table(page_of: PageOf) -> None:
    page = page_of("alice")
    new_chat(page)
    ask(page, "linux servers in production by memory, with colour please")
    ask(page, ASK)
    check_accessible(page, views=ALL_VIEWS)
    for run in page.locator(".run").all():
        run.locator("summary").click()
    check_accessible(page)


def test_the_start_page_and_its_menus(page_of: PageOf) -> None:
    page = page_of("alice")
    new_chat(page)
    check_accessible(page, views=ALL_VIEWS)
    page.get_by_role("button", name="Theme").click()
    expect(page.locator("#theme-menu")).to_be_visible()
    check_accessible(page)
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("button", name="Open menu").click()
    check_accessible(page, views=ALL_VIEWS[1:2])
    page.locator(".side-foot button").click()
    expect(page.locator("#account-menu")).to_be_visible()
    check_accessible(page, views=ALL_VIEWS[1:2])


@pytest.mark.whole
def test_a_question_back_and_a_refusal(page_of: PageOf, problems: list[str]) -> None:
    page = page_of("alice")
    new_chat(page)
    ask(page, "list the flurbs in the warp core")
    page.route("**/messages/", lambda route: route.fulfill(status=500), times=1)
    page.locator("#message").fill("again")
    page.keyboard.press("Enter")
    expect(page.locator("#composer-error")).to_be_visible()
    check_accessible(page)
    problems.clear()


@pytest.mark.parametrize("path", ["/account/", "/no-such-page/", "/conversations/"])
@pytest.mark.whole
def test_other_pages(page_of: PageOf, problems: list[str], path: str) -> None:
    page = page_of("alice")
    page.goto(path)
    check_accessible(page)
    problems.clear()


def test_signing_in(page_of: PageOf) -> None:
    page = page_of("alice")
    page.context.clear_cookies()
    page.goto("/accounts/login/")
    check_accessible(page, views=ALL_VIEWS)
    page.locator("input[name=username]").fill("alice")
    page.locator("input[name=password]").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").first).to_be_visible()
    check_accessible(page)


@pytest.mark.whole
def test_what_a_reviewer_reads(page_of: PageOf) -> None:
    page = page_of("alice")
    new_chat(page)
    ask(page, "how many routers?")
    theirs = page_of("erin")
    theirs.goto(page.url)
    expect(theirs.get_by_text("You are reviewing a conversation of alice.")).to_be_visible()
    check_accessible(theirs)


WIDE_VIEWS = (ALL_VIEWS[0], ALL_VIEWS[2])


@pytest.mark.whole
def test_the_reviews_lists_and_pages(page_of: PageOf) -> None:
    page = page_of("alice")
    new_chat(page)
    ask(page, "Export all assets as CSV")
    theirs = page_of("erin")
    theirs.goto("/admin/")
    check_accessible(theirs, views=WIDE_VIEWS)
    for path in ("conversation", "run", "export", "auditentry", "apitoken"):
        theirs.goto(f"/admin/conversations/{path}/")
        check_accessible(theirs, views=WIDE_VIEWS)
        row = theirs.locator("#result_list tbody th a").first
        if row.count():
            row.click()
            theirs.wait_for_url("**/change/")
            check_accessible(theirs, views=WIDE_VIEWS)
    theirs.goto("/admin/conversations/auditentry/")
    theirs.get_by_role("button", name="Verify the ledger").click()
    expect(theirs.get_by_text("The ledger is intact")).to_be_visible()
    check_accessible(theirs, views=WIDE_VIEWS)


@pytest.mark.whole
def test_the_list_of_assets_and_one_of_them(page_of: PageOf) -> None:
    theirs = page_of("erin")
    theirs.goto("/admin/inventory/asset/")
    check_accessible(theirs, views=WIDE_VIEWS)
    theirs.locator("#result_list tbody th a").first.click()
    theirs.wait_for_url("**/change/")
    check_accessible(theirs, views=WIDE_VIEWS)


@pytest.mark.whole
def test_a_form_that_was_too_old(page_of: PageOf, problems: list[str]) -> None:
    page = page_of("alice")
    new_chat(page)
    page.locator("#composer").evaluate(
        """form => {
            form.elements.csrfmiddlewaretoken.value = "x";
            form.elements.text.value = "my draft";
            form.submit();
        }"""
    )
    expect(page.get_by_role("heading", level=1)).to_have_text("This form was too old to be sent")
    expect(page.get_by_label("What you wrote")).to_have_value("my draft")
    check_accessible(page)
    problems.clear()


# -- The keyboard ----------------------------------------------------------------------------------------------------


def focused(page: Page) -> str:
    """What has the focus, and that one can see it."""
    said, seen = page.evaluate(
        """() => {
            const e = document.activeElement, styles = [e, e.closest("form") ?? e].map((x) => getComputedStyle(x));
            const seen = styles.some((s) => s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0);
            return [e.getAttribute("aria-label") ?? e.textContent.trim().slice(0, 40) ?? e.id, seen];
        }"""
    )
    assert seen, f"The focus on {said!r} can't be seen"
    return str(said)


def test_everything_is_reached_and_done_with_the_keyboard(page_of: PageOf) -> None:
    page = page_of("alice")
    new_chat(page)
    page.locator("#message").press_sequentially("how many routers?")
    page.keyboard.press("Enter")
    expect(page.locator("[data-run-status=succeeded]")).to_have_count(1)
    page.locator(".skip").focus()
    assert focused(page) == "Skip to content"
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        reached.append(focused(page))
    order = [
        next(n for n, name in enumerate(reached) if re.search(words, name))
        for words in (
            "New chat",
            "how many routers",
            "Theme",
            "stages",
            "Copy answer",
            "Link to this answer",
            "^$|Message|Send",
        )
    ]
    assert order == sorted(order), reached


@pytest.mark.whole
def test_the_skip_link_leads_past_the_sidebar(page_of: PageOf) -> None:
    page = page_of("alice")
    new_chat(page)
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#content') !== null")


@pytest.mark.whole
def test_signing_in_and_out_needs_no_mouse(page_of: PageOf) -> None:
    page = page_of("alice")
    page.context.clear_cookies()
    page.goto("/")
    expect(page.get_by_label("Username")).to_be_focused()
    page.keyboard.type("alice")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/conversations/**")
    page.locator(".side-foot button").focus()
    page.keyboard.press("Enter")
    for _ in range(8):
        page.keyboard.press("Tab")
        if focused(page) == "Sign out":
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/accounts/login/**")


@pytest.mark.whole
def test_nothing_moves_for_who_asked_for_that(page_of: PageOf) -> None:
    page = page_of("alice")
    page.emulate_media(reduced_motion="reduce")
    page.goto("/")
    moving = page.evaluate(
        """() => [...document.querySelectorAll("*")].filter((e) => {
            const s = getComputedStyle(e);
            const lasts = s.transitionDuration.split(",").some((time) => parseFloat(time) > 0);
            return s.animationName !== "none" || (lasts && s.transitionProperty !== "none");
        }).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert moving == []
