"""Exports, their files and who downloaded them."""

from __future__ import annotations

from uuid import UUID

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from conversations import audit
from conversations.admin.cells import (
    breaking,
    column,
    cut,
    instant,
    link,
    moment,
    n_bytes,
    number,
    rows,
    same_user,
    structure,
    whole,
)
from conversations.admin.filters import ByDay, ByExportTool, ByOwner, BySource
from conversations.admin.review import ReviewAdmin, Section, chat_page, trail_of
from conversations.exports import address_of
from conversations.models import AuditEntry, Export, ExportFile


def _download(file: ExportFile) -> SafeString | str:
    if file.export.is_gone():
        return "gone"
    return format_html('<a href="{}">Download</a>', address_of(file.export_id, file.format))


FILES = Section(
    title="Files",
    rows=lambda export: export.files.select_related("export__run__conversation").order_by("format"),
    columns=(
        column("format", lambda file: file.format),
        n_bytes("size", "n_bytes"),
        column("SHA-256", lambda file: breaking(file.sha256)),
        column("path", lambda file: breaking(file.path)),
        moment("created", "created_at"),
        column("file", _download),
    ),
)

#: Downloads, also refused ones, and looks by reviewers.
TRAIL = Section(
    title="Downloads and other audit entries, newest first",
    rows=lambda export: AuditEntry.objects.filter(object_type="export", object_id=str(export.pk)).order_by("-at"),
    columns=(
        column("at (UTC)", lambda entry: link(entry, instant(entry.at))),
        column("action", lambda entry: entry.action),
        column("user", lambda entry: entry.actor_name),
        column("outcome", lambda entry: entry.outcome),
        column("format", lambda entry: entry.detail.get("format")),
        column("address", lambda entry: entry.ip),
    ),
    rest=lambda export: trail_of("export", export.pk),
)


@admin.register(Export)
class ExportAdmin(ReviewAdmin):
    list_display = (
        column("name", lambda export: export.name),
        same_user(lambda export: export.owner.username, "owner"),
        column("request", lambda export: link(export.run, cut(export.run.ask.text))),
        column("source", lambda export: export.source),
        column("tool", lambda export: export.tool),
        number("rows", "n_rows"),
        moment("created", "created_at", order=True),
    )
    ordering = ("-created_at",)
    list_select_related = ("owner", "run__ask")
    heavy = ("preview", "query", "columns", "run__response", "run__context")
    list_filter = (ByOwner, ByDay, BySource, ByExportTool)
    search_fields = ("name",)
    search_help_text = "In names and titles; or the id of an export, its run or its conversation."
    details = (
        column("name", lambda export: export.name),
        column("title", lambda export: export.title),
        column("owner", lambda export: export.owner.username),
        column("id", lambda export: export.pk),
        column("conversation", lambda export: link(export.run.conversation)),
        column("run", lambda export: link(export.run)),
        column("request", lambda export: whole(export.run.ask.text)),
        column("source", lambda export: export.source),
        column("tool", lambda export: export.tool),
        number("rows", "n_rows"),
        number("guarded cells", "n_guarded"),
        moment("created", "created_at"),
        moment("expires", "expires_at"),
        moment("deleted", "deleted_at"),
    )
    stored = (
        structure("query", "query"),
        column("columns", lambda export: ", ".join(f"{each['name']} ({each['type']})" for each in export.columns)),
        column("first rows", lambda export: rows(export.preview)),
    )
    sections = (FILES, TRAIL)

    def found(self, word: str) -> Q:
        return Q(name__icontains=word) | Q(title__icontains=word)

    def identified(self, row_id: UUID) -> Q:
        return Q(pk=row_id) | Q(run=row_id) | Q(run__conversation=row_id)

    def looked(self, request: HttpRequest, row: Export) -> None:
        audit.opened(
            actor=request.user, owner_id=row.owner_id, object_type="export", object_id=row.pk,
            through="admin", origin=audit.origin_of(request),
        )  # fmt: skip

    def tools(self, request: HttpRequest, row: Export) -> list[tuple[str, str]]:
        return [
            chat_page(row.run.conversation_id, f"#message-{row.run.answer_id}"),
            ("Audit entries", trail_of("export", row.pk)),
        ]
