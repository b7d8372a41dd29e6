"""Stop and Continue, as people press them: what stops, what is kept, what is said, and in every tab."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import PageOf, sign_in
from tests.browser.examination import ALL_VIEWS, check_accessible
from tests.browser.test_behaviour import forget, new_chat, notice, sign_out_elsewhere
from tests.server import Server, running

#: The page; that runs stop on both databases is shown without it.
pytestmark = pytest.mark.one_database

HALF = "rows 3\nThe first half.\nwait\nThe second half."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("stop"), DJANGO_SETTINGS_MODULE="tests.settings_dictated") as server:
        yield server


@pytest.fixture(autouse=True)
def gate(server: Server) -> Iterator[Path]:
    """Where it is, answers that wait go on."""
    path = server.folder / "data" / "go"
    path.unlink(missing_ok=True)
    yield path
    path.touch()


def send(page: Page, text: str) -> Locator:
    """The run of the message."""
    n_before = page.locator(".run").count()
    page.locator("#message").fill(text)
    page.locator("#message").press("Enter")
    return page.locator(".run").nth(n_before)


def half_way(page: Page) -> Locator:
    """A run that has written half of its answer and waits."""
    new_chat(page)
    run = send(page, HALF)
    expect(page.locator(".answer").last).to_contain_text("The first half.")
    expect(stop_of(page)).to_be_visible()
    return run


def stop_of(page: Page) -> Locator:
    return page.locator("#composer").get_by_role("button", name=re.compile("Stop"))


def ended(run: Locator, status: str) -> None:
    expect(run).to_have_attribute("data-run-status", status, timeout=10_000)


def states(run: Locator) -> list[str | None]:
    return [stage.get_attribute("data-status") for stage in run.locator(".stage").all()]


def test_stop_stands_in_the_place_of_send_stops_and_keeps_what_was_written(page_of: PageOf) -> None:
    page = page_of("alice")
    run = half_way(page)
    expect(page.get_by_role("button", name="Send")).to_be_hidden()
    stop_of(page).click()
    ended(run, "cancelled")
    expect(page.locator("#live-status")).to_have_text("Stopped")
    expect(run.locator("summary")).to_contain_text("Stopped after")
    assert states(run) == ["completed", "completed", "skipped", "completed", "stopped"]
    expect(run.get_by_text("stopped", exact=True)).to_be_visible()
    expect(page.locator(".answer")).to_contain_text("The first half.")
    expect(stop_of(page)).to_be_hidden()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    assert page.evaluate("document.activeElement.id") == "message"
    page.reload()
    ended(page.locator(".run"), "cancelled")
    expect(page.locator(".answer")).to_contain_text("The first half.")


def test_continue_finishes_the_answer_with_what_was_done(page_of: PageOf, gate: Path) -> None:
    page = page_of("alice")
    run = half_way(page)
    stop_of(page).click()
    ended(run, "cancelled")
    gate.touch()
    page.get_by_role("button", name="Continue").click()
    following = page.locator(".run").nth(1)
    ended(following, "succeeded")
    answer = page.locator(".answer").nth(1)
    expect(answer.locator(".resumes")).to_have_text(
        "Goes on with the request above; reused: Classification, Tool Selection, Execution"
    )
    expect(answer).to_contain_text("The second half.")
    expect(answer.get_by_title("Download CSV file")).to_be_visible()
    following.locator("summary").click()
    expect(following.locator(".stage .state").first).to_have_text("reused")
    expect(page.get_by_role("button", name="Continue")).to_be_hidden()
    page.reload()
    expect(page.locator(".said")).to_have_count(2)
    expect(page.get_by_role("button", name="Continue")).to_have_count(0)
    expect(page.locator(".answer").nth(1).get_by_title("Download CSV file")).to_be_visible()


@pytest.mark.whole
def test_a_text_that_is_typed_can_be_sent_behind_the_run(page_of: PageOf, gate: Path) -> None:
    page = page_of("alice")
    run = half_way(page)
    page.locator("#message").fill("and then this")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(stop_of(page)).to_be_visible()
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".run").nth(1)).to_have_attribute("data-status", "queued")
    expect(page.get_by_role("button", name="Send")).to_be_hidden()
    gate.touch()
    ended(page.locator(".run").nth(1), "succeeded")
    ended(run, "succeeded")


@pytest.mark.whole
def test_a_waiting_request_is_stopped_alone(page_of: PageOf, gate: Path) -> None:
    page = page_of("alice")
    run = half_way(page)
    waiting = send(page, "never said")
    page.get_by_role("button", name="Stop this waiting request").click()
    ended(waiting, "cancelled")
    expect(waiting).to_contain_text("not run")
    expect(run).to_have_attribute("data-status", "running")
    gate.touch()
    ended(run, "succeeded")


@pytest.mark.whole
def test_the_next_request_begins_when_the_one_before_is_stopped(page_of: PageOf) -> None:
    page = page_of("alice")
    run = half_way(page)
    following = send(page, "said at once")
    stop_of(page).click()
    ended(run, "cancelled")
    ended(following, "succeeded")
    expect(stop_of(page)).to_be_hidden()


def test_escape_stops(page_of: PageOf) -> None:
    page = page_of("alice")
    run = half_way(page)
    page.locator("#message").press("Escape")
    ended(run, "cancelled")


@pytest.mark.whole
def test_any_tab_stops_and_every_tab_sees_it(page_of: PageOf) -> None:
    page = page_of("alice")
    run = half_way(page)
    other = page.context.new_page()
    other.goto(page.url)
    stop_of(other).click()
    ended(other.locator(".run"), "cancelled")
    ended(run, "cancelled")
    expect(stop_of(page)).to_be_hidden()
    expect(page.get_by_role("button", name="Continue")).to_be_visible()


@pytest.mark.whole
def test_while_it_stops_the_button_says_so_and_takes_no_second_press(page_of: PageOf) -> None:
    page = page_of("alice")
    run = half_way(page)
    pressed: list[str] = []

    def swallow(route: Route) -> None:
        """The server never hears of it: the state lasts."""
        pressed.append(route.request.url)
        route.fulfill(status=204)

    page.route("**/stop/", swallow)
    stop_of(page).click()
    expect(stop_of(page)).to_have_text("Stopping…")
    expect(run.locator("summary")).to_contain_text("Stopping…")
    expect(page.locator("#live-status")).to_have_text("Stopping…")
    stop_of(page).click(force=True)
    page.locator("#message").press("Escape")
    assert len(pressed) == 1
    check_accessible(page, views=ALL_VIEWS)


@pytest.mark.whole
def test_a_stop_that_does_not_reach_the_server_says_so(page_of: PageOf, problems: list[str]) -> None:
    page = page_of("alice")
    run = half_way(page)
    page.route("**/stop/", lambda route: route.abort(), times=1)
    stop_of(page).click()
    expect(notice(page)).to_contain_text("That did not reach the server. Your request goes on as it was")
    expect(stop_of(page)).to_have_text("Stop")
    expect(run.locator("summary")).to_contain_text("Running")
    stop_of(page).click()
    ended(run, "cancelled")
    expect(notice(page)).to_be_hidden()
    forget(problems)


@pytest.mark.whole
def test_a_page_from_before_signing_in_again_still_stops(page_of: PageOf, problems: list[str]) -> None:
    page = page_of("alice")
    run = half_way(page)
    sign_in(sign_out_elsewhere(page), "alice")
    page.bring_to_front()
    stop_of(page).click()
    ended(run, "cancelled")
    forget(problems)


@pytest.mark.whole
def test_who_is_signed_out_is_told_instead(page_of: PageOf, problems: list[str]) -> None:
    page = page_of("alice")
    half_way(page)
    sign_out_elsewhere(page)
    stop_of(page).click()
    expect(notice(page)).to_contain_text("You are signed out.")
    expect(stop_of(page)).to_have_text("Stop")
    forget(problems)


def test_a_failed_run_goes_on_from_the_stage_that_failed(page_of: PageOf) -> None:
    page = page_of("alice")
    new_chat(page)
    ended(send(page, "rows 2\nSo far.\nfail D"), "failed")
    page.get_by_role("button", name="Continue from Response Generation").click()
    following = page.locator(".run").nth(1)
    ended(following, "failed")
    assert states(following) == ["completed", "completed", "skipped", "completed", "failed"]
    expect(page.locator(".resumes")).to_contain_text("reused: Classification, Tool Selection, Execution")


@pytest.mark.whole
def test_a_reviewer_is_offered_neither(page_of: PageOf) -> None:
    page = page_of("alice")
    run = half_way(page)
    theirs = page_of("erin")
    theirs.goto(page.url)
    waiting = send(page, "wait")
    expect(theirs.locator(".run")).to_have_count(2)
    expect(theirs.get_by_role("button", name=re.compile("Stop"))).to_have_count(0)
    page.get_by_role("button", name="Stop this waiting request").click()
    stop_of(page).click()
    for one in (run, waiting):
        ended(one, "cancelled")
    expect(theirs.locator("[data-run-status=cancelled]")).to_have_count(2)
    expect(theirs.get_by_role("button", name="Continue")).to_have_count(0)


def test_without_scripts_both_are_forms(page_of: PageOf, server: Server, gate: Path) -> None:
    browser = page_of("alice").context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False, base_url=server.url)
    page = context.new_page()
    sign_in(page, "alice")
    page.get_by_role("button", name="New chat").click()
    page.locator("#message").fill(HALF)
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".answer")).to_contain_text("The first half.", timeout=10_000)
    stop_of(page).click()
    ended(page.locator(".run"), "cancelled")
    gate.touch()
    page.get_by_role("button", name="Continue").click()
    ended(page.locator(".run").nth(1), "succeeded")
    expect(page.locator(".answer").nth(1)).to_contain_text("The second half.")
    context.close()


@pytest.mark.whole
def test_stopped_failed_and_resumed_runs_are_accessible(page_of: PageOf, gate: Path) -> None:
    page = page_of("alice")
    run = half_way(page)
    send(page, "behind it")
    expect(page.get_by_role("button", name="Stop this waiting request")).to_be_visible()
    check_accessible(page, views=ALL_VIEWS)
    stop_of(page).click()
    ended(run, "cancelled")
    check_accessible(page, views=ALL_VIEWS)
    gate.touch()
    page.get_by_role("button", name="Continue").click()
    ended(page.locator(".run").nth(2), "succeeded")
    ended(send(page, "fail A"), "failed")
    page.locator(".run").nth(2).locator("summary").click()
    check_accessible(page, views=ALL_VIEWS)


@pytest.mark.whole
def test_stop_and_continue_are_reached_with_the_keyboard(page_of: PageOf, gate: Path) -> None:
    page = page_of("alice")
    run = half_way(page)
    page.keyboard.press("Tab")
    expect(stop_of(page)).to_be_focused()
    page.keyboard.press("Enter")
    ended(run, "cancelled")
    expect(page.locator("#message")).to_be_focused()
    gate.touch()
    button = page.get_by_role("button", name="Continue")
    button.focus()
    page.keyboard.press("Enter")
    ended(page.locator(".run").nth(1), "succeeded")
