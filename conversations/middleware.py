"""Who is calling: a bearer token or a session; and what a signed-out caller is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponseBase, JsonResponse

from conversations import tokens
from conversations.requests import error_body


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
            return not_authenticated("The token is unknown, expired or revoked; make a new one with create_token.")
        request.user = token.user
        # The flag that Django's own CSRF check reads: a browser never sends this header by itself.
        request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]
        return self.get_response(request)


class SignInMiddleware(LoginRequiredMiddleware):
    """Every view needs a caller: pages lead to sign-in, anything else is 401."""

    def handle_no_permission(  # type: ignore[override]  # Django allows any response
        self, request: HttpRequest, view_func: Callable[..., Any]
    ) -> HttpResponseBase:
        if request.method in ("GET", "HEAD") and "text/html" in request.headers.get("Accept", ""):
            return super().handle_no_permission(request, view_func)
        return not_authenticated("Sign in, or send a token: Authorization: Bearer <token>.")
