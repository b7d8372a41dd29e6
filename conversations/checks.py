"""System checks: set-ups that can't work are refused with a reason."""

from __future__ import annotations

import ipaddress
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


@register
def no_demo_accounts_in_production(**_: Any) -> list[CheckMessage]:
    if not (settings.PRODUCTION and settings.DEMO):
        return []
    return [Error("Demo accounts are refused in production; unset DEMO.", id="opschat.E003")]


@register
def others_know_a_name(**_: Any) -> list[CheckMessage]:
    """A server that listens to others but answers to this machine's names alone is a mistake in one of the two."""
    if _is_loopback(settings.HOST) or not all(_is_loopback(name.strip("[]")) for name in settings.ALLOWED_HOSTS):
        return []
    said = (
        f"HOST={settings.HOST} can be reached by others, but no name is set by which they reach it. "
        "Set OPSCHAT_URL to the address people open, or OPSCHAT_ALLOWED_HOSTS to the host names."
    )
    return [Error(said, id="opschat.E004")]


@register
def no_tracebacks_for_others(**_: Any) -> list[CheckMessage]:
    if not settings.DEBUG or _is_loopback(settings.HOST):
        return []
    said = f"OPSCHAT_DEBUG=1 shows tracebacks, and HOST={settings.HOST} can be reached by others; unset one of them."
    return [Error(said, id="opschat.E005")]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
