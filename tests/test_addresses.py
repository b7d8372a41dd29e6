"""Whose address a request has: the peer's, or behind a trusted proxy the client's."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.test import Client

from conversations.audit import origin_of, origin_of_scope
from conversations.models import AuditEntry
from tests.people import PASSWORD

PROXY = "10.1.0.1"


@pytest.fixture
def proxies(settings: Any) -> None:
    settings.OPSCHAT_TRUSTED_PROXIES = [ip_network("10.1.0.0/16"), ip_network("2001:db8:1::/48")]


def seen(peer: str, *forwarded: str) -> str | None:
    """The address that a request and a scope with these headers have alike."""
    request = HttpRequest()
    request.META = {"REMOTE_ADDR": peer, **({"HTTP_X_FORWARDED_FOR": ",".join(forwarded)} if forwarded else {})}
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    found = origin_of(request).ip
    assert origin_of_scope({"client": (peer, 5000), "headers": headers}).ip == found
    return found


def test_behind_a_trusted_proxy_the_address_is_the_clients(proxies: None) -> None:
    assert seen(PROXY, "198.51.100.7") == "198.51.100.7"


def test_nobody_is_trusted_by_default() -> None:
    assert seen(PROXY, "198.51.100.7") == PROXY
    assert seen("127.0.0.1", "198.51.100.7") == "127.0.0.1"


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        (PROXY, ["198.51.100.7, 10.1.0.2"], "198.51.100.7"),
        (PROXY, ["198.51.100.7", "10.1.0.2"], "198.51.100.7"),
        (PROXY, ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        (PROXY, ["10.1.0.9, 198.51.100.7, 10.1.0.2"], "198.51.100.7"),
        (PROXY, ["203.0.113.9, nonsense, 10.1.0.2"], "10.1.0.2"),
        (PROXY, ["nonsense"], PROXY),
        (PROXY, [""], PROXY),
        (PROXY, [], PROXY),
        ("2001:db8:1::1", ["2001:db8:2::7"], "2001:db8:2::7"),
        ("2001:db8:2::1", ["198.51.100.7"], "2001:db8:2::1"),
        ("::ffff:10.1.0.1", ["198.51.100.7"], "198.51.100.7"),
    ],
)
def test_the_rightmost_address_that_is_not_trusted_counts(
    proxies: None, peer: str, forwarded: list[str], client: str
) -> None:
    assert seen(peer, *forwarded) == client


@pytest.mark.django_db
@pytest.mark.filterwarnings("ignore:No directory at:UserWarning")
def test_a_lockout_behind_a_proxy_is_one_clients_alone(proxies: None, alice: User) -> None:
    def sign_in(ip: str, password: str) -> int:
        data = {"username": "alice", "password": password}
        client = Client(REMOTE_ADDR=PROXY, headers={"X-Forwarded-For": f"203.0.113.9, {ip}"})
        status: int = client.post("/accounts/login/", data).status_code
        return status

    assert [sign_in("198.51.100.7", "wrong") for _ in range(5)][-1] == 429
    assert sign_in("198.51.100.7", PASSWORD) == 429
    assert AccessAttempt.objects.get().ip_address == "198.51.100.7"
    assert sign_in("198.51.100.8", PASSWORD) == 302
    assert AuditEntry.objects.get(action="session.start").ip == "198.51.100.8"
