"""Runs that have ended, made as rows: what a page shows of them needs no engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from conversations import exports, runner
from conversations.models import Conversation, Export, ExportFile, Message, Run, RunEvent, StageRun
from conversations.pipeline import events
from conversations.pipeline.events import STAGES, Event
from conversations.pipeline.tools import Column, TableResult

COLUMNS = [
    {"name": "name", "type": "text"},
    {"name": "ip_address", "type": "address"},
    {"name": "memory_gb", "type": "number"},
    {"name": "warranty_expires_on", "type": "date"},
    {"name": "last_seen_at", "type": "datetime"},
    {"name": "notes", "type": "text"},
]
ROW = ["web-01", "10.0.0.5", 16, "2027-03-31", "2026-11-22T12:03:00Z", None]


def asked(user: User, text: str = "all servers", *, conversation: Conversation | None = None) -> Run:
    """A queued run; no runner is there to take it."""
    return runner.submit(user=user, text=text, conversation=conversation)


def happened(run: Run, *what: Event) -> None:
    """Stores events of the run as its writer would, without the rows they change."""
    for seq, event in enumerate(what, run.last_seq + 1):
        RunEvent.objects.create(run=run, seq=seq, type=event.type, data=events.to_dict(event))
        run.last_seq = seq
    run.save(update_fields=["last_seq"])


def answered(
    user: User,
    text: str,
    *,
    conversation: Conversation | None = None,
    response: Mapping[str, Any] | None = None,
    status: str = Run.Status.SUCCEEDED,
) -> Run:
    """A run that ended with this answer, its stages 3 ms each, C skipped."""
    run = asked(user, conversation=conversation)
    for letter in STAGES:
        is_skipped = letter == "C"
        StageRun.objects.create(
            run=run,
            stage=letter,
            attempt=1,
            status=StageRun.Status.SKIPPED if is_skipped else StageRun.Status.COMPLETED,
            message="one step is enough" if is_skipped else "done",
            started_at=timezone.now(),
            duration_ms=0 if is_skipped else 3,
        )
    Message.objects.filter(pk=run.answer_id).update(text=text)
    Run.objects.filter(pk=run.pk).update(
        status=status, response=dict(response or {}), engine="Toy engine", total_duration_ms=1200
    )
    return Run.objects.get(pk=run.pk)


def exported(run: Run, *, span: Sequence[int] = (), source: str = "tool", **values: Any) -> Export:
    """An export of the run's owner; with a `span` it stands there in the answer."""
    fields: dict[str, Any] = {
        "position": run.exports.count(),
        "tool": "assets.query" if source == "tool" else "",
        "name": "export_1795349047113",
        "columns": COLUMNS,
        "preview": [ROW],
        "n_rows": 1204,
        "query": {"table": "assets"} if source == "tool" else {},
    }
    export = Export.objects.create(owner_id=run.user_id, run=run, source=source, **{**fields, **values})
    ExportFile.objects.create(export=export, format="csv", path="x.csv", sha256="0" * 64, n_bytes=412_000)
    if span:
        message = Message.objects.get(pk=run.answer_id)
        message.blocks.append({"start": span[0], "end": span[1], "export_id": str(export.pk)})
        message.save(update_fields=["blocks"])
    return export


def stored(run: Run) -> Export:
    """An export of one row with a real file, whose query the toy tool can run again."""
    columns = (Column(name="name", type="text"),)
    result = TableResult(kind="rows", columns=columns, open_rows=lambda: iter([("secret",)]), matched=1)
    export = exports.new_export(
        run=run, position=run.exports.count(), source="tool", tool="toy.make", query={"kind": "rows", "n": 1}, title="",
        result=result,
    )  # fmt: skip
    exports.write_export(export, result, on_step=lambda _: None, beside=lambda: None)
    return export
