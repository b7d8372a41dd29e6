"""Who is calling: a bearer token or a session; and what a signed-out caller is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme

from conversations import tokens
from conversations.requests import error_body, is_from_here


def not_authenticated(message: str) -> JsonResponse:
    response = JsonResponse(error_body("not_authenticated", message), status=401)
    response["WWW-Authenticate"] = "Bearer"
    return response


class TokenMiddleware:
    """A valid bearer token makes its user the caller, without a CSRF token; a bad one is 401, whatever the session."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        text = tokens.bearer(request.headers.get("Authorization", ""))
        if text is None:
            return self.get_response(request)
        token = tokens.find(text)
        if token is None:
            return not_authenticated("The token is unknown, expired or revoked; make a new one on the account page.")
        request.user = token.user
        request.api_token = token  # type: ignore[attr-defined]  # read below
        # The flag that Django's own CSRF check reads: a browser never sends this header by itself.
        request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]
        return self.get_response(request)


class SignInMiddleware(LoginRequiredMiddleware):
    """Every view needs a caller: pages lead to sign-in, anything else is 401."""

    def process_view(
        self, request: HttpRequest, view_func: Callable[..., Any], view_args: Any, view_kwargs: Any
    ) -> HttpResponseBase | None:
        if hasattr(request, "api_token") and getattr(view_func, "takes_no_token", False):
            return not_authenticated("This takes a signed-in browser, not an API token.")
        return super().process_view(request, view_func, view_args, view_kwargs)

    def handle_no_permission(  # type: ignore[override]  # Django allows any response
        self, request: HttpRequest, view_func: Callable[..., Any]
    ) -> HttpResponseBase:
        if "text/html" not in request.headers.get("Accept", "") or "HX-Request" in request.headers:
            return not_authenticated("Sign in, or send a token: Authorization: Bearer <token>.")
        if request.method in ("GET", "HEAD"):
            return super().handle_no_permission(request, view_func)
        # A form sent from a page that was open when the session ended. Going back loads the page anew (no-store), so
        # what was typed is on this one.
        shown = {"next": _came_from(request), "draft": _draft(request)}
        return render(request, "registration/signed_out.html", shown, status=401)


def _came_from(request: HttpRequest) -> str:
    """The page that the form was on, when it is one of ours."""
    referrer = request.headers.get("Referer", "")
    is_ours = url_has_allowed_host_and_scheme(referrer, {request.get_host()}, require_https=request.is_secure())
    return urlsplit(referrer).path if referrer and is_ours else "/"


def _draft(request: HttpRequest) -> str:
    """What was typed, when one of our own pages sent it."""
    return request.POST.get("text", "") if is_from_here(request) else ""
