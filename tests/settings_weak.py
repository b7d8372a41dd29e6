"""opschat's settings without one of the headers that production has."""

from __future__ import annotations

from opschat.settings import *  # noqa: F403  settings are laid over settings

SECURE_HSTS_SECONDS = 0
