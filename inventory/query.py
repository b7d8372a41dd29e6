"""Answers a `Query` from the database. Only counts, groups and iterators: a million assets are never in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from django.db.models import F, Q, TextField, Value
from django.db.models.expressions import OrderBy
from django.db.models.functions import Lower, NullIf

from conversations.pipeline.tools import (
    Cell,
    Column,
    CountResult,
    FieldSpec,
    Match,
    Query,
    Sort,
    TableResult,
    TableSpec,
    ToolError,
)
from inventory import lines
from inventory.cells import column_of, reader_of
from inventory.conditions import Conditions, value_of
from inventory.fields import CATEGORIES, IDENTIFIERS
from inventory.grouping import CHUNK_ROWS, groups
from inventory.models import Asset, AssetQuerySet
from inventory.values import read_address, spellings

#: A field with more distinct values has no vocabulary beyond them; exact filters still find the rest.
MAX_WORDS = 5000
#: An attribute with more distinct values is not asked for by its values alone.
MAX_ATTRIBUTE_WORDS = 100
ATTRIBUTE_ROWS = 20_000
#: Letters of the shortest value of an attribute that is understood without its name.
MIN_WORD = 3
#: Terms looked up at a time; each is compared with every identifier field, in up to six spellings.
MAX_TERMS = 500


def run(query: Query, spec: TableSpec) -> TableResult | CountResult:
    """Raises ToolError (code `bad_query`) for an unknown field, an operator its type has not, an impossible value."""
    if query.limit is not None and query.limit < 0:
        raise ToolError("A limit can't be negative.", code="bad_query")
    assets = _matching(query, spec)
    if query.group_by:
        return groups(assets, query, [_field(spec, name) for name in dict.fromkeys(query.group_by)])
    if query.count_only:
        return CountResult(total=assets.count())
    return _rows(query, spec, assets.count())


def _field(spec: TableSpec, name: str) -> FieldSpec:
    field = spec.field(name)
    if field is None:
        raise ToolError(f"{spec.noun[1].capitalize()} have no field “{name}”.", code="bad_query")
    return field


def _matching(query: Query, spec: TableSpec) -> AssetQuerySet:
    conditions = Conditions()
    wanted = Q()
    for item in query.filters:
        wanted &= conditions.of(_field(spec, item.field), item)
    return Asset.objects.alias(**conditions.aliases).filter(wanted)


def ordered(query: Query, spec: TableSpec) -> AssetQuerySet:
    """The assets that the query asks for, in its order."""
    order = [_order(_field(spec, sort.field), sort) for sort in query.sort or spec.default_sort]
    assets = _matching(query, spec).order_by(*order, "id")
    return assets if query.limit is None else assets[: query.limit]


def _rows(query: Query, spec: TableSpec, matched: int) -> TableResult:
    fields = [_field(spec, name) for name in query.columns] or list(spec.fields)
    assets = ordered(query, spec)
    return TableResult(
        kind="rows",
        columns=tuple(Column(name=field.name, type=field.type) for field in fields),
        open_rows=lambda: _read(assets, fields),
        matched=matched,
        open_lines=partial(lines.drawn, assets, fields) if lines.can_draw(assets, fields) else None,
    )


def _order(field: FieldSpec, sort: Sort) -> OrderBy:
    """Case-blind, addresses by number, empty values last in both directions."""
    value: Any = value_of(field)
    if field.type == "address":
        value = NullIf(F("ip_key"), Value(""), output_field=TextField())
    elif field.type in ("text", "list"):
        value = Lower(value)
    return OrderBy(value, descending=sort.descending, nulls_last=True)


def _read(assets: AssetQuerySet, fields: Sequence[FieldSpec]) -> Iterator[Sequence[Cell]]:
    columns = list(dict.fromkeys(column_of(field) for field in fields))
    cells = [(columns.index(column_of(field)), reader_of(field)) for field in fields]
    for row in assets.values_list(*columns).iterator(chunk_size=CHUNK_ROWS):
        yield [read(row[index]) for index, read in cells]


# Words of the data


def vocabulary() -> Mapping[str, Sequence[str]]:
    """Category field, or attribute of few values -> its distinct values, sorted, at most `MAX_WORDS` of each."""
    words = {field.name: _tags() if field.type == "list" else _distinct(field.name) for field in CATEGORIES}
    return words | attribute_words()


def attribute_words() -> dict[str, list[str]]:
    """Attribute -> its distinct values, for those that have few: a column of kinds, not of numbers or remarks.

    Read from the first `ATTRIBUTE_ROWS` assets, so that a large inventory is not read whole for it.
    """
    values: dict[str, set[str]] = {}
    many: set[str] = set()
    rows = Asset.objects.exclude(attributes={}).order_by().values_list("attributes", flat=True)[:ATTRIBUTE_ROWS]
    for attributes in rows.iterator(chunk_size=CHUNK_ROWS):
        for name in attributes.keys() - many:
            found = values.setdefault(name, set())
            found.add(str(attributes[name]))
            if len(found) > MAX_ATTRIBUTE_WORDS:
                many.add(name)
    few = {name: sorted(found) for name, found in values.items() if name not in many}
    return {name: [word for word in found if _is_word(word)] for name, found in few.items()}


def _is_word(value: str) -> bool:
    """The value names something by itself: neither "yes" nor a bare letter."""
    return len(value) >= MIN_WORD and value.casefold() not in ("yes", "true", "false", "none", "n/a", "unknown")


def _distinct(name: str) -> list[str]:
    values = Asset.objects.exclude(**{name: ""}).order_by(name).values_list(name, flat=True).distinct()
    return list(values[:MAX_WORDS])


def _tags() -> list[str]:
    lines = Asset.objects.exclude(tag_text="").order_by().values_list("tag_text", flat=True).distinct()
    tags = {tag for line in lines.iterator(chunk_size=CHUNK_ROWS) for tag in line.split("\n") if tag}
    return sorted(tags)[:MAX_WORDS]


def find(terms: Iterable[str]) -> list[Match]:
    """Terms that are, case-blind and whole, the value of an identifier field; an address in any spelling of it."""
    wanted = [term for term in dict.fromkeys(terms) if term.strip()]
    return [match for start in range(0, len(wanted), MAX_TERMS) for match in _find(wanted[start : start + MAX_TERMS])]


def _find(terms: Sequence[str]) -> list[Match]:
    by_spelling: dict[str, dict[str, None]] = {}
    for term in terms:
        for spelling in (*spellings(term.strip()), _canonical(term.strip())):
            by_spelling.setdefault(spelling, {})[term] = None
    found, *others = [_identified(field.name, list(by_spelling)) for field in IDENTIFIERS]
    matches = {
        Match(term=term, field=field, value=value)
        for field, value in found.union(*others)
        for spelling in spellings(value)
        for term in by_spelling.get(spelling, ())
    }
    place = {term: n for n, term in enumerate(terms)}
    return sorted(matches, key=lambda match: (place[match.term], match.field, match.value))


def _canonical(term: str) -> str:
    try:
        return read_address(term)
    except ValueError:
        return term.lower()


def _identified(name: str, lowered: Sequence[str]) -> Any:
    assets = Asset.objects.alias(_lower=Lower(name)).filter(_lower__in=lowered).order_by()
    return assets.values_list(Value(name), name)
