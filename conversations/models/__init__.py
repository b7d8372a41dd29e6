"""The rows of the chat. No I/O and no signals here: writes are in `runs`, `exports`, `audit`, `tokens`, `sessions` and
`event_log`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from conversations.models.access import REVIEW, OwnedQuerySet, Visible
from conversations.models.accounts import ApiToken, BrowserSession
from conversations.models.chat import (
    AuditEntry,
    Conversation,
    Message,
    Run,
    RunEvent,
    RunQuerySet,
    StageRun,
)
from conversations.models.exports import Export, ExportFile, ExportLink

if TYPE_CHECKING:
    from conversations.models.access import Caller

__all__ = [
    "REVIEW",
    "ApiToken",
    "AuditEntry",
    "BrowserSession",
    "Caller",
    "Conversation",
    "Export",
    "ExportFile",
    "ExportLink",
    "Message",
    "OwnedQuerySet",
    "Run",
    "RunEvent",
    "RunQuerySet",
    "StageRun",
    "Visible",
]
