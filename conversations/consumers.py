"""The socket of a conversation's page: server to browser only; every write is an HTTP POST."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from urllib.parse import parse_qs
from uuid import UUID

from channels.generic.websocket import AsyncWebsocketConsumer

from conversations import event_log, fragments, threads
from conversations.fragments import RunState
from conversations.hub import Batch, StoredEvent, Subscription, hub, topic_of_conversation, topic_of_user
from conversations.models import Conversation, Run

_CURSOR = re.compile(r"([0-9a-fA-F-]{36}):(\d{1,9})")
#: A comment that keeps proxies from closing a quiet socket; it draws nothing.
_HEARTBEAT = "<!--hb-->"
#: Runs sent to a page that knows none.
_MOST = 50


class ConversationConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """Draws every run of one conversation for one viewer, from the cursors the page gives onwards."""

    _following: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        user = self.scope["user"]
        if not user.is_authenticated:
            # Accepted first: a browser can't see the code of a refused handshake, and would try again for ever.
            await self.accept()
            await self.close(code=4401)
            return
        conversation_id = self.scope["url_route"]["kwargs"]["conversation_id"]
        conversation = await threads.reading(
            lambda: Conversation.objects.visible_to(user).filter(pk=conversation_id).first()
        )
        if conversation is None:
            await self.close()
            return
        await self.accept()
        self._following = asyncio.create_task(self._follow(conversation))

    async def disconnect(self, code: int) -> None:
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following

    async def _follow(self, conversation: Conversation) -> None:
        own = conversation.owner_id == self.scope["user"].pk
        topic = topic_of_user(conversation.owner_id) if own else topic_of_conversation(conversation.pk)
        # Joined before the rows are read, so that nothing falls between.
        with hub.subscribe(topic) as viewer:
            states = await self._send_missed(conversation.pk)
            while True:
                batch = await viewer.next()
                if batch is None:
                    await self._send(_HEARTBEAT)
                if batch is None or viewer.lagged:
                    await self._look_at_rows(viewer, states)
                if batch is not None and batch.conversation_id == conversation.pk:
                    await self._show(batch.run_id, batch, states)
                if batch is not None and own and _changes_the_list(batch):
                    frame = await threads.reading(fragments.sidebar_frame, self.scope["user"], conversation.pk)
                    await self._send(frame)

    async def _send_missed(self, conversation_id: UUID) -> dict[UUID, RunState | None]:
        """Brings the page up to date. The states of its unfinished runs; None for finished ones."""
        cursors = _cursors(self.scope["query_string"].decode("latin-1"))
        known, new = await threads.reading(_runs_to_show, conversation_id, cursors)
        states: dict[UUID, RunState | None] = dict.fromkeys(cursors)
        for state in known:
            states[state.run_id] = state
            if state.seq > cursors[state.run_id]:
                await self._send(await threads.reading(fragments.snapshot_frame, state))
        for state in new:
            states[state.run_id] = state
            await self._send(await threads.reading(fragments.new_run_frame, state))
        return {run_id: state if state and not state.is_finished else None for run_id, state in states.items()}

    async def _look_at_rows(self, viewer: Subscription, states: dict[UUID, RunState | None]) -> None:
        viewer.lagged = False
        for run_id, state in list(states.items()):
            if state is not None:
                await self._show(run_id, None, states)

    async def _show(self, run_id: UUID, batch: Batch | None, states: dict[UUID, RunState | None]) -> None:
        """One frame for what is new of a run."""
        if run_id not in states:
            state = await threads.reading(_state_of, run_id)
            states[run_id] = None if state.is_finished else state
            await self._send(await threads.reading(fragments.new_run_frame, state))
            return
        known = states[run_id]
        if known is None:
            return
        fresh = await event_log.catch_up(run_id, known.seq, batch)
        if fresh:
            await self._send(await threads.reading(_drawn, known, fresh))
            states[run_id] = None if known.is_finished else known

    async def _send(self, frame: str) -> None:
        await self.send(text_data=frame)


def _cursors(query: str) -> dict[UUID, int]:
    """`cursor=<run_id>:<seq>,…` -> run -> newest event that the page shows."""
    text = ",".join(parse_qs(query).get("cursor", []))
    return {UUID(run_id): int(seq) for run_id, seq in _CURSOR.findall(text)}


def _runs_to_show(conversation_id: UUID, cursors: dict[UUID, int]) -> tuple[list[RunState], list[RunState]]:
    """The runs that the page has and that went on, and those it hasn't got."""
    runs = list(Run.objects.filter(conversation=conversation_id).order_by("-position")[:_MOST])[::-1]
    known = [run for run in runs if run.pk in cursors and (run.last_seq > cursors[run.pk] or not run.is_finished)]
    newest = max((run.position for run in runs if run.pk in cursors), default=0)
    new = [run for run in runs if run.position > newest]
    return RunState.of_runs(known), RunState.of_runs(new)


def _state_of(run_id: UUID) -> RunState:
    return RunState.of_runs([Run.objects.get(pk=run_id)])[0]


def _drawn(state: RunState, fresh: list[StoredEvent]) -> str:
    """Moves the state on and draws what that changed."""
    since = state.mark()
    for stored in fresh:
        state.apply(stored.seq, stored.event)
    return fragments.frame(state, since=since)


def _changes_the_list(batch: Batch) -> bool:
    """A conversation is new, or its spinner starts or stops."""
    return any(stored.seq == 1 or stored.is_terminal for stored in batch.events)
