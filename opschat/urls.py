"""Addresses of the site."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

from conversations.views.sign_in import SignIn, SignOut

handler400 = "conversations.views.errors.bad_request"
handler403 = "conversations.views.errors.forbidden"
handler404 = "conversations.views.errors.not_found"
handler500 = "conversations.views.errors.server_error"

urlpatterns = [
    path("", include("conversations.urls")),
    path("accounts/login/", SignIn.as_view(), name="login"),
    path("accounts/logout/", SignOut.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    # Asked for by browsers on pages that name no icon, as the admin's.
    path("favicon.ico", login_not_required(RedirectView.as_view(url=static("conversations/favicon.svg")))),
]
