from __future__ import annotations

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class ConversationsConfig(AppConfig):
    name = "conversations"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Tool packs are found as Django finds `admin.py`: the chat never imports one.
        autodiscover_modules("tools")
        from conversations import checks  # noqa: F401, PLC0415  registers the system checks
