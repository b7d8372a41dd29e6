"""Who may watch no longer is shown nothing more: sockets and streams end with the session, the account, the right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from conversations import consumers, sessions, stream, threads, tokens
from conversations.hub import hub, topic_of_user
from conversations.models import BrowserSession, Conversation, Run
from conversations.runner import EmbeddedRunner
from tests.calls import calling, cookie_of, socket, token_of
from tests.people import PASSWORD
from tests.test_sockets import conversation_of, frames_to_the_end, submitted, watching

pytestmark = pytest.mark.django_db(transaction=True)


# -- Sockets ---------------------------------------------------------------------------------------------------------


def closed(code: int) -> dict[str, Any]:
    return {"type": "websocket.close", "code": code}


async def changed(change: Callable[[], Any]) -> None:
    await threads.reading(change)


async def browser_of(user: User) -> Client:
    client = Client()
    await changed(lambda: client.force_login(user))
    return client


def cookie(client: Client) -> str:
    return f"sessionid={client.cookies['sessionid'].value}"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks all the time whether viewers may still see what they see."""
    monkeypatch.setattr(sessions, "RECHECK_S", 0.05)


async def watched(conversation: Conversation, cookie: str) -> WebsocketCommunicator:
    viewer = socket(f"/ws/conversations/{conversation.pk}/", cookie=cookie)
    assert (await viewer.connect(timeout=5))[0]
    return viewer


@pytest.mark.parametrize(
    "ending",
    [
        lambda user, client: client.post("/accounts/logout/"),
        lambda user, client: client.post("/account/sign-out-everywhere/"),
        lambda user, client: sessions.end_all(user=user),
    ],
    ids=["sign out", "sign out everywhere", "end all"],
)
async def test_signing_out_closes_the_socket_at_once(
    alice: User, running: EmbeddedRunner, ending: Callable[[User, Client], Any]
) -> None:
    conversation, client = await conversation_of(alice), await browser_of(alice)
    viewer = await watched(conversation, cookie(client))
    await changed(lambda: ending(alice, client))
    assert await viewer.receive_output(timeout=5) == closed(4401)


async def test_a_sign_out_while_the_socket_opens_closes_it(
    alice: User, running: EmbeddedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = consumers._opened

    def opened_and_signed_out(*args: Any) -> Conversation | None:
        found = opened(*args)
        sessions.end_all(user=alice)
        return found

    monkeypatch.setattr(consumers, "_opened", opened_and_signed_out)
    viewer = await watched(await conversation_of(alice), cookie(await browser_of(alice)))
    assert await viewer.receive_output(timeout=5) == closed(4401)


async def test_signing_out_closes_neither_another_browsers_socket_nor_anothers(
    alice: User, bob: User, running: EmbeddedRunner
) -> None:
    conversation, client = await conversation_of(alice), await browser_of(alice)
    his = await conversation_of(bob)
    async with watching(conversation, alice) as elsewhere, watching(his, bob) as bobs:
        await changed(lambda: client.post("/accounts/logout/"))
        for viewer, asker, shown in ((elsewhere, alice, conversation), (bobs, bob, his)):
            run = await submitted(shown, asker, "Still here")
            assert await frames_to_the_end(viewer, run)


async def test_a_changed_password_closes_the_sockets_of_other_browsers(alice: User, running: EmbeddedRunner) -> None:
    conversation, client = await conversation_of(alice), await browser_of(alice)
    viewer = await watched(conversation, await cookie_of(alice))
    passwords = {"old_password": PASSWORD, "new_password1": "another one", "new_password2": "another one"}
    await changed(lambda: client.post("/account/password/", passwords))
    assert await viewer.receive_output(timeout=5) == closed(4401)
    again = await watched(conversation, cookie(client))
    await again.disconnect()


@pytest.mark.parametrize(
    "ending",
    [
        lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
        lambda user: User.objects.filter(pk=user.pk).update(password="changed elsewhere"),
        lambda user: BrowserSession.objects.all().delete(),
        lambda user: BrowserSession.objects.update(expire_date=timezone.now()),
    ],
    ids=["account closed", "password changed", "session gone", "session expired"],
)
async def test_what_another_process_ends_closes_the_socket_at_the_next_look(
    alice: User, running: EmbeddedRunner, impatient: None, ending: Callable[[User], Any]
) -> None:
    conversation = await conversation_of(alice)
    viewer = await watched(conversation, await cookie_of(alice))
    await changed(lambda: ending(alice))
    assert await viewer.receive_output(timeout=5) == closed(4401)


async def test_a_new_password_from_the_administrator_closes_the_socket_at_once(
    alice: User, admin: User, running: EmbeddedRunner
) -> None:
    conversation, administrator = await conversation_of(alice), await browser_of(admin)
    viewer = await watched(conversation, await cookie_of(alice))
    passwords = {"password1": "chosen by admin", "password2": "chosen by admin", "usable_password": "true"}
    await changed(lambda: administrator.post(f"/admin/auth/user/{alice.pk}/password/", passwords))
    assert await viewer.receive_output(timeout=5) == closed(4401)


async def test_who_may_review_no_more_loses_the_socket_and_the_owner_keeps_hers(
    alice: User, erin: User, running: EmbeddedRunner, impatient: None
) -> None:
    conversation = await conversation_of(alice)
    async with watching(conversation, alice) as hers:
        reviewers = await watched(conversation, await cookie_of(erin))
        await changed(erin.user_permissions.clear)
        assert await reviewers.receive_output(timeout=5) == closed(4404)
        run = await submitted(conversation, alice, "Still here")
        assert await frames_to_the_end(hers, run)


async def test_nothing_is_drawn_for_who_was_signed_out(alice: User, running: EmbeddedRunner) -> None:
    conversation, client = await conversation_of(alice), await browser_of(alice)
    viewer = await watched(conversation, cookie(client))
    await changed(lambda: client.post("/accounts/logout/"))
    assert await viewer.receive_output(timeout=5) == closed(4401)
    async with watching(conversation, alice) as other:
        await frames_to_the_end(other, await submitted(conversation, alice, "Later"))
    assert await viewer.receive_nothing()


async def test_a_socket_that_nobody_guards_is_closed(
    alice: User, running: EmbeddedRunner, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("database")

    conversation = await conversation_of(alice)
    viewer = await watched(conversation, await cookie_of(alice))
    monkeypatch.setattr(sessions, "user_of", broken)
    assert await viewer.receive_output(timeout=5) == closed(4500)


# -- Streams of events -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def streaming(run: Run, **headers: Any) -> AsyncIterator[Any]:
    """A stream of a run that waits, after its first events."""
    async with calling("GET", f"/pipeline/runs/{run.pk}/stream", **headers) as reader:
        assert (await reader.receive_output(timeout=5))["status"] == 200
        yield reader


async def rest_of(reader: Any) -> bytes:
    """What comes until the server ends the stream."""
    received, more = b"", True
    while more:
        message = await reader.receive_output(timeout=5)
        received += message.get("body", b"")
        more = message.get("more_body", False)
    return received


async def test_revoking_its_token_ends_a_stream_at_once_and_the_run_goes_on(
    alice: User, running: EmbeddedRunner
) -> None:
    conversation, client = await conversation_of(alice), await browser_of(alice)
    run = await submitted(conversation, alice, "Before.\nwait\nAfter.")
    row, text = await threads.reading(lambda: tokens.make(user=alice))
    async with streaming(run, authorization=f"Bearer {text}") as reader:
        await changed(lambda: client.post(f"/account/tokens/{row.pk}/revoke/"))
        assert b'"complete"' not in await rest_of(reader)
    engine: Any = running.executor._engine
    async with watching(conversation, alice) as viewer:
        engine.go.set()
        assert "After." in (await frames_to_the_end(viewer, run))[-1]


@pytest.mark.parametrize("by", ["session", "token"])
async def test_a_stream_ends_when_its_account_is_closed(
    alice: User, running: EmbeddedRunner, impatient: None, by: str
) -> None:
    run = await submitted(await conversation_of(alice), alice, "Before.\nwait\nAfter.")
    session, token = await cookie_of(alice), f"Bearer {await token_of(alice)}"
    headers: dict[str, Any] = {"cookie": session} if by == "session" else {"authorization": token}
    async with streaming(run, **headers) as reader:
        await changed(lambda: User.objects.filter(pk=alice.pk).update(is_active=False))
        assert b'"complete"' not in await rest_of(reader)


async def test_a_stream_ends_when_its_session_does(alice: User, running: EmbeddedRunner) -> None:
    run = await submitted(await conversation_of(alice), alice, "Before.\nwait\nAfter.")
    client = await browser_of(alice)
    async with streaming(run, cookie=cookie(client)) as reader:
        await changed(lambda: client.post("/accounts/logout/"))
        assert b'"complete"' not in await rest_of(reader)


async def test_a_stream_ends_when_its_run_may_not_be_seen_any_more(
    alice: User, erin: User, running: EmbeddedRunner, impatient: None
) -> None:
    run = await submitted(await conversation_of(alice), alice, "Before.\nwait\nAfter.")
    async with streaming(run, authorization=f"Bearer {await token_of(erin)}") as reader:
        await changed(erin.user_permissions.clear)
        assert b'"complete"' not in await rest_of(reader)


async def test_a_stream_that_may_go_on_goes_on(
    alice: User, running: EmbeddedRunner, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await submitted(await conversation_of(alice), alice, "Before.\nwait\nAfter.")
    loop, looks, look = asyncio.get_running_loop(), asyncio.Semaphore(0), stream._refusal

    def counted(*facts: Any) -> bool | None:
        loop.call_soon_threadsafe(looks.release)
        return look(*facts)

    monkeypatch.setattr(stream, "_refusal", counted)
    async with streaming(run, authorization=f"Bearer {await token_of(alice)}") as reader:
        for _ in range(3):
            await looks.acquire()
        engine: Any = running.executor._engine
        engine.go.set()
        assert b'"complete"' in await rest_of(reader)


async def test_who_waits_for_the_whole_answer_is_told_401_when_the_token_is_revoked(
    alice: User, running: EmbeddedRunner, impatient: None
) -> None:
    row, text = await threads.reading(lambda: tokens.make(user=alice))
    body = json.dumps({"request": "Before.\nwait\nAfter."}).encode()
    with hub.subscribe(topic_of_user(alice.pk)) as runs_of_alice:
        async with calling("POST", "/pipeline", body=body, authorization=f"Bearer {text}") as caller:
            assert await runs_of_alice.next() is not None
            await changed(lambda: tokens.revoke(token=row))
            assert (await caller.receive_output(timeout=5))["status"] == 401
