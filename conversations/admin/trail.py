"""Audit entries and API tokens: who did what, and with which keys."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse

from conversations.admin.cells import column, moment, same_user, structure
from conversations.admin.filters import ByAction, ByActor, ByEntryDay, ByObject, ByOutcome, ByUser
from conversations.admin.review import ReviewAdmin, as_uuid
from conversations.models import ApiToken, AuditEntry, Conversation, Export, Run

#: What an entry's object can be looked up as.
_OBJECTS: dict[str, type[Any]] = {"conversation": Conversation, "run": Run, "export": Export, "token": ApiToken}


@admin.register(AuditEntry)
class AuditEntryAdmin(ReviewAdmin):
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
    )

    def found(self, word: str) -> Q:
        return Q(actor_name__icontains=word) | Q(object_id__icontains=word)

    def tools(self, request: HttpRequest, row: AuditEntry) -> list[tuple[str, str]]:
        """To the object, when it is still there and the reader may see it."""
        model, object_id = _OBJECTS.get(row.object_type), as_uuid(row.object_id)
        if not (model and object_id and model.objects.visible_to(request.user).filter(pk=object_id).exists()):
            return []
        address = reverse(f"admin:conversations_{model._meta.model_name}_change", args=[object_id])
        return [(f"The {model._meta.verbose_name}", address)]


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
