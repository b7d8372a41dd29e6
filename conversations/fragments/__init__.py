"""Rows and events to HTML: the one place that draws, for page load and for live frames alike."""

from __future__ import annotations

from conversations.fragments.blocks import CodeBlock, choices, code_block, title_of
from conversations.fragments.frames import article, frame, new_run_frame, sidebar_frame, snapshot_frame
from conversations.fragments.page import THEMES, history, labels, page_context, start_tables
from conversations.fragments.quantities import size
from conversations.fragments.states import Mark, RunState, exports_shown
from conversations.fragments.understood import chips

__all__ = [
    "THEMES",
    "CodeBlock",
    "Mark",
    "RunState",
    "article",
    "chips",
    "choices",
    "code_block",
    "exports_shown",
    "frame",
    "history",
    "labels",
    "new_run_frame",
    "page_context",
    "sidebar_frame",
    "size",
    "snapshot_frame",
    "start_tables",
    "title_of",
]
