"""What the page does when something goes wrong: in words, at the composer, and the draft is kept."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.sync_api import Locator, Page, Route, WebSocketRoute, expect

from tests.browser.conftest import PageOf, sign_in
from tests.people import PASSWORD
from tests.server import Server

#: The page's own script.
pytestmark = pytest.mark.one_database


@pytest.fixture(scope="module")
def server(dictated_server: Server) -> Server:
    return dictated_server


def new_chat(page: Page) -> None:
    page.get_by_role("button", name="New chat").click()
    page.wait_for_load_state()
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")


def notice(page: Page) -> Locator:
    return page.locator("#composer-error")


def forget(problems: list[str]) -> None:
    """What the browser itself reports of a request that was refused on purpose."""
    provoked = ("Failed to load", "WebSocket connection", "Response Status Error Code", "htmx:", "[object Event]")
    problems[:] = [line for line in problems if not line.startswith(provoked)]


def test_a_message_sent_by_a_double_click_and_a_double_enter_is_one(page_of: PageOf) -> None:
    page = page_of("alice")
    new_chat(page)
    page.locator("#message").fill("once")
    page.get_by_role("button", name="Send").dblclick()
    expect(page.locator("[data-run-status=succeeded]")).to_have_count(1)
    page.locator("#message").fill("twice")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator("[data-run-status=succeeded]")).to_have_count(2)
    page.reload()
    assert page.locator(".said").all_inner_texts() == ["once", "twice"]


def test_what_is_sent_while_offline_is_kept_and_sent_once_when_online(page_of: PageOf, problems: list[str]) -> None:
    page = page_of("alice")
    new_chat(page)
    page.context.set_offline(True)
    page.locator("#message").fill("all servers")
    page.get_by_role("button", name="Send").click()
    expect(notice(page)).to_contain_text("The server can't be reached.")
    expect(page.locator("#message")).to_have_value("all servers")
    page.get_by_role("button", name="Send").click()
    expect(notice(page)).to_be_visible()
    page.context.set_offline(False)
    page.get_by_role("button", name="Send").click()
    expect(page.locator("[data-run-status=succeeded]")).to_have_count(1)
    expect(notice(page)).to_be_hidden()
    expect(page.locator("#message")).to_have_value("")
    assert page.locator(".ask").count() == 1
    forget(problems)


def test_a_message_whose_answer_was_lost_is_not_run_twice(page_of: PageOf, problems: list[str]) -> None:
    page = page_of("alice")
    new_chat(page)

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/messages/", lose, times=1)
    page.locator("#message").fill("all servers")
    page.keyboard.press("Enter")
    expect(notice(page)).to_contain_text("The server can't be reached.")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#message")).to_have_value("")
    page.reload()
    expect(page.locator(".ask")).to_have_count(1)
    forget(problems)


@pytest.mark.whole
def test_a_message_changed_after_a_failure_is_another_one(page_of: PageOf, problems: list[str]) -> None:
    page = page_of("alice")
    new_chat(page)

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/messages/", lose, times=1)
    page.locator("#message").fill("first")
    page.keyboard.press("Enter")
    expect(notice(page)).to_be_visible()
    page.locator("#message").fill("second")
    page.keyboard.press("Enter")
    expect(page.locator("#message")).to_have_value("")
    page.reload()
    assert page.locator(".said").all_inner_texts() == ["first", "second"]
    forget(problems)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "The server did not understand the message."),
        (404, "This conversation is no longer available to you."),
        (413, "The message is too large to be sent."),
        (429, "There are too many requests at once."),
        (500, "Something broke on the server."),
        (502, "Something broke on the server."),
    ],
)
@pytest.mark.whole
def test_a_refusal_without_words_is_said_in_ours(page_of: PageOf, problems: list[str], status: int, words: str) -> None:
    page = page_of("alice")
    new_chat(page)
    page.route("**/messages/", lambda route: route.fulfill(status=status, body="<h1>proxy</h1>"), times=1)
    page.locator("#message").fill("all servers")
    page.keyboard.press("Enter")
    expect(notice(page)).to_contain_text(words)
    assert words in page.locator("#live-errors").inner_text()
    expect(page.locator("#message")).to_have_value("all servers")
    assert page.evaluate("document.activeElement.id") == "message"
    forget(problems)


@pytest.mark.whole
def test_the_servers_own_words_are_shown(page_of: PageOf, problems: list[str]) -> None:
    page = page_of("alice")
    new_chat(page)
    page.locator("#message").evaluate("box => { box.removeAttribute('maxlength'); }")
    page.locator("#message").fill("x" * 8001)
    page.keyboard.press("Enter")
    expect(notice(page)).to_contain_text("8,001 characters; 8,000 is the most")
    expect(page.locator("#message")).to_have_value("x" * 8001)
    forget(problems)


def sign_out_elsewhere(page: Page) -> Page:
    other = page.context.new_page()
    other.goto("/")
    other.locator(".side-foot button").click()
    other.get_by_role("button", name="Sign out").click()
    other.wait_for_url("**/accounts/login/**")
    return other


def test_a_draft_outlives_the_session(page_of: PageOf, problems: list[str]) -> None:
    page = page_of("alice")
    new_chat(page)
    address = page.url
    page.locator("#message").fill("half a thought")
    sign_out_elsewhere(page)
    page.locator("#message").press("Enter")
    expect(notice(page)).to_contain_text("You are signed out. Your draft is kept.")
    expect(page.locator("#message")).to_have_value("half a thought")
    notice(page).get_by_role("link", name="Sign in").click()
    page.locator("input[name=username]").fill("alice")
    page.locator("input[name=password]").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(address)
    expect(page.locator("#message")).to_have_value("half a thought")
    page.locator("#message").press("Enter")
    expect(page.locator(".said")).to_have_text("half a thought")
    forget(problems)


def test_a_socket_closed_by_signing_out_says_so_and_leaves_the_page(page_of: PageOf, problems: list[str]) -> None:
    page = page_of("alice")
    new_chat(page)
    page.locator("#message").fill("half a thought")
    sign_out_elsewhere(page)
    expect(notice(page)).to_contain_text("You are signed out.", timeout=10_000)
    expect(page.locator("#message")).to_have_value("half a thought")
    expect(page.locator("#banner")).to_be_hidden()
    forget(problems)


@pytest.mark.whole
def test_a_conversation_that_is_gone_is_said(page_of: PageOf, problems: list[str]) -> None:
    page = page_of("alice")
    sockets: list[WebSocketRoute] = []

    def answer(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        socket.close(code=4404)

    page.route_web_socket("**/ws/**", answer)
    page.goto("/")
    page.locator("#message").fill("half a thought")
    expect(notice(page)).to_contain_text("This conversation is no longer available to you. Your draft is kept.")
    expect(page.locator("#banner")).to_be_hidden()
    assert len(sockets) == 1
    forget(problems)


@pytest.mark.whole
def test_a_draft_is_not_shown_to_who_signs_in_next(page_of: PageOf, problems: list[str]) -> None:
    page = page_of("alice")
    page.goto("/")
    page.locator("#message").fill("alice's secret")
    kept = [key for key in page.evaluate("Object.keys(sessionStorage)") if key.startswith("draft")]
    assert re.fullmatch(r"draft:\d+:/conversations/[0-9a-f-]{36}/", kept[0])
    sign_out_elsewhere(page).close()
    sign_in(page, "bob")
    page.goto("/")
    expect(page.locator("#message")).to_have_value("")
    page.goto("/admin/")
    forget(problems)


@pytest.mark.whole
def test_a_message_goes_through_after_signing_in_again_elsewhere(page_of: PageOf, problems: list[str]) -> None:
    page = page_of("alice")
    new_chat(page)
    page.locator("#message").fill("all servers")
    sign_in(sign_out_elsewhere(page), "alice")
    page.bring_to_front()
    page.locator("#message").press("Enter")
    expect(page.locator("[data-run-status=succeeded]")).to_have_count(1, timeout=10_000)
    expect(notice(page)).to_be_hidden()
    expect(page.locator("#message")).to_have_value("")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live", timeout=10_000)
    forget(problems)


@pytest.mark.whole
def test_a_message_is_not_sent_as_somebody_else(page_of: PageOf, problems: list[str]) -> None:
    page = page_of("alice")
    new_chat(page)
    page.locator("#message").fill("all servers")
    sign_in(sign_out_elsewhere(page), "bob")
    page.bring_to_front()
    page.locator("#message").press("Enter")
    expect(notice(page)).to_contain_text("no longer available to you")
    expect(page.locator("#message")).to_have_value("all servers")
    assert page.locator(".ask").count() == 0
    page.close()  # it goes on trying, and the browser goes on reporting
    forget(problems)


@pytest.mark.whole
def test_who_is_somebody_else_by_then_is_told(page_of: PageOf, problems: list[str]) -> None:
    page, elsewhere, bobs = page_of("alice"), page_of("alice"), page_of("bob")
    new_chat(page)
    origin = page.url.partition("/conversations/")[0]
    (cookie,) = (cookie for cookie in bobs.context.cookies() if cookie["name"] == "sessionid")
    page.context.add_cookies([{"name": cookie["name"], "value": cookie["value"], "url": origin}])
    elsewhere.goto("/account/")
    elsewhere.get_by_role("button", name="Sign out everywhere").click()
    expect(notice(page)).to_contain_text("no longer available to you")
    page.close()
    forget(problems)


@pytest.mark.whole
def test_an_old_form_without_scripts_gives_back_what_was_typed(page_of: PageOf, server: Server) -> None:
    signed_in = page_of("alice")
    browser = signed_in.context.browser
    assert browser is not None
    context = browser.new_context(
        java_script_enabled=False, base_url=server.url, storage_state=signed_in.context.storage_state()
    )
    page = context.new_page()
    page.goto("/")
    page.locator("#message").fill("<b>half a thought</b>")
    other = context.new_page()
    other.goto("/")
    other.locator(".side-foot button").click()
    other.get_by_role("button", name="Sign out").click()
    sign_in(other, "alice")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("This form was too old to be sent")
    expect(page.get_by_label("What you wrote")).to_have_value("<b>half a thought</b>")
    page.get_by_role("link", name="Back to the page").click()
    expect(page.locator("#message")).to_be_visible()
    context.close()


def ask_before(server: Server, conversation_id: str, n: int) -> None:
    headers = {"Authorization": f"Bearer {server.manage('create_token', 'alice').strip()}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=20) as api:
        for number in range(n):
            sent = {"request": f"word {number}", "session_id": conversation_id}
            api.post("/pipeline", json=sent).raise_for_status()


@pytest.mark.whole
def test_the_whole_journey_works_without_scripts(page_of: PageOf, server: Server) -> None:
    browser = page_of("alice").context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False, base_url=server.url)
    page = context.new_page()
    sign_in(page, "alice")
    page.get_by_role("button", name="New chat").click()
    ask_before(server, page.url.split("/")[-2], 50)
    page.locator("#message").fill("rows 2\nHere:")
    page.get_by_role("button", name="Send").click()
    link = page.get_by_title("Download CSV file")
    expect(link).to_be_visible(timeout=20_000)
    with page.expect_download() as downloading:
        link.click()
    assert downloading.value.path().read_bytes().startswith(b"n,text\r\n")
    assert page.locator(".ask").count() == 50
    page.get_by_role("link", name="Earlier messages").click()
    expect(page.locator(".said").first).to_have_text("word 0")
    page.locator(".side-foot button").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.go_back()
    page.reload()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    context.close()
