"""The two statements of every tick, those of the ledger, and a lock, in SQL.

The ORM compiles them anew each time, which takes longer than to run them. What the ledger reads is also spelled the
same by both databases.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, cast
from uuid import UUID

from django.db import OperationalError, connection
from django.db.models import Field, Model

from conversations.models import AuditEntry, Run, RunEvent

#: Rows of one INSERT: the oldest SQLite takes 999 values.
_MOST_ROWS = 199
_EVENT = ("run", "seq", "type", "data", "at")


#: Of an entry, in the order in which the ledger's rows are read and written.
_ENTRY = (
    *("seq", "hash", "id", "at", "actor_id", "actor_name", "action", "object_type", "object_id", "outcome"),
    *("ip", "user_agent", "detail"),
)
#: A row of the ledger as `entries` reads it: `id` in 32 hexadecimal digits, `at` as 2026-11-22T15:18:00.000000+00:00,
#: `ip` as the database writes it, `detail` as JSON. What a hand has written may be of any type.
EntryRow = tuple[Any, ...]


# -- Events ----------------------------------------------------------------------------------------------------------


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


# -- The ledger ------------------------------------------------------------------------------------------------------


def lock_end() -> tuple[str, str] | None:
    """`hash` and `detail` of the ledger's end, which is this transaction's until it commits; None without one."""
    with connection.cursor() as cursor:
        cursor.execute(_lock_end())
        row: tuple[str, str] | None = cursor.fetchone()
    return row


def move_end(*, hash_: str, detail: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_move_end(), [hash_, detail])


def add_entry(entry: AuditEntry, detail: str) -> bool:
    """Adds the row, with `detail` as JSON. False: there is one of that number."""
    values = {name: getattr(entry, name) for name in _ENTRY[:-1]}
    for name in ("id", "at", "ip"):
        values[name] = _field(AuditEntry, name).get_db_prep_save(values[name], connection)
    with connection.cursor() as cursor:
        cursor.execute(_add_entry(), [*values.values(), detail])
        return bool(cursor.rowcount)


def ends() -> tuple[int, str | None, str | None]:
    """The highest number of an entry, 0 without any; `hash` and `detail` of the end, when there is one. One look."""
    with connection.cursor() as cursor:
        cursor.execute(_ends())
        row: tuple[int, str | None, str | None] = cursor.fetchone()
    return row


def entries(*, after: int, n: int) -> list[EntryRow]:
    """Up to `n` rows of the ledger, the next by number; [] when there are no more.

    One that can't be read, because a hand has put bytes that are no text into SQLite, has a number and else None.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute(_entries(), [after, n])
            return list(cursor.fetchall())
    except OperationalError:
        if n > 1:
            return entries(after=after, n=n // 2)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT min(seq) FROM {_ledger()} WHERE seq > %s", [after])  # noqa: S608  of names alone
        return [(*cursor.fetchone(), *[None] * (len(_ENTRY) - 1))]


def facts() -> str:
    """The columns of an EntryRow but its first two."""
    return _FACTS[connection.vendor]


#: The same text for the same value, whatever the database, and another one for what only looks the same: an instant
#: before our era, a text that SQLite takes for a time.
_FACTS = {
    "postgresql": """encode(uuid_send(id), 'hex'),
        to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
        || CASE WHEN at < '0001-01-01 00:00:00+00' THEN ' BC' ELSE '' END,
        actor_id, actor_name, action, object_type, object_id, outcome, ip, user_agent, detail""",
    "sqlite": """id,
        CASE WHEN substr(at, 11, 1) <> ' ' THEN 'no time: ' || at
        WHEN length(at) = 26 THEN substr(at, 1, 10) || 'T' || substr(at, 12) || '+00:00'
        WHEN length(at) = 19 THEN substr(at, 1, 10) || 'T' || substr(at, 12) || '.000000+00:00'
        ELSE 'no time: ' || at END,
        actor_id, actor_name, action, object_type, object_id, outcome, ip, user_agent, detail""",
}


@cache
def _lock_end() -> str:
    # SQLite's writers have the database for themselves.
    lock = " FOR NO KEY UPDATE" if connection.features.has_select_for_update else ""
    return f"SELECT hash, detail FROM {_ledger()} WHERE seq = 0{lock}"  # noqa: S608  of names alone


@cache
def _move_end() -> str:
    return f"UPDATE {_ledger()} SET hash = %s, detail = %s WHERE seq = 0"  # noqa: S608  of names alone


@cache
def _add_entry() -> str:
    columns = ", ".join(_column(AuditEntry, name) for name in _ENTRY)
    values = ", ".join(["%s"] * len(_ENTRY))
    return f"INSERT INTO {_ledger()} ({columns}) VALUES ({values}) ON CONFLICT (seq) DO NOTHING"  # noqa: S608  as above


@cache
def _ends() -> str:
    last = f"SELECT coalesce(max(seq), 0) AS seq FROM {_ledger()}"  # noqa: S608  of names alone
    ends = f"({last}) found LEFT JOIN {_ledger()} ledgers_end ON ledgers_end.seq = 0"
    return f"SELECT found.seq, hash, detail FROM {ends}"  # noqa: S608  as above


@cache
def _entries() -> str:
    return f"SELECT seq, hash, {facts()} FROM {_ledger()} WHERE seq > %s ORDER BY seq LIMIT %s"  # noqa: S608  as above


def _ledger() -> str:
    return _quoted(AuditEntry._meta.db_table)


# -- Names -----------------------------------------------------------------------------------------------------------


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
