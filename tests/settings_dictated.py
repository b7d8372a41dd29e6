"""The tests' settings with the engine whose answers the requests dictate."""

from __future__ import annotations

from tests.settings import *  # noqa: F403  settings are laid over settings

OPSCHAT_ENGINES = {"dictated": "tests.served.ServedEngine"}
OPSCHAT_ENGINE = "dictated"
