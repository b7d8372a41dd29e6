"""Groups of a query: one row a group, its values and then how many assets it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

from django.db.models import Count, F
from django.db.models.expressions import OrderBy
from django.db.models.functions import Lower

from conversations.pipeline.tools import Cell, Column, FieldSpec, Query, Sort, TableResult, ToolError
from inventory.cells import reader_of
from inventory.conditions import is_attribute, value_of
from inventory.models import AssetQuerySet

COUNT = "count"
CHUNK_ROWS = 2000

Group = tuple[Any, ...]


def groups(assets: AssetQuerySet, query: Query, fields: Sequence[FieldSpec]) -> TableResult:
    """Most assets first unless `query.sort` says otherwise. An asset counts once for each of its tags."""
    sorts = _sorts(query)
    keys = {f"_group{n}": value_of(field) for n, field in enumerate(fields)}
    grouped: Any = assets.order_by().annotate(**keys).values(*keys)
    counted = grouped.annotate(_count=Count("pk")).values_list(*keys, "_count")
    found: Any
    if any(field.type == "list" for field in fields):
        found = _split_tags(counted.iterator(chunk_size=CHUNK_ROWS), fields, sorts)
        matched = len(found)
    else:
        found = counted.order_by(*_order(sorts, fields))
        matched = counted.count()
    return TableResult(
        kind="groups",
        columns=(*(_column(field) for field in fields), Column(name=COUNT, type="number")),
        open_rows=lambda: _read(found if query.limit is None else found[: query.limit], fields),
        matched=matched,
    )


def _column(field: FieldSpec) -> Column:
    return Column(name=field.name, type="text" if field.type == "list" else field.type)


def _sorts(query: Query) -> list[Sort]:
    """What was asked for; then the count and the groups' values, so that the order is always the same."""
    asked = list(query.sort)
    for sort in asked:
        if sort.field not in (*query.group_by, COUNT):
            message = f"Groups can be sorted by their values and by count, not by “{sort.field}”."
            raise ToolError(message, code="bad_query")
    rest = [Sort(field=COUNT, descending=True), *(Sort(field=name) for name in query.group_by)]
    return asked + [sort for sort in rest if sort.field not in {sort.field for sort in asked}]


def _order(sorts: Sequence[Sort], fields: Sequence[FieldSpec]) -> Iterator[OrderBy]:
    index = {field.name: n for n, field in enumerate(fields)}
    for sort in sorts:
        if sort.field == COUNT:
            yield OrderBy(F("_count"), descending=sort.descending)
            continue
        value = F(f"_group{index[sort.field]}")
        if fields[index[sort.field]].type in ("text", "address"):
            yield OrderBy(Lower(value), descending=sort.descending, nulls_last=True)
        yield OrderBy(value, descending=sort.descending, nulls_last=True)


def _split_tags(counted: Iterable[Group], fields: Sequence[FieldSpec], sorts: Sequence[Sort]) -> list[Group]:
    """From one group for each combination of tags to one for each tag. Reads combinations, never assets."""
    totals: Counter[Group] = Counter()
    for *values, n in counted:
        columns = zip(fields, values, strict=True)
        choices = [_tags(value) if field.type == "list" else [value] for field, value in columns]
        for group in product(*choices):
            totals[group] += n
    found = [(*group, n) for group, n in totals.items()]
    names = [*(field.name for field in fields), COUNT]
    for sort in reversed(sorts):  # sorting is stable: the last key first
        _sort_by(found, names.index(sort.field), descending=sort.descending)
    return found


def _tags(lines: str | None) -> list[str | None]:
    return [*lines.strip("\n").split("\n")] if lines else [None]


def _sort_by(found: list[Group], index: int, *, descending: bool) -> None:
    def key(group: Group) -> tuple[bool, Any]:
        value = group[index]
        if value is None:
            return not descending, ""
        return descending, value.casefold() if isinstance(value, str) else value

    found.sort(key=key, reverse=descending)


def _read(found: Any, fields: Sequence[FieldSpec]) -> Iterator[Sequence[Cell]]:
    readers = [(lambda text: text) if is_attribute(field) else reader_of(field) for field in fields]
    rows = found if isinstance(found, list) else found.iterator(chunk_size=CHUNK_ROWS)
    for *values, n in rows:
        yield [*(read(value) for read, value in zip(readers, values, strict=True)), n]
