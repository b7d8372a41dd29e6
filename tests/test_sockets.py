"""The conversation's socket: what it draws, for whom, and from where."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User

from conversations import consumers, event_log, fragments, runner, runs, threads
from conversations.hub import hub, topic_of_run, topic_of_user
from conversations.models import Conversation, Run, RunEvent
from conversations.runner import EmbeddedRunner
from tests.calls import cookie_of, socket
from tests.test_runner import engine_of

pytestmark = pytest.mark.django_db(transaction=True)

HEAD = re.compile(r"<!--([0-9a-f-]{36}):(\d+)-->")


async def conversation_of(user: User) -> Conversation:
    return await threads.reading(lambda: runs.open_conversation(owner=user))


async def submitted(conversation: Conversation, user: User, text: str) -> Run:
    return await threads.reading(lambda: runner.submit(user=user, text=text, conversation=conversation))


@asynccontextmanager
async def watching(conversation: Conversation, user: User, cursor: str = "") -> AsyncIterator[WebsocketCommunicator]:
    query = f"?cursor={cursor}" if cursor else ""
    viewer = socket(f"/ws/conversations/{conversation.pk}/{query}", cookie=await cookie_of(user))
    connected, _ = await viewer.connect(timeout=5)
    assert connected
    try:
        yield viewer
    finally:
        await viewer.disconnect()


async def frames_to_the_end(viewer: WebsocketCommunicator, run: Run) -> list[str]:
    """The run's frames up to the one that carries its status."""
    frames: list[str] = []
    while not frames or "data-run-status" not in frames[-1]:
        frame = await viewer.receive_from(timeout=5)
        if frame.startswith(f"<!--{run.pk}"):
            frames.append(frame)
    return frames


async def test_a_run_is_drawn_from_its_start_to_its_end(alice: User, running: EmbeddedRunner) -> None:
    conversation = await conversation_of(alice)
    async with watching(conversation, alice) as viewer:
        run = await submitted(conversation, alice, "rows 3\nHere you are:")
        frames = await frames_to_the_end(viewer, run)
    assert 'hx-swap-oob="beforeend:#content"' in frames[0]
    seqs = [int(found[2]) for frame in frames if (found := HEAD.match(frame))]
    assert len(seqs) == len(frames)
    assert seqs == sorted(set(seqs))
    assert 'data-run-status="succeeded"' in frames[-1]
    assert "Download CSV" in frames[-1]


async def test_what_is_written_arrives_before_the_end(alice: User, running: EmbeddedRunner) -> None:
    conversation = await conversation_of(alice)
    async with watching(conversation, alice) as viewer:
        run = await submitted(conversation, alice, "Written before.\nwait\nAfter.")
        seen = ""
        while "Written before.</p>" not in seen:
            seen = await viewer.receive_from(timeout=5)
            assert "data-run-status" not in seen
        engine_of(running).go.set()
        frames = await frames_to_the_end(viewer, run)
    assert "After." in frames[-1]


async def test_a_page_that_was_away_gets_what_it_missed(alice: User, running: EmbeddedRunner) -> None:
    conversation = await conversation_of(alice)
    first = await submitted(conversation, alice, "One")
    async with watching(conversation, alice) as viewer:
        await frames_to_the_end(viewer, first)
    second = await submitted(conversation, alice, "Two")
    async with watching(conversation, alice, f"{first.pk}:2") as viewer:
        (snapshot,) = await frames_to_the_end(viewer, first)
        frames = await frames_to_the_end(viewer, second)
    assert 'hx-swap-oob="morph"' in snapshot
    assert 'hx-swap-oob="beforeend:#content"' in frames[0]


async def test_a_page_that_missed_nothing_gets_nothing(alice: User, running: EmbeddedRunner) -> None:
    conversation = await conversation_of(alice)
    run = await submitted(conversation, alice, "One")
    async with watching(conversation, alice) as viewer:
        await frames_to_the_end(viewer, run)
    last_seq = await threads.reading(lambda: Run.objects.get(pk=run.pk).last_seq)
    async with watching(conversation, alice, f"{run.pk}:{last_seq}") as viewer:
        following = await submitted(conversation, alice, "Two")
        frame = await viewer.receive_from(timeout=5)
        assert frame.startswith(f"<!--{following.pk}")


async def test_a_page_that_shows_what_a_lost_attempt_wrote_is_drawn_anew(alice: User, running: EmbeddedRunner) -> None:
    conversation = await conversation_of(alice)
    run = await submitted(conversation, alice, "Lost words.\nwait\nAfter.")
    async with watching(conversation, alice) as viewer:
        seen = ""
        while "Lost words.</p>" not in seen:
            seen = await viewer.receive_from(timeout=5)
    newest = await threads.reading(lambda: Run.objects.get(pk=run.pk).last_seq)
    await threads.reading(lambda: RunEvent.objects.filter(run=run, type="token").delete())
    async with watching(conversation, alice, f"{run.pk}:{newest}") as viewer:
        frame = await viewer.receive_from(timeout=5)
    assert frame.startswith(f"<!--{run.pk}:{newest}-->")
    assert 'hx-swap-oob="morph"' in frame
    assert "Lost words" not in frame


async def test_a_run_that_ended_unseen_behind_a_newer_one_is_still_drawn(
    alice: User, running: EmbeddedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = await conversation_of(alice)
    first = await submitted(conversation, alice, "wait\nOne")
    async with watching(conversation, alice) as viewer:
        assert "Dictated engine" in await viewer.receive_from(timeout=5)
        monkeypatch.setattr(hub, "deliver", lambda _: None)
        second = await submitted(conversation, alice, "Two")
        engine_of(running).go.set()
        async for _ in event_log.tail(second.pk, after=0):
            hub.look_again(topic_of_run(second.pk))
        hub.look_again(topic_of_user(alice.pk))
        assert "One" in (await frames_to_the_end(viewer, first))[-1]


async def test_two_viewers_see_the_same(alice: User, erin: User, running: EmbeddedRunner) -> None:
    conversation = await conversation_of(alice)
    async with watching(conversation, alice) as hers, watching(conversation, erin) as reviewers:
        run = await submitted(conversation, alice, "count 3\nwait\nSo many:")
        # Both have the run before it ends: one that gets it whole would be drawn it whole.
        for viewer in (hers, reviewers):
            assert (await viewer.receive_from(timeout=5)).startswith(f"<!--{run.pk}")
        engine_of(running).go.set()
        ends = [(await frames_to_the_end(viewer, run))[-1] for viewer in (hers, reviewers)]
    assert ends[0] == ends[1]


async def test_a_conversation_shows_only_its_own_runs_and_the_list_follows(
    alice: User, running: EmbeddedRunner
) -> None:
    shown, other = await conversation_of(alice), await conversation_of(alice)
    async with watching(shown, alice) as viewer:
        await submitted(other, alice, "Elsewhere")
        frame = await viewer.receive_from(timeout=5)
    assert frame.startswith("<!--sidebar-->")
    assert "Elsewhere" in frame


async def test_another_users_runs_never_arrive(alice: User, bob: User, running: EmbeddedRunner) -> None:
    hers, his = await conversation_of(alice), await conversation_of(bob)
    async with watching(his, bob) as viewer:
        await submitted(hers, alice, "Secret")
        run = await submitted(his, bob, "Own")
        frames = await frames_to_the_end(viewer, run)
    assert not any("Secret" in frame for frame in frames)


async def test_a_stranger_is_not_let_in(alice: User, bob: User, transactional_db: None) -> None:
    conversation = await conversation_of(alice)
    viewer = socket(f"/ws/conversations/{conversation.pk}/", cookie=await cookie_of(bob))
    connected, _ = await viewer.connect(timeout=5)
    assert not connected


async def test_the_signed_out_are_told_so(alice: User, transactional_db: None) -> None:
    conversation = await conversation_of(alice)
    viewer = socket(f"/ws/conversations/{conversation.pk}/", cookie="")
    assert await viewer.connect(timeout=5) == (True, None)
    assert await viewer.receive_output(timeout=5) == {"type": "websocket.close", "code": 4401}


async def test_another_site_is_not_let_in(alice: User, transactional_db: None) -> None:
    conversation = await conversation_of(alice)
    viewer = socket(
        f"/ws/conversations/{conversation.pk}/", cookie=await cookie_of(alice), origin="http://evil.example"
    )
    connected, _ = await viewer.connect(timeout=5)
    assert not connected


async def lets_in(user: User, *, scheme: str, origin: str) -> bool:
    conversation = await conversation_of(user)
    viewer = socket(f"/ws/conversations/{conversation.pk}/", cookie=await cookie_of(user), origin=origin)
    viewer.scope["scheme"] = scheme
    connected, _ = await viewer.connect(timeout=5)
    await viewer.disconnect()
    return connected is True


async def test_a_page_of_another_scheme_is_not_let_in(alice: User) -> None:
    assert await lets_in(alice, scheme="ws", origin="http://localhost")
    assert await lets_in(alice, scheme="wss", origin="https://localhost")
    assert not await lets_in(alice, scheme="ws", origin="https://localhost")
    assert not await lets_in(alice, scheme="wss", origin="http://localhost")


async def test_in_production_only_pages_over_https_are_let_in(alice: User, settings: Any) -> None:
    settings.PRODUCTION, settings.CSRF_TRUSTED_ORIGINS = True, ["https://chat.example.org"]
    assert await lets_in(alice, scheme="ws", origin="https://localhost")
    assert await lets_in(alice, scheme="ws", origin="https://chat.example.org")
    assert not await lets_in(alice, scheme="ws", origin="http://localhost")
    assert not await lets_in(alice, scheme="ws", origin="http://chat.example.org")


@pytest.mark.parametrize("path", ["/ws/conversations/abc/", "/ws/", "/"])
async def test_an_unknown_address_is_refused_as_an_unknown_conversation_is(alice: User, path: str) -> None:
    cookie = await cookie_of(alice)
    refusals = []
    for address in (path, "/ws/conversations/00000000-0000-4000-8000-000000000000/"):
        refusals.append(await socket(address, cookie=cookie).connect(timeout=5))
    assert refusals[0] == refusals[1]
    assert refusals[0][0] is False


async def test_a_cursor_that_is_none_is_passed_over(alice: User, running: EmbeddedRunner) -> None:
    conversation = await conversation_of(alice)
    async with watching(conversation, alice, f"{'-' * 36}:1,x:y") as viewer:
        run = await submitted(conversation, alice, "Hi")
        frames = await frames_to_the_end(viewer, run)
    assert "beforeend:#content" in frames[0]


async def test_a_socket_that_fails_is_closed(
    alice: User, running: EmbeddedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> str:
        raise RuntimeError("template")

    monkeypatch.setattr(fragments, "new_run_frame", broken)
    conversation = await conversation_of(alice)
    viewer = socket(f"/ws/conversations/{conversation.pk}/", cookie=await cookie_of(alice))
    await viewer.connect(timeout=5)
    await submitted(conversation, alice, "Hi")
    assert await viewer.receive_output(timeout=5) == {"type": "websocket.close", "code": 4500}


async def test_a_stop_from_elsewhere_is_drawn_with_what_is_kept(alice: User, running: EmbeddedRunner) -> None:
    conversation = await conversation_of(alice)
    async with watching(conversation, alice) as viewer:
        run = await submitted(conversation, alice, "Kept.\nwait\nNever said.")
        seen = ""
        while "Kept.</p>" not in seen:
            seen = await viewer.receive_from(timeout=5)
        await threads.reading(lambda: runner.cancel(run=run, user=alice))
        end = (await frames_to_the_end(viewer, run))[-1]
    assert 'data-run-status="cancelled"' in end
    assert "Kept." in end
    assert f'formaction="/runs/{run.pk}/continue/"' in end


async def test_a_quiet_socket_beats_and_looks_at_the_rows(
    alice: User, running: EmbeddedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(hub, "publish", lambda _: None)
    conversation = await conversation_of(alice)
    async with watching(conversation, alice) as viewer:
        assert await viewer.receive_from(timeout=5) == "<!--hb-->"
        run = await submitted(conversation, alice, "Hi")
        frames = await frames_to_the_end(viewer, run)
    assert "data-run-status" in frames[-1]
