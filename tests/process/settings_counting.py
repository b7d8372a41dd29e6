"""The tests' settings with the engine that tells what the server holds."""

from __future__ import annotations

from tests.settings import *  # noqa: F403  settings are laid over settings

OPSCHAT_ENGINES = {"counting": "tests.process.counting.CountingEngine"}
OPSCHAT_ENGINE = "counting"
