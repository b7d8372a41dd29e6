"""Exports: what was stored of the rows of answers, its files, and the links by which other programs open them."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.conf import settings
from django.db import models
from django.utils import timezone

from conversations.models.access import OwnedQuerySet
from conversations.models.chat import Run


class ThroughExport(OwnedQuerySet):
    owner_path = "export__owner"


class FileManager(models.Manager.from_queryset(ThroughExport)):  # type: ignore[misc]  # a class made at run time
    def get_queryset(self) -> ThroughExport:
        """Without the digests, which grow with the file and are needed only to serve it."""
        rows: ThroughExport = super().get_queryset().defer("digests")
        return rows


class Export(models.Model):
    """A stored, downloadable set of rows."""

    class Source(models.TextChoices):
        #: Rows came from a tool.
        TOOL = "tool"
        #: Rows were typed in a fenced block of the answer.
        TEXT = "text"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="exports")
    run = models.ForeignKey(Run, models.PROTECT, related_name="exports")
    #: 0, 1, 2 … in the run.
    position = models.PositiveSmallIntegerField()
    source = models.CharField(max_length=4, choices=Source)
    #: The tool that gave the rows, and the query it was given; empty for typed rows.
    tool = models.CharField(max_length=100, blank=True)
    query = models.JSONField(default=dict, blank=True)
    title = models.CharField(max_length=200, blank=True)
    #: `export_<unix-ms>`; the format's extension follows.
    name = models.CharField(max_length=40)
    #: [{"name", "type"}] in the file's order.
    columns = models.JSONField(default=list)
    n_rows = models.PositiveBigIntegerField()
    #: Text cells that got an apostrophe so that a spreadsheet does not run them as formulas.
    n_guarded = models.PositiveBigIntegerField(default=0)
    #: The first ten rows, every column, for the page.
    preview = models.JSONField(default=list)
    #: Names of the columns that the answer shows.
    preview_columns = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)
    #: The export that this one is a later run of …
    again_of = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="later")
    #: … and what has changed since (`comparing.Comparison.to_dict`).
    comparison = models.JSONField(null=True, blank=True)
    #: Format -> why it can't hold the rows; found when it was tried.
    unavailable = models.JSONField(default=dict, blank=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at", "-id")
        constraints = (models.UniqueConstraint(fields=("run", "position"), name="one_export_per_position"),)
        indexes = (
            # For the review: newest first, of one owner, of one tool.
            models.Index(fields=("-created_at",), name="exports_by_time"),
            models.Index(fields=("owner", "-created_at"), name="exports_by_owner"),
            models.Index(fields=("tool", "-created_at"), name="exports_by_tool"),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def is_held(self) -> bool:
        return self.run.conversation.held_at is not None

    def is_gone(self, now: datetime | None = None) -> bool:
        """Deleted, or expired and not held: no file is served any more."""
        if self.deleted_at is not None:
            return True
        has_expired = self.expires_at is not None and self.expires_at <= (now or timezone.now())
        return has_expired and not self.is_held

    def filename(self, extension: str = "csv") -> str:
        return f"{self.name}.{extension}"


class ExportFile(models.Model):
    """One format of an export, as stored."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    export = models.ForeignKey(Export, models.PROTECT, related_name="files")
    format = models.CharField(max_length=10)
    #: Name in the storage.
    path = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64)
    n_bytes = models.PositiveBigIntegerField()
    #: SHA-256 of each chunk (`files.CHUNK`), one after the other; empty: stored before there were any.
    digests = models.BinaryField(default=b"")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = FileManager()

    class Meta:
        ordering = ("export", "format")
        constraints = (models.UniqueConstraint(fields=("export", "format"), name="one_file_per_format"),)
        # Who else needs the file.
        indexes = (models.Index(fields=("sha256",), name="files_by_content"),)

    def __str__(self) -> str:
        return f"{self.export.name}.{self.format}"


class ExportLink(models.Model):
    """An address that opens one format of one export without a session, for a short time and a few requests."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    export = models.ForeignKey(Export, models.PROTECT, related_name="links")
    format = models.CharField(max_length=10)
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="export_links")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    n_uses = models.PositiveSmallIntegerField(default=0)

    objects = ThroughExport.as_manager()

    class Meta:
        ordering = ("-created_at", "-id")

    def __str__(self) -> str:
        return f"{self.export.name}.{self.format}, link of {self.created_at:%Y-%m-%d %H:%M:%S}"
