"""Audit entries and API tokens: who did what, and with which keys."""

from __future__ import annotations

from threading import Lock
from typing import Any

from django.contrib import admin, messages
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from conversations import audit, ledger
from conversations.admin.cells import breaking, column, link, moment, number, same_user, structure
from conversations.admin.filters import ByAction, ByActor, ByEntryDay, ByObject, ByOutcome, ByUser
from conversations.admin.review import ReviewAdmin, as_uuid
from conversations.ledger import Report
from conversations.models import REVIEW, ApiToken, AuditEntry, Conversation, Export, Run

#: What an entry's object can be looked up as.
_OBJECTS: dict[str, type[Any]] = {"conversation": Conversation, "run": Run, "export": Export, "token": ApiToken}

#: Held by the one who verifies: it takes a while, and a processor.
_verifying = Lock()


@admin.register(AuditEntry)
class AuditEntryAdmin(ReviewAdmin):
    change_list_template = "admin/ledger_list.html"
    list_display = (
        moment("at", "at", order=True),
        same_user(lambda entry: entry.actor_name),
        column("action", lambda entry: entry.action),
        column("object", lambda entry: f"{entry.object_type} {entry.object_id}"),
        column("outcome", lambda entry: entry.outcome),
        column("address", lambda entry: entry.ip),
    )
    ordering = ("-at",)
    heavy = ("detail", "user_agent")
    list_filter = (ByActor, ByEntryDay, ByAction, ByOutcome, ByObject)
    search_fields = ("actor_name",)
    search_help_text = "In user names and the ids of objects."
    details = (
        moment("at", "at"),
        column("user", lambda entry: entry.actor_name),
        column("user's number", lambda entry: entry.actor_id),
        column("action", lambda entry: entry.action),
        column("outcome", lambda entry: entry.outcome),
        column("object", lambda entry: f"{entry.object_type} {entry.object_id}"),
        column("address", lambda entry: entry.ip),
        column("browser", lambda entry: entry.user_agent),
        structure("detail", "detail"),
        number("number in the ledger", "seq"),
        column("hash (SHA-256)", lambda entry: breaking(entry.hash)),
    )

    def found(self, word: str) -> Q:
        return Q(actor_name__icontains=word) | Q(object_id__icontains=word)

    def get_urls(self) -> list[Any]:
        verify = self.admin_site.admin_view(self.verify_view)
        return [path("verify/", verify, name="conversations_auditentry_verify"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"may_verify": _may_verify(request), **(extra_context or {})})

    @method_decorator(require_POST)
    def verify_view(self, request: HttpRequest) -> HttpResponse:
        """Verifies the whole ledger, says on the list what was found, and leaves an audit entry of it."""
        if not _may_verify(request):
            raise Http404
        if _verifying.acquire(blocking=False):
            try:
                report = ledger.verify()
            finally:
                _verifying.release()
            _record(request, report)
            messages.add_message(request, messages.ERROR if report.fault else messages.SUCCESS, _found(report))
        else:
            messages.warning(request, "The ledger is being verified. Try again when that has ended.")
        return HttpResponseRedirect(reverse("admin:conversations_auditentry_changelist"))

    def tools(self, request: HttpRequest, row: AuditEntry) -> list[tuple[str, str]]:
        """To the object, when it is still there and the reader may see it."""
        model, object_id = _OBJECTS.get(row.object_type), as_uuid(row.object_id)
        if not (model and object_id and model.objects.visible_to(request.user).filter(pk=object_id).exists()):
            return []
        address = reverse(f"admin:conversations_{model._meta.model_name}_change", args=[object_id])
        return [(f"The {model._meta.verbose_name}", address)]


def _may_verify(request: HttpRequest) -> bool:
    """It tells of entries that are not one's own."""
    return request.user.is_active and request.user.has_perm(REVIEW)


def _record(request: HttpRequest, report: Report) -> None:
    detail: dict[str, Any] = {"entries": report.n_entries, "end": str(report.end)}
    if report.fault:
        detail |= {"fault": report.fault.reason.name.lower(), "number": report.fault.seq}
    audit.record(
        actor=request.user, action="ledger.verify", object_type="ledger", object_id=str(report.end.seq),
        outcome=audit.Outcome.FAILED if report.fault else audit.Outcome.OK, origin=audit.origin_of(request),
        detail=detail,
    )  # fmt: skip


def _found(report: Report) -> SafeString | str:
    """In words, with a link to the first bad entry or to what is where it should be."""
    if report.fault is None:
        return f"The ledger is intact: {report.n_entries:,} entries. It ends in {report.end}"
    row = AuditEntry.objects.filter(pk=report.fault.entry_id).first() if report.fault.entry_id else None
    there = format_html(" {}", link(row, f"Open entry {row.seq}")) if row else ""
    return format_html("The ledger is not intact. {}{}", report.fault, there)


@admin.register(ApiToken)
class ApiTokenAdmin(ReviewAdmin):
    """Never the digest: what was stored of the token is of use to nobody here."""

    list_display = (
        column("label", lambda token: token.label or "no label"),
        same_user(lambda token: token.user.username),
        column("state", lambda token: token.state),
        moment("created", "created_at"),
        moment("expires", "expires_at"),
        moment("last used", "last_used_at"),
        moment("revoked", "revoked_at"),
    )
    ordering = ("-created_at",)
    list_select_related = ("user",)
    heavy = ("digest",)
    list_filter = (ByUser,)
    search_fields = ("label",)
    search_help_text = "In labels and user names."
    details = (
        column("label", lambda token: token.label),
        column("user", lambda token: token.user.username),
        column("ends in", lambda token: token.hint),
        *list_display[2:],
    )

    def found(self, word: str) -> Q:
        return Q(label__icontains=word) | Q(user__username__icontains=word)
