"""Accounts, for superusers alone."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.forms import ReadOnlyPasswordHashField, ReadOnlyPasswordHashWidget, UserChangeForm
from django.contrib.auth.models import Group
from django.http import HttpRequest

from conversations import sessions
from conversations.models import ApiToken, AuditEntry, Conversation, Run

User = get_user_model()
admin.site.unregister(User)
admin.site.unregister(Group)


class HiddenPassword(ReadOnlyPasswordHashWidget):
    """The button that sets another one; Django would show the beginning of salt and hash."""

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        return {**super().get_context(name, value, attrs), "summary": []}


class AccountForm(UserChangeForm):  # type: ignore[type-arg]  # generic only for type checkers
    password = ReadOnlyPasswordHashField(widget=HiddenPassword)


class ForSuperusers:
    """Whoever may change accounts can give themselves any right, so no single permission opens them."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_active and bool(getattr(request.user, "is_superuser", False))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)


@admin.register(User)
class PeopleAdmin(ForSuperusers, UserAdmin):  # type: ignore[type-arg]  # generic only for type checkers
    """One with history is deactivated, never deleted."""

    form = AccountForm
    show_full_result_count = False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request) and obj is not None and not _has_history(obj)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Comes after each change, a new password's too: the account's open sockets look whether they may stay."""
        sessions.look_again(obj.pk)
        return super().log_change(request, obj, message)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Deleting many at once would not look at each one's history."""
        return {name: action for name, action in super().get_actions(request).items() if name != "delete_selected"}


@admin.register(Group)
class TeamAdmin(ForSuperusers, GroupAdmin):
    pass


def _has_history(user: Any) -> bool:
    rows = (Conversation.objects.filter(owner=user), Run.objects.filter(user=user), ApiToken.objects.filter(user=user))
    return any(found.exists() for found in rows) or AuditEntry.objects.filter(actor_id=user.pk).exists()
