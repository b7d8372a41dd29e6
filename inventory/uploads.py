"""Every write of AssetUpload, and its files. Files go through Django's storage `uploads`, which is a folder of ours."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.models import AbstractBaseUser
from django.contrib.contenttypes.models import ContentType
from django.core.files import File
from django.core.files.storage import storages
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from inventory.models import AssetUpload
from inventory.problem_file import ProblemFile
from inventory.sheets import storable

logger = logging.getLogger(__name__)

#: A file that nobody came back for is removed.
KEPT = timedelta(days=1)
#: How long a process that works may be silent before it counts as gone.
LEASE = timedelta(seconds=15)

Work, Status = AssetUpload.Work, AssetUpload.Status


def of_user(user: AbstractBaseUser) -> QuerySet[AssetUpload]:
    """Nobody sees another's, whatever they may do."""
    return AssetUpload.objects.filter(user_id=user.pk)


def keep(*, user: AbstractBaseUser, file: UploadedFile, source: str, delete_missing: bool) -> AssetUpload:
    """Stores the file in place of the user's earlier ones, but for one that is being worked on."""
    discard(of_user(user).filter(_is_idle()))
    upload = AssetUpload(
        user_id=user.pk, name=storable(file.name or "file"), n_bytes=file.size or 0, source=source,
        delete_missing=delete_missing,
    )  # fmt: skip
    # Not its own name: that is the sender's to choose.
    upload.path = storages["uploads"].save(f"{upload.pk}.upload", file)
    try:
        upload.save(force_insert=True)
    except BaseException:
        storages["uploads"].delete(upload.path)
        raise
    return upload


def discard_old() -> None:
    """Anybody's; and files whose row was never made, or has gone with its user."""
    before = timezone.now() - KEPT
    discard(AssetUpload.objects.filter(_is_idle(), created_at__lt=before))
    storage = storages["uploads"]
    known = {path for paths in AssetUpload.objects.values_list("path", "problems_path") for path in paths}
    for name in set(_stored()) - known:
        if storage.get_modified_time(name) < before:
            storage.delete(name)


def _stored() -> list[str]:
    """The names of all files."""
    try:
        return storages["uploads"].listdir("")[1]
    except FileNotFoundError:  # nobody has uploaded anything yet
        return []


def discard(uploads: Iterable[AssetUpload]) -> None:
    """With their files: rows first, so that no row names a file that has gone."""
    for upload in uploads:
        if AssetUpload.objects.filter(_is_idle(), pk=upload.pk).delete()[0]:
            for path in filter(None, (upload.path, upload.problems_path)):
                storages["uploads"].delete(path)


def path_of(upload: AssetUpload) -> Path:
    return Path(storages["uploads"].path(upload.path))


# -- Work ------------------------------------------------------------------------------------------------------------


def begin(*, upload: AssetUpload, work: str) -> uuid.UUID | None:
    """Takes the upload for a piece of work; its id. None when it is being worked on, or its file has gone."""
    work_id = uuid.uuid4()
    claimed = {
        "work": work, "work_id": work_id, "status": Status.WORKING, "working_until": timezone.now() + LEASE,
        "n_done": 0, "n_all": 0, "message": "", "result": {}, "problems_path": "",
    }  # fmt: skip
    with transaction.atomic():
        if not AssetUpload.objects.filter(_is_idle(), pk=upload.pk).exclude(path="").update(**claimed):
            return None
        if work == Work.IMPORT:
            _log(upload, ADDITION, {"begun": True})
    if upload.problems_path:
        storages["uploads"].delete(upload.problems_path)
    return work_id


def renew(*, upload: AssetUpload, work_id: uuid.UUID, n_done: int, n_all: int) -> bool:
    """Says that the work goes on, and how far it is. False when somebody else has it, or nobody any more."""
    said = {"working_until": timezone.now() + LEASE, "n_done": n_done, "n_all": n_all}
    return bool(_worked(upload, work_id).update(**said))


def end_reading(*, upload: AssetUpload, work_id: uuid.UUID, preview: Mapping[str, Any], source: str, sha: str) -> None:
    _worked(upload, work_id).update(status=Status.DONE, preview=preview, source=source, sha256=sha)


def end_import(
    *, upload: AssetUpload, work_id: uuid.UUID, result: Mapping[str, Any], problems: ProblemFile, dry_run: bool
) -> None:
    """Of a file that has been imported only the problems are kept."""
    path = _saved(upload, work_id, problems)
    with transaction.atomic():
        said = {"status": Status.DONE, "result": result, "problems_path": path}
        n_rows = _worked(upload, work_id).update(**said if dry_run else {**said, "path": ""})
        if not dry_run:
            _log(upload, CHANGE, {name: result[name] for name in result if name.startswith("n_")})
    if not n_rows and path:
        storages["uploads"].delete(path)
    if n_rows and not dry_run:
        storages["uploads"].delete(upload.path)


def fail(
    *, upload: AssetUpload, work_id: uuid.UUID, work: str, message: str, problems: ProblemFile | None = None
) -> None:
    """An empty message: it was interrupted."""
    path = _saved(upload, work_id, problems) if problems else ""
    status = Status.FAILED if message else Status.INTERRUPTED
    with transaction.atomic():
        n_rows = _worked(upload, work_id).update(status=status, message=message, problems_path=path)
        if n_rows and work == Work.IMPORT:
            _log(upload, CHANGE, {"failed": message or "interrupted"})
    if not n_rows and path:
        storages["uploads"].delete(path)


def _worked(upload: AssetUpload, work_id: uuid.UUID) -> QuerySet[AssetUpload]:
    return AssetUpload.objects.filter(pk=upload.pk, work_id=work_id, status=Status.WORKING)


def _is_idle() -> Q:
    return ~Q(status=Status.WORKING) | Q(working_until__lt=timezone.now())


def _saved(upload: AssetUpload, work_id: uuid.UUID, problems: ProblemFile) -> str:
    if not problems.n_problems:
        return ""
    problems.file.seek(0)
    name: str = storages["uploads"].save(f"{upload.pk}-{work_id}.csv", File(problems.file))
    return name


# -- The log ---------------------------------------------------------------------------------------------------------


def _log(upload: AssetUpload, flag: int, said: Mapping[str, object]) -> None:
    """Who imported which file: outlives the upload. An entry when an import begins, another when it ends."""
    whole = {"source": upload.source, "sha256": upload.sha256, "n_bytes": upload.n_bytes, **said}
    LogEntry.objects.create(
        user_id=upload.user_id, content_type=ContentType.objects.get_for_model(AssetUpload), object_id=str(upload.pk),
        object_repr=upload.name[:200], action_flag=flag, change_message=json.dumps(whole, ensure_ascii=False),
    )  # fmt: skip
    logger.info("Import by user %s: %r %s", upload.user_id, upload.name, whole)


def logged(*, most: int) -> list[LogEntry]:
    """The newest entries, everybody's."""
    kind = ContentType.objects.get_for_model(AssetUpload)
    return list(LogEntry.objects.filter(content_type=kind).select_related("user").order_by("-pk")[:most])
