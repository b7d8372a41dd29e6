"""Makes a process stop exactly where a test wants it killed; installed by the engine, in processes of tests only.

A line `hold A:N …` of a request keeps what the run's attempt A records from being stored once N steps have been, each
in a transaction of its own; what the run does meanwhile stays in the memory of the process, to be lost with it.
`hold A:N quietly` stores the last one and tells no viewer. `die A:N` ends the process in the midst of the transaction
of number N + 1, `die A:end` in that of the run's end. A step is what is recorded in one turn of the event loop: the
writer never stores a part of it, and all other places can be where a process dies.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from conversations import commit
from conversations.event_log import EventWriter
from conversations.execution import Executor
from conversations.hub import Batch, hub
from conversations.pipeline.events import TERMINAL, Token
from conversations.runs import Claim

#: Name of the variable with the port that is told, by one datagram each, of runs that are held or have ended.
TELL = "OPSCHAT_TEST_TELL"

_LINE = re.compile(r"^(hold|die) ([0-9: end]+?)( quietly)?$", re.MULTILINE)


@dataclass(kw_only=True)
class _Stepped:
    """An attempt whose entries are stored one by one, up to a number."""

    run_id: UUID
    attempt: int
    until: int
    quietly: bool
    dies: bool
    n_stored: int = 0
    waiting: deque[list[Any]] = field(default_factory=deque)
    #: What is recorded in this turn of the event loop.
    turn: list[Any] | None = None
    pump: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, claim: Claim) -> _Stepped | None:
        found = _LINE.search(claim.run.ask.text)
        numbers = dict(pair.split(":") for pair in found[2].split()) if found else {}
        until = numbers.get(str(claim.run.attempt))
        if found is None or until is None:
            return None
        return cls(
            run_id=claim.run.pk,
            attempt=claim.run.attempt,
            until=_END if until == "end" else int(until),
            quietly=found[3] is not None,
            dies=found[1] == "die",
        )

    @property
    def is_held(self) -> bool:
        return self.n_stored >= self.until and not self.dies

    @property
    def is_last(self) -> bool:
        return self.n_stored == self.until - 1

    def take(self, entry: Any) -> None:
        if self.turn is None:
            self.turn = []
            self.waiting.append(self.turn)
            asyncio.get_running_loop().call_soon(setattr, self, "turn", None)
        self.turn.append(entry)

    def tell(self, *, has_ended: bool = False) -> None:
        told = {"run": str(self.run_id), "attempt": self.attempt, "n": self.n_stored, "has_ended": has_ended}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tells:
            tells.sendto(json.dumps(told).encode(), ("127.0.0.1", int(os.environ[TELL])))


#: More steps than any run has.
_END = 1_000_000

#: Of this process.
_stepped: dict[UUID, _Stepped] = {}
#: Runs whose next transaction is this process's last; runs whose viewers are told nothing.
_dying: set[UUID] = set()
_silenced: set[UUID] = set()
_is_installed = False


def install() -> None:
    """Once in a process."""
    global _is_installed  # noqa: PLW0603  patches of a process are its state
    if _is_installed:
        return
    _is_installed = True
    _note_claims()
    _step_entries()
    _end_in_transactions()
    _silence()


def _note_claims() -> None:
    finish = Executor._finish

    async def noting(self: Executor, claim: Claim) -> None:
        stepped = _Stepped.of(claim)
        if stepped is not None:
            _stepped[claim.run.pk] = stepped
            if stepped.is_held:
                stepped.tell()
        try:
            await finish(self, claim)
        finally:
            _stepped.pop(claim.run.pk, None)

    setattr(Executor, "_finish", noting)  # noqa: B010  it is a patch


_add, _append, _flush = EventWriter._add, EventWriter._append, EventWriter.flush


def _step_entries() -> None:
    setattr(EventWriter, "_add", _adding)  # noqa: B010  it is a patch
    setattr(EventWriter, "_append", _appending)  # noqa: B010  it is a patch
    setattr(EventWriter, "flush", _flushing)  # noqa: B010  it is a patch


def _adding(self: EventWriter, run_id: UUID, entry: Any) -> None:
    stepped = _stepped.get(run_id)
    if stepped is None:
        _add(self, run_id, entry)
        return
    if (error := self._runs[run_id].error) is not None:
        raise error
    stepped.take(entry)
    if stepped.pump is None or stepped.pump.done():
        stepped.pump = asyncio.get_running_loop().create_task(_pumped(self, stepped))


def _appending(self: EventWriter, run_id: UUID, token: Token) -> bool:
    """Each token is an event."""
    return run_id not in _stepped and _append(self, run_id, token)


async def _flushing(self: EventWriter, run_id: UUID) -> None:
    stepped = _stepped.get(run_id)
    if stepped is not None and stepped.pump is not None:
        await asyncio.shield(stepped.pump)
    await _flush(self, run_id)


async def _pumped(writer: EventWriter, stepped: _Stepped) -> None:
    """Gives the writer one step after the other; held, it does not end while anything waits."""
    while stepped.waiting:
        if stepped.is_held:
            await asyncio.Event().wait()
        # The turn in which the step is recorded ends first.
        await asyncio.sleep(0)
        await _store_step(writer, stepped, stepped.waiting[0])


async def _store_step(writer: EventWriter, stepped: _Stepped, step: list[Any]) -> None:
    has_ended = step[-1].event is not None and step[-1].event.type in TERMINAL
    if stepped.dies and (stepped.n_stored == stepped.until or (has_ended and stepped.until == _END)):
        _dying.add(stepped.run_id)
    if stepped.quietly and stepped.is_last:
        _silenced.add(stepped.run_id)
    for entry in step:
        _add(writer, stepped.run_id, entry)
    await _flush(writer, stepped.run_id)
    stepped.waiting.popleft()
    stepped.n_stored += 1
    if has_ended or stepped.is_held:
        stepped.tell(has_ended=has_ended)


def _end_in_transactions() -> None:
    store = commit._store

    def storing(parts: list[Any]) -> None:
        store(parts)
        if any(part.fence.run_id in _dying for part in parts):
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(commit, "_store", storing)  # noqa: B010  it is a patch


def _silence() -> None:
    publish = hub.publish

    def publishing(*batches: Batch) -> None:
        publish(*(batch for batch in batches if batch.run_id not in _silenced))

    setattr(hub, "publish", publishing)  # noqa: B010  it is a patch
