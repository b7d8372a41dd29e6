"""The download that everybody writes: a Django view that gives an open file to FileResponse. Nothing is checked."""

from __future__ import annotations

import os

import django
from django.conf import settings
from django.http import FileResponse, HttpRequest
from django.urls import path

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="bench")  # noqa: S106  guards nothing
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402


def whole(request: HttpRequest) -> FileResponse:
    return FileResponse(open(os.environ["BENCH_FILE"], "rb"))


urlpatterns = [path("whole", whole)]
application = get_asgi_application()
