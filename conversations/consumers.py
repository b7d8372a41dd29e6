"""The socket of a conversation's page: server to browser only; every write is an HTTP POST."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from autobahn.exception import Disconnected
from channels.generic.websocket import AsyncWebsocketConsumer

from conversations import audit, event_log, fragments, metrics, sessions, threads
from conversations.fragments import RunState
from conversations.hub import HEARTBEAT_S, Batch, StoredEvent, hub, topic_of_conversation, topic_of_user
from conversations.models import Conversation, Run, Visible

logger = logging.getLogger(__name__)

_UUID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_CURSOR = re.compile(rf"({_UUID}):([0-9]{{1,9}})")
#: A comment that keeps proxies from closing a quiet socket; it draws nothing.
_HEARTBEAT = "<!--hb-->"
#: How daphne and uvicorn say that the browser has left.
_GONE = (Disconnected, OSError)
#: Close codes: signed out, or the account closed; and the conversation isn't the viewer's to see any more.
_SIGNED_OUT, _NOT_VISIBLE = 4401, 4404
#: Runs sent to a page that knows none.
_MOST = 50


class ConversationConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """Draws every run of one conversation for one viewer, from the cursors the page gives onwards."""

    _tasks: tuple[asyncio.Task[None], ...] = ()
    #: The frame of the sidebar that was sent last.
    _list = ""

    async def connect(self) -> None:
        user = self.scope["user"]
        if not user.is_authenticated:
            # Accepted first: a browser can't see the code of a refused handshake, and would try again for ever.
            await self.accept()
            await self.close(code=_SIGNED_OUT)
            return
        conversation_id = self.scope["url_route"]["kwargs"]["conversation_id"]
        conversation = await threads.reading(_opened, self.scope, conversation_id)
        if conversation is None:
            await self.close()
            return
        await self.accept()
        self._tasks = tuple(asyncio.create_task(work(conversation)) for work in (self._follow, self._guard))
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A socket that draws nothing any more must not look alive, nor one that nobody guards: the page reconnects."""
        if task.cancelled() or (error := task.exception()) is None or _has_left(error):
            return
        logger.error("A conversation's socket failed", exc_info=error)
        # 1011 would say it better, but autobahn lets an application use 1000 and 3000 to 4999 only.
        self._closing = asyncio.create_task(self.close(code=4500))

    async def disconnect(self, code: int) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _guard(self, conversation: Conversation) -> None:
        """Closes the socket when its viewer may not see the conversation any more."""
        user_id, session_key = self.scope["user"].pk, self.scope["session"].session_key
        code = await sessions.until_refused(user_id, _refusal, user_id, session_key, conversation.pk)
        if code is not None:
            following, _ = self._tasks
            following.cancel()
            await self.close(code=code)

    async def _follow(self, conversation: Conversation) -> None:
        own = conversation.owner_id == self.scope["user"].pk
        topic = topic_of_user(conversation.owner_id) if own else topic_of_conversation(conversation.pk)
        # Joined before the rows are read, so that nothing falls between.
        with metrics.viewing("socket"), hub.subscribe(topic) as viewer:
            states = await self._send_missed(conversation.pk)
            clock = asyncio.get_running_loop().time
            due = clock() + HEARTBEAT_S
            while not hub.is_closed:
                batch = await viewer.next(timeout_s=max(0.0, due - clock()))
                # What came while the last frame was drawn goes into the next one.
                batches = [] if batch is None else [batch, *viewer.rest()]
                if clock() >= due:
                    due = clock() + HEARTBEAT_S
                    await self._send(_HEARTBEAT)
                    viewer.lagged = True
                if viewer.lagged:
                    viewer.lagged = False
                    await self._look_at_rows(conversation.pk, states)
                if batches:
                    await self._show_batches(batches, conversation, states, with_list=own)

    async def _show_batches(
        self, batches: list[Batch], conversation: Conversation, states: dict[UUID, RunState | None], *, with_list: bool
    ) -> None:
        of_runs: dict[UUID, list[Batch]] = {}
        for batch in batches:
            if batch.conversation_id == conversation.pk:
                of_runs.setdefault(batch.run_id, []).append(batch)
        for run_id, its_batches in of_runs.items():
            await self._show(run_id, its_batches, states)
        if with_list and any(map(_changes_the_list, batches)):
            await self._send_list(conversation.pk)
        metrics.observe_lag(time.time() - batches[0].committed_at)

    async def _send_list(self, conversation_id: UUID) -> None:
        """The sidebar, when it isn't the one that was sent last."""
        frame = await threads.reading(fragments.sidebar_frame, self.scope["user"], conversation_id)
        if frame != self._list:
            self._list = frame
            await self._send(frame)

    async def _send_missed(self, conversation_id: UUID) -> dict[UUID, RunState | None]:
        """Brings the page up to date. The states of its unfinished runs; None for finished ones."""
        cursors = _cursors(self.scope["query_string"].decode("latin-1"))
        known, new = await threads.reading(_runs_to_show, conversation_id, cursors)
        states: dict[UUID, RunState | None] = dict.fromkeys(cursors)
        for state in known:
            states[state.run_id] = state
            # Whole, also without a newer event: the page may show what a lost attempt wrote, which the rows don't.
            if not state.is_finished or state.seq > cursors[state.run_id]:
                await self._send(await threads.reading(fragments.snapshot_frame, state))
        for state in new:
            states[state.run_id] = state
            await self._send(await threads.reading(fragments.new_run_frame, state))
        return {run_id: state if state and not state.is_finished else None for run_id, state in states.items()}

    async def _look_at_rows(self, conversation_id: UUID, states: dict[UUID, RunState | None]) -> None:
        """Draws what no batch brought: of runs that go on or have ended unseen, and runs that the page hasn't got."""
        going = [run_id for run_id, state in states.items() if state is not None]
        for run_id in (*going, *await threads.reading(_unseen_runs, conversation_id, set(states))):
            await self._show(run_id, [], states)

    async def _show(self, run_id: UUID, batches: list[Batch], states: dict[UUID, RunState | None]) -> None:
        """One frame for what is new of a run: told by its batches, if any, else found in the rows."""
        if run_id not in states:
            state, frame = await threads.reading(_new_run, run_id, event_log.following(0, batches))
            states[run_id] = None if state.is_finished else state
            await self._send(frame)
            return
        known = states[run_id]
        if known is None:
            return
        fresh = await event_log.catch_up(run_id, known.seq, batches)
        if fresh:
            await self._send(await threads.reading(_drawn, known, fresh))
            states[run_id] = None if known.is_finished else known

    async def _send(self, frame: str) -> None:
        await self.send(text_data=frame)


def _has_left(error: BaseException) -> bool:
    """The browser is gone. uvicorn says so by complaining of the message, when it has closed the socket itself."""
    is_late = isinstance(error, RuntimeError) and str(error).startswith("Unexpected ASGI message 'websocket.send'")
    return is_late or isinstance(error, _GONE)


_visible: Visible[Conversation] = Visible(Conversation.objects.all)


def _opened(scope: Mapping[str, Any], conversation_id: UUID) -> Conversation | None:
    """The conversation, when the user may read it; a reviewer's look at another user's is audited."""
    user = scope["user"]
    found = _visible.get(user, conversation_id)
    if found is not None:
        audit.opened(
            actor=user, owner_id=found.owner_id, object_type="conversation", object_id=found.pk,
            through="socket", origin=audit.origin_of_scope(scope), by_itself=True,
        )  # fmt: skip
    return found


def _refusal(user_id: int, session_key: str, conversation_id: UUID) -> int | None:
    """The code to close with, when the session or the right to see the conversation has ended."""
    user = sessions.user_of(session_key)
    if user.pk != user_id:
        return _SIGNED_OUT
    is_visible = Conversation.objects.visible_to(user).filter(pk=conversation_id).exists()
    return None if is_visible else _NOT_VISIBLE


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


def _unseen_runs(conversation_id: UUID, known: set[UUID]) -> list[UUID]:
    """The runs that the page hasn't got, oldest first: it shows all that came after the first that it knows."""
    ids = Run.objects.filter(conversation=conversation_id).order_by("-position").values_list("pk", flat=True)
    runs = list(ids[:_MOST])[::-1]
    first = next((n for n, run_id in enumerate(runs) if run_id in known), 0)
    return [run_id for run_id in runs[first:] if run_id not in known]


def _new_run(run_id: UUID, told: list[StoredEvent] | None) -> tuple[RunState, str]:
    """A run that the page hasn't got, and the frame that adds it. `told`: all its events, if they are known."""
    if told is None:
        state = RunState.of_runs([Run.objects.get(pk=run_id)])[0]
    else:
        state = RunState.just_stored(Run.objects.select_related("ask", "answer").get(pk=run_id))
        _move(state, told)
    return state, fragments.new_run_frame(state)


def _move(state: RunState, told: list[StoredEvent]) -> None:
    for stored in told:
        state.apply(stored.seq, stored.event)


def _drawn(state: RunState, fresh: list[StoredEvent]) -> str:
    """Moves the state on and draws what that changed."""
    since = state.mark()
    _move(state, fresh)
    return fragments.frame(state, since=since)


def _changes_the_list(batch: Batch) -> bool:
    """A conversation is new, or its spinner starts or stops."""
    return any(stored.seq == 1 or stored.is_terminal for stored in batch.events)
