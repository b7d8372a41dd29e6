"""The review: staff read what `visible_to` lets them read. Nothing can be changed here but accounts, by superusers."""

from __future__ import annotations

from conversations.admin import chat, exports, people, runs, site, trail

__all__ = ["chat", "exports", "people", "runs", "site", "trail"]
