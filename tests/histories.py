"""Long histories as rows, made in bulk."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Model
from django.utils import timezone

from conversations import ledger
from conversations.models import AuditEntry, Conversation, Export, Message, Run, RunEvent, StageRun

#: Numbers name conversations, over all calls of a test.
_numbers = count()


def history(user: User, n: int, *, n_events: int = 2) -> list[Run]:
    """`n` conversations of one run, a minute apart, the newest now.

    Of each run only stage E is there. Each tenth run failed in it; each tenth has an export.
    """
    now = timezone.now()
    runs: list[Run] = []
    for i in range(n):
        at = now - timedelta(minutes=i)
        conversation = Conversation(
            owner=user, title=f"servers of rack {next(_numbers)}", n_messages=2, created_at=at, updated_at=at
        )
        runs.append(_run(conversation, 1, at, failed=i % 10 == 9))
    _store(Conversation, (run.conversation for run in runs))
    return _stored(runs, n_events=n_events)


def long_conversation(user: User, n: int) -> Conversation:
    """One conversation of `n` runs."""
    at = timezone.now()
    conversation = Conversation.objects.create(owner=user, title="a long one", n_messages=2 * n)
    _stored([_run(conversation, 2 * i + 1, at, failed=False) for i in range(n)], n_events=2)
    return conversation


def _run(conversation: Conversation, position: int, at: datetime, *, failed: bool) -> Run:
    ask = Message(
        conversation=conversation, position=position, role="ask", text=f"List {conversation.title}", created_at=at
    )
    answer = Message(conversation=conversation, position=position + 1, role="answer", text="Here.", created_at=at)
    return Run(
        conversation=conversation, ask=ask, answer=answer, position=position, user_id=conversation.owner_id,
        status="failed" if failed else "succeeded", engine="Toy engine", created_at=at, started_at=at,
        response={"results": [{"tool": "toy.make"}]}, total_duration_ms=1200,
    )  # fmt: skip


def _stored(runs: list[Run], *, n_events: int) -> list[Run]:
    _store(Message, (message for run in runs for message in (run.ask, run.answer)))
    _store(Run, runs)
    _store(StageRun, (_execution(run) for run in runs))
    events = ((run, seq) for run in runs for seq in range(1, n_events + 1))
    _store(RunEvent, (RunEvent(run=run, seq=seq, type="token", data={"text": "x"}) for run, seq in events))
    exports = [_export(run) for run in runs[::10]]
    _store(Export, exports)
    for export in exports:
        ledger.append(_entry(export))
    return runs


def _execution(run: Run) -> StageRun:
    return StageRun(
        run=run, stage="E", attempt=1, status="failed" if run.status == "failed" else "completed",
        input={"calls": [{"tool": "toy.make", "arguments": {"n": 1}}]}, started_at=run.created_at, duration_ms=3,
    )  # fmt: skip


def _export(run: Run) -> Export:
    return Export(
        owner_id=run.user_id, run=run, position=0, source="tool", tool="toy.make", name="export_1795349047113",
        n_rows=1, created_at=run.created_at,
    )  # fmt: skip


def _entry(export: Export) -> AuditEntry:
    return AuditEntry(
        actor_id=export.owner_id, actor_name="alice", action="export.download", object_type="export",
        object_id=str(export.pk), outcome="ok", at=export.created_at,
    )  # fmt: skip


def _store(model: type[Model], rows: Iterable[Any]) -> None:
    model._default_manager.bulk_create(rows, batch_size=2000)
