"""Every address, by every method, as everybody: who is let in, what is refused, and that a refusal changes nothing.

What is expected stands in `PLACES`, by URL name; an address without a line fails, and names itself.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.signals import request_finished
from django.db import close_old_connections, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from conversations import audit, runs, threads, tokens
from conversations.models import ApiToken
from inventory.models import Asset, AssetUpload
from tests.answers import answered, stored
from tests.calls import cookie_of, socket

# Who is let in is asked of permissions and owners; that a database holds them, other tests show on both.
pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SAFE = ("GET", "HEAD", "OPTIONS")
AS_PAGE = {"Accept": "text/html,application/xhtml+xml"}
AS_API = {"Accept": "application/json"}
FORMS = [("GET", AS_API), ("POST", AS_API), *((method, AS_PAGE) for method in METHODS)]
#: A token is looked at before the address is.
CALLS = [("GET", AS_API), ("POST", AS_API), ("DELETE", AS_API)]
CSRF = "a" * 32

#: With a session; `staff` may not review. `inactive` had a session before the account was closed.
PEOPLE = ("alice", "bob", "erin", "staff", "admin")
TOKENS = ("alice's token", "bob's token", "erin's token")
STRANGERS = ("nobody", "inactive")
BAD_TOKENS = ("expired token", "revoked token", "inactive's token", "made-up token")

Statuses = Mapping[str, int]
Send = Callable[..., Any]

NOT_ALLOWED: Statuses = {"*": 405}
ANYBODY = {"*": 200}
AWAY = {"*": 302}
READERS = {"alice": 200, "erin": 200, "admin": 200, "*": 404}
OWNER = {"alice": 302, "*": 404}
#: Of the admin, which is not there for people who are no staff.
STAFF = {"erin": 200, "staff": 200, "admin": 200, "*": 404}
STAFF_AWAY = {"erin": 302, "staff": 302, "admin": 302, "*": 404}
STAFF_405 = {"erin": 405, "staff": 405, "admin": 405, "*": 404}
STAFF_403 = {"erin": 403, "staff": 403, "admin": 403, "*": 404}
REVIEWERS = {"erin": 200, "admin": 200, "*": 404}
REVIEWERS_403 = {"erin": 403, "admin": 403, "*": 404}
IMPORTERS = {"erin": 403, "staff": 403, "admin": 200, "*": 404}
IMPORTERS_422 = {**IMPORTERS, "admin": 422}
ROOT = {"erin": 403, "staff": 403, "admin": 200, "*": 404}


@dataclass(frozen=True, kw_only=True)
class Place:
    """The statuses that people get, by user: `*` is everybody else who is signed in; `nobody` who isn't, where that is
    allowed."""

    get: Statuses = field(default_factory=lambda: NOT_ALLOWED)
    post: Statuses = field(default_factory=lambda: NOT_ALLOWED)
    other: Statuses = field(default_factory=lambda: NOT_ALLOWED)
    #: Django's class-based views answer it; those of forms take PUT for POST.
    options: Statuses | None = None
    put: Statuses | None = None
    #: Sent by POST, and needed for it to be taken.
    data: str = ""
    #: A bearer token is refused with 401.
    is_for_browsers: bool = False

    def statuses(self, method: str) -> Statuses:
        named = {"GET": self.get, "HEAD": self.get, "POST": self.post, "PUT": self.put, "OPTIONS": self.options}
        return named.get(method) or self.other

    @property
    def is_public(self) -> bool:
        return "nobody" in {**self.get, **self.post}

    def expects(self, caller: str, method: str, *, as_page: bool) -> int:
        statuses = self.statuses(method)
        if caller in BAD_TOKENS or (caller in TOKENS and self.is_for_browsers):
            return 401
        if caller not in STRANGERS:
            return statuses.get(caller.removesuffix("'s token"), statuses["*"])
        if self.is_public:
            return statuses.get("nobody", statuses["*"])
        return 302 if as_page and method in ("GET", "HEAD") else 401


def admin_page(statuses: Statuses, *, post: Statuses | None = None) -> Place:
    """The admin reads every method but POST as GET."""
    return Place(get=statuses, post=post or statuses, other=statuses)


SIGN_IN = {"nobody": 200, "*": 302}
PLACES = {
    "home": Place(get=AWAY),
    "theme": Place(post={"nobody": 302, "*": 302}, data="theme=dark"),
    "conversations": Place(post=AWAY),
    "conversation": Place(get=READERS),
    "messages": Place(post=OWNER, data="text=Hi"),
    "code-download": Place(get=READERS),
    # Alice's run has succeeded: it can be neither stopped nor continued.
    "stop-run": Place(post=OWNER),
    "continue-run": Place(post={"alice": 409, "*": 404}),
    "run": Place(get=READERS),
    "run-cancel": Place(post={"alice": 409, "*": 404}),
    "run-resume": Place(post={"alice": 409, "*": 404}),
    "export-link": Place(post={"alice": 201, "erin": 201, "admin": 201, "*": 404}),
    "export-open": Place(get={"nobody": 404, "*": 404}),
    "exports": Place(get=ANYBODY),
    "export-again": Place(post=OWNER),
    "export-delete": Place(post=OWNER),
    "export*": Place(get=READERS),
    "account": Place(get=ANYBODY, is_for_browsers=True),
    "create-token": Place(get=AWAY, post={"*": 422}, is_for_browsers=True),
    "revoke-token": Place(post=OWNER, is_for_browsers=True),
    "change-password": Place(get=AWAY, post={"*": 422}, put={"*": 422}, options=ANYBODY, is_for_browsers=True),
    "sign-out-everywhere": Place(get=AWAY, post=AWAY, is_for_browsers=True),
    "login": Place(get=SIGN_IN, post=SIGN_IN, other={"nobody": 405, "*": 302}, put=SIGN_IN, options=SIGN_IN),
    "logout": Place(post={"nobody": 302, "*": 302}, options={"nobody": 200, "*": 200}),
    "favicon.ico": admin_page({"nobody": 302, "*": 302}),
    # -- The admin: what can be read is read by reviewers; what can be changed is changed by superusers.
    "admin:index": admin_page(STAFF),
    "admin:app_list": admin_page(STAFF),
    "admin:login": admin_page({**STAFF_AWAY, "nobody": 302}),
    "admin:logout": Place(get=STAFF_405, post=STAFF_AWAY, other=STAFF_405, options=STAFF),
    "admin:password_change": admin_page(STAFF_AWAY),
    "admin:password_change_done": Place(get=STAFF, post=STAFF_405, other=STAFF_405, options=STAFF),
    "admin:jsi18n": Place(get=STAFF, post=STAFF_405, other=STAFF_405, options=STAFF),
    "admin:autocomplete": Place(get=STAFF_403, post=STAFF_405, other=STAFF_405, options=STAFF),
    "admin:auth_user_delete": admin_page(STAFF_403),
    "admin:auth_*": admin_page(ROOT),
    "admin:inventory_asset_changelist": admin_page(STAFF),
    "admin:inventory_asset_history": admin_page(STAFF),
    "admin:inventory_asset_change": admin_page(STAFF, post=STAFF_403),
    "admin:inventory_asset_import": admin_page(IMPORTERS, post=IMPORTERS_422),
    # Another's file is not there; whoever may not import at all learns nothing of it.
    "admin:inventory_asset_upload*": admin_page({"erin": 403, "staff": 403, "*": 404}),
    "admin:inventory_asset_*": admin_page(STAFF_403),
    # They are read beside the run that they belong to: the lists need one.
    "admin:conversations_message_changelist": admin_page({"erin": 400, "staff": 400, "admin": 400, "*": 404}),
    "admin:conversations_runevent_changelist": admin_page({"erin": 400, "staff": 400, "admin": 400, "*": 404}),
    "admin:conversations_*_changelist": admin_page(STAFF),
    "admin:conversations_auditentry_verify": Place(
        get=STAFF_405, post={"erin": 302, "admin": 302, "*": 404}, other=STAFF_405
    ),
    "admin:conversations_*_add": admin_page(STAFF_403),
    "admin:conversations_*_change": admin_page(REVIEWERS, post=REVIEWERS_403),
    "admin:*_hold": Place(get=STAFF_405, post={"erin": 404, "admin": 302, "*": 404}, other=STAFF_405),
    "admin:conversations_*_delete": admin_page(REVIEWERS_403),
    "admin:conversations_*_history": admin_page({"*": 404}),
    "admin/*/<path:object_id>/": admin_page(STAFF_AWAY),
    "admin/no/such/page": admin_page({"*": 404}),
}


@dataclass(frozen=True, kw_only=True)
class Address:
    #: The URL's name with its namespaces; its route where it has none.
    name: str
    url: str


def addresses(values: Mapping[str, object]) -> Iterator[Address]:
    """Every address of the resolver, with alice's rows as its arguments."""
    for name, route in _routes(get_resolver().url_patterns):
        model = next((key for key in values if f"/{key}/" in route), "")
        known = {**values, "object_id": values.get(model), "id": values.get(model)}
        # The admin has two patterns written as regular expressions.
        plain = route.replace("(?P<url>.*)$", "no/such/page").replace("^(?P<app_label>", "").split("|")[0]
        url = plain
        for argument in re.findall(r"<[\w:]+>", plain):
            url = url.replace(argument, str(known[argument.strip("<>").split(":")[-1]]))
        yield Address(name=name or plain, url=f"/{url}" if "|" not in route else f"/{url}/")


def _routes(patterns: list[Any], route: str = "", namespace: str = "") -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        here = route + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from _routes(pattern.url_patterns, here, inner)
        else:
            assert isinstance(pattern, URLPattern)
            yield f"{namespace}{pattern.name}" if pattern.name else "", here


def place_of(address: Address) -> Place:
    lines = [place for pattern, place in PLACES.items() if fnmatchcase(address.name, pattern)]
    assert lines, f"{address.name} ({address.url}) has no line in PLACES: say who may come there."
    return lines[0]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Without a log line for each refusal."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def values(alice: User) -> dict[str, object]:
    """One of each thing that alice can have, by the names of the addresses' arguments and of the admin's folders."""
    run = answered(alice, "Secret of alice.\n\n```python\nprint()\n```\n")
    export = stored(run)
    token, _ = tokens.make(user=alice)
    entry = audit.record(actor=alice, action="walk.begin", object_type="run", object_id=run.pk)
    return {
        "conversation_id": run.conversation_id,
        "message_id": run.answer_id,
        "number": 1,
        "extension": "py",
        "run_id": run.pk,
        "export_id": export.pk,
        "token": "made-up",
        "filename": "export_1.xlsx",
        "token_id": token.pk,
        "upload_id": AssetUpload.objects.create(user=alice, name="walk.csv", n_bytes=1).pk,
        "conversation": run.conversation_id,
        "message": run.answer_id,
        "run": run.pk,
        "stagerun": run.stages.all()[0].pk,
        "runevent": run.events.all()[0].pk,
        "export": export.pk,
        "auditentry": entry.pk,
        "apitoken": token.pk,
        "user": alice.pk,
        "group": Group.objects.create(name="walkers").pk,
        "asset": Asset.objects.create(name="web-01").pk,
    }


@pytest.fixture
def send_as(values: Mapping[str, object], alice: User, bob: User, erin: User, admin: User) -> Callable[[str], Send]:
    """Gives the function with which this caller sends a request; what it changes is undone."""
    staff = User.objects.create(username="staff", is_staff=True)
    gone = User.objects.create(username="gone")
    people = {"alice": alice, "bob": bob, "erin": erin, "staff": staff, "admin": admin, "inactive": gone}
    for user in people.values():
        # "/" opens one for who has none: the one address whose GET makes a row.
        runs.open_conversation(owner=user)

    def of(caller: str) -> Send:
        headers = {"Authorization": f"Bearer {_token(caller, people)}"} if "token" in caller else {}
        client = Client(enforce_csrf_checks=True, headers=headers)
        if caller in people:
            client.force_login(people[caller])
        client.cookies["csrftoken"] = CSRF
        cookies = client.cookies.output(header="", sep=";")
        User.objects.filter(pk=gone.pk).update(is_active=False)

        def send(method: str, url: str, *, is_forged: bool = False, data: Any = "", **more: str) -> Any:
            # An answer may have signed the caller out.
            client.cookies.load(cookies)
            extra = {} if is_forged else {"X-CSRFToken": CSRF}
            with transaction.atomic():
                answer = client.generic(
                    method, url, data, "application/x-www-form-urlencoded", headers={**more, **extra}
                )
                if answer.streaming:
                    _closed(answer)
                transaction.set_rollback(True)
            return answer

        return send

    return of


def _closed(answer: Any) -> None:
    """Closes the file of a download, and, as Django's own client, not the database's connection."""
    request_finished.disconnect(close_old_connections)
    answer.close()
    request_finished.connect(close_old_connections)


def _token(caller: str, people: Mapping[str, User]) -> str:
    owner = people[{"bob's token": "bob", "erin's token": "erin", "inactive's token": "inactive"}.get(caller, "alice")]
    row, text = tokens.make(user=owner)
    if caller == "expired token":
        ApiToken.objects.filter(pk=row.pk).update(expires_at=timezone.now())
    elif caller == "revoked token":
        tokens.revoke(token=row)
    return "opschat_made-up" if caller == "made-up token" else text


def check_headers(answer: Any, whose: str) -> None:
    headers = answer.headers
    assert "default-src 'none'" in headers["Content-Security-Policy"], whose
    assert "unsafe" not in headers["Content-Security-Policy"], whose
    assert headers["X-Content-Type-Options"] == "nosniff", whose
    assert headers["X-Frame-Options"] == "DENY", whose
    assert headers["Referrer-Policy"] == headers["Cross-Origin-Opener-Policy"] == "same-origin", whose
    assert {"private", "no-store"} <= set(re.split(r", *", headers["Cache-Control"])) or (
        headers["Cache-Control"] == "no-store"
    ), f"{whose}: {headers['Cache-Control']}"
    assert not any(name.lower().startswith("access-control-") for name in headers), whose
    if answer.status_code == 401 and "json" in headers["Content-Type"]:
        assert headers["WWW-Authenticate"] == "Bearer", whose


def writes(queries: CaptureQueriesContext) -> list[str]:
    """What a request wrote, but for the trail that refused requests leave and a token's last use."""
    wrote = [query["sql"] for query in queries if query["sql"].startswith(("INSERT", "UPDATE", "DELETE", "REPLACE"))]
    trail = ('INSERT INTO "conversations_auditentry"', 'UPDATE "conversations_auditentry" SET hash')
    allowed = (*trail, 'UPDATE "conversations_apitoken" SET "last_used_at"')
    return [sql for sql in wrote if not sql.startswith(allowed)]


@pytest.mark.parametrize("caller", [*PEOPLE, *TOKENS, *STRANGERS, *BAD_TOKENS])
def test_every_address_lets_in_whom_it_should_and_refuses_without_a_trace(
    values: Mapping[str, object], send_as: Callable[[str], Send], caller: str
) -> None:
    send, wrong = send_as(caller), []
    for address in addresses(values):
        place = place_of(address)
        for method, accept in CALLS if "token" in caller else FORMS:
            with CaptureQueriesContext(connection) as queries:
                answer = send(method, address.url, data=place.data, **accept)
            whose = f"{caller}: {method} {address.url} ({address.name}), {accept['Accept']}"
            expected = place.expects(caller, method, as_page=accept is AS_PAGE)
            if answer.status_code != expected:
                wrong.append(f"{whose}: {answer.status_code}, not {expected}")
            check_headers(answer, whose)
            if method != "POST" or answer.status_code >= 400:
                assert writes(queries) == [], whose
    assert wrong == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("origin", "is_in"),
    [
        ("http://localhost", True), ("http://LOCALHOST", True), (None, False), ("", False), ("null", False),
        ("http://evil.example", False), ("http://localhost.evil.example", False),
        ("http://evil.example/localhost", False), ("http://localhost:3000", False), ("file://localhost", False),
        ("http://127.0.0.1", False), ("https://chat.example.org", True),
    ],
)  # fmt: skip
async def test_only_a_page_of_this_very_address_opens_the_socket(
    alice: User, settings: Any, origin: str | None, is_in: bool
) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["https://chat.example.org"]
    there = await threads.reading(lambda: runs.open_conversation(owner=alice))
    viewer = socket(f"/ws/conversations/{there.pk}/", cookie=await cookie_of(alice), origin=origin or "")
    if origin is None:
        viewer.scope["headers"] = [pair for pair in viewer.scope["headers"] if pair[0] != b"origin"]
    connected, _ = await viewer.connect(timeout=5)
    assert connected is is_in
    await viewer.disconnect()


@pytest.mark.parametrize("caller", ["alice", "erin", "nobody"])
def test_no_address_takes_a_form_without_a_csrf_token(
    values: Mapping[str, object], send_as: Callable[[str], Send], caller: str
) -> None:
    send = send_as(caller)
    for address in addresses(values):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            with CaptureQueriesContext(connection) as queries:
                answer = send(method, address.url, is_forged=True, data=place_of(address).data, **AS_PAGE)
            assert (answer.status_code, "too old to be sent" in answer.text) == (403, True), f"{method} {address}"
            assert writes(queries) == [], f"{method} {address}"
            check_headers(answer, f"{method} {address}")


def test_a_signed_out_visitor_of_any_page_is_led_to_sign_in_and_back(
    values: Mapping[str, object], send_as: Callable[[str], Send]
) -> None:
    send = send_as("nobody")
    for address in addresses(values):
        if not place_of(address).is_public:
            answer = send("GET", address.url, **AS_PAGE)
            # Some of the admin lead to its own sign-in, which leads on to ours.
            location = answer.headers["Location"].replace("/admin/login/", "/accounts/login/")
            assert location == f"/accounts/login/?next={address.url}", address
