"""What the engine understood, as chips: a name and a value each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from conversations.pipeline.tools import Op

_SIGNS: Mapping[Op, str] = {
    "eq": "=",
    "ne": "is not",
    "in": "one of",
    "not_in": "none of",
    "contains": "contains",
    "not_contains": "does not contain",
    "starts_with": "starts with",
    "lt": "<",
    "lte": "≤",
    "gt": ">",
    "gte": "≥",
    "is_null": "is empty",
    "not_null": "is not empty",
    "within": "within",
}


@dataclass(frozen=True, kw_only=True)
class Chip:
    name: str
    value: str


def chips(response: Mapping[str, Any]) -> list[Chip]:
    """From the contract's `response`; empty when nothing needed understanding."""
    return list(_chips(response.get("understood") or {}))


def unused_words(response: Mapping[str, Any], answer: str) -> list[str]:
    """The words that the engine did not use and that the answer doesn't name either: none is passed over in silence."""
    return [word for word in response.get("unused_words", ()) if word not in answer]


def _chips(understood: Mapping[str, Any]) -> Iterator[Chip]:
    for condition in understood.get("filters", ()):
        yield Chip(name=condition["field"], value=_condition(condition))
    if understood.get("group_by"):
        yield Chip(name="counted by", value=", ".join(understood["group_by"]))
    if understood.get("columns"):
        yield Chip(name="columns", value=", ".join(understood["columns"]))
    if understood.get("sort"):
        yield Chip(name="sorted by", value=", ".join(_order(sort) for sort in understood["sort"]))
    if understood.get("limit") is not None:
        yield Chip(name="at most", value=f"{understood['limit']:,}")


def _condition(condition: Mapping[str, Any]) -> str:
    sign, value = _SIGNS[condition["op"]], condition.get("value")
    if value is None:
        return sign
    return f"{sign} {', '.join(map(str, value)) if isinstance(value, list) else value}"


def _order(sort: Mapping[str, Any]) -> str:
    return f"{sort['field']}, descending" if sort.get("direction") == "desc" else str(sort["field"])
