"""Addresses that Django answers: pages, runs and files (HTTP contract). The streaming ones are in `stream`."""

from __future__ import annotations

from django.urls import path

from conversations import api
from conversations.views import chat

urlpatterns = [
    path("", chat.home, name="home"),
    path("theme/", chat.theme, name="theme"),
    # /conversations/
    path("conversations/", chat.conversations, name="conversations"),
    path("conversations/<uuid:conversation_id>/", chat.conversation, name="conversation"),
    path("conversations/<uuid:conversation_id>/messages/", chat.messages, name="messages"),
    path(
        "messages/<uuid:message_id>/blocks/<int:number>/code.<slug:extension>",
        chat.code_download,
        name="code-download",
    ),
    # /pipeline/
    path("pipeline/runs/<uuid:run_id>", api.run_detail, name="run"),
    # /exports/
    path("exports/<uuid:export_id>/", api.export_download, name="export"),
    path("exports/<uuid:export_id>/preview", api.export_preview, name="export-preview"),
]
