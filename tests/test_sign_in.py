"""Signing in, being throttled, coming back to where one was, signing out."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from axes.models import AccessAttempt, AccessLog
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.core import management
from django.db import connection
from django.db.models import F
from django.http import HttpRequest
from django.test import Client

from conversations.models import AuditEntry, BrowserSession
from conversations.views.sign_in import throttled_address, throttled_name
from tests.calls import call
from tests.people import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.filterwarnings("ignore:No directory at:UserWarning")]

BROWSER = {"Accept": "text/html"}
LIMIT = 5

WRONG = "wrong"


@pytest.fixture
def password_hash(settings: Any) -> str:
    """Of a quick hasher: these tests sign in some hundred times."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return make_password(PASSWORD)


def sign_in(username: str = "alice", password: str = WRONG, *, ip: str = "192.0.2.1", **data: str) -> Any:
    """The answer to a sign-in in a browser of its own."""
    data = {"username": username, "password": password, **data}
    return Client(REMOTE_ADDR=ip).post("/accounts/login/", data)


def locked_out(username: str = "alice", **options: str) -> Any:
    """The answer to the failure that was one too many."""
    return [sign_in(username, **options) for _ in range(LIMIT)][-1]


def wait(**passed: float) -> None:
    """As if so much time had passed since the failures."""
    AccessAttempt.objects.update(attempt_time=F("attempt_time") - timedelta(**passed))


# -- Signing in ------------------------------------------------------------------------------------------------------


def test_alice_signs_in_and_it_is_in_the_audit_trail(alice: User) -> None:
    response = sign_in(password=PASSWORD)
    assert (response.status_code, response.headers["Location"]) == (302, "/")
    entry = AuditEntry.objects.get()
    assert (entry.actor_name, entry.action, entry.ip) == ("alice", "session.start", "192.0.2.1")
    assert BrowserSession.objects.get().user_id == alice.pk


def test_blanks_around_a_username_don_t_matter(alice: User) -> None:
    assert sign_in("  alice ", PASSWORD).status_code == 302


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        ("/account/", "/account/"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("/accounts/login/?next=/account/", "/"),
    ],
)
def test_signing_in_leads_back_to_local_addresses_only(alice: User, asked: str, target: str) -> None:
    assert sign_in(password=PASSWORD, next=asked).headers["Location"] == target


@pytest.mark.parametrize("asked", ["/account/", "/accounts/login/", ""])
def test_who_is_signed_in_already_is_led_on(alice: User, client: Client, asked: str) -> None:
    client.force_login(alice)
    response = client.get("/accounts/login/", {"next": asked})
    assert response.headers["Location"] == (asked if asked == "/account/" else "/")


def test_a_wrong_password_an_unknown_name_and_a_closed_account_are_told_the_same(alice: User, bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(is_active=False)
    answers = [sign_in("alice"), sign_in("nobody"), sign_in("bob", PASSWORD)]
    assert {answer.status_code for answer in answers} == {200}
    said = {re.sub(r'(value|nonce)="[^"]*"', "", answer.text) for answer in answers}
    assert len(said) == 1
    assert "Username or password is wrong." in said.pop()


@pytest.mark.parametrize(
    ("username", "password", "error"),
    [
        ("", PASSWORD, "Enter your username."),
        ("   ", PASSWORD, "Enter your username."),
        ("alice", "", "Enter your password."),
        ("a" * 151, PASSWORD, "at most 150 characters"),
        ("ali\x00ce", PASSWORD, "Null characters are not allowed."),
        ("alice", "\x00", "Null characters are not allowed."),
    ],
)
def test_what_can_t_be_a_name_or_a_password_is_said_at_its_field(
    alice: User, username: str, password: str, error: str
) -> None:
    response = sign_in(username, password)
    assert response.status_code == 200
    field = "password" if username == "alice" else "username"
    assert re.search(rf'aria-invalid="true" aria-describedby="{field}-error"', response.text)
    assert re.search(rf'<p class="wrong" id="{field}-error">[^<]*{error}', response.text)
    assert not AccessAttempt.objects.exists()


# -- Throttling ------------------------------------------------------------------------------------------------------


def test_five_failures_lock_the_account_for_this_address_and_say_how_long(alice: User) -> None:
    response = locked_out()
    assert response.status_code == 429
    assert 295 <= int(response.headers["Retry-After"]) <= 300
    said = "Too many failed attempts for this account from this address. Try again in 5 minutes."
    assert said in response.text
    assert 'role="alert"' in response.text


@pytest.mark.django_db(transaction=True)
async def test_a_server_says_so_too(alice: User) -> None:
    """Under ASGI django-axes calls us another way than under the test client."""
    page = await call("GET", "/accounts/login/", accept="text/html")
    csrf = page.headers["set-cookie"].partition("csrftoken=")[2].partition(";")[0]
    body = urlencode({"username": "alice", "password": WRONG, "csrfmiddlewaretoken": csrf}).encode()
    headers = {"cookie": f"csrftoken={csrf}", "content_type": "application/x-www-form-urlencoded"}
    answers = [await call("POST", "/accounts/login/", body=body, **headers) for _ in range(LIMIT + 1)]
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 429, 429]
    assert b"Try again in 5 minutes." in answers[-1].body
    assert int(answers[-1].headers["retry-after"]) > 290


def test_the_right_password_is_refused_while_locked_out(alice: User) -> None:
    locked_out()
    assert sign_in(password=PASSWORD).status_code == 429
    assert not BrowserSession.objects.exists()


def test_the_wait_that_is_left_is_told(alice: User) -> None:
    locked_out()
    wait(minutes=3, seconds=30)
    response = sign_in(password=PASSWORD)
    assert "Try again in 2 minutes." in response.text
    assert 85 <= int(response.headers["Retry-After"]) <= 90
    wait(seconds=80)
    assert re.search(r"Try again in (5|6|7|8|9|10) seconds\.", sign_in(password=PASSWORD).text)


def test_after_the_wait_the_right_password_works(alice: User) -> None:
    locked_out()
    wait(minutes=5)
    assert sign_in(password=PASSWORD).status_code == 302


def test_tries_while_locked_out_don_t_prolong_the_wait(alice: User) -> None:
    locked_out()
    wait(minutes=4)
    assert sign_in().status_code == 429
    wait(minutes=1)
    assert sign_in(password=PASSWORD).status_code == 302


def test_browsers_that_change_their_name_share_the_tries(alice: User) -> None:
    answers = [
        Client(REMOTE_ADDR="192.0.2.1", headers={"User-Agent": f"browser {n}"}).post(
            "/accounts/login/", {"username": "alice", "password": "wrong"}
        )
        for n in range(LIMIT)
    ]
    assert answers[-1].status_code == 429
    first = AccessAttempt.objects.order_by("pk")[0]
    AccessAttempt.objects.filter(pk=first.pk).update(attempt_time=F("attempt_time") - timedelta(minutes=2))
    # The oldest of the five goes in three minutes; four are fewer than the limit.
    assert 175 <= int(sign_in().headers["Retry-After"]) <= 180


def test_another_address_and_another_user_are_not_affected(alice: User, bob: User) -> None:
    locked_out()
    assert sign_in(password=PASSWORD, ip="192.0.2.2").status_code == 302
    assert sign_in("bob", PASSWORD).status_code == 302
    assert sign_in(password=PASSWORD).status_code == 429


def test_signing_in_forgets_the_failures(alice: User) -> None:
    for _ in range(2):
        for _ in range(LIMIT - 1):
            assert sign_in().status_code == 200
        assert sign_in(password=PASSWORD).status_code == 302


@pytest.mark.parametrize("spelt", ["ALICE", " alice", "alice\t", "\uff41lice", "Alice "])
def test_another_spelling_of_the_name_is_no_way_around(alice: User, spelt: str) -> None:
    locked_out()
    assert sign_in(spelt, PASSWORD).status_code == 429


def test_spellings_share_their_tries(alice: User) -> None:
    answers = [sign_in(spelt) for spelt in ("alice", "Alice", "ALICE", " alice ", "aLICE")]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429]


@pytest.mark.django_db(transaction=True)
def test_tries_at_the_same_time_are_counted_one_by_one(alice: User, settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    User.objects.filter(pk=alice.pk).update(password=make_password(PASSWORD))

    def one_try(n: int) -> int:
        try:
            status: int = sign_in(password=f"guess {n}").status_code
            return status
        finally:
            connection.close()

    with ThreadPoolExecutor(12) as threads:
        answers = sorted(threads.map(one_try, range(12)))
    assert answers == [200] * (LIMIT - 1) + [429] * 8
    assert sum(AccessAttempt.objects.values_list("failures_since_start", flat=True)) == LIMIT


def test_a_header_can_t_say_another_address(alice: User) -> None:
    client = Client(REMOTE_ADDR="192.0.2.1")
    for n in range(LIMIT):
        headers = {
            "X-Forwarded-For": f"198.51.100.{n}",
            "Forwarded": f"for=198.51.100.{n}",
            "X-Real-IP": "198.51.100.9",
        }
        response = client.post("/accounts/login/", {"username": "alice", "password": "wrong"}, headers=headers)
    assert response.status_code == 429


@pytest.mark.parametrize(
    ("peer", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::"),
        ("", None),
    ],
)
def test_an_ipv6_network_counts_as_one_address(peer: str, counted: str | None) -> None:
    request = HttpRequest()
    request.META["REMOTE_ADDR"] = peer
    assert throttled_address(request) == counted


def test_a_server_behind_a_unix_socket_throttles_too(alice: User) -> None:
    assert locked_out(ip="").status_code == 429
    assert sign_in(password=PASSWORD, ip="").status_code == 429


def test_the_longest_name_fits_where_failures_are_kept() -> None:
    assert len(throttled_name(HttpRequest(), {"username": "\u0390" * 150}) or "") <= 255


def test_an_unknown_name_is_locked_out_just_the_same(alice: User) -> None:
    known, unknown = locked_out("alice"), locked_out("nobody")
    strip = re.compile(r'value="[^"]*"')
    assert (known.status_code, strip.sub("", known.text)) == (unknown.status_code, strip.sub("", unknown.text))


def test_a_lockout_is_audited_once_and_names_only_who_exists(alice: User) -> None:
    locked_out("alice")
    sign_in("alice")
    locked_out("hunter2 typed as a name")
    unknown, known = AuditEntry.objects.all()
    assert {entry.action for entry in (known, unknown)} == {"session.lockout"}
    assert (known.object_id, known.detail, known.outcome) == (str(alice.pk), {"username": "alice"}, "denied")
    assert (unknown.object_id, unknown.detail, unknown.actor_name) == ("", {}, "")


def test_no_password_is_kept_or_logged(alice: User, caplog: pytest.LogCaptureFixture) -> None:
    locked_out("alice", password="hunter2-secret")
    sign_in(password=PASSWORD, ip="192.0.2.7")
    client = Client()
    client.force_login(alice)
    change = {"old_password": "hunter2-secret", "new_password1": "hunter2-secret2", "new_password2": "hunter2-secret2"}
    assert client.post("/account/password/", change).status_code == 422
    kept = str([*AccessAttempt.objects.values(), *AccessLog.objects.values(), *AuditEntry.objects.values()])
    assert AccessAttempt.objects.exists()
    assert not AccessLog.objects.exists()
    for place in (kept, caplog.text):
        assert "hunter2-secret" not in place
        assert PASSWORD not in place


def test_the_admins_own_form_is_no_way_around(admin: User) -> None:
    client = Client()
    for password in ["wrong"] * LIMIT + [PASSWORD]:
        client.post("/admin/login/", {"username": "admin", "password": password, "next": "/admin/"}, follow=True)
    if AccessAttempt.objects.exists():  # it has a form of its own
        assert client.get("/admin/", headers=BROWSER).status_code == 302
    assert not BrowserSession.objects.exclude(user_id=None).exists()


def test_nothing_of_the_throttle_can_be_changed_in_the_admin(admin: User, client: Client) -> None:
    client.force_login(admin)
    assert "axes" not in client.get("/admin/").text.lower()


def test_the_system_checks_find_nothing(settings: Any) -> None:
    management.call_command("check", fail_level="WARNING", tags=["security", "compatibility", "caches"])
    assert settings.MIDDLEWARE[-1] == "axes.middleware.AxesMiddleware"


# -- Signing out -----------------------------------------------------------------------------------------------------


def test_signing_out_ends_the_session_and_is_audited(alice: User, client: Client) -> None:
    client.force_login(alice)
    assert client.post("/accounts/logout/").headers["Location"] == "/accounts/login/"
    assert not BrowserSession.objects.exists()
    assert AuditEntry.objects.get().action == "session.end"


def test_signing_out_twice_leads_to_sign_in(alice: User, client: Client) -> None:
    assert client.post("/accounts/logout/").headers["Location"] == "/accounts/login/"
    assert client.get("/accounts/logout/").status_code == 405
    assert not AuditEntry.objects.exists()


def test_a_form_sent_after_the_session_ended_is_told_in_words_and_how_to_go_on(client: Client) -> None:
    headers = {**BROWSER, "Referer": "http://testserver/account/?x=1"}
    response = client.post("/conversations/", {"text": "Hi"}, headers=headers)
    assert response.status_code == 401
    assert 'href="/accounts/login/?next=/account/"' in response.text
    elsewhere = client.post("/conversations/", headers={**BROWSER, "Referer": "https://evil.example/x"})
    assert 'href="/accounts/login/?next=/"' in elsewhere.text


def test_a_form_sent_after_the_session_ended_gives_back_what_was_typed(client: Client) -> None:
    ours = {**BROWSER, "Referer": "http://testserver/conversations/"}
    response = client.post("/conversations/", {"text": "<b>half a thought</b>"}, headers=ours)
    assert response.status_code == 401
    assert "\n&lt;b&gt;half a thought&lt;/b&gt;</textarea>" in response.text
    assert "Back button" not in response.text
    foreign = [BROWSER, {**BROWSER, "Referer": "http://testserver.evil.example/"}, {**ours, "Origin": "null"}]
    for headers in foreign:
        assert "half a thought" not in client.post("/", {"text": "half a thought"}, headers=headers).text


def test_a_script_and_htmx_get_401_as_an_object(client: Client) -> None:
    for headers in ({"HX-Request": "true"}, {"HX-Request": "true", **BROWSER}, {}):
        response = client.post("/conversations/", headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (401, "not_authenticated")
