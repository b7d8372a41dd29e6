"""Statements in SQL: the two of every tick, which the ORM compiles anew each time, and a lock that it doesn't know."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, cast
from uuid import UUID

from django.db import connection
from django.db.models import Field, Model

from conversations.models import Run, RunEvent

#: Rows of one INSERT: the oldest SQLite takes 999 values.
_MOST_ROWS = 199
_EVENT = ("run", "seq", "type", "data", "at")


def insert_events(rows: Sequence[tuple[UUID, int, str, str, datetime]]) -> None:
    """Adds RunEvents: run, number, type, fields as JSON, time."""
    run, at = _field(RunEvent, "run"), _field(RunEvent, "at")
    with connection.cursor() as cursor:
        for first in range(0, len(rows), _MOST_ROWS):
            values: list[Any] = []
            for run_id, seq, kind, data, when in rows[first : first + _MOST_ROWS]:
                values += (
                    run.get_db_prep_save(run_id, connection), seq, kind, data, at.get_db_prep_save(when, connection)
                )  # fmt: skip
            row = f"({', '.join(['%s'] * len(_EVENT))})"
            n_rows = len(values) // len(_EVENT)
            cursor.execute(f"{_insert()} {', '.join([row] * n_rows)}", values)


def advance(*, run_id: UUID, owner: str, attempt: int, last_seq: int) -> bool:
    """Sets `last_seq` of a run that this owner executes in this attempt. False: it doesn't any more."""
    key = Run._meta.pk.get_db_prep_save(run_id, connection)
    with connection.cursor() as cursor:
        cursor.execute(_advance(), [last_seq, key, owner, attempt, Run.Status.RUNNING.value])
        return bool(cursor.rowcount)


def lock_content(sha256: str) -> None:
    """Until the transaction ends, nobody else stores or deletes what has this digest. SQLite has one writer anyway."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [int(sha256[:15], 16)])


@cache
def _insert() -> str:
    columns = ", ".join(_column(RunEvent, name) for name in _EVENT)
    return f"INSERT INTO {_quoted(RunEvent._meta.db_table)} ({columns}) VALUES"


@cache
def _advance() -> str:
    fence = " AND ".join(f"{_column(Run, name)} = %s" for name in ("id", "owner", "attempt", "status"))
    # Of names alone: every value is a parameter.
    return f"UPDATE {_quoted(Run._meta.db_table)} SET {_column(Run, 'last_seq')} = %s WHERE {fence}"  # noqa: S608


def _column(model: type[Model], name: str) -> str:
    return _quoted(_field(model, name).get_attname_column()[1])


def _field(model: type[Model], name: str) -> Field[Any, Any]:
    return cast("Field[Any, Any]", model._meta.get_field(name))


def _quoted(name: str) -> str:
    return connection.ops.quote_name(name)
