"""The people: alice (owner), bob (another user), charlie (a stranger), erin (may review), admin."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Permission, User

from conversations import runner
from conversations.hub import hub
from conversations.pipeline.tools import registry
from conversations.runner import EmbeddedRunner
from tests.engines import DictatedEngine, ToyTool
from tests.people import PASSWORD


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
    yield embedded
    engine.go.set()
    await embedded.stop()
