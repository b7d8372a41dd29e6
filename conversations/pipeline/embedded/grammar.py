"""From a request to a query: runs the rules over the items, then settles what only the whole request can tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from conversations.pipeline.embedded import conditions, doubts, emptiness, ordering, quantities, shape, texts, words
from conversations.pipeline.embedded.lexicon import Entry, Lexicon
from conversations.pipeline.embedded.scan import Condition, Draft, Item, Scanner, segment
from conversations.pipeline.embedded.words import Token
from conversations.pipeline.tools import Cell, Filter, Query, Sort

#: Tried in this order at each place; the first that understands takes what it understood.
_RULES: tuple[Callable[[Scanner], bool], ...] = (
    shape.export, shape.count, ordering.order, shape.all_columns_but, emptiness.emptiness, quantities.time,
    quantities.covered, shape.group,
    quantities.comparison, quantities.vague, ordering.limit, shape.by, conditions.network, texts.text,
    shape.columns, conditions.negation, conditions.included, conditions.span, conditions.field_equals,
    conditions.value, shape.noun, shape.mention,
)  # fmt: skip
_CARRIERS = frozenset("running runs run hosting using serving".split())
#: Before such a word, what is asked for has been named.
_HEAD_ENDS = words.PREPOSITIONS | words.COPULAS | words.NEGATIONS | _CARRIERS | frozenset(
    """that which who whose where as , ; : ? and or have has sorted ordered grouped per than do does did""".split()
)  # fmt: skip
_PLACES = frozenset({"in", "at", "on", "within", "inside", "running", "hosting", "using", "serving", "does", "do"})
#: After "in" and "on" they mean all that the table has.
_EVERYWHERE = frozenset(
    """fleet estate company organisation organization infrastructure landscape portfolio cmdb db database network
    world place possession premises detail particular order full short brief english""".split()
)
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
    #: Why it must not be run, though it was understood; or "".
    problem: str
    #: An unknown word stands where a value of the table would: "Atlantis" in "servers in Atlantis".
    unknown_value: str
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
    if s.low() in _CARRIERS and _carries(s):
        return s.take(1)
    before, position, used = _shape(s.draft), s.position, set(s.used)
    understood = any(rule(s) for rule in _RULES)
    for part, value in _shape(s.draft).items():
        if value != before[part]:
            s.draft.places.setdefault(part, set()).update(s.used - used | {position})
    return understood


def _carries(s: Scanner) -> bool:
    """ "servers running linux" says what of them, "running linux servers" says of their state that they run."""
    item, following = s.item(), s.item(1)
    if s.low(1) == "on" and (place := s.item(2)) and place.values:
        return not item or not item.values or s.draft.noun or bool(s.draft.conditions)
    if item is None or following is None or not (following.values or following.is_literal):
        return False
    asked = s.draft.noun or any(doubts.is_kind(s.items[k]) for k in range(s.position))
    return asked or not item.values or not doubts.is_kind(s.items[head_of(s, s.position + 1)])


def head_of(s: Scanner, start: int) -> int:
    """The last of the nouns and values that stand one after the other from here on."""
    last = start
    for k in range(start, len(s.items)):
        if not (s.items[k].values or s.items[k].is_noun):
            break
        last = k
    return last


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
    _settle_one(s)
    if draft.group_by and draft.limit and draft.superlative is not None and not draft.sort and draft.by_count is None:
        draft.by_count = draft.superlative  # "top 3 vendors": those with most rows
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
    elif draft.superlative is not None and field.type in ("date", "datetime") and len(draft.sort) == 1:
        # "the last 5 hosts seen": of several dates it is this one.
        draft.sort = [Sort(field=name, descending=draft.sort[0].descending)]
        _use_mentions(s)
    elif draft.by_count is not None and not draft.group_by:
        draft.group_by = [name]
        s.used.update(place for other, place in draft.mentioned if other == name)
        if draft.limit is None and not words.is_plural(s.items[at].low):
            draft.limit = 1
    elif name in asked_for:
        s.used.update(place for other, place in draft.mentioned if other in asked_for)
    elif _may_group(s, at) and (field.is_category or draft.breakdown):
        draft.group_by = [*draft.group_by, *(n for n in _use_mentions(s) if n not in draft.group_by)]


def _may_group(s: Scanner, at: int) -> bool:
    """The field is what is asked for: "which sites", "list all owners"; not "team laptops", "the dba team"."""
    place = next((k for k in range(at - 1, -1, -1) if s.items[k].low not in words.ARTICLES | words.SOFT), None)
    before = s.items[place].low if place is not None else ""
    after = s.items[at + 1] if at + 1 < len(s.items) else None
    described = after is not None and (after.is_noun or (doubts.is_kind(after)))
    leads = place is None or s.items[place].low in words.GRAMMAR or bool(s.items[place].fields)
    verbal = s.items[at].low.split(" ")[-1] in words.PREPOSITIONS
    leads = (leads or (place in s.used and bool(s.items[place].values))) and not verbal
    alone = s.draft.breakdown or (not s.draft.noun and before.split(" ")[-1] not in words.PREPOSITIONS)
    return alone and not described and leads and not s.draft.columns and bool(s.items[at].fields)


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


def _settle_one(s: Scanner) -> None:
    """ "oldest server", "the server with the most cores": one row is asked for."""
    draft = s.draft
    ranked = draft.superlative is not None and draft.sort and not draft.group_by and not draft.count
    heads = [k for k, item in enumerate(s.items) if k in s.used and (item.is_noun or item.values)]
    if not ranked or draft.limit is not None or not heads:
        return
    head = s.items[head_of(s, heads[0])]
    kinds = {entry.field for entry in head.values} & set(s.lexicon.kind_fields)
    if not words.may_be_plural(head.low) and (s.lexicon.is_countable(head.low) if head.is_noun else kinds):
        draft.limit = 1


def _reading(s: Scanner) -> Reading:
    draft = s.draft
    unused = [k for k in range(len(s.items)) if k not in s.used and _is_missed(s, k)]
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
        problem=doubts.find(s),
        unknown_value=next((s.items[k].text for k in substantive if _is_candidate(s, k)), ""),
        known_at=tuple(at for item in s.items if item.entries for at in range(item.start, item.end)),
        n_used=len(s.used),
    )


def _has_substance(s: Scanner, query: Query, unused: Sequence[int]) -> bool:
    if s.draft.noun or query.filters or query.columns or query.group_by or (query.sort and query.limit):
        return True
    return not unused and any(item.low in ("everything", "all") for item in s.items)


def _is_missed(s: Scanner, k: int) -> bool:
    item = s.items[k]
    if item.low in words.SOFT:
        return _is_said_of_rows(s, k)
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
        if _is_missed(s, k) or k in s.used:
            last = k
    return s.items[last].text if last in unused and last is not None else ""


def _is_said_of_rows(s: Scanner, k: int) -> bool:
    """ "the available servers", "which servers are available?"; not "the available sites"."""
    after = s.items[k + 1] if k + 1 < len(s.items) else None
    if after is not None and (after.is_noun or after.values) and not after.fields:
        return True
    before = s.items[k - 1].low if k else ""
    return before in words.COPULAS and not s.draft.group_by


def _is_candidate(s: Scanner, k: int) -> bool:
    """An unknown word where a value is expected: before what is asked for, or after "in", "at", "on", "running"."""
    item = s.items[k]
    after = s.items[k + 1] if k + 1 < len(s.items) else None
    if item.kind not in ("word", "quoted") or item.low in words.GRAMMAR | words.SOFT or not item.low[-1:].isalnum():
        return False
    if after is not None and k + 1 in s.used and doubts.is_kind(s.items[head_of(s, k + 1)]):
        return True
    before = next((s.items[j].low for j in range(k - 1, -1, -1) if s.items[j].low not in words.ARTICLES), "")
    if after is not None and before in words.PREPOSITIONS and any(s.spec_of(f).is_category for f in after.fields):
        return True
    return before in _PLACES and item.low not in _EVERYWHERE


def _is_condition(s: Scanner, k: int) -> bool:
    before = next((s.items[j].low for j in range(k - 1, -1, -1) if s.items[j].low not in words.ARTICLES), "")
    after = s.items[k + 1] if k + 1 < len(s.items) else None
    if s.items[k].low in words.SOFT:
        return False
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
        is_list = lexicon.fields[condition.filter.field].type == "list"
        same = [
            k
            for k, other in enumerate(draft.conditions)
            if k >= at and k not in done and _belong(condition, other, is_list=is_list)
        ]
        done.update(same)
        joined.append(_join([draft.conditions[k].filter for k in same], lexicon))
    return tuple(dict.fromkeys(joined))


def _belong(first: Condition, other: Condition, *, is_list: bool) -> bool:
    """Of a list field a row can have both values: only those said together are alternatives."""
    if first is other:
        return True
    if first.filter.field != other.filter.field:
        return False
    ops = {first.filter.op, other.filter.op}
    if ops == {"ne"} or (ops == {"eq"} and not is_list):
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
