"""The settings and one app more: all that a tool pack needs."""

from __future__ import annotations

from tests.settings import *  # noqa: F403  settings are laid over settings
from tests.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*_APPS, "tests.toypack"]
