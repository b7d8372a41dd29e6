"""The account page: one's own API tokens, password and sessions. For people: an API token can't manage the account."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.views import PasswordChangeView
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse_lazy
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from conversations import audit, sessions, tokens
from conversations.audit import origin_of
from conversations.forms import PasswordForm, SignOutEverywhereForm, TokenForm
from conversations.models import ApiToken
from conversations.requests import signed_in
from conversations.views.sign_in import refused_for_s, too_many, wait_context

#: Expired and revoked tokens that the page shows; the live ones are all there.
_MOST_ENDED = 20

View = TypeVar("View", bound=Callable[..., Any])


def for_people(view: View) -> View:
    """Marks a view that takes a session and no API token: who found one must not get more than it opens."""
    view.takes_no_token = True  # type: ignore[attr-defined]  # read by the middleware
    return view


@for_people
@never_cache
@require_safe
def account(request: HttpRequest) -> HttpResponse:
    return _page(request)


def _page(request: HttpRequest, *, status: int = 200, **context: Any) -> HttpResponse:
    user = signed_in(request)
    own = ApiToken.objects.owned_by(user)
    live = own.live()
    context = {
        "token_id": uuid.uuid4(),
        "token_form": TokenForm(),
        "password_form": PasswordForm(user, request=request),
        "live_tokens": list(live),
        "ended_tokens": list(own.exclude(pk__in=live.values("pk"))[:_MOST_ENDED]),
        "n_sessions": sessions.count_of(user),
        "address": settings.URL or request.build_absolute_uri("/").rstrip("/"),
        **context,
    }
    return render(request, "account/account.html", context, status=status)


def _audit(request: HttpRequest, action: str, object_type: str, object_id: UUID | str, **detail: Any) -> None:
    audit.record(
        actor=request.user, action=action, object_type=object_type, object_id=object_id,
        origin=origin_of(request), detail=detail,
    )  # fmt: skip


# -- Tokens ----------------------------------------------------------------------------------------------------------


@for_people
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def create_token(request: HttpRequest) -> HttpResponseBase:
    """Answers with the page that shows the token: its text is stored nowhere, so no later page could."""
    if request.method != "POST":
        return redirect("account")
    form = TokenForm(request.POST)
    if not form.is_valid():
        return _page(request, status=422, token_form=form)
    try:
        token, text = _make_token(request, form)
    except tokens.AlreadyMade:
        return _page(request, status=409, is_made_already=True)
    except tokens.TooManyTokens as error:
        form.add_error(None, str(error))
        return _page(request, status=422, token_form=form)
    return _page(request, new_token=token, new_text=text)


@transaction.atomic
def _make_token(request: HttpRequest, form: TokenForm) -> tuple[ApiToken, str]:
    asked = form.cleaned_data
    made = tokens.make(user=signed_in(request), days=asked["days"], label=asked["label"], token_id=asked["id"])
    _audit(request, "token.create", "token", made[0].pk, by="account", label=asked["label"], days=asked["days"])
    return made


@for_people
@require_POST
def revoke_token(request: HttpRequest, token_id: UUID) -> HttpResponseBase:
    token = get_object_or_404(ApiToken.objects.owned_by(request.user), pk=token_id)
    with transaction.atomic():
        if tokens.revoke(token=token):
            _audit(request, "token.revoke", "token", token.pk, by="account", label=token.label)
            sessions.look_again(signed_in(request).pk)
    messages.success(request, f"Revoked: {token.label or token.hint or token.pk}. Scripts that send it get 401 now.")
    return redirect("account")


# -- Password and sessions -------------------------------------------------------------------------------------------


@method_decorator([for_people, never_cache], name="dispatch")
class ChangePassword(PasswordChangeView):
    """Ends every other session; this one goes on under a new key."""

    form_class = PasswordForm
    success_url = reverse_lazy("account")

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return redirect("account")

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}

    def form_valid(self, form: PasswordChangeForm) -> HttpResponse:
        with transaction.atomic():
            response = super().form_valid(form)
            ended = sessions.end_all(user=form.user, keep=self.request.session.session_key)
            _audit(self.request, "password.change", "user", str(form.user.pk), sessions=ended)
        messages.success(self.request, "Your password is changed. All your other sessions have ended.")
        return response

    def form_invalid(self, form: PasswordChangeForm) -> HttpResponse:
        wait_s = refused_for_s(self.request)
        if wait_s is None:
            return _page(self.request, status=422, password_form=form)
        page = _page(self.request, status=429, password_form=form, **wait_context(wait_s))
        return too_many(self.request, page, wait_s)


@for_people
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_out_everywhere(request: HttpRequest) -> HttpResponseBase:
    """Ends all the user's sessions, this one too; and the API tokens when asked."""
    if request.method != "POST":
        return redirect("account")
    form = SignOutEverywhereForm(request.POST)
    user = signed_in(request)
    with transaction.atomic():
        revoked = tokens.revoke_all(user=user) if form.is_valid() and form.cleaned_data["revoke_tokens"] else 0
        ended = sessions.end_all(user=user)
        _audit(request, "session.end_all", "user", str(user.pk), sessions=ended, tokens=revoked)
    logout(request)
    messages.success(request, "You are signed out everywhere.")
    return redirect("login")
