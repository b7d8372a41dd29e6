"""What has changed between two exports of the same query. On disk, in a database of its own: memory stays flat."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from conversations.formats.table import Table, unguarded

#: Rows of each kind that are kept with the export, for the page.
SAMPLE = 50
_BATCH = 2000

Row = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Numbers of rows, and the first of each kind. Rows are column -> text, changed ones column -> [before, now]."""

    #: The columns that tell rows apart; empty: whole rows were compared, and a changed row is one removed, one added.
    key: list[str]
    n_added: int
    n_removed: int
    n_changed: int
    n_unchanged: int
    #: Columns that only one of the two has; they were not compared.
    columns_added: list[str]
    columns_removed: list[str]
    added: list[Row]
    removed: list[Row]
    #: {"key": {column: text}, "cells": {column: [before, now]}}
    changed: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(old: Table, new: Table, path: Path, *, keys: Sequence[Sequence[str]]) -> Comparison:
    """Compares the columns that both have, by the first of `keys` whose values are present and unique in both.

    `path` is an empty file for the comparison's database; the caller removes it.
    """
    common = [column for column in new.keys if column in set(old.keys)]
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        for name, table in (("old", old), ("new", new)):
            _load(database, name, table, common)
        key = next((list(each) for each in keys if _is_key(database, each, common)), [])
        found = _by_key(database, key, common) if key else _by_row(database, common)
    return Comparison(
        key=key,
        columns_added=[column for column in new.keys if column not in common],
        columns_removed=[column for column in old.keys if column not in common],
        **found,
    )


def _load(database: sqlite3.Connection, name: str, table: Table, common: Sequence[str]) -> None:
    place = {column: n for n, column in enumerate(table.keys)}
    indexes = [place[column] for column in common]
    database.execute(f"CREATE TABLE {name} (number INTEGER PRIMARY KEY, cells TEXT)")
    rows = ((json.dumps([unguarded(row[n]) for n in indexes], ensure_ascii=False),) for row in table.texts())
    for batch in _batches(rows):
        database.executemany(f"INSERT INTO {name} (cells) VALUES (?)", batch)


def _batches(rows: Iterable[tuple[str]]) -> Iterator[list[tuple[str]]]:
    going = iter(rows)
    while batch := list(islice(going, _BATCH)):
        yield batch


def _is_key(database: sqlite3.Connection, key: Sequence[str], common: Sequence[str]) -> bool:
    if not key or any(column not in common for column in key):
        return False
    parts = [f"json_extract(cells, '$[{common.index(column)}]')" for column in key]
    for name in ("old", "new"):
        database.execute(f"ALTER TABLE {name} RENAME TO {name}_raw")
        database.execute(
            f"CREATE TABLE {name} AS SELECT number, cells, json_array({', '.join(parts)}) AS key FROM {name}_raw"
        )
        database.execute(f"DROP TABLE {name}_raw")
        empty = json.dumps([""] * len(key), separators=(",", ":"))
        (is_unique,) = database.execute(
            f"SELECT count(*) = count(DISTINCT key) AND NOT coalesce(max(key = ?), 0) FROM {name}",
            [empty],
        ).fetchone()
        if not is_unique:
            return False
        database.execute(f"CREATE UNIQUE INDEX {name}_key ON {name} (key)")
    return True


_ADDED = "FROM new WHERE NOT EXISTS (SELECT 1 FROM old WHERE old.key = new.key)"
_REMOVED = "FROM old WHERE NOT EXISTS (SELECT 1 FROM new WHERE new.key = old.key)"
_CHANGED = "FROM new JOIN old ON old.key = new.key WHERE old.cells <> new.cells"
_SAME = "FROM new JOIN old ON old.key = new.key WHERE old.cells = new.cells"


def _by_key(database: sqlite3.Connection, key: Sequence[str], common: Sequence[str]) -> dict[str, Any]:
    changed = database.execute(f"SELECT old.cells, new.cells {_CHANGED} ORDER BY new.number LIMIT {SAMPLE}")
    return {
        "n_added": _count(database, _ADDED),
        "n_removed": _count(database, _REMOVED),
        "n_changed": _count(database, _CHANGED),
        "n_unchanged": _count(database, _SAME),
        "added": _sample(database, f"SELECT cells {_ADDED} ORDER BY number LIMIT {SAMPLE}", common),
        "removed": _sample(database, f"SELECT cells {_REMOVED} ORDER BY number LIMIT {SAMPLE}", common),
        "changed": [_difference(json.loads(before), json.loads(now), key, common) for before, now in changed],
    }


def _difference(before: list[str], now: list[str], key: Sequence[str], common: Sequence[str]) -> dict[str, Any]:
    pairs = zip(common, before, now, strict=True)
    return {
        "key": {column: cell for column, cell in zip(common, now, strict=True) if column in key},
        "cells": {column: [old, new] for column, old, new in pairs if old != new},
    }


#: Equal rows may stand several times: their numbers are compared.
_ONLY = (
    "FROM (SELECT cells, count(*) AS n, min(number) AS first FROM {this} GROUP BY cells) AS mine LEFT JOIN "
    "(SELECT cells, count(*) AS n FROM {other} GROUP BY cells) AS its ON its.cells = mine.cells "
    "WHERE mine.n > coalesce(its.n, 0)"
)
_SHARED = (
    "FROM (SELECT cells, count(*) AS n FROM new GROUP BY cells) AS mine "
    "JOIN (SELECT cells, count(*) AS n FROM old GROUP BY cells) AS its ON its.cells = mine.cells"
)


def _by_row(database: sqlite3.Connection, common: Sequence[str]) -> dict[str, Any]:
    added, removed = _ONLY.format(this="new", other="old"), _ONLY.format(this="old", other="new")
    more = "SELECT coalesce(sum(mine.n - coalesce(its.n, 0)), 0)"
    return {
        "n_added": database.execute(f"{more} {added}").fetchone()[0],
        "n_removed": database.execute(f"{more} {removed}").fetchone()[0],
        "n_changed": 0,
        "n_unchanged": database.execute(f"SELECT coalesce(sum(min(mine.n, its.n)), 0) {_SHARED}").fetchone()[0],
        "added": _sample(database, f"SELECT mine.cells {added} ORDER BY first LIMIT {SAMPLE}", common),
        "removed": _sample(database, f"SELECT mine.cells {removed} ORDER BY first LIMIT {SAMPLE}", common),
        "changed": [],
    }


def _count(database: sqlite3.Connection, what: str) -> int:
    return int(database.execute(f"SELECT count(*) {what}").fetchone()[0])


def _sample(database: sqlite3.Connection, query: str, common: Sequence[str]) -> list[Row]:
    return [dict(zip(common, json.loads(cells), strict=True)) for (cells,) in database.execute(query)]
