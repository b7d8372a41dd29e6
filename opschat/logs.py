"""What is logged, and what of it is left out."""

from __future__ import annotations

import logging
import re


def _refusals_are_lines(record: logging.LogRecord) -> bool:
    """Takes the stack, and the level of an error, from requests answered 4xx: the mistake is the client's."""
    if getattr(record, "status_code", None) in range(400, 500):
        record.exc_info = None
        record.levelno = min(record.levelno, logging.WARNING)
        record.levelname = logging.getLevelName(record.levelno)
    return True


_LINK = re.compile(r"(/exports/open/)[^/\s]+")


def _links_are_secret(record: logging.LogRecord) -> bool:
    """An address that opens a file without a session is nothing for a log."""
    if isinstance(record.args, tuple):
        record.args = tuple(_LINK.sub(r"\1…", arg) if isinstance(arg, str) else arg for arg in record.args)
    record.msg = _LINK.sub(r"\1…", record.msg) if isinstance(record.msg, str) else record.msg
    return True


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "refusals": {"()": "django.utils.log.CallbackFilter", "callback": _refusals_are_lines},
        "links": {"()": "django.utils.log.CallbackFilter", "callback": _links_are_secret},
    },
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["refusals", "links"]}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "conversations": {"level": "INFO"},
        "inventory": {"level": "INFO"},
        # A line for each wrong password says nothing that the audit trail doesn't.
        "axes": {"level": "ERROR"},
        # A traceback each second that Redis is away; the bus says it once.
        "channels_redis": {"level": "CRITICAL", "propagate": False},
    },
}
