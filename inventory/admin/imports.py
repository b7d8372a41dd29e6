"""Importing in the browser: choose a file, look at what it was recognised as, try it, import it.

Each step is a form and a page of its own; what takes long is done by threads (`inventory.upload_work`), and the page
looks again by itself until it is done.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import BadRequest, PermissionDenied
from django.core.files import File
from django.core.files.storage import storages
from django.core.files.uploadedfile import UploadedFile
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from inventory import upload_work, uploads
from inventory.models import Asset, AssetUpload

PERMISSION = "inventory.import_assets"
#: A small file is read, and a short import done, within the answer to its form.
_WAIT_S = 1.0
_LOGGED = 10
_CHUNK = 256 * 1024
_MB = 1024 * 1024

View = Callable[..., HttpResponseBase]
Work = AssetUpload.Work
#: What the page's buttons may ask for.
_ACTIONS = {*Work.values, "discard"}


class UploadForm(forms.Form):
    file = forms.FileField(
        help_text="CSV, TSV, JSON or XLSX. What it is, is told by its content, and shown before anything is written.",
        widget=forms.FileInput(attrs={"accept": ".csv,.tsv,.tab,.txt,.json,.jsonl,.ndjson,.xlsx"}),
    )
    source = forms.CharField(
        required=False,
        max_length=200,
        help_text="Where the assets come from. Empty: the format that is recognised, else the file's name.",
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )
    delete_missing = forms.BooleanField(
        required=False,
        label="Remove what is missing",
        help_text="Removes the assets of the same source that the file does not have.",
    )

    def clean_file(self) -> UploadedFile:
        file: UploadedFile = self.cleaned_data["file"]
        if (file.size or 0) > settings.OPSCHAT_MAX_UPLOAD:
            raise forms.ValidationError(f"The file has more than {settings.OPSCHAT_MAX_UPLOAD // _MB} MB.")
        return file


def may_import(request: HttpRequest) -> bool:
    return request.user.has_perm(PERMISSION)


def addresses() -> list[URLPattern]:
    """For the assets' admin; names begin with `inventory_asset_`."""

    def page(route: str, view: View, name: str) -> URLPattern:
        return path(route, admin.site.admin_view(_for_importers(view)), name=f"inventory_asset_{name}")

    return [
        page("import/", _choose, "import"),
        page("import/<uuid:upload_id>/", _upload, "upload"),
        page("import/<uuid:upload_id>/problems/", _problems, "upload_problems"),
    ]


def _for_importers(view: View) -> View:
    """Raises PermissionDenied for other staff."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not may_import(request):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return checked


# -- Choosing a file -------------------------------------------------------------------------------------------------


def _choose(request: HttpRequest) -> HttpResponseBase:
    user = _user(request)
    uploads.discard_old()
    form = UploadForm(request.POST, request.FILES) if request.method == "POST" else UploadForm()
    if form.is_bound and form.is_valid():
        given = form.cleaned_data
        upload = uploads.keep(
            user=user, file=given["file"], source=given["source"], delete_missing=given["delete_missing"]
        )
        upload_work.start(upload=upload, work=Work.READ, wait_s=_WAIT_S)
        return _to(upload)
    shown = {
        "form": form,
        "going": uploads.of_user(user).order_by("-created_at").first(),
        "log": [_entry(entry) for entry in uploads.logged(most=_LOGGED)],
        "most_mb": settings.OPSCHAT_MAX_UPLOAD // _MB,
    }
    return _page(request, "choose", "Import assets", shown, status=422 if form.is_bound else 200)


#: Read by AnswersMiddleware: a body here may be as long as a file.
_choose.takes_files = True  # type: ignore[attr-defined]  # functions have no declared attributes


def _entry(entry: LogEntry) -> Mapping[str, object]:
    said = json.loads(entry.change_message)
    return {"at": entry.action_time, "user": entry.user, "name": entry.object_repr, "said": said}


# -- One upload ------------------------------------------------------------------------------------------------------


def _upload(request: HttpRequest, upload_id: UUID) -> HttpResponseBase:
    upload = _found(request, upload_id)
    if request.method == "POST":
        return _done(request, upload)
    state = upload.state
    has_file = bool(upload.path)
    can_import = has_file and bool(upload.preview) and state != AssetUpload.Status.WORKING
    shown = {
        "upload": upload,
        "state": state,
        "preview": upload.preview,
        "columns": _columns(upload.preview),
        "result": upload.result,
        "can_read": has_file and not upload.preview and state == AssetUpload.Status.INTERRUPTED,
        "can_import": can_import,
        "notices": _notices(upload) if can_import else [],
        "problems": bool(upload.problems_path),
    }
    return _page(request, "upload", "Import assets", shown)


def _done(request: HttpRequest, upload: AssetUpload) -> HttpResponseBase:
    """What a button asks for. Raises BadRequest for what no button does."""
    action = request.POST.get("action", "")
    if action not in _ACTIONS or (action in (Work.DRY_RUN, Work.IMPORT) and not upload.preview):
        raise BadRequest("Choose what to do with the file by one of the page's buttons.")
    if action == "discard":
        uploads.discard([upload])
        return HttpResponseRedirect(reverse("admin:inventory_asset_import"))
    upload_work.start(upload=upload, work=action, wait_s=_WAIT_S)
    return _to(upload)


def _notices(upload: AssetUpload) -> list[str]:
    """What to know before the file is imported."""
    said: list[str] = [*upload.preview["warnings"]]
    if (n_unread := upload.preview["n_unread"]) and not upload.result:
        counted = "There was 1 problem" if n_unread == 1 else f"There were {n_unread:,} problems"
        said.append(f"{counted} when the file was read. A dry run lists them, and what else will be wrong.")
    if upload.delete_missing:
        said.append(f"Assets of the source “{upload.source}” that the file does not have will be removed.")
    return said


def _columns(preview: Mapping[str, Any]) -> list[Mapping[str, object]]:
    """The mapping: each column with what becomes of it, and its first texts."""
    return [
        {**column, "texts": [row[n] for row in preview["rows"]]} for n, column in enumerate(preview.get("columns", ()))
    ]


def _problems(request: HttpRequest, upload_id: UUID) -> HttpResponseBase:
    upload = _found(request, upload_id)
    if not upload.problems_path:
        raise Http404
    try:
        file = storages["uploads"].open(upload.problems_path, "rb")
    except FileNotFoundError:
        raise Http404 from None
    name = f"{Path(upload.name).stem} problems.csv"
    response = FileResponse(file, as_attachment=True, filename=name, content_type="text/csv; charset=utf-8")
    response.streaming_content = _chunks(file)
    return response


async def _chunks(file: File) -> AsyncIterator[bytes]:  # type: ignore[type-arg]  # generic only for type checkers
    """Asynchronous, because Django reads a synchronous one whole into memory under ASGI."""
    try:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk
    finally:
        file.close()


# -- Common ----------------------------------------------------------------------------------------------------------


def _user(request: HttpRequest) -> AbstractBaseUser:
    return cast(AbstractBaseUser, request.user)


def _found(request: HttpRequest, upload_id: UUID) -> AssetUpload:
    """Raises Http404: another's can't be told from one that isn't there."""
    upload = uploads.of_user(_user(request)).filter(pk=upload_id).first()
    if upload is None:
        raise Http404("There is no such upload: files are removed after a day, or when the next one is uploaded.")
    return upload


def _to(upload: AssetUpload) -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:inventory_asset_upload", args=[upload.pk]))


def _page(request: HttpRequest, name: str, title: str, shown: Mapping[str, Any], *, status: int = 200) -> HttpResponse:
    context = {**admin.site.each_context(request), "title": title, "opts": Asset._meta, **shown}
    return TemplateResponse(request, f"admin/inventory/asset/import_{name}.html", context, status=status)
