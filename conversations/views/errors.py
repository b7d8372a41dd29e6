"""What is said where nothing can be shown: as a page or as the contract's error object."""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import BadRequest, TooManyFieldsSent
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.views import defaults

from conversations.requests import is_from_here, refusal, wants_page


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """What could not be read: a value in the address, too many fields, a host name that is not ours."""
    if isinstance(exception, TooManyFieldsSent):
        message = f"The form has more than {settings.DATA_UPLOAD_MAX_NUMBER_FIELDS:,} fields."
    else:
        message = str(exception) if isinstance(exception, BadRequest) else "The server did not understand this request."
    return refusal(request, 400, "invalid_request", message)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    return refusal(request, 403, "forbidden", "Your account may not do this.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    said = exception.args[0] if isinstance(exception, Http404) and exception.args else None
    message = said if isinstance(said, str) else "There is nothing at this address, or it isn't yours."
    return refusal(request, 404, "not_found", message)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """The log has the details. The page is drawn without a context: what broke may be in there."""
    if wants_page(request):
        return defaults.server_error(request)
    return refusal(request, 500, "internal_error", "Something went wrong; the server's log has it.")


def not_sent(request: HttpRequest, reason: str = "") -> HttpResponseBase:
    """A form without a valid CSRF token. What was typed is on the page, when it came from one of ours."""
    is_ours = is_from_here(request)
    draft, back = (request.POST.get("text", ""), request.headers["Referer"]) if is_ours else ("", "")
    return render(request, "403_csrf.html", {"draft": draft, "back": back}, status=403)
