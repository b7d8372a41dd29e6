"""Rules that read the order of an answer and how much of it: "sorted by name", "newest first", "top 5", "largest"."""

from __future__ import annotations

from conversations.pipeline.embedded import words
from conversations.pipeline.embedded.scan import Scanner
from conversations.pipeline.embedded.words import ARTICLES
from conversations.pipeline.tools import Sort

_UP = ("ascending", "asc", "low to high", "smallest first", "lowest first", "a to z", "a-z", "alphabetically",
"oldest first",
       "soonest first", "earliest first", "in ascending order")  # fmt: skip
_DOWN = ("descending", "desc", "high to low", "largest first", "biggest first", "highest first", "z to a", "z-a",
"newest first",
         "latest first", "most first", "in descending order", "in reverse", "reverse", "reversed")  # fmt: skip
_BIG = frozenset("largest biggest highest greatest most maximum max top".split())
_SMALL = frozenset("smallest lowest least fewest minimum min bottom".split())
_NEW = frozenset("newest latest youngest recent".split())
_OLD = frozenset("oldest earliest".split())
_COUNTED = frozenset("most fewest least max min".split())
_SORTED = frozenset("sorted sort sorting ordered order ranked rank arranged".split())
_LIMITS = frozenset("top bottom first last limit only newest oldest largest biggest smallest latest".split())
#: Before a number they limit an answer only when a noun follows: "at most 6 hosts".
_AT_MOST = ("at most", "up to", "no more than", "a maximum of", "maximum of", "maximum", "max")


def order(s: Scanner) -> bool:
    """ "sorted by name", "ordered by memory descending, then name", "newest first"."""
    if s.low() == "alphabetically":
        return _alphabetically(s, 0)
    if s.low() not in _SORTED:
        return _first(s)
    following = s.item(s.skip(ARTICLES, 1))
    if following and (following.is_noun or following.values) and not following.fields:
        s.draft.sorting = True
        return s.take(1)
    at = s.skip(ARTICLES | {"them", "results", "it", "by", "on"}, 1)
    if s.low(at) == "alphabetically":
        return _alphabetically(s, at)
    name = _sort_field(s, at)
    if name is None:
        return False
    s.take(at)
    return _terms(s, name)


def _alphabetically(s: Scanner, ahead: int) -> bool:
    s.take(ahead + 1)
    name = s.lexicon.first_identifier
    if s.low() == "by" and s.field_at(1):
        name = s.field_at(1)
        s.take(2)
    s.draft.sort.extend([Sort(field=name)] if name else [])
    return True


def _sort_field(s: Scanner, ahead: int) -> str | None:
    name = s.field_at(ahead)
    if name:
        return name
    measured = s.says("number of", "the number of", ahead=ahead)
    if measured and s.field_at(ahead + measured, "number"):
        s.take(measured)
        return s.field_at(ahead, "number")
    if s.low(ahead) == "count" or s.says("number of", "the number of", ahead=ahead):
        return "count"
    stems = s.stem_fields(ahead)
    asked = [c.filter.field for c in s.draft.conditions]
    return next((f for f in stems if f in asked), stems[0] if stems else None)


def _terms(s: Scanner, name: str | None) -> bool:
    """One field and its direction after the other, as long as fields follow."""
    while name is not None:
        s.take(_count_size(s) if name == "count" else 1)
        s.take(int(s.low() in ("date", "dates")))
        s.draft.sort.append(Sort(field=name, descending=bool(direction(s))))
        at = s.skip({",", "and", "then", "by"}, 0)
        name = _sort_field(s, at) if at and not lists_columns(s, at) else None
        s.take(at if name is not None else 0)
    return True


def lists_columns(s: Scanner, at: int) -> bool:
    """ "…, name and disk only": the fields after the comma are what to show."""
    while s.field_at(at) is not None:
        following = s.skip(words.CONNECTORS, at + 1)
        if s.field_at(following) is None:
            return s.low(at + 1) in ("only", "just") and s.field_at(s.skip(ARTICLES, at + 2)) is None
        at = following
    return False


def _count_size(s: Scanner) -> int:
    """ "count", "number of assets", "the number of routers"."""
    size = s.says("number of", "the number of", "count of") or 1
    item = s.item(size)
    if size > 1 and item and item.is_noun:
        s.draft.noun = True
        size += 1
    return size


def direction(s: Scanner) -> bool | None:
    """Descending or not, when it is said here; takes it."""
    for at in (s.skip({"in", ",", "(", "-"}, 0), 0):
        for phrases, descending in ((_DOWN, True), (_UP, False)):
            size = s.says(*phrases, ahead=at)
            if size:
                s.take(at + size)
                s.take(s.skip({"order", ")"}, 0))
                return descending
    return None


def _first(s: Scanner) -> bool:
    """ "newest first", "biggest disk first", "soonest first"."""
    low, name = s.low(), s.field_at(1)
    size = 3 if name else 2
    if low not in _BIG | _SMALL | _NEW | _OLD | {"soonest"} or s.low(size - 1) != "first":
        return False
    if name is None and low in _BIG | _SMALL and s.draft.group_by:
        s.draft.by_count = low in _BIG
        return s.take(size)
    name = name or _usual_field(s, ("number",) if low in _BIG | _SMALL else ("date", "datetime"))
    if name is None:
        return False
    s.draft.sort.append(Sort(field=name, descending=low in _BIG | _NEW))
    return s.take(size)


def _usual_field(s: Scanner, types: tuple[str, ...]) -> str | None:
    """The field of these types that a condition named, else the first."""
    fields = [field.name for field in s.lexicon.fields_of_type(*types)]
    asked = [c.filter.field for c in s.draft.conditions if c.filter.field in fields]
    return next(iter([*asked, *fields]), None)


def limit(s: Scanner) -> bool:
    """ "top 5", "first 10 rows", "the 3 largest", "limit 20", "show 10 routers"."""
    return _limit_after(s) or _at_most(s) or _limit_before(s) or _superlative(s)


def _at_most(s: Scanner) -> bool:
    size = s.says(*_AT_MOST)
    number, following = words.number_of(s.low(size)), s.item(size + 1)
    if not size or number is None or following is None or not (following.is_noun or following.values):
        return False
    if not _is_request(s):
        return False
    s.take(size + 1)
    return _limited(s, int(number), "")


def _limit_after(s: Scanner) -> bool:
    low = s.low()
    if low not in _LIMITS:
        return False
    at = 2 if low == "limit" and s.low(1) == "to" else 1
    number = words.number_of(s.low(at))
    if number is None or _is_measured(s, at + 1):
        return False
    s.take(1 + at)
    return _limited(s, int(number), low)


def _limit_before(s: Scanner) -> bool:
    number, following = words.number_of(s.low()), s.item(1)
    if number is None or following is None:
        return False
    superlative = following.low in _BIG | _SMALL | _NEW | _OLD
    counted = following.is_noun or following.values or s.field_at(1) or following.low == "random"
    if not superlative and not (counted and _is_request(s)):
        return False
    s.take(1)
    return _limited(s, int(number), "")


def _limited(s: Scanner, number: int, word: str) -> bool:
    s.draft.limit = number if number > 0 else None
    s.draft.limits.append(s.position)
    if word not in ("limit", "first", "only", ""):
        s.draft.superlative = word in ("top", "largest", "biggest", "newest", "latest", "last")
    if word in ("newest", "oldest", "latest", "last"):
        _sort_by_date(s, descending=word != "oldest")
    elif word in ("largest", "biggest", "smallest"):
        s.draft.superlative = word != "smallest"
    if s.low() in ("rows", "results", "entries", "records", "random"):
        s.take(int(s.low() != "random"))
    name = s.field_at(0)
    if name and s.spec_of(name).is_category:
        s.draft.group_by.append(name)
        s.take(1)
    return True


def _is_measured(s: Scanner, ahead: int) -> bool:
    return s.low(ahead) in (
        "day",
        "days",
        "week",
        "weeks",
        "month",
        "months",
        "year",
        "years",
        "hours",
        "hour",
        "quarters",
        "minutes",
    )


def _is_request(s: Scanner) -> bool:
    """The number opens what is asked for: "show me 10 routers", "give me 5 sites"; not a version or an amount."""
    before = {s.items[k].low for k in range(s.position)}
    return before <= words.FUNCTION | {"export", "download", "list", "any", "random"}


def _superlative(s: Scanner) -> bool:
    """ "largest disk", "the most memory", "newest servers", "which site has the most switches"."""
    low = s.low()
    if s.says("most recent", "most recently", "least recently"):
        descending = low == "most"
        s.take(2)
        name = s.field_at(0, "date", "datetime") or next(
            (f for f in s.stem_fields(0) if s.spec_of(f).type in ("date", "datetime")), None
        )
        if name is None:
            return _sort_by_date(s, descending=descending)
        s.draft.superlative = descending
        s.draft.sort.append(Sort(field=name, descending=descending))
        return s.take(1)
    if low not in (_BIG | _SMALL | _NEW | _OLD) - {"top", "bottom"}:
        return False
    name = s.field_at(1, "number", "date", "datetime")
    if name:
        s.draft.superlative = low in _BIG | _NEW
        s.draft.sort.append(Sort(field=name, descending=low in _BIG | _NEW))
        return s.take(2)
    if low in _NEW | _OLD:
        s.take(1)
        return _sort_by_date(s, descending=low in _NEW)
    return _most(s, low) if low in _COUNTED else _biggest(s, descending=low in _BIG)


def _most(s: Scanner, low: str) -> bool:
    """Groups in the order of their counts: "the most common model", "the fewest routers"."""
    following, common = s.item(1), s.field_at(2)
    if s.low(1) in ("common", "frequent", "popular", "used") and common:
        s.draft.group_by.append(common)
        s.draft.by_count = low == "most"
        s.draft.limit = s.draft.limit or (None if words.is_plural(s.low(2)) else 1)
        return s.take(3)
    rows = following is None or following.is_noun or bool(following.values)
    if low in ("max", "min") or not rows or not (s.draft.mentioned or s.draft.group_by):
        return False
    s.draft.by_count = low == "most"
    return s.take(1)


def _biggest(s: Scanner, *, descending: bool) -> bool:
    """By the field said later ("by disk"), else by the first with a unit; decided at the end."""
    s.draft.superlative = descending
    return s.take(1)


def _sort_by_date(s: Scanner, *, descending: bool) -> bool:
    fields = s.lexicon.fields_of_type("date", "datetime")
    s.draft.superlative = descending
    if fields:
        s.draft.sort.append(Sort(field=fields[0].name, descending=descending))
    return bool(fields)
