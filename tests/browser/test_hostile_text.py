"""Hostile text in a real browser: nothing runs, nothing is loaded, nothing breaks the layout."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PageOf
from tests.browser.examination import PHONE, WIDE, check_fits
from tests.environment import is_whole
from tests.server import Server

#: That the text is stored as it is, `tests/test_hostile_text.py` shows on both.
pytestmark = pytest.mark.one_database

STRINGS: list[str] = json.loads((Path(__file__).parents[1] / "data" / "blns.json").read_text(encoding="utf-8"))
RUN = re.compile(r"<|on\w+=|javascript:|\bscript\b|alert\(", re.IGNORECASE)
CODE = [text for text in STRINGS if RUN.search(text)]
ODD = [
    "\u202eReversed to the end", "\u2067\u202b\u2066x", "Z" + "\u0334\u0353\u033a" * 300 + "algo", "x" * 3000,
    "\x1b[31mred\x1b[0m\x07\x85", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 and English", "\ufdfa" * 200,
]  # fmt: skip


@pytest.fixture(scope="module")
def server(dictated_server: Server) -> Server:
    return dictated_server


def asked(server: Server, texts: list[str], session: str) -> str:
    """Sends each; the address of the conversation. The dictated engine says each back as its answer."""
    headers = {"Authorization": f"Bearer {server.token_of('alice')}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=20) as api:
        answers = [api.post("/pipeline", json={"request": text, "session_id": session}).json() for text in texts]
    return f"/conversations/{answers[0]['conversation_id']}/?runs=1000"


def watch(page: Page) -> list[str]:
    """What ran, and what was asked of another host."""
    found: list[str] = []

    def on_dialog(dialog: object) -> None:
        found.append("a dialog")
        dialog.dismiss()  # type: ignore[attr-defined]

    page.on("dialog", on_dialog)
    page.on("request", lambda request: found.append(request.url) if "127.0.0.1" not in request.url else None)
    page.add_init_script(
        "document.addEventListener('securitypolicyviolation', (e) => console.error('CSP: ' + e.blockedURI));"
    )
    return found


@pytest.mark.whole
def test_code_in_messages_and_answers_is_text(page_of: PageOf, server: Server) -> None:
    assert len(CODE) > 150
    # One page of all of them takes half a minute of a core.
    code = CODE if is_whole() else CODE[::5]
    address = asked(server, code, "code")
    page = page_of("alice")
    found = watch(page)
    page.goto(address)
    expect(page.locator(".said")).to_have_count(len(code))
    shown = page.locator(".said").evaluate_all("all => all.map((e) => e.textContent)")
    assert shown == code
    alien = "script, img, svg:not(.icon), iframe, object, embed, style, link, form, input, video, audio, base, meta"
    assert page.locator(f"#content :is({alien})").count() == 0
    attributes = page.locator("#content *").evaluate_all("all => all.flatMap((e) => e.getAttributeNames())")
    assert [name for name in attributes if name.startswith("on") or name == "style"] == []
    for href in page.locator("#content a[href]").evaluate_all("all => all.map((e) => e.href)"):
        assert re.match(r"https?:|mailto:", href)
    assert found == []


def test_code_that_comes_live_is_text(page_of: PageOf, server: Server) -> None:
    page = page_of("alice")
    found = watch(page)
    page.get_by_role("button", name="New chat").click()
    page.wait_for_load_state()
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    text = "<img src=x onerror=alert(1)><script>alert(2)</script><div hx-get='/x' hx-trigger='load' ws-connect='/y'>"
    page.locator("#message").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator("[data-run-status=succeeded]")).to_have_count(1)
    expect(page.locator(".said")).to_have_text(text)
    expect(page.locator(".prose").first).to_contain_text(text)
    expect(page.locator("#conversations .label").first).to_contain_text("<img src=x onerror=alert(1)>")
    expect(page.locator("#title")).to_contain_text("<img src=x")
    assert page.title().startswith("<img src=x")
    assert found == []


def test_odd_text_fits_and_stays_where_it_is(page_of: PageOf, server: Server) -> None:
    page = page_of("alice")
    page.goto(asked(server, ODD, "odd"))
    for width, height in (WIDE, PHONE):
        page.set_viewport_size({"width": width, "height": height})
        check_fits(page)
        for said in page.locator(".said").all():
            box = said.bounding_box()
            assert box
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
    # The override of the first message has ended at its end: the page around it still reads from left to right.
    left = page.locator(".ask .after time").first.evaluate(
        """e => {
            const place = (n) => {
                const range = document.createRange();
                range.setStart(e.firstChild, n);
                range.setEnd(e.firstChild, n + 1);
                return range.getBoundingClientRect().x;
            };
            return place(0) < place(4);
        }"""
    )
    assert left
    chars = page.locator(".said .char").all_inner_texts()
    assert chars == ["␛", "␛", "␇", "\\x85"]


@pytest.mark.whole
def test_a_copy_has_the_control_characters_themselves(page_of: PageOf, server: Server) -> None:
    page = page_of("alice")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(asked(server, ["```\na\x1b[31m\x85b\n```"], "copy"))
    page.locator("[data-copy=code]").click()
    expect(page.locator("[data-copy=code]")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "a\x1b[31m\x85b\n"
    assert page.locator(".code .char").first.inner_text() == "␛"


@pytest.mark.whole
def test_no_page_of_the_admin_breaks_the_policy(page_of: PageOf, server: Server) -> None:
    page = page_of("admin")
    found = watch(page)
    page.goto("/admin/")
    links = page.locator("#content a[href^='/admin/']").evaluate_all("all => all.map((a) => a.getAttribute('href'))")
    assert len(links) > 5
    for link in dict.fromkeys(links):
        page.goto(link)
        row = page.locator("#result_list th a").first
        if row.count():
            page.goto(str(row.get_attribute("href")))
    assert found == []
