"""Addresses that Django answers: pages, runs and files (HTTP contract). The streaming ones are in `stream`."""

from __future__ import annotations

from django.urls import path

from conversations import api
from conversations.views import account, chat, downloads, exports

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
    # /runs/
    path("runs/<uuid:run_id>/stop/", chat.stop_run, name="stop-run"),
    path("runs/<uuid:run_id>/continue/", chat.continue_run, name="continue-run"),
    # /account/
    path("account/", account.account, name="account"),
    path("account/tokens/", account.create_token, name="create-token"),
    path("account/tokens/<uuid:token_id>/revoke/", account.revoke_token, name="revoke-token"),
    path("account/password/", account.ChangePassword.as_view(), name="change-password"),
    path("account/sign-out-everywhere/", account.sign_out_everywhere, name="sign-out-everywhere"),
    # /pipeline/
    path("pipeline/runs/<uuid:run_id>", api.run_detail, name="run"),
    path("pipeline/runs/<uuid:run_id>/cancel", api.run_cancel, name="run-cancel"),
    path("pipeline/runs/<uuid:run_id>/resume", api.run_resume, name="run-resume"),
    # /exports/
    path("exports/", exports.listing, name="exports"),
    path("exports/<uuid:export_id>/", downloads.export_download, name="export"),
    path("exports/<uuid:export_id>/preview", downloads.export_preview, name="export-preview"),
    path("exports/<uuid:export_id>/copy", downloads.export_copy, name="export-copy"),
    path("exports/<uuid:export_id>/link", downloads.export_link, name="export-link"),
    path("exports/<uuid:export_id>/details/", exports.details, name="export-details"),
    path("exports/<uuid:export_id>/delete/", exports.delete, name="export-delete"),
    path("exports/<uuid:export_id>/again/", exports.again, name="export-again"),
    path("exports/open/<str:token>/<str:filename>", downloads.export_open, name="export-open"),
]
