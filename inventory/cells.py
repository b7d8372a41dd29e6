"""Stored values as tools give them: null for empty, tags joined with `;`, ISO 8601, whole numbers without a point."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

from conversations.pipeline.tools import Cell, FieldSpec, FieldType
from inventory.conditions import is_attribute
from inventory.values import write_instant


def column_of(field: FieldSpec) -> str:
    """The model field that holds it."""
    return "attributes" if is_attribute(field) else field.name


def reader_of(field: FieldSpec) -> Callable[[Any], Cell]:
    """Makes the cell from what `column_of` holds."""
    if is_attribute(field):
        return lambda attributes: attributes.get(field.name)
    return _READERS.get(field.type, _text)


def number(value: float | None) -> Cell:
    return int(value) if value is not None and float(value).is_integer() else value


def _text(value: str | uuid.UUID | None) -> Cell:
    return None if value is None or value == "" else str(value)


def _iso(value: date | None) -> Cell:
    return None if value is None else value.isoformat()


def _instant(value: datetime | None) -> Cell:
    return None if value is None else write_instant(value)


def _joined(value: list[str] | str | None) -> Cell:
    """One tag is given as a text by groups."""
    return (value if isinstance(value, str) else ";".join(value or ())) or None


_READERS: Mapping[FieldType, Callable[[Any], Cell]] = {
    "number": number,
    "date": _iso,
    "datetime": _instant,
    "list": _joined,
}
