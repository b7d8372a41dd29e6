"""Viewers and the hub: what they read, what they are told, and how much they are sent at once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from django.contrib.auth.models import User

from conversations import event_log, runner, runs, threads
from conversations.hub import Batch, StoredEvent, batch_of, hub, topic_of_user
from conversations.models import Run
from conversations.pipeline.events import Event, StageStart, Token
from conversations.runner import EmbeddedRunner
from tests.answers import happened
from tests.calls import call, calling, parse_events, token_of
from tests.test_sockets import HEAD, conversation_of, submitted, watching

pytestmark = pytest.mark.django_db(transaction=True)


def begun() -> StageStart:
    return StageStart(stage="D", name="Response Generation", message="Writing", attempt=1)


async def waiting(user: User) -> Run:
    """A run that nobody executes."""
    conversation = await conversation_of(user)
    return await threads.reading(lambda: runner.submit(user=user, text="Hi", conversation=conversation))


async def stored(run: Run, *what: Event) -> list[Batch]:
    """Stores the events, and makes a batch of each."""
    first = run.last_seq + 1
    await threads.reading(lambda: happened(run, *what))
    fence = runs.fence_of(run)
    return [batch_of(fence, [StoredEvent(seq=seq, event=event)]) for seq, event in enumerate(what, first)]


def seqs(events: list[StoredEvent]) -> list[int]:
    return [event.seq for event in events]


# -- Streams ---------------------------------------------------------------------------------------------------------


async def test_batches_that_wait_are_sent_together(alice: User) -> None:
    run = await waiting(alice)
    tail = event_log.tail(run.pk, after=0)
    assert seqs(await anext(tail)) == [1]
    hub.publish(*await stored(run, begun(), Token(text="One ", offset=0), Token(text="two", offset=4)))
    assert seqs(await anext(tail)) == [2, 3, 4]


async def test_without_a_gap_the_rows_are_not_read(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await waiting(alice)
    tail = event_log.tail(run.pk, after=1, is_new=True)
    asked = asyncio.ensure_future(anext(tail))
    await asyncio.sleep(0)
    batches = await stored(run, begun(), Token(text="One ", offset=0))
    monkeypatch.setattr(event_log, "stored_after", None)
    hub.publish(*batches, *batches)
    assert seqs(await asked) == [2, 3]


async def test_what_was_committed_before_a_new_runs_viewer_joined_is_found_by_the_gap(alice: User) -> None:
    run = await waiting(alice)
    missed, told = await stored(run, begun(), Token(text="One ", offset=0))
    tail = event_log.tail(run.pk, after=1, is_new=True)
    asked = asyncio.ensure_future(anext(tail))
    await asyncio.sleep(0)
    hub.publish(told)
    assert seqs(await asked) == [2, 3]
    assert missed.events[0].seq == 2


async def test_what_was_committed_before_a_new_runs_viewer_joined_is_found_in_the_silence(alice: User) -> None:
    run = await waiting(alice)
    await stored(run, begun())
    async with asyncio.timeout(5):
        assert seqs(await anext(event_log.tail(run.pk, after=1, is_new=True))) == [2]


async def test_a_repeated_request_replays_the_run_from_its_first_event(alice: User, running: EmbeddedRunner) -> None:
    token = await token_of(alice)
    first, again = [
        await call(
            "POST",
            "/pipeline/stream",
            data={"request": "Hi"},
            authorization=f"Bearer {token}",
            idempotency_key="k1",
        )
        for _ in range(2)
    ]
    assert again.events == first.events
    assert [event["id"] for event in first.events] == list(range(1, len(first.events) + 1))


async def test_the_first_event_on_the_wire_is_the_stored_one(alice: User, running: EmbeddedRunner) -> None:
    body = json.dumps({"request": "wait\nDone."}).encode()
    token = await token_of(alice)
    async with calling("POST", "/pipeline/stream", body=body, authorization=f"Bearer {token}") as caller:
        await caller.receive_output()
        (first,) = parse_events((await caller.receive_output(timeout=5))["body"])
    row = (await threads.reading(event_log.stored_after, first["run_id"], 0))[0]
    assert first == {**json.loads(event_log.as_wire(first["run_id"], row)), "id": 1}


@pytest.mark.parametrize("token", ["", "Basic x", "Bearer x", "Bearer opschat_x", f"Bearer opschat_{'é' * 43}"])
async def test_what_can_be_no_token_is_refused_before_the_body_is_read(alice: User, token: str) -> None:
    # Read, it would be too large.
    answer = await call("POST", "/pipeline", body=b"x" * 70_000, authorization=token)
    assert (answer.status, answer.error["code"]) == (401, "not_authenticated")


# -- Sockets ---------------------------------------------------------------------------------------------------------


async def test_batches_that_wait_are_drawn_in_one_frame(alice: User) -> None:
    run = await waiting(alice)
    conversation = await threads.reading(lambda: run.conversation)
    async with watching(conversation, alice, f"{run.pk}:1") as viewer:
        await viewer.receive_from(timeout=5)
        hub.publish(*await stored(run, begun(), Token(text="One ", offset=0), Token(text="two", offset=4)))
        frame = await viewer.receive_from(timeout=5)
    found: Any = HEAD.match(frame)
    assert (found[1], found[2]) == (str(run.pk), "4")
    assert "One two" in frame


async def test_a_list_that_has_not_changed_is_sent_once(alice: User) -> None:
    run = await waiting(alice)
    other = await waiting(alice)
    conversation = await threads.reading(lambda: run.conversation)
    async with watching(conversation, alice, f"{run.pk}:1") as viewer:
        await viewer.receive_from(timeout=5)
        event = StoredEvent(seq=1, event=runs.start_event(other))
        hub.publish(batch_of(runs.fence_of(other), [event]))
        assert (await viewer.receive_from(timeout=5)).startswith("<!--sidebar-->")
        hub.publish(batch_of(runs.fence_of(other), [event]))
        for what in (begun(), Token(text="One ", offset=0)):
            hub.publish(*await stored(run, what))
            assert HEAD.match(await viewer.receive_from(timeout=5))


async def test_a_run_of_which_nothing_was_told_is_drawn_although_a_later_one_was(alice: User) -> None:
    conversation = await conversation_of(alice)

    def ended_unseen() -> Run:
        run = runs.post_message(conversation=conversation, user=alice, text="Two")
        Run.objects.filter(pk=run.pk).update(status=Run.Status.SUCCEEDED)
        return run

    first = await submitted(conversation, alice, "One")
    async with watching(conversation, alice, f"{first.pk}:1") as viewer:
        assert str(first.pk) in await viewer.receive_from(timeout=5)
        unseen = await threads.reading(ended_unseen)
        third = await submitted(conversation, alice, "Three")
        assert str(third.pk) in await viewer.receive_from(timeout=5)
        assert (await viewer.receive_from(timeout=5)).startswith("<!--sidebar-->")
        hub.look_again(topic_of_user(alice.pk))
        frame = await viewer.receive_from(timeout=5)
    assert frame.startswith(f"<!--{unseen.pk}:")
    assert 'hx-swap-oob="beforeend:#content"' in frame
