"""Runs, their stage runs and events."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest

from conversations.admin.cells import (
    address_of_list,
    column,
    compact,
    cut,
    link,
    milliseconds,
    moment,
    number,
    same_user,
    structure,
    whole,
)
from conversations.admin.filters import (
    ByFailedStage,
    ByRunDay,
    ByRunStatus,
    ByRunUser,
    ByStage,
    ByStageStatus,
    ByStartDay,
    ByTool,
    ByUser,
)
from conversations.admin.review import PartAdmin, ReviewAdmin, Section, chat_page, looked_at, trail_of
from conversations.models import Run, RunEvent, StageRun
from conversations.pipeline import events

_STAGES: dict[str, str] = {letter: f"{letter} {name}" for letter, name in events.STAGES.items()}


def _all_events(run: Run) -> str:
    return address_of_list(RunEvent, run=run.pk)


STAGES = Section(
    title="Stage runs",
    rows=lambda run: run.stages.defer("input", "output").order_by("started_at", "pk"),
    columns=(
        column("stage", lambda stage: link(stage, _STAGES.get(stage.stage, stage.stage))),
        column("attempt", lambda stage: stage.attempt),
        column("status", lambda stage: stage.status),
        column("message", lambda stage: cut(stage.message)),
        moment("started", "started_at"),
        milliseconds("duration", "duration_ms"),
    ),
    rest=lambda run: address_of_list(StageRun, run=run.pk),
)

EXPORTS = Section(
    title="Exports",
    rows=lambda run: run.exports.defer("preview", "query", "columns").order_by("position"),
    columns=(
        column("name", link),
        column("source", lambda export: export.source),
        column("tool", lambda export: export.tool),
        number("rows", "n_rows"),
        moment("created", "created_at"),
    ),
)

EVENTS = Section(
    title="Events",
    rows=lambda run: run.events.order_by("seq"),
    columns=(
        column("number", lambda event: event.seq),
        column("type", lambda event: event.type),
        moment("at", "at"),
        column("fields", lambda event: link(event, compact(event.data))),
    ),
    rest=_all_events,
)


@admin.register(Run)
class RunAdmin(ReviewAdmin):
    parent = "conversation"
    list_display = (
        column("request", lambda run: cut(run.ask.text)),
        same_user(lambda run: run.user.username),
        column("status", lambda run: run.status),
        column("error", lambda run: run.error_code),
        column("engine", lambda run: run.engine),
        moment("created", "created_at", order=True),
        milliseconds("duration", "total_duration_ms"),
    )
    ordering = ("-created_at",)
    list_select_related = ("user", "ask")
    heavy = ("response", "context")
    list_filter = (ByUser, ByRunDay, ByRunStatus, ByFailedStage, ByTool)
    search_fields = ("ask__text",)
    search_help_text = "In requests and answers; or the id of a run or conversation. Words in quotes stand together."
    details = (
        column("conversation", lambda run: link(run.conversation)),
        column("user", lambda run: run.user.username),
        column("id", lambda run: run.pk),
        column("request", lambda run: whole(run.ask.text)),
        column("status", lambda run: run.status),
        column("error", lambda run: f"{run.error_code}: {run.error_message}" if run.error_code else None),
        column("answer", lambda run: whole(run.answer.text)),
        column("engine", lambda run: run.engine),
        column("attempt", lambda run: run.attempt),
        column("goes on with", lambda run: link(run.resumes)),
        moment("created", "created_at"),
        moment("started", "started_at"),
        moment("finished", "finished_at"),
        milliseconds("duration", "total_duration_ms"),
    )
    stored = (
        structure("context", "context"),
        structure("response", "response"),
    )
    sections = (STAGES, EXPORTS, EVENTS)

    def found(self, word: str) -> Q:
        return Q(ask__text__icontains=word) | Q(answer__text__icontains=word)

    def identified(self, row_id: UUID) -> Q:
        return Q(pk=row_id) | Q(conversation=row_id)

    def looked(self, request: HttpRequest, row: Run) -> None:
        looked_at(request, row.conversation, run=str(row.pk))

    def tools(self, request: HttpRequest, row: Run) -> list[tuple[str, str]]:
        return [
            ("All events", _all_events(row)),
            chat_page(row.conversation_id, f"#message-{row.ask_id}"),
            ("Audit entries", trail_of("run", row.pk)),
        ]


@admin.register(StageRun)
class StageRunAdmin(ReviewAdmin):
    parent = "run"
    list_display = (
        column("stage", lambda stage: _STAGES.get(stage.stage, stage.stage)),
        column("run", lambda stage: link(stage.run, cut(stage.run.ask.text))),
        same_user(lambda stage: stage.run.user.username),
        column("attempt", lambda stage: stage.attempt),
        column("status", lambda stage: stage.status),
        column("message", lambda stage: cut(stage.message)),
        moment("started", "started_at", order=True),
        milliseconds("duration", "duration_ms"),
    )
    ordering = ("-started_at",)
    list_select_related = ("run__user", "run__ask")
    heavy = ("input", "output", "run__response", "run__context")
    list_filter = (ByRunUser, ByStartDay, ByStage, ByStageStatus)
    search_fields = ("message",)
    search_help_text = "In messages of stages and in requests; or the id of a stage run or its run."
    details = (
        column("run", lambda stage: link(stage.run)),
        column("conversation", lambda stage: link(stage.run.conversation)),
        column("request", lambda stage: whole(stage.run.ask.text)),
        column("stage", lambda stage: _STAGES.get(stage.stage, stage.stage)),
        column("attempt", lambda stage: stage.attempt),
        column("status", lambda stage: stage.status),
        column("message", lambda stage: stage.message),
        moment("started", "started_at"),
        milliseconds("duration", "duration_ms"),
        structure("input", "input"),
        structure("output", "output"),
    )

    def found(self, word: str) -> Q:
        return Q(message__icontains=word) | Q(run__ask__text__icontains=word)

    def identified(self, row_id: UUID) -> Q:
        return Q(pk=row_id) | Q(run=row_id)

    def looked(self, request: HttpRequest, row: StageRun) -> None:
        looked_at(request, row.run.conversation, run=str(row.run_id), stage=row.stage)

    def tools(self, request: HttpRequest, row: StageRun) -> list[tuple[str, str]]:
        return [("All events", _all_events(row.run)), chat_page(row.run.conversation_id, f"#message-{row.run.ask_id}")]


@admin.register(RunEvent)
class RunEventAdmin(PartAdmin):
    parent = "run"
    parent_model = Run
    list_display = EVENTS.columns
    list_display_links = None
    ordering = ("seq",)
    details = (
        column("run", lambda event: link(event.run)),
        column("number", lambda event: event.seq),
        column("type", lambda event: event.type),
        moment("at", "at"),
        structure("fields", "data"),
    )

    def looked(self, request: HttpRequest, row: RunEvent) -> None:
        looked_at(request, row.run.conversation, run=str(row.run_id), event=row.seq)

    def looked_into(self, request: HttpRequest, whole: Any) -> None:
        looked_at(request, whole.conversation, run=str(whole.pk))
