"""Conversations and what happened in them."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, NoReturn, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from conversations.models.access import OwnedQuerySet

#: Numbers of audit entries end here.
MOST_ENTRIES = 2**53


class ThroughConversation(OwnedQuerySet):
    owner_path = "conversation__owner"


class RunQuerySet(ThroughConversation):
    def unfinished(self) -> Self:
        return self.filter(status__in=Run.UNFINISHED)


class ThroughRun(OwnedQuerySet):
    owner_path = "run__conversation__owner"


class ThroughExport(OwnedQuerySet):
    owner_path = "export__owner"


class ActorQuerySet(OwnedQuerySet):
    """Audit entries belong to who did it, as a plain value: they outlive the user's row. They are only ever added."""

    owner_path = "actor_id"

    def update(self, **_: Any) -> NoReturn:
        raise TypeError("An audit entry is never changed.")

    def delete(self) -> NoReturn:
        raise TypeError("An audit entry is never deleted.")


class _WithoutEnd(models.Manager[Any]):
    """Without the ledger's end, which is a row of the table and no entry."""

    def get_queryset(self) -> models.QuerySet[Any]:
        # Not `> 0`, for which SQLite takes the index of numbers, whatever it has to sort then.
        return super().get_queryset().exclude(seq=0)


EntryManager = _WithoutEnd.from_queryset(ActorQuerySet)


class Conversation(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="conversations")
    title = models.CharField(max_length=200, blank=True)
    #: The API's `session_id` when it is not a UUID; null for conversations begun on the page.
    session_name = models.CharField(max_length=128, null=True, blank=True)  # noqa: DJ001  unique per owner when set
    #: Messages so far; the next one's position. Raised by UPDATE, which also locks the row.
    n_messages = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ("-updated_at", "-id")
        permissions = (("review", "Can review all conversations, exports and the audit trail"),)
        constraints = (models.UniqueConstraint(fields=("owner", "session_name"), name="one_session_name_per_owner"),)
        indexes = (models.Index(fields=("owner", "-updated_at")),)

    def __str__(self) -> str:
        return self.title or "New chat"


class Message(models.Model):
    class Role(models.TextChoices):
        #: Written by the conversation's owner.
        ASK = "ask"
        #: Written by the run that answers.
        ANSWER = "answer"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    conversation = models.ForeignKey(Conversation, models.PROTECT, related_name="messages")
    position = models.PositiveIntegerField()
    role = models.CharField(max_length=8, choices=Role)
    #: Markdown for answers; as typed for asks. An answer's text is empty until its run has ended.
    text = models.TextField(blank=True)
    #: Where exports stand in the text: [{"start", "end", "export_id"}] in code points; set when the run ends.
    blocks = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ThroughConversation.as_manager()

    class Meta:
        ordering = ("conversation", "position")
        constraints = (models.UniqueConstraint(fields=("conversation", "position"), name="one_message_per_position"),)

    def __str__(self) -> str:
        return f"{self.role} {self.position}"


class Run(models.Model):
    class Status(models.TextChoices):
        #: Stored, waiting for its turn.
        QUEUED = "queued"
        #: Claimed by an owner that executes it.
        RUNNING = "running"
        #: Ended with `complete`.
        SUCCEEDED = "succeeded"
        #: Ended with `error`.
        FAILED = "failed"
        #: Ended with `cancelled`.
        CANCELLED = "cancelled"

    UNFINISHED = (Status.QUEUED, Status.RUNNING)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    conversation = models.ForeignKey(Conversation, models.PROTECT, related_name="runs")
    ask = models.OneToOneField(Message, models.PROTECT, related_name="run")
    answer = models.OneToOneField(Message, models.PROTECT, related_name="answered_run")
    #: The ask's position: runs of one conversation go in this order, one at a time.
    position = models.PositiveIntegerField()
    status = models.CharField(max_length=9, choices=Status, default=Status.QUEUED)
    #: The caller's `context` object.
    context = models.JSONField(default=dict, blank=True)
    #: From the Idempotency-Key header or the composer's client id; unique per user.
    idempotency_key = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001  unique when set
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="runs")
    #: The failed or cancelled run that this one goes on with.
    resumes = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="resumed_by")
    #: How often it was claimed; with `owner` the fence of every write.
    attempt = models.PositiveSmallIntegerField(default=0)
    #: The process that executes it.
    owner = models.CharField(max_length=64, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    #: The newest event's number.
    last_seq = models.PositiveIntegerField(default=0)
    #: Name of the engine that answered.
    engine = models.CharField(max_length=100, blank=True)
    #: The contract's `response` object, when succeeded.
    response = models.JSONField(null=True, blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    #: Wall clock from `created_at` to the terminal event.
    total_duration_ms = models.FloatField(null=True, blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ("conversation", "position")
        constraints = (
            models.UniqueConstraint(fields=("conversation", "position"), name="one_run_per_position"),
            models.UniqueConstraint(fields=("user", "idempotency_key"), name="one_run_per_idempotency_key"),
        )
        indexes = (
            models.Index(
                fields=("status", "created_at"), name="unfinished_runs", condition=Q(status__in=("queued", "running"))
            ),
            # For the review: newest first, of one user, of one status.
            models.Index(fields=("-created_at",), name="runs_by_time"),
            models.Index(fields=("user", "-created_at"), name="runs_by_user"),
            models.Index(fields=("status", "-created_at"), name="runs_by_status"),
        )

    def __str__(self) -> str:
        return f"run {self.id}"

    @property
    def is_finished(self) -> bool:
        return self.status not in self.UNFINISHED

    def elapsed_ms(self, now: datetime) -> float:
        """Milliseconds since the request was stored, or its whole duration when it has ended."""
        if self.total_duration_ms is not None:
            return self.total_duration_ms
        return round((now - self.created_at).total_seconds() * 1000, 1)


class StageRun(models.Model):
    class Status(models.TextChoices):
        #: Started, no outcome yet.
        RUNNING = "running"
        COMPLETED = "completed"
        #: Not needed for this request.
        SKIPPED = "skipped"
        FAILED = "failed"
        #: Its run was stopped in it, or the process that executed it has died.
        STOPPED = "stopped"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    run = models.ForeignKey(Run, models.PROTECT, related_name="stages")
    #: One of A, B, C, E, D.
    stage = models.CharField(max_length=1)
    attempt = models.PositiveSmallIntegerField()
    status = models.CharField(max_length=9, choices=Status)
    input = models.JSONField(default=dict, blank=True)
    #: Stored in the transaction of the stage's completion event.
    output = models.JSONField(default=dict, blank=True)
    message = models.TextField(blank=True)
    started_at = models.DateTimeField()
    duration_ms = models.FloatField(null=True, blank=True)

    objects = ThroughRun.as_manager()

    class Meta:
        ordering = ("run", "started_at")
        constraints = (models.UniqueConstraint(fields=("run", "stage", "attempt"), name="one_stage_run_per_attempt"),)
        indexes = (
            models.Index(fields=("stage", "status", "-started_at")),
            # For the review: newest first, of one status.
            models.Index(fields=("-started_at",), name="stages_by_time"),
            models.Index(fields=("status", "-started_at"), name="stages_by_status"),
        )

    def __str__(self) -> str:
        return f"stage {self.stage}, attempt {self.attempt}"


class RunEvent(models.Model):
    """One event of a run as it was sent. The row is the truth; live messages are only a hint that rows exist."""

    run = models.ForeignKey(Run, models.PROTECT, related_name="events")
    #: 1, 2, 3 … in the run, given by the run's one owner.
    seq = models.PositiveIntegerField()
    type = models.CharField(max_length=20)
    #: The event's fields (`events.to_dict`).
    data = models.JSONField(default=dict)
    at = models.DateTimeField(default=timezone.now)

    objects = ThroughRun.as_manager()

    class Meta:
        ordering = ("run", "seq")
        constraints = (models.UniqueConstraint(fields=("run", "seq"), name="one_event_per_seq"),)

    def __str__(self) -> str:
        return f"{self.seq} {self.type}"


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
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ThroughExport.as_manager()

    class Meta:
        ordering = ("export", "format")
        constraints = (models.UniqueConstraint(fields=("export", "format"), name="one_file_per_format"),)

    def __str__(self) -> str:
        return f"{self.export.name}.{self.format}"


class AuditEntry(models.Model):
    """Who did what to which object, with what outcome. Append-only; plain values outlive the rows they speak of.

    The entries are a chain (`ledger`). Its end is a row of the table, number 0, that `objects` leaves out.
    """

    class Outcome(models.TextChoices):
        OK = "ok"
        #: The object exists, the actor may not have it.
        DENIED = "denied"
        #: No such object.
        NOT_FOUND = "not_found"
        #: The request was wrong or could not be served.
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    at = models.DateTimeField(default=timezone.now, db_index=True, editable=False)
    actor_id = models.BigIntegerField(null=True, editable=False)
    actor_name = models.CharField(max_length=150, editable=False)
    #: `object.verb`: `export.download`, `run.submit`.
    action = models.CharField(max_length=40, editable=False)
    object_type = models.CharField(max_length=40, editable=False)
    object_id = models.CharField(max_length=64, editable=False)
    outcome = models.CharField(max_length=9, choices=Outcome, editable=False)
    ip = models.GenericIPAddressField(null=True, editable=False)
    user_agent = models.CharField(max_length=400, blank=True, editable=False)
    detail = models.JSONField(default=dict, editable=False)
    #: 1, 2, 3 … in the order of writing, without a gap.
    seq = models.PositiveBigIntegerField("number", unique=True, editable=False)
    #: SHA-256 over the hash of the entry before it and everything above.
    hash = models.CharField(max_length=64, editable=False)

    objects = EntryManager()

    class Meta:
        ordering = ("-at", "-id")
        verbose_name_plural = "audit entries"
        # SQLite would take a text for a number; and room must be left behind each.
        constraints = (models.CheckConstraint(condition=Q(seq__lte=MOST_ENTRIES), name="a_number_of_the_ledger"),)
        indexes = (
            models.Index(fields=("object_type", "object_id")),
            models.Index(fields=("actor_id", "-at")),
            # For the review: newest first, of one actor, action or outcome.
            models.Index(fields=("actor_name", "-at"), name="audit_by_actor"),
            models.Index(fields=("action", "-at"), name="audit_by_action"),
            models.Index(fields=("outcome", "-at"), name="audit_by_outcome"),
        )

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor_name} {self.action} {self.outcome}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError("An audit entry is never changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise TypeError("An audit entry is never deleted.")
