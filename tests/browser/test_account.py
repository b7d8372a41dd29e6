"""The account in a real browser: a token from its making to its end, the password, all sessions at once."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PageOf, sign_in
from tests.people import PASSWORD
from tests.server import Server

#: The page and the session's end, which sign-in tests show on both databases.
pytestmark = pytest.mark.one_database

NEW = "a quite different one"


@pytest.fixture(scope="module")
def users(server: Server) -> None:
    """Users of this module's own, zoe, yan and xia: the demo accounts' sessions and passwords stay as they are."""
    make = f"[User.objects.create_user(name, password={PASSWORD!r}) for name in ('zoe', 'yan', 'xia')]"
    make = f"from django.contrib.auth.models import User; {make}"
    server.manage("shell", "-v0", "-c", make)


@pytest.fixture
def zoe(users: None) -> str:
    return "zoe"


@pytest.fixture
def yan(users: None) -> str:
    return "yan"


@pytest.fixture
def xia(users: None) -> str:
    return "xia"


def change_password(page: Page) -> None:
    account(page)
    page.get_by_label("Current password").fill(PASSWORD)
    page.get_by_label("New password", exact=True).fill(NEW)
    page.get_by_label("New password again").fill(NEW)
    page.get_by_role("button", name="Change password").click()
    expect(page.get_by_text("Your password is changed.")).to_be_visible()


def account(page: Page) -> None:
    page.locator("[popovertarget=account-menu]").click()
    page.get_by_role("link", name="Account").click()
    expect(page.get_by_role("heading", name="API tokens")).to_be_visible()


def status(server: Server, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.post(f"{server.url}/pipeline", headers=headers, json={"request": "Hi"}, timeout=20).status_code


def test_a_token_is_created_copied_used_and_revoked(
    page_of: PageOf, server: Server, zoe: str, problems: list[str]
) -> None:
    page = page_of(zoe)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    account(page)
    page.get_by_label("New token, what for").fill("Nightly export")
    page.get_by_role("button", name="Create token").click()
    token = page.locator("#new-token").inner_text()
    page.get_by_role("group", name="The token").get_by_role("button", name="Copy").click()
    expect(page.locator("#live-status")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == token
    assert status(server, token) == 200
    page.reload()
    expect(page.get_by_text("This token was created before.")).to_be_visible()
    assert token not in page.content()
    expect(page.locator("#tokens-active tr")).to_have_count(1)
    page.get_by_role("button", name="Revoke Nightly export").click()
    page.get_by_role("button", name="Revoke it").click()
    expect(page.get_by_text("Revoked: Nightly export.")).to_be_visible()
    assert status(server, token) == 401
    assert token not in server.log
    # The reload's 409.
    assert len(problems) == 1
    problems.clear()


def test_a_changed_password_keeps_this_browser_and_signs_the_other_out(page_of: PageOf, yan: str) -> None:
    page, other = page_of(yan), page_of(yan)
    change_password(page)
    other.goto("/account/")
    assert "/accounts/login/" in other.url
    sign_in(other, yan, NEW)


@pytest.mark.whole
def test_a_changed_password_leaves_this_browsers_other_tab_live(page_of: PageOf, xia: str) -> None:
    page = page_of(xia)
    other = page.context.new_page()
    other.goto("/")
    expect(other.locator("#connection")).to_have_attribute("data-state", "live")
    with other.expect_websocket(timeout=10_000) as reopened:
        change_password(page)
    # What the new socket draws: it was not closed again.
    with reopened.value.expect_event("framereceived", timeout=10_000):
        other.locator("#message").fill("Hi")
        other.locator("#message").press("Enter")
    expect(other.locator("#connection")).to_have_attribute("data-state", "live")
    expect(other.locator("#composer-error")).to_be_hidden()


@pytest.mark.whole
def test_signing_out_everywhere_closes_the_other_browsers_socket(page_of: PageOf, zoe: str) -> None:
    page, other = page_of(zoe), page_of(zoe)
    expect(other.locator("#connection")).to_have_attribute("data-state", "live")
    account(page)
    page.get_by_role("button", name="Sign out everywhere").click()
    expect(page.get_by_text("You are signed out everywhere.")).to_be_visible()
    expect(other.get_by_text("You are signed out").first).to_be_visible()
    other.goto("/")
    assert "/accounts/login/" in other.url


@pytest.mark.whole
def test_the_account_works_without_scripts(page_of: PageOf, server: Server, zoe: str) -> None:
    signed_in = page_of(zoe)
    browser = signed_in.context.browser
    assert browser is not None
    context = browser.new_context(
        java_script_enabled=False, base_url=server.url, storage_state=signed_in.context.storage_state()
    )
    page = context.new_page()
    page.goto("/")
    account(page)
    page.get_by_label("New token, what for").fill("Without scripts")
    page.get_by_label("Days until it expires").fill("0")
    page.get_by_role("button", name="Create token").click()
    expect(page.locator("#days-error")).to_contain_text("from 1 to 3650")
    page.get_by_label("Days until it expires").fill("1")
    page.get_by_role("button", name="Create token").click()
    expect(page.locator("#new-token")).to_contain_text("opschat_")
    page.get_by_role("button", name="Revoke Without scripts").click()
    page.get_by_role("button", name="Revoke it").click()
    expect(page.get_by_text("Revoked: Without scripts.")).to_be_visible()
    context.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.whole
def test_the_account_page_has_no_sideways_scroll_and_opens_at_its_top(page_of: PageOf, zoe: str, width: int) -> None:
    page = page_of(zoe)
    page.set_viewport_size({"width": width, "height": 700})
    page.goto("/account/")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.documentElement.scrollTop") == 0
