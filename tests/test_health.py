"""What probes are told: that the server lives, and whether it can do its work."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import connection

from conversations import threads
from conversations.hub import hub
from conversations.models import AuditEntry
from conversations.runner import EmbeddedRunner
from conversations.sessions import SessionStore
from tests.calls import call
from tests.environment import is_postgres
from tests.ports import free_port
from tests.process.test_worker import Worker
from tests.server import Server
from tests.server import running as serving
from tests.servers import postgres, valkey

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_server_that_can_do_its_work_is_ready(running: EmbeddedRunner) -> None:
    answer = await call("GET", "/readyz")
    assert (answer.status, answer.json()) == (200, {"ready": True, "not_ready": {}})


async def test_a_server_lives_whatever_else_does() -> None:
    answer = await call("GET", "/healthz")
    assert (answer.status, answer.body) == (200, b"ok\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


async def test_without_a_runner_it_lives_but_is_not_ready() -> None:
    answer = await call("GET", "/readyz")
    assert answer.status == 503
    assert list(answer.json()["not_ready"]) == ["runner"]


async def test_a_migration_that_is_missing_is_counted(running: EmbeddedRunner) -> None:
    def forgotten() -> None:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM django_migrations WHERE app = 'inventory'")

    def remembered() -> None:
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO django_migrations (app, name, applied) VALUES (%s, %s, %s)", rows)

    def found() -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT app, name, applied FROM django_migrations WHERE app = 'inventory'")
            return list(cursor.fetchall())

    rows = await threads.reading(found)
    await threads.reading(forgotten)
    try:
        answer = await call("GET", "/readyz")
    finally:
        await threads.reading(remembered)
    assert answer.status == 503
    assert answer.json()["not_ready"] == {"database": f"lacks {len(rows)} migrations: manage.py migrate"}


async def test_redis_that_is_away_is_named_without_its_password(
    running: EmbeddedRunner, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DISTRIBUTED = True
    settings.REDIS_URL = f"redis://:open-sesame@127.0.0.1:{free_port()}/0"
    answer = await call("GET", "/readyz")
    assert answer.status == 503
    assert answer.json()["not_ready"]["redis"] == "can't be reached; the server's log says why"
    assert "Connection" in caplog.text
    assert "open-sesame" not in caplog.text + answer.body.decode()


async def test_a_server_that_stops_is_not_ready(running: EmbeddedRunner) -> None:
    hub.close()
    answer = await call("GET", "/readyz")
    assert (answer.status, answer.json()["not_ready"]) == (503, {"server": "stops"})


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_a_probe_needs_no_name_no_https_and_no_account(running: EmbeddedRunner, settings: Any, path: str) -> None:
    settings.ALLOWED_HOSTS = ["chat.example.org"]
    settings.SECURE_SSL_REDIRECT = True
    answer = await call("GET", path, host="10.1.2.3:8000")
    assert answer.status == 200
    assert "set-cookie" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_probes_leave_no_trace(running: EmbeddedRunner) -> None:
    def rows() -> tuple[int, int]:
        return AuditEntry.objects.count(), SessionStore.get_model_class().objects.count()

    before = await threads.reading(rows)
    for path in ("/healthz", "/readyz", "/metrics"):
        await call("GET", path)
    assert await threads.reading(rows) == before


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_probes_are_read_only(path: str) -> None:
    answer = await call("POST", path)
    assert (answer.status, answer.headers["allow"], answer.error["code"]) == (405, "GET, HEAD", "invalid_request")
    head = await call("HEAD", path)
    assert head.body == b""
    assert int(head.headers["content-length"]) > 0


# -- A real server ---------------------------------------------------------------------------------------------------

TOKEN = secrets.token_urlsafe(32)


@dataclass(frozen=True, kw_only=True)
class Database:
    """A server's own, of the kind on which the tests run: it can go and come back."""

    #: Where it is; empty: in the server's data folder.
    url: str = ""
    go: Callable[[], None]
    come_back: Callable[[], None]
    #: Of the driver's words, which are for the log.
    complaint: str


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    if is_postgres():
        with postgres() as server:
            yield Database(url=server.url, go=server.stop, come_back=server.start, complaint="Connection refused")
        return
    path, aside = tmp_path / "data" / "opschat.sqlite3", tmp_path / "aside"

    def go() -> None:
        path.rename(aside)
        path.mkdir()

    def come_back() -> None:
        path.rmdir()
        aside.rename(path)

    yield Database(go=go, come_back=come_back, complaint="unable to open database file")


def test_a_database_that_goes_and_comes_back_is_told(tmp_path: Path, database: Database) -> None:
    with serving(tmp_path, program="uvicorn", OPSCHAT_METRICS_TOKEN=TOKEN, DATABASE_URL=database.url) as server:
        assert get(server, "/readyz").status_code == 200
        database.go()
        answer = get(server, "/readyz")
        assert answer.status_code == 503
        assert list(answer.json()["not_ready"]) == ["database"]
        assert "127.0.0.1" not in answer.text
        assert get(server, "/healthz").text == "ok\n"
        # The token that needs no database still reads what the process knows by itself.
        scraped = get(server, "/metrics", Authorization=f"Bearer {TOKEN}").text
        assert "\nopschat_database_up 0.0\n" in scraped
        assert "opschat_commit_seconds_count" in scraped
        assert "opschat_runs{" not in scraped
        database.come_back()
        assert get(server, "/readyz").json() == {"ready": True, "not_ready": {}}
        assert database.complaint in server.log


@pytest.mark.one_database
def test_servers_of_many_need_a_worker_and_redis(tmp_path: Path) -> None:
    with postgres() as database, valkey() as redis:
        both = {"DATABASE_URL": database.url, "REDIS_URL": redis.url}
        with serving(tmp_path / "server", prepared=False, DEMO="0", **both) as server:
            lacks = {"workers": "none was seen in the last 15 s: manage.py worker"}
            assert get(server, "/readyz").json() == {"ready": False, "not_ready": lacks}
            worker = Worker(folder=tmp_path / "worker", prepared=False, variables=both).start()
            assert until_ready(server) == {}
            redis.stop()
            assert list(get(server, "/readyz").json()["not_ready"]) == ["redis"]
            redis.start()
            assert until_ready(server) == {}
            worker.stop()
            assert get(server, "/readyz").json()["not_ready"] == lacks


def until_ready(server: Server) -> object:
    """What is not ready when 10 s are over; a worker shows itself each second."""
    deadline = time.monotonic() + 10
    while (found := get(server, "/readyz").json()["not_ready"]) and time.monotonic() < deadline:
        pass
    return found


def get(server: Server, path: str, **headers: str) -> httpx.Response:
    return httpx.get(server.url + path, headers=headers, timeout=20)
