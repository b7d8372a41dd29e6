"""Requests that a tool has declared itself: "who works on {asset}" is its call with the argument `asset`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from conversations.pipeline.engine import ToolCall
from conversations.pipeline.tools import SpokenTool

_SLOT = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_QUOTES = "\"'“”’«»"
#: One word, or several in quotes.
_TEXT = r"(?P<%s>[\"“«][^\"”»]+[\"”»]|[^\s\"“«]+?)"


def find(text: str, tools: Iterable[SpokenTool]) -> ToolCall | None:
    """The call that the whole text is; of several the first declared one."""
    for tool in tools:
        for phrasing in tool.phrasings:
            if found := _pattern(phrasing).fullmatch(text):
                arguments = {name: value.strip(_QUOTES) for name, value in found.groupdict().items()}
                return ToolCall(tool=tool.name, arguments=arguments)
    return None


def shown(phrasing: str) -> str:
    """The phrasing as an example: "who works on …"."""
    return _SLOT.sub("…", phrasing)


@cache
def _pattern(phrasing: str) -> re.Pattern[str]:
    """Case-blind, with any spaces, and courtesy and punctuation around it."""
    parts = _SLOT.split(phrasing.strip())
    pieces = [_TEXT % part if at % 2 else _words(part) for at, part in enumerate(parts)]
    return re.compile(rf"(?i)\s*(?:please,?\s+)?{''.join(pieces)}(?:,?\s+please)?[\s?.!]*")


def _words(text: str) -> str:
    return r"\s+".join(re.escape(word) for word in text.split(" "))
