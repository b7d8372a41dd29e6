"""What a format can't do."""

from __future__ import annotations


class CannotHold(Exception):
    """The format has no room for this table; the message says what to choose instead. Nothing was left out silently."""
