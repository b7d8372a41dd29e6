"""From a request to a query: runs the rules over the items, then settles what only the whole request can tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from conversations.pipeline.embedded import conditions, ordering, quantities, shape, words
from conversations.pipeline.embedded.lexicon import Entry, Lexicon
from conversations.pipeline.embedded.scan import Condition, Draft, Item, Scanner, segment
from conversations.pipeline.embedded.words import Token
from conversations.pipeline.tools import Cell, Filter, Query, Sort

#: Tried in this order at each place; the first that understands takes what it understood.
_RULES: tuple[Callable[[Scanner], bool], ...] = (
    shape.export, shape.count, ordering.order, conditions.emptiness, quantities.time, shape.group,
    quantities.comparison, ordering.limit, shape.by, conditions.network, conditions.text, shape.columns,
    conditions.negation, conditions.field_equals, conditions.value, shape.noun, shape.mention,
)  # fmt: skip
_CARRIERS = frozenset("running runs run hosting using serving".split())
#: Before such a word, what is asked for has been named.
_HEAD_ENDS = words.PREPOSITIONS | words.COPULAS | words.NEGATIONS | _CARRIERS | frozenset(
    """that which who whose where as , ; : ? and or have has sorted ordered grouped per than""".split()
)  # fmt: skip
_VALUE_COMES = frozenset("in at on from by with running under within per owned via".split())


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One table's understanding of a request."""

    query: Query
    export: bool
    #: In their order, as typed.
    unused: tuple[str, ...]
    formats: tuple[str, ...]
    #: Places of the unused words among the tokens.
    unused_at: tuple[int, ...]
    #: A noun, value, field or row of the table was named.
    has_substance: bool
    #: What is asked for is a word that the table doesn't know: "pods in Akron".
    unknown_head: str
    #: An unused word stands where a condition would: answering without it may be answering something else.
    unused_condition: bool
    #: Places of the tokens that are words of the table.
    known_at: tuple[int, ...]
    n_used: int


def read(
    tokens: Sequence[Token], lexicon: Lexicon, now: datetime, extras: Mapping[str, tuple[Entry, ...]] | None = None
) -> Reading:
    """`extras`: meanings found for this request alone: rows by name, parts of values."""
    scanner = Scanner(segment(tokens, lexicon, extras or {}), lexicon, now)
    while scanner.item() is not None:
        if not _step(scanner):
            scanner.position += 1
    _settle(scanner)
    return _reading(scanner)


def _step(s: Scanner) -> bool:
    item = s.item(1)
    if s.low() in _CARRIERS and item is not None and (item.values or item.is_literal):
        return s.take(1)
    before, position, used = _shape(s.draft), s.position, set(s.used)
    understood = any(rule(s) for rule in _RULES)
    for part, value in _shape(s.draft).items():
        if value != before[part]:
            s.draft.places.setdefault(part, set()).update(s.used - used | {position})
    return understood


def _shape(draft: Draft) -> dict[str, object]:
    return {"sort": tuple(draft.sort), "limit": draft.limit, "columns": tuple(draft.columns)}


def _drop(s: Scanner, part: str) -> None:
    """What was said of the part plays no role after all, and is listed as unused."""
    s.used -= s.draft.places.get(part, set())


def _settle(s: Scanner) -> None:
    draft = s.draft
    if s.negation is not None:
        s.negation = None
    _settle_identities(s)
    _settle_mentions(s)
    _settle_by(s)
    _settle_superlative(s)
    grouped = {*draft.group_by, "count"} if draft.group_by else set(s.lexicon.fields)
    if draft.by_count is not None and draft.group_by and not any(sort.field == "count" for sort in draft.sort):
        draft.sort.append(Sort(field="count", descending=draft.by_count))
    if any(sort.field not in grouped for sort in draft.sort):
        draft.sort = [sort for sort in draft.sort if sort.field in grouped]
        _drop(s, "sort")
    if draft.columns and (draft.group_by or draft.count):
        draft.columns = []
        _drop(s, "columns")
    if draft.count and not draft.group_by:
        for part in ("sort", "limit"):
            _drop(s, part)
        draft.sort, draft.limit = [], None


def _settle_identities(s: Scanner) -> None:
    """ "is web-01 active?" asks for a field of a row; "where is web-01?" for the fields that say where."""
    draft = s.draft
    if not draft.identities or draft.columns or draft.count:
        return
    first = s.items[0].low if s.items else ""
    others = [c for c in draft.conditions if c.filter not in draft.identities]
    if first in ("is", "are") and others:
        draft.columns = list(dict.fromkeys([draft.identities[0].field, *(c.filter.field for c in others)]))
        draft.conditions = [c for c in draft.conditions if c.filter in draft.identities]
    elif first in ("where", "who") and not draft.mentioned:
        draft.columns = list(s.lexicon.asked_by(first))
    elif draft.mentioned:
        draft.columns = list(dict.fromkeys(name for name, _ in draft.mentioned))
        _use_mentions(s)


def _use_mentions(s: Scanner) -> list[str]:
    names = list(dict.fromkeys(name for name, _ in s.draft.mentioned))
    s.used.update(at for _, at in s.draft.mentioned)
    s.draft.mentioned = []
    return names


def _settle_mentions(s: Scanner) -> None:
    """Fields named alone are groups ("which sites have routers?", "how many sites?") or an order's field."""
    draft = s.draft
    if not draft.mentioned:
        return
    name, at = draft.mentioned[0]
    field = s.lexicon.fields[name]
    asked_for = {f.filter.field for f in draft.conditions} | set(draft.group_by) | set(draft.columns)
    asked_for |= {sort.field for sort in draft.sort}
    if draft.superlative is not None and field.type == "number" and not draft.sort:
        draft.sort.append(Sort(field=name, descending=draft.superlative))
        _use_mentions(s)
    elif draft.by_count is not None and not draft.group_by:
        draft.group_by = [name]
        s.used.add(at)
        if draft.limit is None and not words.is_plural(s.items[at].low):
            draft.limit = 1
    elif name in asked_for:
        s.used.update(place for other, place in draft.mentioned if other in asked_for)
    elif _may_group(s, at) and (field.is_category or draft.breakdown):
        draft.group_by = [*draft.group_by, *(n for n in _use_mentions(s) if n not in draft.group_by)]


def _may_group(s: Scanner, at: int) -> bool:
    before = next((item.low for item in s.items[at - 1 :: -1] if item.low not in words.ARTICLES), "") if at else ""
    alone = s.draft.breakdown or (not s.draft.noun and before.split(" ")[-1] not in words.PREPOSITIONS)
    return alone and not s.draft.columns and bool(s.items[at].fields)


def _settle_by(s: Scanner) -> None:
    draft = s.draft
    if not draft.by:
        return
    sortable = {"number", "date", "datetime"}
    names = [name for name, _ in draft.by]
    fields = [s.lexicon.fields[name] for name in names]
    directed = any(direction is not None for _, direction in draft.by)
    listing = shape.is_listing(s.items) or draft.export or draft.sorting
    if draft.superlative is not None and draft.limit and fields[0].type in sortable:
        draft.sort = [Sort(field=name, descending=draft.superlative) for name in names]
    elif draft.count or draft.breakdown or (all(f.is_category for f in fields) and not directed and not listing):
        draft.group_by.extend(name for name in names if name not in draft.group_by)
    else:
        superlative = draft.superlative is True
        draft.sort = [Sort(field=name, descending=superlative if down is None else down) for name, down in draft.by]
    draft.by = []


def _settle_superlative(s: Scanner) -> None:
    """ "the largest servers" without a field: the first number with a unit."""
    draft = s.draft
    numbers = [f for f in s.lexicon.fields_of_type("number") if f.unit]
    named = any(item.low in ("largest", "biggest", "smallest", "highest", "lowest", "greatest") for item in s.items)
    if draft.superlative is not None and not draft.sort and not draft.group_by and named and numbers:
        draft.sort.append(Sort(field=numbers[0].name, descending=draft.superlative))


def _reading(s: Scanner) -> Reading:
    draft = s.draft
    unused = [k for k, item in enumerate(s.items) if k not in s.used and _is_missed(item)]
    query = Query(
        table=s.lexicon.spec.name, filters=_joined(draft, s.lexicon), columns=tuple(draft.columns),
        sort=tuple(dict.fromkeys(draft.sort)), limit=draft.limit, group_by=tuple(dict.fromkeys(draft.group_by)),
        count_only=draft.count and not draft.group_by,
    )  # fmt: skip
    substantive = [k for k in unused if s.items[k].low not in draft.formats]
    return Reading(
        query=query,
        export=draft.export,
        unused=tuple(s.items[k].text for k in unused),
        formats=tuple(draft.formats),
        unused_at=tuple(at for k in substantive for at in range(s.items[k].start, s.items[k].end)),
        has_substance=_has_substance(s, query, unused),
        unknown_head=_unknown_head(s, substantive),
        unused_condition=any(_is_condition(s, k) for k in substantive),
        known_at=tuple(at for item in s.items if item.entries for at in range(item.start, item.end)),
        n_used=len(s.used),
    )


def _has_substance(s: Scanner, query: Query, unused: Sequence[int]) -> bool:
    if s.draft.noun or query.filters or query.columns or query.group_by or (query.sort and query.limit):
        return True
    return not unused and any(item.low in ("everything", "all") for item in s.items)


def _is_missed(item: Item) -> bool:
    if item.kind == "symbol":
        return item.low in ("<", ">", "=", "<=", ">=", "!=", "<>", "==")
    return item.low not in words.FUNCTION or item.kind == "quoted"


def _unknown_head(s: Scanner, unused: Sequence[int]) -> str:
    """The last word of the first phrase, when it is unknown: what is asked for."""
    last: int | None = None
    for k, item in enumerate(s.items):
        if last is not None and (
            (item.low in _HEAD_ENDS and k not in s.used) or item.low in _HEAD_ENDS - words.NEGATIONS
        ):
            break
        if _is_missed(item) or k in s.used:
            last = k
    return s.items[last].text if last in unused and last is not None else ""


def _is_condition(s: Scanner, k: int) -> bool:
    before = next((s.items[j].low for j in range(k - 1, -1, -1) if s.items[j].low not in words.ARTICLES), "")
    after = s.items[k + 1] if k + 1 < len(s.items) else None
    return (
        before in _VALUE_COMES | words.NEGATIONS
        or bool(after and (after.is_noun or after.values))
        or _is_symbolic(s.items[k])
    )


def _is_symbolic(item: Item) -> bool:
    return item.kind in ("symbol", "number", "quoted", "network", "address", "url", "date") or item.low in words.GRAMMAR


def _joined(draft: Draft, lexicon: Lexicon) -> tuple[Filter, ...]:
    """Conditions that must all be true: values of one field become one list."""
    joined: list[Filter] = []
    done: set[int] = set()
    for at, condition in enumerate(draft.conditions):
        if at in done:
            continue
        same = [
            k for k, other in enumerate(draft.conditions) if k >= at and k not in done and _belong(condition, other)
        ]
        done.update(same)
        joined.append(_join([draft.conditions[k].filter for k in same], lexicon))
    return tuple(dict.fromkeys(joined))


def _belong(first: Condition, other: Condition) -> bool:
    if first is other:
        return True
    if first.filter.field != other.filter.field:
        return False
    ops = {first.filter.op, other.filter.op}
    if ops in ({"eq"}, {"ne"}):
        return True
    return ops <= {"eq", "contains"} and first.group == other.group


def _join(filters: Sequence[Filter], lexicon: Lexicon) -> Filter:
    first = filters[0]
    if len(filters) == 1:
        return first
    values: dict[Cell, None] = {}
    for condition in filters:
        # "linux or windows": only `in` can say or, and it needs whole values.
        whole = lexicon.contained(condition.field, str(condition.value)) if condition.op == "contains" else ()
        own = condition.value if isinstance(condition.value, tuple) else (condition.value,)
        values |= dict.fromkeys(whole or own)
    if len(values) == 1:
        return replace(first, value=next(iter(values)))
    return Filter(field=first.field, op="not_in" if first.op == "ne" else "in", value=tuple(values))
