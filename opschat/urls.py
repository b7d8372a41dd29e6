"""Addresses of the site."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView, LogoutView
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

handler404 = "conversations.views.errors.not_found"
handler500 = "conversations.views.errors.server_error"

urlpatterns = [
    path("", include("conversations.urls")),
    path("accounts/login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    # Asked for by browsers on pages that name no icon, as the admin's.
    path("favicon.ico", login_not_required(RedirectView.as_view(url=static("conversations/favicon.svg")))),
]
