"""A reviewer's look at what is another user's: read, never written, and noted in the audit trail."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User

from conversations import audit, threads
from conversations.models import AuditEntry, Run
from conversations.runner import EmbeddedRunner
from tests.calls import ask, call, cookie_of, socket, token_of

pytestmark = pytest.mark.django_db(transaction=True)


async def answered(user: User, text: str = "rows 3\nHere:\n```python\nuptime\n```") -> Run:
    await ask(user, text)
    return await threads.reading(lambda: Run.objects.select_related("conversation").latest("created_at"))


async def looks() -> list[AuditEntry]:
    """Every note of a look, oldest first."""
    return await threads.reading(lambda: list(AuditEntry.objects.filter(action__endswith=".review").order_by("at")))


async def opened_by(user: User, path: str) -> int:
    return (await call("GET", path, cookie=await cookie_of(user), accept="text/html")).status


async def refreshed_by(user: User, path: str) -> int:
    """As the open page does without a socket."""
    return (await call("GET", path, cookie=await cookie_of(user), accept="text/html", hx_request="true")).status


async def watched_by(user: User, run: Run) -> None:
    viewer = socket(f"/ws/conversations/{run.conversation_id}/", cookie=await cookie_of(user))
    assert (await viewer.connect(timeout=5))[0]
    await viewer.disconnect()


def facts(entry: AuditEntry) -> Mapping[str, Any]:
    return {"who": entry.actor_name, "object": (entry.object_type, entry.object_id), **entry.detail}


async def test_a_reviewer_who_opens_a_conversation_leaves_an_entry(
    alice: User, erin: User, running: EmbeddedRunner
) -> None:
    run = await answered(alice)
    assert await opened_by(erin, f"/conversations/{run.conversation_id}/") == 200
    (entry,) = await looks()
    assert facts(entry) == {
        "who": "erin", "object": ("conversation", str(run.conversation_id)), "through": "page", "owner_id": alice.pk,
    }  # fmt: skip
    assert (entry.outcome, entry.ip) == ("ok", "127.0.0.1")


async def test_each_way_to_read_a_run_leaves_an_entry(alice: User, erin: User, running: EmbeddedRunner) -> None:
    run = await answered(alice)
    token = f"Bearer {await token_of(erin)}"
    stream = f"/pipeline/runs/{run.pk}/stream"
    assert (await call("GET", stream, authorization=token)).status == 200
    assert (await call("GET", f"/pipeline/runs/{run.pk}", authorization=token)).status == 200
    assert await opened_by(erin, f"/messages/{run.answer_id}/blocks/1/code.py") == 200
    assert [entry.detail["through"] for entry in await looks()] == ["stream", "run", "code"]
    assert {entry.object_id for entry in await looks()} == {str(run.conversation_id)}


async def test_the_owner_leaves_none(alice: User, running: EmbeddedRunner) -> None:
    run = await answered(alice)
    for path in (
        f"/conversations/{run.conversation_id}/",
        f"/pipeline/runs/{run.pk}",
        f"/pipeline/runs/{run.pk}/stream",
    ):
        assert await opened_by(alice, path) == 200
    await watched_by(alice, run)
    assert await looks() == []


async def test_a_stranger_gets_404_and_is_no_reviewer(alice: User, bob: User, running: EmbeddedRunner) -> None:
    run = await answered(alice)
    assert await opened_by(bob, f"/conversations/{run.conversation_id}/") == 404
    assert await looks() == []


async def test_a_socket_without_the_page_leaves_an_entry(alice: User, erin: User, running: EmbeddedRunner) -> None:
    run = await answered(alice)
    await watched_by(erin, run)
    assert [entry.detail["through"] for entry in await looks()] == ["socket"]


async def test_what_the_open_page_does_by_itself_is_the_same_look(
    alice: User, erin: User, running: EmbeddedRunner
) -> None:
    run = await answered(alice)
    page = f"/conversations/{run.conversation_id}/"
    await opened_by(erin, page)
    await watched_by(erin, run)
    assert await refreshed_by(erin, page) == 200
    assert [entry.detail["through"] for entry in await looks()] == ["page"]
    await opened_by(erin, page)
    assert len(await looks()) == 2


async def test_a_page_left_open_is_noted_again_after_a_while(
    alice: User, erin: User, running: EmbeddedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await answered(alice)
    await opened_by(erin, f"/conversations/{run.conversation_id}/")
    monkeypatch.setattr(audit, "SAME_LOOK", timedelta(0))
    await watched_by(erin, run)
    assert [entry.detail["through"] for entry in await looks()] == ["page", "socket"]
