from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.test import Client

from conversations import runner, runs
from conversations.models import AuditEntry, Conversation, Message, Run
from conversations.pipeline.events import StageStart
from tests.answers import answered, asked, exported, happened
from tests.people import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.filterwarnings("ignore:No directory at:UserWarning")]

ROOT = Path(__file__).resolve().parent.parent
HTMX = {"HX-Request": "true"}

SignedIn = Callable[[User], Client]


@pytest.fixture
def signed_in() -> SignedIn:
    def of(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return of


def messages_url(conversation: Conversation) -> str:
    return f"/conversations/{conversation.pk}/messages/"


@pytest.fixture
def hers(alice: User) -> Conversation:
    """Alice's empty conversation."""
    return runs.open_conversation(owner=alice)


# -- Signing in and out ----------------------------------------------------------------------------------------------


def test_signing_in_leads_to_a_conversation(alice: User, client: Client) -> None:
    response = client.post("/accounts/login/", {"username": "alice", "password": PASSWORD}, follow=True)
    assert response.redirect_chain[-1][0] == f"/conversations/{Conversation.objects.get().pk}/"
    assert b'id="composer"' in response.content


def test_a_wrong_password_is_said(alice: User, client: Client) -> None:
    response = client.post("/accounts/login/", {"username": "alice", "password": "wrong"})
    assert 'role="alert"' in response.text
    assert 'value="alice"' in response.text


def test_signing_out_needs_a_post(alice: User, signed_in: SignedIn) -> None:
    client = signed_in(alice)
    assert client.get("/accounts/logout/").status_code == 405
    assert client.post("/accounts/logout/").headers["Location"] == "/accounts/login/"
    assert client.get("/", headers={"Accept": "text/html"}).status_code == 302


def test_a_signed_out_visitor_is_led_to_sign_in_and_back(hers: Conversation, client: Client) -> None:
    response = client.get(f"/conversations/{hers.pk}/", headers={"Accept": "text/html"})
    assert response.headers["Location"] == f"/accounts/login/?next=/conversations/{hers.pk}/"


# -- Conversations ---------------------------------------------------------------------------------------------------


def test_home_leads_to_the_newest_conversation(alice: User, signed_in: SignedIn) -> None:
    asked(alice, "older")
    newer = asked(alice, "newer")
    assert signed_in(alice).get("/").headers["Location"] == f"/conversations/{newer.conversation_id}/"


def test_home_opens_a_conversation_for_who_has_none(alice: User, signed_in: SignedIn) -> None:
    response = signed_in(alice).get("/")
    assert response.headers["Location"] == f"/conversations/{Conversation.objects.get(owner=alice).pk}/"


def test_new_chat_opens_one_empty_conversation_however_often_it_is_pressed(alice: User, signed_in: SignedIn) -> None:
    client = signed_in(alice)
    asked(alice)
    addresses = {client.post("/conversations/").headers["Location"] for _ in range(3)}
    assert len(addresses) == 1
    assert Conversation.objects.filter(owner=alice).count() == 2


def test_a_text_opens_a_conversation_with_it(alice: User, signed_in: SignedIn) -> None:
    response = signed_in(alice).post("/conversations/", {"text": "all servers"})
    run = Run.objects.get()
    assert response.headers["Location"] == f"/conversations/{run.conversation_id}/#message-{run.answer_id}"


def test_an_empty_conversation_offers_what_can_be_asked(alice: User, hers: Conversation, signed_in: SignedIn) -> None:
    page = signed_in(alice).get(f"/conversations/{hers.pk}/").text
    assert 'class="column start"' in page
    assert 'value="Export all assets as CSV"' in page


def test_messages_appear_in_their_order(alice: User, hers: Conversation, signed_in: SignedIn) -> None:
    for n in range(3):
        answered(alice, f"Answer {n}.", conversation=hers)
    page = signed_in(alice).get(f"/conversations/{hers.pk}/").text
    ids = re.findall(r'<article class="\w+" id="message-([^"]+)"', page)
    expected = Message.objects.filter(conversation=hers).order_by("position").values_list("pk", flat=True)
    assert ids == [str(pk) for pk in expected]


def test_a_page_takes_as_many_queries_for_many_runs_as_for_few(
    alice: User, hers: Conversation, signed_in: SignedIn, django_assert_max_num_queries: Any
) -> None:
    client = signed_in(alice)
    for _ in range(12):
        exported(answered(alice, "**1 asset** matches.", conversation=hers))
    with django_assert_max_num_queries(13):
        client.get(f"/conversations/{hers.pk}/")


@pytest.mark.parametrize("path", ["", "messages/"])
def test_a_strangers_conversation_does_not_exist(
    hers: Conversation, charlie: User, signed_in: SignedIn, path: str
) -> None:
    client, address = signed_in(charlie), f"/conversations/{hers.pk}/{path}"
    as_page = {"Accept": "text/html"}
    response = client.post(address, {"text": "hi"}, headers=as_page) if path else client.get(address, headers=as_page)
    assert response.status_code == 404
    assert "nothing here for you" in response.text
    assert not Run.objects.exists()


def test_a_reviewer_reads_but_can_not_write(hers: Conversation, alice: User, erin: User, signed_in: SignedIn) -> None:
    answered(alice, "Secret of alice.", conversation=hers)
    client = signed_in(erin)
    page = client.get(f"/conversations/{hers.pk}/").text
    assert "Secret of alice." in page
    assert 'id="composer"' not in page
    assert "reviewing a conversation of alice" in page
    assert client.post(messages_url(hers), {"text": "hi"}).status_code == 404


def test_the_admin_is_offered_to_staff_only(alice: User, erin: User, signed_in: SignedIn) -> None:
    assert 'href="/admin/"' in signed_in(erin).get("/", follow=True).text
    assert 'href="/admin/"' not in signed_in(alice).get("/", follow=True).text


# -- Messages --------------------------------------------------------------------------------------------------------


def test_a_message_is_stored_and_the_page_comes_back(alice: User, hers: Conversation, signed_in: SignedIn) -> None:
    response = signed_in(alice).post(messages_url(hers), {"text": "all\r\nservers"}, headers={"User-Agent": "x"})
    run = Run.objects.get(conversation=hers)
    assert run.ask.text == "all\nservers"
    assert response.headers["Location"] == f"/conversations/{hers.pk}/#message-{run.answer_id}"
    assert AuditEntry.objects.get(action="run.submit").user_agent == "x"


def test_htmx_is_answered_with_the_new_articles(alice: User, hers: Conversation, signed_in: SignedIn) -> None:
    response = signed_in(alice).post(messages_url(hers), {"text": "all servers"}, headers=HTMX)
    run = Run.objects.get()
    assert response.status_code == 200
    assert response.text.startswith(f'<!--{run.pk}:1--><div hx-swap-oob="beforeend:#content">')
    assert f'id="run-{run.pk}"' in response.text


def test_a_message_sent_twice_is_stored_once(alice: User, hers: Conversation, signed_in: SignedIn) -> None:
    sent = {"text": "all servers", "client_id": str(uuid.uuid4())}
    for _ in range(2):
        signed_in(alice).post(messages_url(hers), sent, headers=HTMX)
    assert Run.objects.count() == 1


def test_an_id_belongs_to_its_user_and_keeps_its_first_text(alice: User, bob: User, signed_in: SignedIn) -> None:
    sent = {"client_id": str(uuid.uuid4())}
    for user, text in ((alice, "first"), (alice, "other"), (bob, "his")):
        there = Conversation.objects.filter(owner=user).first() or runs.open_conversation(owner=user)
        signed_in(user).post(messages_url(there), {**sent, "text": text}, headers=HTMX)
    assert sorted(Run.objects.values_list("ask__text", flat=True)) == ["first", "his"]


@pytest.mark.parametrize("text", ["", "  \n ", "x" * 8001, "a\x00b"])
def test_a_message_that_cannot_be_taken_is_refused_in_words(
    alice: User, hers: Conversation, signed_in: SignedIn, text: str
) -> None:
    response = signed_in(alice).post(messages_url(hers), {"text": text}, headers=HTMX)
    assert response.status_code == 422
    assert 'id="composer-error" hx-swap-oob="true"' in response.text
    assert "<p></p>" not in response.text
    assert not Run.objects.exists()


def test_a_refused_message_stays_in_the_composer_without_a_script(
    alice: User, hers: Conversation, signed_in: SignedIn
) -> None:
    response = signed_in(alice).post(messages_url(hers), {"text": "<b>" + "x" * 8000})
    assert response.status_code == 422
    assert "8,003 characters" in response.text
    assert ">\n&lt;b&gt;xxx" in response.text


def test_too_many_unfinished_runs_are_refused_with_a_time_to_wait(
    alice: User, hers: Conversation, signed_in: SignedIn
) -> None:
    for _ in range(runs.MAX_UNFINISHED):
        runner.submit(user=alice, text="again", conversation=hers)
    response = signed_in(alice).post(messages_url(hers), {"text": "one more"}, headers=HTMX)
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "5"


def test_a_post_without_a_csrf_token_is_refused_in_words(alice: User, hers: Conversation) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    response = client.post(messages_url(hers), {"text": "hi"})
    assert response.status_code == 403
    assert "too old to be sent" in response.text


def test_a_page_without_scripts_reloads_itself_while_a_run_is_going(
    alice: User, hers: Conversation, signed_in: SignedIn
) -> None:
    happened(
        asked(alice, conversation=hers),
        StageStart(stage="A", name="Classification", message="Reading the request", attempt=1),
    )
    refresh = f'<noscript><meta http-equiv="refresh" content="2; url=/conversations/{hers.pk}/?at='
    client, address = signed_in(alice), f"/conversations/{hers.pk}/"
    assert refresh in client.get(address).text
    Run.objects.update(status=Run.Status.SUCCEEDED)
    assert refresh not in client.get(address).text


def test_an_address_that_takes_forms_says_so(alice: User, hers: Conversation, signed_in: SignedIn) -> None:
    client, address = signed_in(alice), messages_url(hers)
    page = client.get(address, headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["Allow"]) == (405, "POST")
    assert "takes forms of other pages" in page.text
    assert client.get(address).json()["error"]["message"] == "Use POST here."


# -- Code ------------------------------------------------------------------------------------------------------------


def test_a_code_block_is_downloaded_as_a_text_file(alice: User, signed_in: SignedIn) -> None:
    run = answered(alice, "```python\nprint('<b>')\n```\n")
    response = signed_in(alice).get(f"/messages/{run.answer_id}/blocks/1/code.py")
    assert response.text == "print('<b>')\n"
    assert response.headers["Content-Type"] == "text/x-python; charset=utf-8"
    assert response.headers["Content-Disposition"] == 'attachment; filename="code.py"'


@pytest.mark.parametrize("rest", ["1/code.txt", "2/code.py", "0/code.py"])
def test_a_code_block_that_is_not_there_is_404(alice: User, signed_in: SignedIn, rest: str) -> None:
    run = answered(alice, "```python\nprint()\n```\n")
    assert signed_in(alice).get(f"/messages/{run.answer_id}/blocks/{rest}").status_code == 404


def test_a_strangers_code_block_is_404(alice: User, charlie: User, signed_in: SignedIn) -> None:
    run = answered(alice, "```python\nprint()\n```\n")
    assert signed_in(charlie).get(f"/messages/{run.answer_id}/blocks/1/code.py").status_code == 404


# -- The page's frame ------------------------------------------------------------------------------------------------


def test_the_theme_is_kept_in_a_cookie_and_written_by_the_server(alice: User, signed_in: SignedIn) -> None:
    client = signed_in(alice)
    response = client.post("/theme/", {"theme": "dark"}, headers={"Referer": "http://testserver/conversations/x/"})
    assert response.headers["Location"] == "http://testserver/conversations/x/"
    assert '<html lang="en" data-theme="dark">' in client.get("/", follow=True).text


def test_the_theme_never_leads_to_another_site(client: Client) -> None:
    response = client.post("/theme/", {"theme": "dark"}, headers={"Referer": "https://evil.example/"})
    assert response.headers["Location"] == "/"


def test_an_unknown_theme_is_refused(client: Client) -> None:
    response = client.post("/theme/", {"theme": "pink"})
    assert (response.status_code, response.json()["error"]["field"]) == (400, "theme")
    client.cookies["theme"] = '"><script>'
    assert "<script>" not in client.get("/accounts/login/").text


def test_no_page_has_an_inline_script_or_style(alice: User, hers: Conversation, signed_in: SignedIn) -> None:
    client = signed_in(alice)
    exported(answered(alice, "**1** asset.\n\n| a |\n| --: |\n| 1 |\n", conversation=hers))
    pages = [client.get(f"/conversations/{hers.pk}/").text, client.get("/no-such-page/").text]
    pages.append(Client().get("/accounts/login/").text)
    for page in pages:
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|hx-on|javascript:", page)


def test_every_icon_on_the_templates_is_in_the_sprite() -> None:
    static = ROOT / "conversations/static/conversations"
    known = set(re.findall(r'<symbol id="(\w+)"', (static / "icons.svg").read_text(encoding="utf-8")))
    for template in (ROOT / "templates").rglob("*.html"):
        used = set(re.findall(r"icons\.svg' %}#(\w+)", template.read_text(encoding="utf-8")))
        assert used <= known, template


def test_vendored_scripts_are_what_their_manifest_says() -> None:
    folder = ROOT / "conversations/static/conversations/vendor"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert {entry["file"] for entry in manifest} == {path.name for path in folder.glob("*.js")}
    for entry in manifest:
        assert hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
        assert (folder / entry["licence_file"]).is_file()
        assert finders.find(f"conversations/vendor/{entry['file']}")


def test_a_broken_server_says_so_in_style(alice: User, signed_in: SignedIn, settings: Any) -> None:
    settings.OPSCHAT_ENGINES = {}
    runner.engine.cache_clear()
    client = signed_in(alice)
    client.raise_request_exception = False
    response = client.get("/", follow=True, headers={"Accept": "text/html"})
    assert response.status_code == 500
    assert "Something broke on this server" in response.text
    assert client.get("/", follow=True).json()["error"]["code"] == "internal_error"


def test_a_long_conversation_shows_its_newest_messages_first(
    alice: User, hers: Conversation, signed_in: SignedIn
) -> None:
    for n in range(52):
        answered(alice, f"Answer {n}.", conversation=hers)
    client = signed_in(alice)
    page = client.get(f"/conversations/{hers.pk}/").text
    assert "Answer 1." not in page
    assert "Answer 51." in page
    assert "?runs=100" in page
    everything = client.get(f"/conversations/{hers.pk}/?runs=100").text
    assert "Answer 0." in everything
    assert "Earlier messages" not in everything
