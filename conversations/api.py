"""Runs and exports as JSON, and the files: the Django views of the HTTP contract. `stream` has its streaming half."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import FileResponse, Http404, HttpRequest, HttpResponseBase, JsonResponse
from django.views.decorators.http import require_POST, require_safe

from conversations import audit, exports, runner, runs
from conversations.audit import origin_of
from conversations.models import Export, ExportFile, Run
from conversations.requests import error_body, signed_in

_NO_RUN = "There is no such run, or it isn't yours."
_NO_EXPORT = "There is no such export, or it isn't yours."


def _error(status: int, code: str, message: str, *, field: str | None = None) -> JsonResponse:
    return JsonResponse(error_body(code, message, field=field), status=status)


# -- Runs ------------------------------------------------------------------------------------------------------------


@require_safe
def run_detail(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    found = Run.objects.visible_to(request.user).select_related("ask", "answer", "conversation")
    run = found.filter(pk=run_id).first()
    if run is None:
        raise Http404(_NO_RUN)
    audit.opened(
        actor=request.user, owner_id=run.conversation.owner_id, object_type="conversation",
        object_id=run.conversation_id, through="run", origin=origin_of(request), detail={"run": str(run.pk)},
    )  # fmt: skip
    return JsonResponse(runs.summary(run))


@require_POST
def run_cancel(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """Asks for the end; the `cancelled` event confirms it."""
    run = _own_run(request, run_id)
    try:
        runner.cancel(run=run, user=signed_in(request), origin=origin_of(request))
    except runs.AlreadyEnded as error:
        return _error(409, "conflict", str(error))
    return JsonResponse({"run_id": str(run.pk), "status": "cancelling"}, status=202)


@require_POST
def run_resume(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """Goes on with a failed or cancelled run in a new one."""
    run = _own_run(request, run_id)
    try:
        resumed = runner.resume(run=run, user=signed_in(request), origin=origin_of(request))
    except runs.NotResumable as error:
        return _error(409, "conflict", str(error))
    except runs.TooManyRuns as error:
        response = _error(429, "too_many", str(error))
        response["Retry-After"] = str(error.retry_after_s)
        return response
    return JsonResponse({"run_id": str(resumed.pk)}, status=201)


def _own_run(request: HttpRequest, run_id: UUID) -> Run:
    run: Run | None = Run.objects.owned_by(request.user).select_related("conversation").filter(pk=run_id).first()
    if run is None:
        raise Http404(_NO_RUN)
    return run


# -- Exports ---------------------------------------------------------------------------------------------------------


@require_safe
def export_download(request: HttpRequest, export_id: UUID) -> HttpResponseBase:
    """The stored file. The audit entry is written before the first byte, for refused requests too."""
    format_ = request.GET.get("format", "csv")
    export = _visible_export(request, export_id, "export.download")
    if export is None:
        raise Http404(_NO_EXPORT)
    if format_ not in exports.FORMATS:
        _audit(request, "export.download", export.pk, audit.Outcome.FAILED, format=format_[:20], why="unknown_format")
        return _error(
            400, "unknown_format", f"Choose one of these formats: {', '.join(exports.FORMATS)}.", field="format"
        )
    if exports.is_gone(export):
        _audit(request, "export.download", export.pk, audit.Outcome.FAILED, format=format_, why="gone")
        return _error(410, "gone", "The export has expired or was deleted; ask again for a new one.")
    return _file_response(request, export, export.files.get(format=format_))


def _file_response(request: HttpRequest, export: Export, stored: ExportFile) -> HttpResponseBase:
    try:
        file = exports.opened(stored)
    except exports.CorruptExport as error:
        _audit(request, "export.download", export.pk, audit.Outcome.FAILED, format=stored.format, why=str(error))
        return _error(500, "corrupt_export", f"{error} Tell your administrator.")
    _audit(
        request, "export.download", export.pk, audit.Outcome.OK,
        format=stored.format, rows=export.n_rows, bytes=stored.n_bytes, sha256=stored.sha256,
    )  # fmt: skip
    response = FileResponse(
        file, as_attachment=True, filename=export.filename(stored.format), content_type="text/csv; charset=utf-8"
    )
    response.streaming_content = exports.file_chunks(file)
    response["Content-Length"] = str(stored.n_bytes)
    response["Cache-Control"] = "private, no-store"
    return response


@require_safe
def export_preview(request: HttpRequest, export_id: UUID) -> HttpResponseBase:
    export = _visible_export(request, export_id, "export.preview")
    if export is None:
        raise Http404(_NO_EXPORT)
    if exports.is_gone(export):
        _audit(request, "export.preview", export.pk, audit.Outcome.FAILED, why="gone")
        return _error(410, "gone", "The export has expired or was deleted; ask again for a new one.")
    _audit(request, "export.preview", export.pk, audit.Outcome.OK)
    return JsonResponse({"columns": export.columns, "rows": export.preview, "total": export.n_rows})


def _visible_export(request: HttpRequest, export_id: UUID, action: str) -> Export | None:
    """The export, when the caller may read it; else the refusal is in the audit trail."""
    export: Export | None = Export.objects.visible_to(request.user).filter(pk=export_id).first()
    if export is None:
        exists = Export.objects.filter(pk=export_id).exists()
        _audit(request, action, export_id, audit.Outcome.DENIED if exists else audit.Outcome.NOT_FOUND)
    return export


def _audit(request: HttpRequest, action: str, export_id: UUID, outcome: str, **detail: Any) -> None:
    audit.record(
        actor=request.user, action=action, object_type="export", object_id=export_id,
        outcome=outcome, origin=origin_of(request), detail=detail,
    )  # fmt: skip
