"""System checks: set-ups that can't work are refused with a reason."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register
def engine_exists(**_: Any) -> list[CheckMessage]:
    if settings.OPSCHAT_ENGINE in settings.OPSCHAT_ENGINES:
        return []
    known = ", ".join(sorted(settings.OPSCHAT_ENGINES))
    return [Error(f"OPSCHAT_ENGINE is {settings.OPSCHAT_ENGINE!r}; choose one of: {known}.", id="opschat.E001")]


@register
def one_run_at_least(**_: Any) -> list[CheckMessage]:
    if settings.OPSCHAT_MAX_RUNS >= 1:
        return []
    return [Error("OPSCHAT_MAX_RUNS must be 1 or more.", id="opschat.E002")]


@register(deploy=True)
def no_demo_accounts_in_production(**_: Any) -> list[CheckMessage]:
    if not (settings.PRODUCTION and settings.DEMO):
        return []
    return [Error("Demo accounts are refused in production; unset DEMO.", id="opschat.E003")]
