"""Addresses that open one format of one export without a session, for programs that are given a URL (Office).

Each is a row, valid for a few minutes and requests; making, using and misusing one stands in the ledger. The address
holds the row's id with a signature, so that nobody can look for ids.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser
from django.core.signing import BadSignature, Signer
from django.db.models import F
from django.urls import reverse
from django.utils import timezone

from conversations import audit
from conversations.audit import Origin, Outcome
from conversations.formats.kinds import Format
from conversations.models import Export, ExportLink

#: How long an address opens, and how often: Office asks several times for one file.
LIFETIME = timedelta(minutes=5)
MAX_USES = 10

_signer = Signer(salt="conversations.links", sep="~")


class BadLink(Exception):
    """The address opens nothing; the message says why, as far as its bearer may know."""


def make(*, export: Export, kind: Format, user: AbstractBaseUser, origin: Origin) -> ExportLink:
    """The caller has looked that the user may read the export and that the file can be made."""
    link = ExportLink.objects.create(
        export=export, format=kind.key, made_by_id=user.pk, expires_at=timezone.now() + LIFETIME
    )
    audit.record(
        actor=user, action="export.link", object_type="export", object_id=export.pk, origin=origin,
        detail={"link": str(link.pk), "format": kind.key, "expires_at": link.expires_at.isoformat()},
    )  # fmt: skip
    return link


def path_of(link: ExportLink, kind: Format) -> str:
    return reverse("export-open", args=[_signer.sign(link.pk.hex), link.export.filename(kind.extension)])


def use(*, token: str, filename: str, origin: Origin) -> ExportLink:
    """Counts a request by the address. Raises BadLink; the refusal stands in the ledger, without the address."""
    link = _find(token)
    if link is None:
        _refuse(None, origin, "forged")
        raise BadLink("There is no such file.")
    if filename.rpartition(".")[0] != link.export.name:
        _refuse(link, origin, "another file's name")
        raise BadLink("There is no such file.")
    if not _may_still(link):
        _refuse(link, origin, "its maker may not read the export any more")
        raise BadLink("There is no such file.")
    fresh = ExportLink.objects.filter(pk=link.pk, n_uses__lt=MAX_USES, expires_at__gt=timezone.now())
    if not fresh.update(n_uses=F("n_uses") + 1):
        _refuse(link, origin, "used up or too old")
        raise BadLink("This address has been used up or is too old; open the file from its page again.")
    audit.record(
        actor=link.made_by, action="export.link_use", object_type="export", object_id=link.export_id, origin=origin,
        detail={"link": str(link.pk), "format": link.format, "use": link.n_uses + 1},
    )  # fmt: skip
    return link


def _find(token: str) -> ExportLink | None:
    try:
        link_id = UUID(hex=_signer.unsign(token))
    except (BadSignature, ValueError):
        return None
    found = ExportLink.objects.select_related("export__run__conversation", "made_by").filter(pk=link_id)
    return found.first()


def _may_still(link: ExportLink) -> bool:
    return Export.objects.visible_to(link.made_by).filter(pk=link.export_id).exists()


def _refuse(link: ExportLink | None, origin: Origin, why: str) -> None:
    audit.record(
        actor=link.made_by if link else None, action="export.link_use", object_type="export",
        object_id=link.export_id if link else "", outcome=Outcome.DENIED, origin=origin,
        detail={"why": why, **({"link": str(link.pk)} if link else {})},
    )  # fmt: skip
