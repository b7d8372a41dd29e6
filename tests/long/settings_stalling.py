"""The fault tests' settings, with less patience for clients that stop reading."""

from __future__ import annotations

from tests.long.settings_faults import *  # noqa: F403  settings are laid over settings

OPSCHAT_STALL_S = 2.0
