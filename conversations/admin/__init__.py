"""The review: staff read what `visible_to` lets them read. Nothing can be added, changed or deleted here."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import UserAdmin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from conversations.models import (
    ApiToken,
    AuditEntry,
    Conversation,
    Export,
    ExportFile,
    Message,
    Run,
    RunEvent,
    StageRun,
)


def _link(row: Model | None) -> SafeString | str:
    if row is None:
        return "-"
    address = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    return format_html('<a href="{}">{}</a>', address, row)


def _pretty(value: Any) -> SafeString:
    return format_html("<pre>{}</pre>", json.dumps(value, indent=2, ensure_ascii=False))


class ReadOnly:
    """For ModelAdmin and inlines: rows by the one access rule, no action that writes."""

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.is_active and bool(getattr(request.user, "is_staff", False))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).visible_to(request.user)  # type: ignore[misc,no-any-return]  # a mixin


class ReadOnlyInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]  # generic only for type checkers
    extra = 0
    show_change_link = True
    can_delete = False


class MessageInline(ReadOnlyInline):
    model = Message
    fields = ("position", "role", "text", "created_at")
    readonly_fields = fields
    show_change_link = False


class RunInline(ReadOnlyInline):
    model = Run
    fields = ("position", "status", "user", "engine", "created_at", "total_duration_ms", "error_code")
    readonly_fields = fields


class StageRunInline(ReadOnlyInline):
    model = StageRun
    fields = ("stage", "attempt", "status", "message", "started_at", "duration_ms")
    readonly_fields = fields
    ordering = ("started_at", "stage")


class RunEventInline(ReadOnlyInline):
    model = RunEvent
    fields = ("seq", "type", "at", "data")
    readonly_fields = fields
    show_change_link = False


class ExportInline(ReadOnlyInline):
    model = Export
    fields = ("name", "source", "tool", "n_rows", "created_at")
    readonly_fields = fields


class ExportFileInline(ReadOnlyInline):
    model = ExportFile
    fields = ("format", "n_bytes", "sha256", "path", "created_at")
    readonly_fields = fields
    show_change_link = False


class ReadOnlyAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic only for type checkers
    actions = None
    show_full_result_count = False


@admin.register(Conversation)
class ConversationAdmin(ReadOnlyAdmin):
    list_display = ("title", "owner", "n_messages", "created_at", "updated_at")
    list_select_related = ("owner",)
    list_filter = ("updated_at", "owner")
    search_fields = ("title", "messages__text")
    date_hierarchy = "created_at"
    fields = ("id", "title", "owner", "session_name", "created_at", "updated_at")
    readonly_fields = fields
    inlines = (MessageInline, RunInline)


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    list_display = ("id", "ask_text", "status", "user", "engine", "created_at", "total_duration_ms")
    ordering = ("-created_at",)
    list_select_related = ("user", "ask")
    list_filter = ("status", "created_at", "user")
    search_fields = ("ask__text", "answer__text")
    fields = (
        "id", "conversation_link", "ask_text", "status", "user", "engine", "attempt", "created_at", "started_at",
        "finished_at", "total_duration_ms", "error_code", "error_message", "context_json", "response_json",
    )  # fmt: skip
    readonly_fields = fields
    inlines = (StageRunInline, ExportInline, RunEventInline)

    @admin.display(description="conversation")
    def conversation_link(self, run: Run) -> SafeString | str:
        return _link(run.conversation)

    @admin.display(description="request")
    def ask_text(self, run: Run) -> str:
        return run.ask.text[:200]

    @admin.display(description="context")
    def context_json(self, run: Run) -> SafeString:
        return _pretty(run.context)

    @admin.display(description="response")
    def response_json(self, run: Run) -> SafeString:
        return _pretty(run.response)


@admin.register(StageRun)
class StageRunAdmin(ReadOnlyAdmin):
    list_display = ("stage", "run", "attempt", "status", "started_at", "duration_ms")
    ordering = ("-started_at",)
    list_filter = ("stage", "status", "started_at")
    fields = (
        "run_link",
        "stage",
        "attempt",
        "status",
        "message",
        "started_at",
        "duration_ms",
        "input_json",
        "output_json",
    )
    readonly_fields = fields

    @admin.display(description="run")
    def run_link(self, stage: StageRun) -> SafeString | str:
        return _link(stage.run)

    @admin.display(description="input")
    def input_json(self, stage: StageRun) -> SafeString:
        return _pretty(stage.input)

    @admin.display(description="output")
    def output_json(self, stage: StageRun) -> SafeString:
        return _pretty(stage.output)


@admin.register(Export)
class ExportAdmin(ReadOnlyAdmin):
    list_display = ("name", "owner", "source", "tool", "n_rows", "n_guarded", "created_at")
    list_select_related = ("owner",)
    list_filter = ("source", "created_at", "owner")
    search_fields = ("name", "title")
    fields = (
        "id", "name", "owner", "run_link", "source", "tool", "query_json", "columns_json", "n_rows", "n_guarded",
        "created_at", "expires_at", "deleted_at",
    )  # fmt: skip
    readonly_fields = fields
    inlines = (ExportFileInline,)

    @admin.display(description="run")
    def run_link(self, export: Export) -> SafeString | str:
        return _link(export.run)

    @admin.display(description="query")
    def query_json(self, export: Export) -> SafeString:
        return _pretty(export.query)

    @admin.display(description="columns")
    def columns_json(self, export: Export) -> SafeString:
        return _pretty(export.columns)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor_name", "action", "object_type", "object_id", "outcome", "ip")
    list_filter = ("action", "outcome", "at")
    search_fields = ("actor_name", "object_id")
    date_hierarchy = "at"
    fields = (
        "at", "actor_id", "actor_name", "action", "object_type", "object_id", "outcome", "ip", "user_agent",
        "detail_json",
    )  # fmt: skip
    readonly_fields = fields

    @admin.display(description="detail")
    def detail_json(self, entry: AuditEntry) -> SafeString:
        return _pretty(entry.detail)


User = get_user_model()
admin.site.unregister(User)


@admin.register(User)
class PeopleAdmin(UserAdmin):  # type: ignore[type-arg]  # generic only for type checkers
    """Accounts, for superusers. One with history is deactivated, never deleted."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed = super().has_delete_permission(request, obj)
        return allowed and obj is not None and not _has_history(obj)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Deleting many at once would not look at each one's history."""
        return {name: action for name, action in super().get_actions(request).items() if name != "delete_selected"}


def _has_history(user: Any) -> bool:
    rows = (Conversation.objects.filter(owner=user), Run.objects.filter(user=user), ApiToken.objects.filter(user=user))
    return any(found.exists() for found in rows) or AuditEntry.objects.filter(actor_id=user.pk).exists()
