"""What is said where nothing can be shown: as a page or as the contract's error object."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponseBase, JsonResponse
from django.views import defaults

from conversations.requests import error_body


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """404 as the caller reads it: the page for a browser, else the contract's error object."""
    if _wants_page(request):
        return defaults.page_not_found(request, exception)
    said = exception.args[0] if isinstance(exception, Http404) and exception.args else None
    message = said if isinstance(said, str) else "There is nothing at this address, or it isn't yours."
    return JsonResponse(error_body("not_found", message), status=404)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """500 in the same two forms; the log has the details."""
    if _wants_page(request):
        return defaults.server_error(request)
    return JsonResponse(error_body("internal_error", "Something went wrong; the server's log has it."), status=500)


def _wants_page(request: HttpRequest) -> bool:
    return "text/html" in request.headers.get("Accept", "")
