"""Looks for one row that nearly every request makes, compiled once.

The ORM needs longer to write such a query anew than the database to answer it: 1 to 2 ms against 0.1 ms.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import DateTimeField, Field, IntegerField, Model, QuerySet, UUIDField
from django.db.models.query import ModelIterable

M = TypeVar("M", bound=Model)


class Prepared(Generic[M]):
    """A query for one row whose values alone differ from call to call.

    `build` makes it of as many values as `fields` gives fields, which say of what type they are. It is called once,
    with made-up values, so it may not decide anything by them, nor look at the clock.
    """

    def __init__(self, build: Callable[..., QuerySet[M]], fields: Callable[[], list[Field[Any, Any]]]) -> None:
        self._build = build
        self._fields = fields

    def first(self, *values: Any) -> M | None:
        """The first row, as the ORM would give it."""
        made = self._made
        connection = connections[DEFAULT_DB_ALIAS]
        given = [field.get_db_prep_value(value, connection) for field, value in zip(made.fields, values, strict=True)]
        compiler = copy(made.compiler)
        compiler.connection = connection
        compiler.as_sql = lambda *_: (made.sql, tuple(given[at] if is_given else at for is_given, at in made.places))
        # What the ORM's iterable asks of a queryset.
        asked: Any = SimpleNamespace(
            db=DEFAULT_DB_ALIAS, model=made.model, query=SimpleNamespace(get_compiler=lambda **_: compiler),
            _known_related_objects={},
        )  # fmt: skip
        rows: Any = ModelIterable(asked)
        return next(iter(rows), None)

    @cached_property
    def _made(self) -> _Made:
        connection = connections[DEFAULT_DB_ALIAS]
        fields = self._fields()
        standing_in = [_made_up(field) for field in fields]
        queryset = self._build(*standing_in)[:1]
        compiler: Any = queryset.query.get_compiler(DEFAULT_DB_ALIAS)
        sql, params = compiler.as_sql()
        converters = compiler.get_converters([column for column, *_ in compiler.select])
        compiler.get_converters = lambda _: converters
        known = [field.get_db_prep_value(value, connection) for field, value in zip(fields, standing_in, strict=True)]
        places = [(True, known.index(param)) if param in known else (False, param) for param in params]
        if {at for is_given, at in places if is_given} != set(range(len(fields))):
            raise TypeError("A prepared query has to use each of its values as it is.")
        return _Made(model=queryset.model, fields=fields, compiler=compiler, sql=sql, places=places)


@dataclass(frozen=True, kw_only=True)
class _Made:
    model: type[Model]
    fields: list[Field[Any, Any]]
    compiler: Any
    sql: str
    #: The parameters: the number of the value that is given, or what is always the same.
    places: list[tuple[bool, Any]]


def _made_up(field: Field[Any, Any]) -> Any:
    """A value that no other parameter has."""
    if isinstance(field, UUIDField):
        return uuid.uuid4()
    if isinstance(field, DateTimeField):
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=secrets.randbelow(10**15))
    return secrets.randbelow(2**31) if isinstance(field, IntegerField) else secrets.token_hex()
