"""The files of exports, previews, copies, and addresses that open them elsewhere (HTTP contract, "Downloads")."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST, require_safe

from conversations import audit, conversions, copying, downloads, exports, files, links
from conversations.audit import Outcome, origin_of
from conversations.formats import kinds
from conversations.formats.errors import CannotHold
from conversations.formats.kinds import Format
from conversations.models import AuditEntry, Export, ExportFile, ExportLink, Visible
from conversations.requests import refusal, signed_in

NO_EXPORT = "There is no such export, or it isn't yours."
#: A file that takes its turn is asked for again after so many seconds.
_RETRY_AFTER_S = 60

#: Answers a request for an export that may be read and isn't gone.
Answer = Callable[[Export], HttpResponseBase]


class _Refused(Exception):
    """What the caller is told instead of a file."""

    def __init__(self, status: int, code: str, message: str, *, field: str | None = None, why: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.field = field
        #: For the ledger; default: the code.
        self.why = why or code


# -- Downloads -------------------------------------------------------------------------------------------------------


@require_safe
def export_download(request: HttpRequest, export_id: UUID) -> HttpResponseBase:
    """The file in the format asked for, made when it is the first time. The ledger's entry is written before the first
    byte, for refused requests too."""
    action = "export.check" if request.method == "HEAD" else "export.download"
    return _answered(request, export_id, action, lambda export: _file(request, export, action), among=_downloadable)


def _file(request: HttpRequest, export: Export, action: str) -> HttpResponseBase:
    kind = _kind(request)
    stored = _stored(export, kind)
    if downloads.is_known(request, stored):
        action = "export.check"

    def began(**detail: Any) -> AuditEntry:
        return _record(
            request, action, export.pk, Outcome.OK,
            format=kind.key, rows=export.n_rows, bytes=stored.n_bytes, sha256=stored.sha256, **detail,
        )  # fmt: skip

    response = _answer(request, export, stored=stored, kind=kind, actor=request.user, began=began)
    if not response.streaming:
        # Nothing of it is sent: no download.
        action = "export.check"
        began(status=response.status_code)
    return response


def _answer(
    request: HttpRequest,
    export: Export,
    *,
    stored: ExportFile,
    kind: Format,
    actor: Any,
    began: Callable[..., AuditEntry],
) -> HttpResponseBase:
    """Raises _Refused when the file is not what was written."""
    try:
        return downloads.answer(request, export=export, stored=stored, kind=kind, actor=actor, began=began)
    except files.Corrupt as error:
        raise _corrupt(error) from error


def _kind(request: HttpRequest) -> Format:
    """The format asked for. Raises _Refused."""
    key, bom = request.GET.get("format", kinds.CSV.key), request.GET.get("bom", "")
    if bom not in ("", "0", "1"):
        raise _Refused(400, "invalid_request", "“bom” is 1 or 0.", field="bom")
    kind = kinds.find(key, bom=bom == "1")
    if kind is None and key in kinds.KEYS:
        raise _Refused(400, "invalid_request", "Only CSV has a byte order mark.", field="bom")
    if kind is None:
        known = ", ".join(kinds.KEYS)
        raise _Refused(400, "unknown_format", f"Choose one of these formats: {known}.", field="format")
    return kind


def _stored(export: Export, kind: Format) -> ExportFile:
    """Raises _Refused when the file can't be made."""
    try:
        return conversions.file_of(export, kind)
    except CannotHold as error:
        raise _Refused(422, "cannot_hold", str(error), field="format") from error
    except exports.Gone as error:
        raise _Refused(410, "gone", f"{error} Ask again for a new one.") from error
    except conversions.Busy as error:
        raise _Refused(503, "busy", str(error)) from error
    except files.Corrupt as error:
        raise _corrupt(error) from error
    except OSError as error:
        why = type(error.__cause__ or error).__name__
        raise _Refused(507, "storage_failed", str(files.NotStored()), why=why) from error


def _corrupt(error: files.Corrupt) -> _Refused:
    return _Refused(500, "corrupt_export", f"{error} Tell your administrator.", why=str(error))


def _answered(
    request: HttpRequest, export_id: UUID, action: str, answer: Answer, *, among: Visible[Export] | None = None
) -> HttpResponseBase:
    """The answer for an export that the caller may read; every refusal is in the ledger."""
    export = visible_export(request, export_id, action, among=among)
    try:
        _require(export)
        return answer(export)
    except _Refused as refused:
        wanted = {"format": request.GET["format"][:20]} if "format" in request.GET else {}
        _record(request, action, export.pk, Outcome.FAILED, why=refused.why, **wanted)
        return _refusal(request, refused)


def _require(export: Export) -> None:
    """Raises _Refused when there is no file any more."""
    if export.is_gone():
        raise _Refused(410, "gone", "The export has expired or was deleted; ask again for a new one.")


def _refusal(request: HttpRequest, refused: _Refused) -> HttpResponse:
    response = refusal(request, refused.status, refused.code, str(refused), field=refused.field)
    if refused.status == HTTPStatus.SERVICE_UNAVAILABLE:
        response["Retry-After"] = str(_RETRY_AFTER_S)
    return response


_visible: Visible[Export] = Visible(lambda: Export.objects.select_related("run__conversation"))


#: Without what only pages show: rows, the query, and the run's answer.
_downloadable: Visible[Export] = Visible(
    lambda: Export.objects.select_related("run__conversation").only(
        *("owner", "name", "columns", "n_rows", "deleted_at", "expires_at", "unavailable"),
        *("run__conversation__held_at",),
    )
)


def visible_export(
    request: HttpRequest, export_id: UUID, action: str, *, among: Visible[Export] | None = None
) -> Export:
    """The export, when the caller may read it; else Http404, and the refusal is in the ledger."""
    export = (among or _visible).get(request.user, export_id)
    if export is None:
        exists = Export.objects.filter(pk=export_id).exists()
        _record(request, action, export_id, Outcome.DENIED if exists else Outcome.NOT_FOUND)
        raise Http404(NO_EXPORT)
    return export


def _record(request: HttpRequest, action: str, export_id: UUID, outcome: str, **detail: Any) -> AuditEntry:
    return audit.record(
        actor=request.user, action=action, object_type="export", object_id=export_id,
        outcome=outcome, origin=origin_of(request), detail=detail,
    )  # fmt: skip


# -- Looks and copies ------------------------------------------------------------------------------------------------


@require_safe
def export_preview(request: HttpRequest, export_id: UUID) -> HttpResponseBase:
    def answer(export: Export) -> HttpResponseBase:
        _record(request, "export.preview", export.pk, Outcome.OK)
        return JsonResponse({"columns": export.columns, "rows": export.preview, "total": export.n_rows})

    return _answered(request, export_id, "export.preview", answer)


@require_safe
def export_copy(request: HttpRequest, export_id: UUID) -> HttpResponseBase:
    """The rows as text for the clipboard: `?as=tsv|csv|markdown`. All, or those of the preview (`copying.n_rows`)."""

    def answer(export: Export) -> HttpResponseBase:
        way = request.GET.get("as", "tsv")
        if way not in copying.WAYS:
            known = ", ".join(copying.WAYS)
            raise _Refused(400, "unknown_format", f"Choose one of these: {known}.", field="as")
        try:
            text = copying.text_of(export, way)
        except files.Corrupt as error:
            raise _corrupt(error) from error
        _record(request, "export.copy", export.pk, Outcome.OK, format=way, rows=copying.n_rows(export))
        response = HttpResponse(text, content_type="text/plain; charset=utf-8")
        response["Cache-Control"] = "private, no-store"
        return response

    return _answered(request, export_id, "export.copy", answer)


# -- Opening elsewhere -----------------------------------------------------------------------------------------------


@require_POST
def export_link(request: HttpRequest, export_id: UUID) -> HttpResponseBase:
    """Makes the workbook and an address that opens it for a few minutes: as a page for people without scripts."""

    def answer(export: Export) -> HttpResponseBase:
        _stored(export, kinds.XLSX)
        link = links.make(export=export, kind=kinds.XLSX, user=signed_in(request), origin=origin_of(request))
        address = request.build_absolute_uri(links.path_of(link, kinds.XLSX))
        opens = f"ms-excel:ofv|u|{address}"
        if "text/html" in request.headers.get("Accept", ""):
            return render(request, "exports/open.html", {"export": export, "opens": opens}, status=201)
        return JsonResponse({"url": address, "opens": opens, "expires_at": link.expires_at.isoformat()}, status=201)

    return _answered(request, export_id, "export.link", answer)


@login_not_required
@require_safe
def export_open(request: HttpRequest, token: str, filename: str) -> HttpResponseBase:
    """The file behind such an address: its signature stands for the user who made it."""
    try:
        link = links.use(token=token, filename=filename, origin=origin_of(request))
    except links.BadLink as error:
        return refusal(request, 404, "not_found", str(error))
    return _opened(request, link)


def _opened(request: HttpRequest, link: ExportLink) -> HttpResponseBase:
    export, kind = link.export, kinds.BY_KEY[link.format]

    def record(outcome: str, **detail: Any) -> AuditEntry:
        return audit.record(
            actor=link.made_by, action="export.download", object_type="export", object_id=export.pk, outcome=outcome,
            origin=origin_of(request), detail={"format": kind.key, "link": str(link.pk), **detail},
        )  # fmt: skip

    try:
        _require(export)
        stored = _stored(export, kind)
        sent = {"rows": export.n_rows, "bytes": stored.n_bytes, "sha256": stored.sha256}
        began = partial(record, Outcome.OK, **sent)
        response = _answer(request, export, stored=stored, kind=kind, actor=link.made_by, began=began)
    except _Refused as refused:
        record(Outcome.FAILED, why=refused.why)
        return _refusal(request, refused)
    # Office shows what it opened, and saves it elsewhere.
    response["Content-Disposition"] = f'inline; filename="{export.filename(kind.extension)}"'
    return response
