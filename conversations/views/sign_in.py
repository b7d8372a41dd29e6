"""Signing in and out, and what django-axes asks of us to throttle it (settings: AXES_…)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from math import ceil
from typing import Any
from urllib.parse import urlsplit

from axes.handlers.proxy import AxesProxyHandler
from django.conf import settings
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.decorators import method_decorator

from conversations import audit
from conversations.audit import origin_of
from conversations.forms import SignInForm

#: Characters of a name that django-axes can store.
_MAX_NAME = 255
#: What one household or server rents: whoever has one address of it has them all.
_IPV6_PREFIX = 64


class SignIn(LoginView):
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def get_redirect_url(self) -> str:
        """Back to where one was, unless that was this page: Django takes it for a loop."""
        url = super().get_redirect_url()
        return "" if urlsplit(url).path == self.request.path else url

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_valid(form)
        user = form.get_user()
        audit.record(
            actor=user,
            action="session.start",
            object_type="user",
            object_id=str(user.pk),
            origin=origin_of(self.request),
        )
        return response

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        wait_s = refused_for_s(self.request)
        if wait_s is None:
            return super().form_invalid(form)
        context = self.get_context_data(form=form, **wait_context(wait_s))
        return too_many(self.request, self.render_to_response(context, status=429), wait_s)


@method_decorator(login_not_required, name="dispatch")
class SignOut(LogoutView):
    """Also for those whose session has ended meanwhile: they get where they wanted."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if SESSION_KEY in request.session:
            audit.record(
                actor=request.user,
                action="session.end",
                object_type="user",
                object_id=str(request.user.pk),
                origin=origin_of(request),
            )
        return super().post(request, *args, **kwargs)


# -- Throttling ------------------------------------------------------------------------------------------------------


def throttled_name(request: HttpRequest, credentials: Mapping[str, Any] | None) -> str | None:
    """The name that failures are counted for: spellings that differ in case share their tries.

    Django tells accounts apart by case, but nobody means two by that. It comes from the form stripped and in NFKC.
    """
    name = (credentials or {}).get("username")
    return str(name).casefold()[:_MAX_NAME] if name is not None else None


def throttled_address(request: HttpRequest) -> str | None:
    """The address that failures are counted for: that of the audit trail; of IPv6 the network."""
    ip = origin_of(request).ip
    if ip is None:
        return None
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv4Address):
        return ip
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False).network_address)


def refused_for_s(request: Any) -> int | None:
    """Seconds for which the account just tried is locked for this address; None when it isn't. Audits a new lockout."""
    if not getattr(request, "axes_locked_out", False):
        return None
    if request.axes_failures_since_start is not None:  # counted just now, so this try was the one too many
        _audit_lockout(request)
    return _wait_s(request)


def _wait_s(request: Any) -> int:
    """Until so many of the failures are too old that fewer than the limit are left."""
    (attempts,) = AxesProxyHandler.get_implementation().get_user_attempts(request, request.axes_credentials)
    rows = list(attempts.order_by("attempt_time").values_list("attempt_time", "failures_since_start"))
    n_left = sum(n for _, n in rows)
    for at, n in rows:
        n_left -= n
        if n_left < settings.AXES_FAILURE_LIMIT:
            return max(1, int((at + settings.AXES_COOLOFF_TIME - timezone.now()).total_seconds()) + 1)
    return 1


def _audit_lockout(request: Any) -> None:
    """Names the account when there is one. What else was typed as a name may be a password."""
    name = request.axes_credentials["username"]
    user = get_user_model().objects.filter(username=name).first()
    audit.record(
        actor=None,
        action="session.lockout",
        object_type="user",
        object_id=str(user.pk) if user else "",
        outcome=audit.Outcome.DENIED,
        origin=origin_of(request),
        detail={"username": user.get_username()} if user else {},
    )


def wait_context(wait_s: int) -> dict[str, int]:
    """For `registration/_wait.html`."""
    return {"wait_s": wait_s, "wait_minutes": ceil(wait_s / 60)}


def too_many(request: Any, response: HttpResponse, wait_s: int) -> HttpResponse:
    """Makes the response the one that a try while locked out gets."""
    response["Retry-After"] = str(wait_s)
    request.lockout_answer = response
    return response


def locked_out(request: Any, *_: Any) -> HttpResponse:
    """For django-axes, which puts this in the place of the view's response: that one, or our sign-in page.

    Its other arguments are not to be used: they come in another order under ASGI (axes 8.3.1).
    """
    if hasattr(request, "lockout_answer"):
        return request.lockout_answer  # type: ignore[no-any-return]  # set above
    wait_s = _wait_s(request)
    context = {"form": SignInForm(request), "next": "", **wait_context(wait_s)}
    return too_many(request, render(request, "registration/login.html", context, status=429), wait_s)
