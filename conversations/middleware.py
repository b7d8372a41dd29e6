"""Who is calling: a bearer token or a session; what a signed-out caller is told; and what holds of every answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import render
from django.urls import Resolver404, resolve
from django.utils.http import url_has_allowed_host_and_scheme

from conversations import tokens
from conversations.requests import error_body, is_from_here, refusal, wants_page


def not_authenticated(message: str) -> JsonResponse:
    response = JsonResponse(error_body("not_authenticated", message), status=401)
    response["WWW-Authenticate"] = "Bearer"
    return response


class AnswersMiddleware:
    """Refuses a body that is too large before anything reads it, gives words to a 405, and keeps answers out of caches.

    Django itself looks at the declared length alone, and only when the form is read; its 405 is an empty page.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._refused(request) or self.get_response(request)
        if isinstance(response, HttpResponseNotAllowed):
            response = _worded(request, response)
        # A proxy must not hand it to somebody else, nor "back" show it after signing out.
        response.headers.setdefault("Cache-Control", "private, no-store")
        return response

    def _refused(self, request: HttpRequest) -> HttpResponse | None:
        limit: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        declared = request.headers.get("Content-Length", "")
        if "Transfer-Encoding" in request.headers:
            return refusal(request, 411, "invalid_request", "Send the body's length: a Content-Length header.")
        if not declared.isdecimal() or int(declared) <= limit:
            return None
        if not _takes_files(request):
            return refusal(request, 413, "too_large", f"The body has more than {limit // 1024} KiB.")
        # The file, and as much as any form for the rest.
        if int(declared) > settings.OPSCHAT_MAX_UPLOAD + limit:
            most = settings.OPSCHAT_MAX_UPLOAD // 1024**2
            return refusal(request, 413, "too_large", f"The file has more than {most} MB.")
        return None


def _takes_files(request: HttpRequest) -> bool:
    """Whether the view says so, by its attribute `takes_files`."""
    try:
        return getattr(resolve(request.path_info).func, "takes_files", False)
    except Resolver404:
        return False


def _worded(request: HttpRequest, response: HttpResponseNotAllowed) -> HttpResponse:
    words = refusal(request, 405, "invalid_request", f"Use {response.headers['Allow']} here.")
    words.headers["Allow"] = response.headers["Allow"]
    return words


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
        if not wants_page(request) or "HX-Request" in request.headers:
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
