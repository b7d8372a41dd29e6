"""System checks: set-ups that can't work are refused with a reason."""

from __future__ import annotations

import ipaddress
import re
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.files.storage import storages
from django.db import Error as DatabaseError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

#: The oldest Redis whose commands the client uses; Valkey counts on from 7.
_OLDEST_REDIS = 6
#: Seconds for Redis's answer, and for a connection to PostgreSQL.
_ANSWER_S = 2
_CONNECT_S = 5


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


@register
def redis_has_postgres_beside_it(**_: Any) -> list[CheckMessage]:
    if not settings.REDIS_URL or settings.DISTRIBUTED:
        return []
    said = (
        "REDIS_URL is set and DATABASE_URL is not: several processes can't share SQLite. "
        "Set DATABASE_URL to a PostgreSQL database, or unset REDIS_URL."
    )
    return [Error(said, id="opschat.E006")]


@register
def no_bench_engine_in_production(**_: Any) -> list[CheckMessage]:
    if not (settings.PRODUCTION and settings.OPSCHAT_ENGINE == "paced"):
        return []
    return [Error("OPSCHAT_ENGINE=paced answers nothing, it is for benchmarks; unset it.", id="opschat.E007")]


@register
def redis_is_an_address(**_: Any) -> list[CheckMessage]:
    if not settings.REDIS_URL or settings.REDIS_URL.startswith(("redis://", "rediss://", "unix://")):
        return []
    return [Error("REDIS_URL is not redis://host:port/0, rediss://… or unix://….", id="opschat.E008")]


@register
def bucket_has_its_extra(**_: Any) -> list[CheckMessage]:
    missing = [name for name in ("boto3", "storages") if find_spec(name) is None]
    if not settings.OPSCHAT_EXPORT_BUCKET or not missing:
        return []
    said = (
        f"OPSCHAT_EXPORT_BUCKET is set, and {' and '.join(missing)} not installed. `make run` installs the extra from "
        "the lock; by hand: pip install '.[s3]'. Or unset it: exports are in the data folder then."
    )
    return [Error(said, id="opschat.E009")]


@register
def endpoint_is_an_address(**_: Any) -> list[CheckMessage]:
    if not settings.OPSCHAT_S3_ENDPOINT or re.fullmatch(r"https?://[^/@\s]+/?", settings.OPSCHAT_S3_ENDPOINT):
        return []
    said = "OPSCHAT_S3_ENDPOINT is not https://host or http://host:port, without a path and without a password."
    return [Error(said, id="opschat.E010")]


# -- What a start finds ----------------------------------------------------------------------------------------------


def trouble_with_database(*, migrated: bool = True) -> str | None:
    """Why the database can't be used now, in words without its password; None: it can.

    `migrated`: it must also have the tables of this version.
    """
    try:
        _connect_once()
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        return f"The database can't be used: {_first_line(error)}"
    if migrated and missing:
        return (
            "The database has not the tables of this version yet: start `manage.py serve`, or run `manage.py migrate`."
        )
    return None


def _connect_once() -> None:
    """Without the pool, which tries for long and doesn't say why it failed."""
    if connection.vendor == "postgresql":
        import psycopg  # noqa: PLC0415  of the extra `scale`

        with connection.wrap_database_errors:
            psycopg.connect(**{"connect_timeout": _CONNECT_S, **connection.get_connection_params()}).close()


def trouble_with_redis() -> str | None:
    """Why Redis can't be used now, in words without its password; None: it can, or none is set."""
    if not settings.REDIS_URL:
        return None
    import redis  # noqa: PLC0415  the better part of a second of each command, for those that use it

    try:
        client = redis.Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=_ANSWER_S, socket_timeout=_ANSWER_S, retry=None
        )
        with client:
            version: str = client.info("server")["redis_version"]
    except redis.RedisError as error:
        return f"Redis can't be used: {_first_line(error)}"
    if int(version.partition(".")[0]) < _OLDEST_REDIS:
        return f"Redis is version {version}; {_OLDEST_REDIS} or later is needed."
    return None


def trouble_with_bucket() -> str | None:
    """Why the exports' bucket can't be used now, in words without its keys; None: it can, or none is set."""
    if not settings.OPSCHAT_EXPORT_BUCKET:
        return None
    trouble: str | None = storages["exports"].trouble()  # type: ignore[attr-defined]  # a BucketStorage
    return trouble


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
