"""Set-ups that are refused, as an administrator meets them; and what production sends."""

from __future__ import annotations

import os
import runpy
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from conversations import checks
from tests.environment import without_settings
from tests.server import ROOT, free_port

KEY = secrets.token_urlsafe(64)
PRODUCTION = {"OPSCHAT_URL": "https://chat.example.org", "OPSCHAT_SECRET_KEY": KEY}

Manage = Callable[..., "subprocess.CompletedProcess[str]"]
SettingsOf = Callable[..., dict[str, Any]]


@pytest.fixture
def manage(tmp_path: Path) -> Manage:
    """Runs a management command with these variables, on data of its own."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**without_settings(os.environ), "OPSCHAT_DATA_DIR": str(tmp_path), "PORT": str(free_port())}
        return subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, env={**environment, **variables},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    return run


@pytest.fixture
def settings_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SettingsOf:
    """The settings that these variables make."""

    def read(**variables: str) -> dict[str, Any]:
        for name, value in {**variables, "OPSCHAT_DATA_DIR": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(ROOT / "opschat/settings.py"))

    return read


def test_production_with_a_key_and_an_address_passes_every_check(manage: Manage) -> None:
    done = manage("check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OPSCHAT_SECRET_KEY": ""}, "OPSCHAT_SECRET_KEY is missing"),
        ({"OPSCHAT_SECRET_KEY": "k9!" * 16}, "not 50 random characters"),
        ({"OPSCHAT_SECRET_KEY": "a" * 80}, "not 50 random characters"),
        ({"OPSCHAT_SECRET_KEY": "django-insecure-" + KEY}, "not 50 random characters"),
        ({"OPSCHAT_ALLOWED_HOSTS": "*"}, "OPSCHAT_ALLOWED_HOSTS is '*'"),
        ({"OPSCHAT_ALLOWED_HOSTS": "chat.example.org,*"}, "without *, among them chat.example.org"),
        ({"OPSCHAT_ALLOWED_HOSTS": " , "}, "OPSCHAT_ALLOWED_HOSTS is ' , '"),
        ({"OPSCHAT_ALLOWED_HOSTS": "other.example.org"}, "among them chat.example.org"),
        ({"OPSCHAT_DEBUG": "1"}, "OPSCHAT_DEBUG"),
    ],
)
def test_a_weak_production_is_refused_with_what_to_do(
    settings_of: SettingsOf, variables: dict[str, str], words: str
) -> None:
    with pytest.raises(ImproperlyConfigured) as refused:
        settings_of(**{**PRODUCTION, **variables})
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("variables", "words"),
    [({"OPSCHAT_SECRET_KEY": ""}, "OPSCHAT_SECRET_KEY is missing"), ({"DEMO": "1"}, "opschat.E003")],
)
def test_a_weak_production_is_not_served(manage: Manage, variables: dict[str, str], words: str) -> None:
    done = manage("serve", **{**PRODUCTION, **variables})
    assert done.returncode != 0
    assert words in done.stderr
    assert "serves on" not in done.stdout


def test_a_production_that_fails_a_deploy_check_is_not_served(manage: Manage) -> None:
    done = manage("serve", **PRODUCTION, DJANGO_SETTINGS_MODULE="tests.settings_weak")
    assert done.returncode == 1
    assert "security.W004" in done.stderr
    assert "serves on" not in done.stdout


def test_the_key_made_for_trying_out_is_not_taken_into_production(settings_of: SettingsOf) -> None:
    made = settings_of()["SECRET_KEY"]
    assert settings_of()["SECRET_KEY"] == made
    with pytest.raises(ImproperlyConfigured, match="is the one made for trying out") as refused:
        settings_of(**{**PRODUCTION, "OPSCHAT_SECRET_KEY": made})
    assert made not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "chat.example.org", "ftp://chat.example.org", "https://", "https://chat.example.org/opschat", "https://a b",
        "https://chat.example.org?x=1", "https://chat.example.org#x", "https://me:pw@chat.example.org", "https://:443",
        "https://chat.example.org:99999", "https://[::1", "https://chat..example.org",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(settings_of: SettingsOf, url: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refused:
        settings_of(**{**PRODUCTION, "OPSCHAT_URL": url})
    assert f"OPSCHAT_URL is {url!r}" in str(refused.value)


@pytest.mark.parametrize(
    ("url", "origin", "host"),
    [
        ("https://Chat.Example.org/", "https://chat.example.org", "chat.example.org"),
        ("https://chat.example.org:443", "https://chat.example.org", "chat.example.org"),
        ("https://chat.example.org:8443", "https://chat.example.org:8443", "chat.example.org"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]", "[2001:db8::1]"),
        ("https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443", "[2001:db8::1]"),
        ("http://ops.internal:8000", "http://ops.internal:8000", "ops.internal"),
    ],
)
def test_an_address_is_known_as_browsers_write_it(settings_of: SettingsOf, url: str, origin: str, host: str) -> None:
    made = settings_of(**{**PRODUCTION, "OPSCHAT_URL": url})
    assert (made["CSRF_TRUSTED_ORIGINS"], made["ALLOWED_HOSTS"]) == ([origin], [host])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "ops.example.net", ""])  # noqa: S104  not bound
def test_a_host_that_others_reach_needs_a_name(settings: Any, host: str) -> None:
    settings.HOST, settings.ALLOWED_HOSTS = host, ["localhost", "127.0.0.1", "[::1]"]
    (error,) = checks.others_know_a_name()
    assert error.id == "opschat.E004"
    assert "OPSCHAT_URL" in error.msg
    assert "OPSCHAT_ALLOWED_HOSTS" in error.msg
    settings.ALLOWED_HOSTS = ["ops.example.net"]
    assert checks.others_know_a_name() == []


def test_a_server_that_others_reach_by_no_name_does_not_start(manage: Manage) -> None:
    done = manage("serve", HOST="192.0.2.7", DEMO="0", OPSCHAT_DEBUG="1")
    assert done.returncode == 1
    assert "opschat.E004" in done.stderr
    assert "opschat.E005" in done.stderr


def test_redis_without_postgres_is_refused(manage: Manage) -> None:
    done = manage("check", REDIS_URL="redis://:its-password@127.0.0.1:1/0")
    assert done.returncode == 1
    assert "opschat.E006" in done.stderr
    assert "Set DATABASE_URL" in done.stderr
    assert "its-password" not in done.stderr


def test_the_engine_for_benchmarks_is_refused_in_production(settings: Any) -> None:
    settings.OPSCHAT_ENGINE = "paced"
    assert checks.no_bench_engine_in_production() == []
    settings.PRODUCTION = True
    (error,) = checks.no_bench_engine_in_production()
    assert error.id == "opschat.E007"


def test_an_address_of_redis_that_is_none_is_refused(settings: Any) -> None:
    settings.REDIS_URL = "127.0.0.1:6379"
    (error,) = checks.redis_is_an_address()
    assert error.id == "opschat.E008"
    settings.REDIS_URL = "redis://127.0.0.1:6379/0"
    assert checks.redis_is_an_address() == []


def test_a_redis_that_can_not_be_reached_is_named_without_its_password(settings: Any) -> None:
    settings.REDIS_URL = f"redis://:its-password@127.0.0.1:{free_port()}/0"
    said = checks.trouble_with_redis()
    assert said is not None
    assert said.startswith("Redis can't be used: ")
    assert "its-password" not in said


def test_a_postgres_that_can_not_be_reached_is_said_in_words(manage: Manage) -> None:
    done = manage("serve", DATABASE_URL=f"postgres://opschat:its-password@127.0.0.1:{free_port()}/opschat")
    assert done.returncode == 1
    assert "The database can't be used: connection failed: " in done.stderr
    assert "its-password" not in done.stderr
    assert "Traceback" not in done.stderr


def test_production_speaks_https_only_and_says_so(manage: Manage) -> None:
    code = (
        "from django.test import Client\n"
        "c = Client(headers={'host': 'chat.example.org', 'accept': 'text/html'})\n"
        "print(c.get('/accounts/login/').headers['Location'])\n"
        "r = c.get('/accounts/login/', secure=True)\n"
        "print(r.status_code, r.headers['Strict-Transport-Security'], r.cookies['csrftoken']['secure'])\n"
        "import asyncio, httpx\n"
        "from opschat.asgi import application\n"
        "async def get(path):\n"
        "    transport = httpx.ASGITransport(application)\n"
        "    async with httpx.AsyncClient(transport=transport, base_url='https://chat.example.org') as client:\n"
        "        return await client.get(path)\n"
        "r = asyncio.run(get('/static/conversations/opschat.css'))\n"
        "print(r.status_code, r.headers['Strict-Transport-Security'], r.headers['X-Content-Type-Options'])\n"
    )
    manage("migrate", "-v0", **PRODUCTION)
    lines = manage("shell", "-v0", "-c", code, **PRODUCTION).stdout.splitlines()
    hsts = "max-age=31536000; includeSubDomains; preload"
    assert lines == [
        "https://chat.example.org/accounts/login/",
        f"200 {hsts} True",
        f"200 {hsts} nosniff",
    ]


def test_trusted_proxies_are_addresses_and_networks(settings_of: SettingsOf) -> None:
    made = settings_of(OPSCHAT_TRUSTED_PROXIES=" 127.0.0.1, 10.1.0.0/16,2001:db8::/32 ")["OPSCHAT_TRUSTED_PROXIES"]
    assert [str(network) for network in made] == ["127.0.0.1/32", "10.1.0.0/16", "2001:db8::/32"]
    assert settings_of(OPSCHAT_TRUSTED_PROXIES="")["OPSCHAT_TRUSTED_PROXIES"] == []


@pytest.mark.parametrize("given", ["nginx", "10.1.0.1/16", "10.1.0.0/33", "127.0.0.1;10.0.0.1", "*"])
def test_a_trusted_proxy_that_is_none_is_refused(settings_of: SettingsOf, given: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refused:
        settings_of(OPSCHAT_TRUSTED_PROXIES=given)
    assert f"OPSCHAT_TRUSTED_PROXIES is {given!r}" in str(refused.value)
    assert "Write addresses or networks" in str(refused.value)
