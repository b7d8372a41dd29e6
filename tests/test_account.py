"""The account page: one's own tokens, password and sessions."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from conversations import tokens
from conversations.models import ApiToken, AuditEntry, BrowserSession
from conversations.sessions import SessionStore
from tests.people import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.filterwarnings("ignore:No directory at:UserWarning")]

NEW = "a quite different one"
TOKEN = re.compile(r'<code id="new-token">(opschat_[\w-]{43})</code>')


@pytest.fixture
def password_hash(settings: Any) -> str:
    """Of a quick hasher: these tests change many passwords."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return make_password(PASSWORD)


def browser_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def hers(alice: User) -> Client:
    return browser_of(alice)


def created(client: Client, **data: Any) -> Any:
    """The answer to the form for a token."""
    return client.post("/account/tokens/", {"id": str(uuid.uuid4()), "label": "Nightly", "days": "30", **data})


def text_in(response: Any) -> str:
    found = TOKEN.search(response.text)
    assert found, response.text
    return found[1]


def change(client: Client, old: str = PASSWORD, new: str = NEW, again: str | None = None) -> Any:
    passwords = {"old_password": old, "new_password1": new, "new_password2": new if again is None else again}
    return client.post("/account/password/", passwords)


def is_signed_in(client: Client) -> bool:
    return client.get("/account/").status_code == 200


def api(text: str) -> int:
    return Client(headers={"Authorization": f"Bearer {text}"}).get("/conversations/").status_code


# -- Tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_is_shown_once_with_how_to_use_it(alice: User, hers: Client) -> None:
    response = created(hers, label="Nightly export")
    text = text_in(response)
    found = tokens.find(text)
    assert found is not None
    assert (found.user, found.label, found.hint) == (alice, "Nightly export", text[-4:])
    assert "no-store" in response.headers["Cache-Control"]
    assert "curl http://testserver/pipeline" in response.text
    assert response.text.count(text) == 2
    page = hers.get("/account/").text
    assert text not in page
    assert text[-4:] in page


def test_the_address_that_people_open_is_the_one_to_try(hers: Client, settings: Any) -> None:
    settings.URL = "https://ops.example.net"
    assert "curl https://ops.example.net/pipeline" in created(hers).text


def test_a_token_s_text_is_kept_nowhere(hers: Client) -> None:
    response = created(hers)
    text = text_in(response)
    kept: list[Any] = [*ApiToken.objects.values(), *AuditEntry.objects.values()]
    kept += [row.get_decoded() for row in BrowserSession.objects.all()]
    assert text not in str(kept)
    assert text not in str(response.headers) + str(response.cookies)


def test_a_reload_creates_no_other_token_and_shows_none(hers: Client) -> None:
    form = {"id": str(uuid.uuid4())}
    text = text_in(created(hers, **form))
    again = created(hers, **form)
    assert again.status_code == 409
    assert "This token was created before." in again.text
    assert text not in again.text
    assert not TOKEN.search(again.text)
    assert ApiToken.objects.count() == 1


def test_the_id_of_another_users_token_makes_nothing_and_tells_nothing(alice: User, hers: Client, bob: User) -> None:
    row, _ = tokens.make(user=bob, label="Bob's")
    response = created(hers, id=str(row.pk))
    assert response.status_code == 409
    assert "Bob" not in response.text
    assert ApiToken.objects.get().user == bob


def test_a_token_without_days_has_no_end(hers: Client) -> None:
    created(hers, days="")
    assert ApiToken.objects.get().expires_at is None


@pytest.mark.parametrize("days", ["0", "-1", "3651", "x", "1.5", "1e3", "9" * 5000, "nan", "\x00"])
def test_nonsense_for_days_is_said_at_the_field(hers: Client, days: str) -> None:
    response = created(hers, days=days)
    assert response.status_code == 422
    assert re.search(r'<p class="wrong" id="days-error">Write a number of days from 1 to 3650', response.text)
    assert 'value="Nightly"' in response.text
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize("days", ["1", "3650", " 7 "])
def test_the_shortest_and_the_longest_time_are_taken(hers: Client, days: str) -> None:
    created(hers, days=days)
    created_at, expires_at = ApiToken.objects.values_list("created_at", "expires_at").get()
    assert expires_at == created_at + timedelta(days=int(days))


@pytest.mark.parametrize(
    ("label", "error"),
    [
        ("", "Say what the token is for."),
        ("   ", "Say what the token is for."),
        ("x" * 61, "at most 60 characters"),
        ("two\nlines", "no line breaks"),
        ("\u202eevil", "no line breaks or other invisible characters"),
        ("a\x00b", "Null characters are not allowed"),
    ],
)
def test_a_label_that_can_t_be_shown_is_refused_at_its_field(hers: Client, label: str, error: str) -> None:
    response = created(hers, label=label)
    assert response.status_code == 422
    assert re.search(rf'<p class="wrong" id="label-error">[^<]*{error}', response.text)
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize("form_id", ["", "x", "\x00"])
def test_a_form_without_its_id_is_refused(hers: Client, form_id: str) -> None:
    response = created(hers, id=form_id)
    assert (response.status_code, ApiToken.objects.count()) == (422, 0)
    assert "The form was not complete." in response.text


def test_a_label_is_shown_as_text(hers: Client) -> None:
    assert "<script>alert" not in created(hers, label="<script>alert(1)</script>").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in hers.get("/account/").text


def test_nobody_has_more_than_fifty_active_tokens(alice: User, hers: Client, bob: User) -> None:
    for n in range(tokens.MAX_LIVE):
        tokens.make(user=alice, label=f"number {n}")
    response = created(hers)
    assert response.status_code == 422
    assert "There are 50 active tokens already." in response.text
    assert ApiToken.objects.count() == tokens.MAX_LIVE
    tokens.revoke(token=ApiToken.objects.all()[0])
    assert created(hers).status_code == 200
    assert created(browser_of(bob)).status_code == 200


def test_the_list_tells_of_each_token_what_it_is_and_was(alice: User, hers: Client) -> None:
    rows = {label: tokens.make(user=alice, days=9, label=label) for label in ("Used", "Revoked", "Expired")}
    tokens.find(rows["Used"][1])
    tokens.revoke(token=rows["Revoked"][0])
    ApiToken.objects.filter(label="Expired").update(expires_at=timezone.now() - timedelta(days=1))
    active, ended = hers.get("/account/").text.split('id="tokens-ended"')
    assert 'data-state="active"' in active
    assert re.search(r"Used.*?Last used[^>]*><time datetime", active, re.DOTALL)
    assert {"revoked", "expired"} == set(re.findall(r'<tr role="row" data-state="(\w+)"', ended))
    assert "/revoke/" not in ended


def test_the_list_takes_as_many_queries_for_many_tokens_as_for_one(
    alice: User, hers: Client, django_assert_num_queries: Any
) -> None:
    tokens.make(user=alice)
    hers.get("/account/")
    with django_assert_num_queries(6):
        hers.get("/account/")
    for _ in range(20):
        tokens.revoke(token=tokens.make(user=alice)[0])
        tokens.make(user=alice)
    with django_assert_num_queries(6):
        hers.get("/account/")


def test_nobody_sees_anothers_tokens(alice: User, hers: Client, erin: User) -> None:
    tokens.make(user=alice, label="Alice's own")
    assert "Alice&#x27;s own" in hers.get("/account/").text
    assert "Alice&#x27;s own" not in browser_of(erin).get("/account/").text


def test_a_revoked_token_opens_nothing_any_more(alice: User, hers: Client) -> None:
    row, text = tokens.make(user=alice, label="Old laptop")
    assert api(text) == 405
    response = hers.post(f"/account/tokens/{row.pk}/revoke/", follow=True)
    assert "Revoked: Old laptop." in response.text
    assert api(text) == 401


@pytest.mark.parametrize("name", ["bob", "erin"])
def test_anothers_token_can_t_be_revoked(alice: User, bob: User, erin: User, name: str) -> None:
    row, text = tokens.make(user=alice)
    client = browser_of(User.objects.get(username=name))
    assert client.post(f"/account/tokens/{row.pk}/revoke/").status_code == 404
    assert client.post(f"/account/tokens/{uuid.uuid4()}/revoke/").status_code == 404
    assert tokens.find(text) is not None


def test_tokens_leave_audit_entries(hers: Client) -> None:
    created(hers, label="Nightly", days="")
    row = ApiToken.objects.get()
    for _ in range(2):
        hers.post(f"/account/tokens/{row.pk}/revoke/")
    revoked, made = AuditEntry.objects.all()
    assert (made.action, made.object_id, made.actor_name, made.ip) == (
        "token.create",
        str(row.pk),
        "alice",
        "127.0.0.1",
    )
    assert made.detail == {"by": "account", "label": "Nightly", "days": None}
    assert (revoked.action, revoked.object_id) == ("token.revoke", str(row.pk))


# -- Password --------------------------------------------------------------------------------------------------------


def test_a_changed_password_keeps_this_session_and_ends_all_others(alice: User, hers: Client) -> None:
    elsewhere = browser_of(alice)
    text = tokens.make(user=alice)[1]
    assert change(hers).headers["Location"] == "/account/"
    assert BrowserSession.objects.count() == 1
    assert "Your password is changed." in hers.get("/account/").text
    assert (is_signed_in(hers), is_signed_in(elsewhere)) == (True, False)
    assert api(text) == 405
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.detail) == ("password.change", {"sessions": 1})
    alice.refresh_from_db()
    assert alice.check_password(NEW)


@pytest.mark.parametrize(
    ("passwords", "field", "error"),
    [
        (("wrong", NEW, NEW), "old_password", "This is not your current password."),
        (("", NEW, NEW), "old_password", "This field is required."),
        ((PASSWORD, NEW, "other"), "new_password2", "didn’t match"),
        ((PASSWORD, "short1", "short1"), "new_password2", "too short"),
        ((PASSWORD, "password", "password"), "new_password2", "too common"),
        ((PASSWORD, "1234567890123", "1234567890123"), "new_password2", "entirely numeric"),
        ((PASSWORD, "a\x00bcdefghijk", "a\x00bcdefghijk"), "new_password1", "Null characters"),
    ],
)
def test_a_password_that_is_not_taken_is_said_at_its_field(
    alice: User, hers: Client, passwords: tuple[str, str, str], field: str, error: str
) -> None:
    elsewhere = browser_of(alice)
    response = change(hers, *passwords)
    assert response.status_code == 422
    assert re.search(rf'<p class="wrong" id="{field}-error">[^<]*{error}', response.text)
    assert f'aria-describedby="{field}-error"' in response.text or f" {field}-error" in response.text
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)
    assert is_signed_in(elsewhere)
    assert not AuditEntry.objects.exists()


def test_guessing_the_current_password_is_throttled_as_signing_in_is(alice: User, hers: Client) -> None:
    answers = [change(hers, "wrong") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [422, 422, 422, 422, 429]
    response = change(hers)
    assert response.status_code == 429
    assert "Try again in 5 minutes." in response.text
    assert int(response.headers["Retry-After"]) > 290
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)


def test_no_password_comes_back_on_the_page(hers: Client) -> None:
    assert "hunter2-secret" not in change(hers, "hunter2-secret", "hunter2-secret", "hunter2-secre").text


# -- Sessions --------------------------------------------------------------------------------------------------------


def test_signing_out_everywhere_ends_every_session_of_the_user_and_nobody_elses(
    alice: User, bob: User, hers: Client
) -> None:
    elsewhere, his = browser_of(alice), browser_of(bob)
    text = tokens.make(user=alice)[1]
    assert "signed in with 2 browsers" in hers.get("/account/").text
    response = hers.post("/account/sign-out-everywhere/")
    assert response.headers["Location"] == "/accounts/login/"
    assert [is_signed_in(client) for client in (hers, elsewhere, his)] == [False, False, True]
    assert api(text) == 405
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor_name, entry.detail) == ("session.end_all", "alice", {"sessions": 2, "tokens": 0})


def test_signing_out_everywhere_revokes_the_tokens_when_asked(alice: User, bob: User, hers: Client) -> None:
    text, his = tokens.make(user=alice)[1], tokens.make(user=bob)[1]
    hers.post("/account/sign-out-everywhere/", {"revoke_tokens": "on"})
    assert (api(text), api(his)) == (401, 405)
    assert AuditEntry.objects.get().detail == {"sessions": 1, "tokens": 1}


def test_the_sign_in_page_says_that_it_is_done(hers: Client) -> None:
    response = hers.post("/account/sign-out-everywhere/", follow=True)
    assert "You are signed out everywhere." in response.text


def test_all_sessions_of_a_user_are_found_by_one_index(alice: User) -> None:
    browser_of(alice)
    row = BrowserSession.objects.get()
    assert row.user_id == alice.pk
    assert row.get_decoded()["_auth_user_id"] == str(alice.pk)
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, BrowserSession._meta.db_table)
    assert ["user_id"] in [each["columns"] for each in found.values() if each["index"]]


def test_an_anonymous_session_has_no_user() -> None:
    store = SessionStore()
    store["x"] = 1
    store.create()
    assert BrowserSession.objects.get().user_id is None


def test_an_expired_session_counts_no_more_and_is_cleared_by_djangos_command(alice: User, hers: Client) -> None:
    elsewhere = browser_of(alice).cookies["sessionid"].value
    BrowserSession.objects.filter(pk=elsewhere).update(expire_date=timezone.now() - timedelta(days=1))
    assert "signed in with 1 browser," in hers.get("/account/").text
    call_command("clearsessions", stdout=StringIO())
    assert BrowserSession.objects.get().pk == hers.cookies["sessionid"].value


# -- Who may ---------------------------------------------------------------------------------------------------------

POSTS = {
    "/account/tokens/": {"id": str(uuid.uuid4()), "label": "x", "days": ""},
    "/account/password/": {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW},
    "/account/sign-out-everywhere/": {"revoke_tokens": "on"},
}


@pytest.mark.parametrize("path", POSTS)
def test_a_token_can_t_manage_the_account(alice: User, path: str) -> None:
    """Else an expiring one could make one without an end."""
    row, text = tokens.make(user=alice)
    client = Client(headers={"Authorization": f"Bearer {text}"})
    answers = [client.get("/account/"), client.get(path), client.post(path, POSTS[path])]
    answers.append(client.post(f"/account/tokens/{row.pk}/revoke/"))
    assert {answer.status_code for answer in answers} == {401}
    assert ApiToken.objects.live().get() == row
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("path", POSTS)
def test_the_account_page_needs_a_session_and_a_csrf_token(alice: User, client: Client, path: str) -> None:
    page = client.get("/account/", headers={"Accept": "text/html"})
    assert page.headers["Location"] == "/accounts/login/?next=/account/"
    assert client.post(path, POSTS[path]).status_code == 401
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice)
    assert strict.post(path, POSTS[path]).status_code == 403
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("path", POSTS)
def test_the_address_of_a_form_leads_back_to_the_page(hers: Client, path: str) -> None:
    assert hers.get(path).headers["Location"] == "/account/"


def test_every_page_leads_to_the_account(hers: Client) -> None:
    assert '<a href="/account/"' in hers.get("/", follow=True).text
