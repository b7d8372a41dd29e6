"""Conversations and their messages."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from conversations import audit, holds
from conversations.admin.cells import address_of_list, column, cut, link, milliseconds, moment, same_user, whole
from conversations.admin.filters import ByFailedStage, ByOwner, ByRunDay, ByRunStatus, ByTool
from conversations.admin.review import PartAdmin, ReviewAdmin, Section, chat_page, looked_at, trail_of
from conversations.models import Conversation, Message, Run
from conversations.requests import signed_in


def _run_of(message: Message) -> SafeString | str:
    """The run that the message asked for, or that wrote it."""
    run: Run | None = getattr(message, "run" if message.role == Message.Role.ASK else "answered_run", None)
    return link(run, f"run {str(run.pk)[:8]}") if run else "-"


def _all_messages(conversation: Conversation) -> str:
    return address_of_list(Message, conversation=conversation.pk)


MESSAGES = Section(
    title="Messages, newest first",
    rows=lambda conversation: conversation.messages.select_related("run", "answered_run").order_by("-position"),
    columns=(
        column("position", lambda message: link(message, message.position)),
        column("role", lambda message: message.role),
        column("text", lambda message: cut(message.text)),
        moment("created", "created_at"),
        column("run", _run_of),
    ),
    rest=_all_messages,
)

RUNS = Section(
    title="Runs, newest first",
    rows=lambda conversation: (
        conversation.runs.select_related("ask").defer("response", "context").order_by("-position")
    ),
    columns=(
        column("request", lambda run: link(run, cut(run.ask.text))),
        column("status", lambda run: run.status),
        column("error", lambda run: run.error_code),
        column("engine", lambda run: run.engine),
        moment("created", "created_at"),
        milliseconds("duration", "total_duration_ms"),
    ),
    rest=lambda conversation: address_of_list(Run, conversation=conversation.pk),
)


@admin.register(Conversation)
class ConversationAdmin(ReviewAdmin):
    list_display = (
        column("title", lambda conversation: cut(str(conversation))),
        same_user(lambda conversation: conversation.owner.username, "owner"),
        column("messages", lambda conversation: conversation.n_messages),
        moment("created", "created_at"),
        moment("last message", "updated_at", order=True),
    )
    list_select_related = ("owner",)
    ordering = ("-updated_at",)
    list_filter = (ByOwner, ByRunDay, ByRunStatus, ByFailedStage, ByTool)
    search_fields = ("title",)
    search_help_text = "In titles, requests and answers; or the id of a conversation. Words in quotes stand together."
    details = (
        column("title", str),
        column("owner", lambda conversation: conversation.owner.username),
        column("id", lambda conversation: conversation.pk),
        column("session_id of the API", lambda conversation: conversation.session_name),
        column("number of messages", lambda conversation: conversation.n_messages),
        moment("created", "created_at"),
        moment("last message", "updated_at"),
        moment("legal hold since", "held_at"),
    )
    sections = (MESSAGES, RUNS)
    change_form_template = "admin/conversation_form.html"

    def get_urls(self) -> list[Any]:
        hold = self.admin_site.admin_view(self.hold_view)
        address = path("<uuid:object_id>/hold/", hold, name="conversations_conversation_hold")
        return [address, *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        context["may_hold"] = request.user.has_perm(holds.PERMISSION)
        return super().render_change_form(request, context, *args, **kwargs)

    @method_decorator(require_POST)
    def hold_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """Places a legal hold, or lifts it."""
        row = self.get_object(request, str(object_id))
        if not request.user.has_perm(holds.PERMISSION):
            raise Http404
        change = holds.lift if request.POST.get("lift") == "1" else holds.place
        change(conversation=row, user=signed_in(request), origin=audit.origin_of(request))
        return HttpResponseRedirect(reverse("admin:conversations_conversation_change", args=[row.pk]))

    def of_runs(self, queryset: QuerySet[Any], runs: Q) -> QuerySet[Any]:
        return queryset.filter(pk__in=Run.objects.filter(runs).values("conversation"))

    def found(self, word: str) -> Q:
        said = Message.objects.filter(text__icontains=word)
        return Q(title__icontains=word) | Q(pk__in=said.values("conversation"))

    def looked(self, request: HttpRequest, row: Conversation) -> None:
        looked_at(request, row)

    def tools(self, request: HttpRequest, row: Conversation) -> list[tuple[str, str]]:
        return [
            ("All messages", _all_messages(row)),
            chat_page(row.pk),
            ("Audit entries", trail_of("conversation", row.pk)),
        ]


@admin.register(Message)
class MessageAdmin(PartAdmin):
    parent = "conversation"
    parent_model = Conversation
    list_display = MESSAGES.columns
    list_display_links = None
    list_select_related = ("run", "answered_run")
    ordering = ("-position",)
    heavy = ("blocks",)
    details = (
        column("conversation", lambda message: link(message.conversation)),
        column("run", _run_of),
        column("role", lambda message: message.role),
        column("position", lambda message: message.position),
        moment("created", "created_at"),
        column("text", lambda message: whole(message.text)),
    )

    def looked(self, request: HttpRequest, row: Message) -> None:
        looked_at(request, row.conversation, message=str(row.pk))

    def looked_into(self, request: HttpRequest, whole: Conversation) -> None:
        looked_at(request, whole)

    def tools(self, request: HttpRequest, row: Message) -> list[tuple[str, str]]:
        conversation_id: UUID = row.conversation_id
        return [chat_page(conversation_id, f"#message-{row.pk}")]
