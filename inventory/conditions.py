"""A query's filters as database conditions. `ne`, `not_in` … are all rows that `eq`, `in` … are not."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

from django.db.models import F, Q, TextField, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Lower, NullIf

from conversations.pipeline.tools import Cell, FieldSpec, FieldType, Filter, Op, ToolError
from inventory.fields import BY_NAME
from inventory.models import AttributeText
from inventory.values import (
    address_key,
    day_of,
    network_keys,
    read_address,
    read_date,
    read_instant,
    read_number,
    spellings,
)

_ORDERED: tuple[Op, ...] = ("lt", "lte", "gt", "gte")
_SAME: tuple[Op, ...] = ("eq", "ne", "in", "not_in", "is_null", "not_null")
_WORDS: tuple[Op, ...] = (*_SAME, "contains", "not_contains", "starts_with")
OPS: Mapping[FieldType, tuple[Op, ...]] = {
    "id": _SAME,
    "text": _WORDS,
    "address": (*_WORDS, *_ORDERED, "within"),
    "number": (*_SAME, *_ORDERED),
    "date": (*_SAME, *_ORDERED),
    "datetime": (*_SAME, *_ORDERED),
    "list": _WORDS,
}
_OPPOSITES: Mapping[Op, Op] = {"ne": "eq", "not_in": "in", "not_contains": "contains", "not_null": "is_null"}
_BLANK_WHEN_EMPTY: tuple[FieldType, ...] = ("text", "address", "list")
_DAY_LENGTH = len("2026-12-31")


def is_attribute(field: FieldSpec) -> bool:
    """Attributes are the fields that the inventory does not declare."""
    return field.name not in BY_NAME


def value_of(field: FieldSpec) -> Combinable:
    """The field's value as the database computes it, null where it is empty. For tags: their `tag_lines`."""
    if is_attribute(field):
        return AttributeText(field.name)
    if field.type not in _BLANK_WHEN_EMPTY:
        return F(field.name)
    return NullIf(F("tag_text" if field.type == "list" else field.name), Value(""), output_field=TextField())


class Conditions:
    """Builds the conditions of one queryset; `aliases` are what they refer to and go into its `alias()`."""

    def __init__(self) -> None:
        self.aliases: dict[str, Any] = {}
        self._names: dict[str, str] = {}

    def of(self, field: FieldSpec, item: Filter) -> Q:
        """Raises ToolError (code `bad_query`) for an operator that the type has not, or a value that it can't have."""
        if item.op not in OPS[field.type]:
            raise ToolError(f"“{field.title}” can't be asked with “{item.op}”.", code="bad_query")
        if item.op in _OPPOSITES:
            return ~self.of(field, replace(item, op=_OPPOSITES[item.op]))
        if item.op == "is_null":
            return self._is_empty(field)
        values = item.value if isinstance(item.value, tuple) else (item.value,)
        if None in values or (item.op == "in") != isinstance(item.value, tuple):
            raise ToolError(f"“{field.title} {item.op}” was asked with a value of the wrong kind.", code="bad_query")
        return self._any_of(field, "eq" if item.op == "in" else item.op, values)

    def _any_of(self, field: FieldSpec, op: Op, values: tuple[Cell, ...]) -> Q:
        if field.type == "text" and op == "eq":
            return Q(**{f"{self._lower(field)}__in": [text for value in values for text in spellings(str(value))]})
        condition = _NOTHING
        for value in values:
            condition |= self._one(field, op, value)
        return condition

    def _one(self, field: FieldSpec, op: Op, value: Cell) -> Q:
        by_type: Mapping[FieldType, Callable[[FieldSpec, Op, Cell], Q]] = {
            "text": self._words,
            "address": self._address,
            "list": self._tag,
            "number": _number,
            "date": _date,
            "datetime": _instant,
            "id": _id,
        }
        try:
            return by_type[field.type](field, op, value)
        except ValueError as error:
            message = f"“{value}” is {error}: {field.title} can't be compared with it."
            raise ToolError(message, code="bad_query") from error

    def _words(self, field: FieldSpec, op: Op, value: Cell) -> Q:
        """`contains` and `starts_with`, case-blind. A family is contained in its members: Ubuntu is Linux."""
        lookup = "icontains" if op == "contains" else "istartswith"
        marks = field.family(str(value)) if op == "contains" else (str(value),)
        return reduce(or_, (_in_any_case(self._path(field), lookup, mark) for mark in marks))

    def _address(self, field: FieldSpec, op: Op, value: Cell) -> Q:
        if op in ("contains", "starts_with"):
            return self._words(field, op, value)
        if op == "within":
            return Q(ip_key__range=network_keys(str(value)))
        try:
            key = address_key(read_address(str(value)))
        except ValueError:
            if op == "eq":  # no asset has an address that is none
                return _NOTHING
            raise
        return Q(ip_key=key) if op == "eq" else Q(**{f"ip_key__{op}": key}) & ~Q(ip_key="")

    def _tag(self, _field: FieldSpec, op: Op, value: Cell) -> Q:
        before, after = {"eq": ("\n", "\n"), "contains": ("", ""), "starts_with": ("\n", "")}[op]
        return _in_any_case("tag_text", "icontains", f"{before}{str(value).strip()}{after}")

    def _is_empty(self, field: FieldSpec) -> Q:
        if field.type == "list":
            return Q(tag_text="")
        if field.type in _BLANK_WHEN_EMPTY:
            return Q(**{self._path(field): ""})
        return Q(**{f"{field.name}__isnull": True})

    def _path(self, field: FieldSpec) -> str:
        """What a lookup on the field's text begins with; blank, never null, where it is empty."""
        if not is_attribute(field):
            return field.name
        return self._alias(f"text:{field.name}", _text(field))

    def _lower(self, field: FieldSpec) -> str:
        """Lower-cased as the indexes are."""
        return self._alias(f"lower:{field.name}", Lower(_text(field)))

    def _alias(self, meaning: str, expression: Any) -> str:
        """Attribute names may hold anything, aliases may not: they are numbered."""
        name = self._names.setdefault(meaning, f"_text{len(self._names)}")
        self.aliases[name] = expression
        return name


def _text(field: FieldSpec) -> Any:
    if not is_attribute(field):
        return F(field.name)
    return Coalesce(AttributeText(field.name), Value(""), output_field=TextField())


_NOTHING = Q(pk__in=())


def _in_any_case(path: str, lookup: str, text: str) -> Q:
    """SQLite's LIKE is case-blind for ASCII letters only: other letters are tried in the usual cases."""
    condition = Q(**{f"{path}__{lookup}": text})
    for spelling in () if text.isascii() else (text.lower(), text.upper(), text.title(), text.capitalize()):
        condition |= Q(**{f"{path}__{lookup}": spelling})
    return condition


def _lookup(field: FieldSpec, op: Op, value: object) -> Q:
    return Q(**{field.name if op == "eq" else f"{field.name}__{op}": value})


def _number(field: FieldSpec, op: Op, value: Cell) -> Q:
    return _lookup(field, op, read_number(str(value)))


def _date(field: FieldSpec, op: Op, value: Cell) -> Q:
    return _lookup(field, op, read_date(str(value)))


def _instant(field: FieldSpec, op: Op, value: Cell) -> Q:
    """A value without a time means the whole day: `eq` is during it, `gt` is after its end."""
    text = str(value)
    start = read_instant(text)
    if len(text) > _DAY_LENGTH:
        return _lookup(field, op, start)
    end = day_of(start.date() + timedelta(days=1))
    if op == "eq":
        return _lookup(field, "gte", start) & _lookup(field, "lt", end)
    bounds: Mapping[Op, tuple[Op, datetime]] = {
        "lt": ("lt", start),
        "lte": ("lt", end),
        "gt": ("gte", end),
        "gte": ("gte", start),
    }
    return _lookup(field, *bounds[op])


def _id(_field: FieldSpec, _op: Op, value: Cell) -> Q:
    try:
        return Q(pk=uuid.UUID(str(value)))
    except ValueError:  # no asset has an id that is none
        return _NOTHING
