"""The people: alice (owner), bob (another user), charlie (a stranger), erin (may review), admin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Permission, User
from pytest_django.plugin import DjangoDbBlocker

from conversations import ledger, runner
from conversations.hub import hub
from conversations.pipeline.tools import registry
from conversations.runner import EmbeddedRunner
from tests import databases
from tests.engines import DictatedEngine, ToyTool
from tests.environment import is_postgres, is_whole
from tests.people import PASSWORD

#: How many of the collected tests are left to the run on SQLite.
LEFT = pytest.StashKey[int]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not is_whole():
        left = [item for item in items if item.get_closest_marker("whole")]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if not item.get_closest_marker("whole")]
    if not is_postgres():
        return
    left = [item for item in items if not databases.needs_a_database(item)]
    config.hook.pytest_deselected(items=left)
    config.stash[LEFT] = len(left)
    items[:] = [item for item in items if databases.needs_a_database(item)]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of pytest-xdist tells the first one, which prints it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left"] = session.config.stash.get(LEFT, 0)
    elif session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.stash.get(LEFT, 0):
        session.exitstatus = pytest.ExitCode.OK


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    # Each process collects all.
    node.config.stash[LEFT] = getattr(node, "workeroutput", {}).get("left", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    n_run = sum(len(terminalreporter.getreports(kind)) for kind in ("passed", "failed", "xfailed", "skipped"))
    left = config.stash.get(LEFT, 0)
    terminalreporter.write_line(
        f"{n_run} tests on PostgreSQL; {left}, whose outcome no database can change, run on SQLite alone."
        if is_postgres()
        else f"{n_run} tests on SQLite."
    )
    if not is_whole():
        terminalreporter.write_line(
            "Left to `make test-long`: the tests marked `whole`, more views of pages, most hostile strings."
        )


def pytest_runtest_setup(item: pytest.Item) -> None:
    databases.begin_test(item)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Around pytest-django's: PostgreSQL drops no database to which a thread of a pool is still connected."""
    yield
    if is_postgres():
        with django_db_blocker.unblock():
            databases.end_connections()


@pytest.fixture(autouse=True)
def begun_ledger(request: pytest.FixtureRequest) -> None:
    """The end that the migrations make; a test that empties the tables when it is over takes it away too."""
    if {"db", "transactional_db"} & set(request.fixturenames) or request.node.get_closest_marker("django_db"):
        request.getfixturevalue("db")
        ledger.begin()


@pytest.fixture(scope="session")
def password_hash() -> str:
    """Made once: the real hasher takes a good part of a second, by design."""
    return make_password(PASSWORD)


@pytest.fixture
def alice(db: None, password_hash: str) -> User:
    return User.objects.create(username="alice", password=password_hash)


@pytest.fixture
def bob(db: None, password_hash: str) -> User:
    return User.objects.create(username="bob", password=password_hash)


@pytest.fixture
def charlie(db: None, password_hash: str) -> User:
    return User.objects.create(username="charlie", password=password_hash)


@pytest.fixture
def erin(db: None, password_hash: str) -> User:
    user = User.objects.create(username="erin", password=password_hash, is_staff=True)
    user.user_permissions.add(Permission.objects.get(content_type__app_label="conversations", codename="review"))
    return user


@pytest.fixture
def admin(db: None, password_hash: str) -> User:
    return User.objects.create(username="admin", password=password_hash, is_staff=True, is_superuser=True)


@pytest.fixture(scope="session", autouse=True)
def toy_tool() -> None:
    registry.add_tool(ToyTool())


@pytest.fixture
async def running(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EmbeddedRunner]:
    """This process's runner, as a server has it, with an engine that the requests dictate."""
    engine = DictatedEngine()
    hub.open()
    embedded = EmbeddedRunner(max_runs=settings.OPSCHAT_MAX_RUNS, engine=engine)
    monkeypatch.setattr(runner, "current", embedded)
    # Pages name the engine of this server before the run does.
    monkeypatch.setattr(runner, "engine", lambda: engine)
    yield embedded
    engine.go.set()
    await embedded.stop()
