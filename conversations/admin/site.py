"""The admin's own pages: one sign-in for everything, and nothing for who is not staff."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import BadRequest
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from conversations.runs import InvalidRequest, check_text


def has_permission(request: HttpRequest) -> bool:
    """Raises Http404 for signed-in people who are not staff: sign-in would not help them, they would go round."""
    if not request.user.is_authenticated:
        return False
    if not (request.user.is_active and request.user.is_staff):
        raise Http404
    return True


@login_not_required
def login(request: HttpRequest, extra_context: Any = None) -> HttpResponse:
    """To the site's own sign-in, which is the one that is throttled."""
    home = reverse("admin:index")
    if has_permission(request):
        return HttpResponseRedirect(home)
    query = urlencode({REDIRECT_FIELD_NAME: request.GET.get(REDIRECT_FIELD_NAME, home)})
    return HttpResponseRedirect(f"{reverse('login')}?{query}")


def password_change(request: HttpRequest, extra_context: Any = None) -> HttpResponse:
    """To the account page, which also signs the other browsers out."""
    return HttpResponseRedirect(reverse("account"))


def admin_view(view: Callable[..., Any], cacheable: bool = False) -> Callable[..., Any]:
    """Raises BadRequest for what no database takes, whatever the filter or search it is meant for."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            for name, values in request.GET.lists():
                for value in values:
                    check_text(name.replace("\x00", ""), name + value)
        except InvalidRequest as error:
            raise BadRequest(error.message) from error
        return view(request, *args, **kwargs)

    return admin.AdminSite.admin_view(admin.site, checked, cacheable)


def get_urls() -> list[Any]:
    """Without the shortcut to an object by its type, which asks nobody whether it may be seen."""
    found = admin.AdminSite.get_urls(admin.site)
    return [pattern for pattern in found if getattr(pattern, "name", "") != "view_on_site"]


admin.site.site_title = admin.site.site_header = "opschat review"
admin.site.index_title = "What happened"
admin.site.has_permission = has_permission  # type: ignore[method-assign]  # the site's, which Django makes
admin.site.admin_view = admin_view  # type: ignore[method-assign,assignment]
admin.site.password_change = password_change  # type: ignore[method-assign,assignment]
admin.site.login = login  # type: ignore[method-assign]
admin.site.get_urls = get_urls  # type: ignore[method-assign]
