"""The pages of one's own exports: what there is, what became of it, once more, away with it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.core.paginator import Paginator
from django.db.models import Count, F, Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from conversations import again as repeating
from conversations import audit, conversions, exports, files, fragments
from conversations.audit import origin_of
from conversations.models import AuditEntry, Export
from conversations.pipeline.tools import ToolError
from conversations.requests import refusal, signed_in
from conversations.views.downloads import NO_EXPORT, visible_export

logger = logging.getLogger(__name__)

_ROWS_A_PAGE = 25
_LONGEST_SEARCH = 200
#: Entries of the ledger on the page of one export.
_MOST_ENTRIES = 50


class Row:
    """One export as the pages show it."""

    def __init__(self, export: Export, n_downloads: int) -> None:
        self.export = export
        self.n_downloads = n_downloads
        self.title = fragments.title_of(export)
        self.is_typed = export.source == Export.Source.TEXT
        self.is_gone = export.is_gone()
        self.conversation = export.run.conversation

    @property
    def n_rows(self) -> str:
        return f"{self.export.n_rows:,}"

    @property
    def size(self) -> str:
        sizes = [file.n_bytes for file in self.export.files.all() if file.format == "csv"]
        return fragments.size(sizes[0]) if sizes else ""

    @property
    def kept_formats(self) -> str:
        """Extensions of the files made so far, beside the CSV: ".xlsx, .json"."""
        made = {file.format for file in self.export.files.all()} - {"csv", "csv-bom"}
        return "".join(f", .{key}" for key in sorted(made))

    @property
    def choices(self) -> Sequence[Any]:
        return fragments.choices(self.export)

    @property
    def ended_at(self) -> datetime | None:
        return self.export.deleted_at or self.export.expires_at

    @property
    def may_run_again(self) -> bool:
        return not repeating.reason_against(self.export)


@never_cache
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """One's own, newest first; `?q=` looks in titles, file names, conversations and requests."""
    sought = request.GET.get("q", "").strip()
    if len(sought) > _LONGEST_SEARCH or "\x00" in sought:
        raise BadRequest(f"“q” has more than {_LONGEST_SEARCH} characters, or a NUL.")
    own = _listed(Export.objects.owned_by(request.user))
    if sought:
        own = own.filter(
            Q(title__icontains=sought)
            | Q(name__icontains=sought.removesuffix(".csv"))
            | Q(run__conversation__title__icontains=sought)
            | Q(run__ask__text__icontains=sought)
        )
    page = Paginator(own, _ROWS_A_PAGE).get_page(request.GET.get("page"))
    context = {"rows": _rows(list(page.object_list)), "page": page, "sought": sought}
    return render(request, "exports/listing.html", context)


def _listed(found: Any) -> Any:
    """Without what its owner deleted, and what a lost attempt had stored: those ended before they would expire."""
    is_early = Q(deleted_at__isnull=False) & (Q(expires_at=None) | Q(deleted_at__lt=F("expires_at")))
    return (
        found.exclude(is_early)
        .select_related("run__conversation", "run__ask")
        .prefetch_related("files")
        .defer("preview", "comparison", "run__response", "run__context")
    )


def _rows(found: Sequence[Export]) -> list[Row]:
    entries = AuditEntry.objects.filter(
        object_type="export", object_id__in=[str(export.pk) for export in found], action="export.download", outcome="ok"
    )
    counts = dict(entries.order_by().values_list("object_id").annotate(n=Count("pk")))
    return [Row(export, counts.get(str(export.pk), 0)) for export in found]


@never_cache
@require_safe
def details(request: HttpRequest, export_id: UUID) -> HttpResponse:
    """One export: where it is from, what changed since the last time, its files, and who had them."""
    export = visible_export(request, export_id, "export.details")
    audit.opened(
        actor=signed_in(request), owner_id=export.owner_id, object_type="export", object_id=export.pk,
        through="page", origin=origin_of(request),
    )  # fmt: skip
    entries = AuditEntry.objects.filter(object_type="export", object_id=str(export.pk)).order_by("-at")[:_MOST_ENTRIES]
    context = {
        "row": _rows([export])[0],
        "files": export.files.order_by("created_at"),
        "chips": fragments.chips({"understood": export.query}),
        "comparison": _drawn(export.comparison),
        "earlier": export.again_of,
        "entries": entries,
        "reason_against": repeating.reason_against(export),
        "is_own": export.owner_id == request.user.pk,
    }
    return render(request, "exports/details.html", context)


def _drawn(comparison: dict[str, Any] | None) -> dict[str, Any] | None:
    """The comparison with its rows as lists: a template would take a column named `items` for the method."""
    if comparison is None:
        return None
    return {
        **comparison,
        "added": _sample(comparison["added"]),
        "removed": _sample(comparison["removed"]),
        "changed": [
            {"key": list(row["key"].values()), "cells": [(column, *pair) for column, pair in row["cells"].items()]}
            for row in comparison["changed"]
        ],
    }


def _sample(rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    return {"columns": list(rows[0]) if rows else [], "rows": [list(row.values()) for row in rows]}


@require_POST
def delete(request: HttpRequest, export_id: UUID) -> HttpResponseBase:
    export = _own(request, export_id, "export.delete")
    try:
        exports.delete(export=export, actor=request.user, origin=origin_of(request))
    except exports.Held as error:
        _refused(request, "export.delete", export_id, audit.Outcome.DENIED, "held")
        return refusal(request, 409, "conflict", str(error))
    messages.info(request, f"{export.filename()} is deleted. The record of who downloaded it stays.")
    return redirect("exports")


@require_POST
def again(request: HttpRequest, export_id: UUID) -> HttpResponseBase:
    """Runs the stored query once more, and shows what has changed."""
    export = _own(request, export_id, "export.again")
    try:
        new = repeating.run_again(export=export, user=signed_in(request), origin=origin_of(request))
    except (repeating.NotRepeatable, ToolError, conversions.Busy, OSError) as error:
        logger.info("Export %s could not be run again", export.pk, exc_info=error)
        _refused(request, "export.again", export_id, audit.Outcome.FAILED, type(error).__name__)
        return _not_again(request, error)
    return redirect("export-details", new.pk)


def _not_again(request: HttpRequest, error: Exception) -> HttpResponseBase:
    if isinstance(error, conversions.Busy):
        return refusal(request, 503, "busy", str(error))
    if isinstance(error, OSError):
        return refusal(request, 507, "storage_failed", str(files.NotStored()))
    return refusal(request, 409, getattr(error, "code", "conflict"), str(error))


def _refused(request: HttpRequest, action: str, export_id: UUID, outcome: str, why: str = "") -> None:
    audit.record(
        actor=request.user, action=action, object_type="export", object_id=export_id, outcome=outcome,
        origin=origin_of(request), detail={"why": why} if why else {},
    )  # fmt: skip


def _own(request: HttpRequest, export_id: UUID, action: str) -> Export:
    own = Export.objects.owned_by(request.user).select_related("run__conversation", "run__user")
    export: Export | None = own.filter(pk=export_id).first()
    if export is None:
        exists = Export.objects.filter(pk=export_id).exists()
        _refused(request, action, export_id, audit.Outcome.DENIED if exists else audit.Outcome.NOT_FOUND)
        raise Http404(NO_EXPORT)
    return export
