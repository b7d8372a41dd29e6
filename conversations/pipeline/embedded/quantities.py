"""Rules that read conditions on numbers and dates: "more than 64 GB of RAM", "expiring in the next 30 days"."""

from __future__ import annotations

from dataclasses import dataclass, replace

from conversations.pipeline.embedded import dates, words
from conversations.pipeline.embedded.scan import OPPOSITES, Scanner
from conversations.pipeline.embedded.words import COPULAS
from conversations.pipeline.tools import Cell, Filter, Op

_COMPARISONS: tuple[tuple[str, Op], ...] = (
    ("more than or equal to", "gte"), ("greater than or equal to", "gte"), ("less than or equal to", "lte"),
    ("no less than", "gte"),
    ("no more than", "lte"), ("more than", "gt"), ("greater than", "gt"), ("larger than", "gt"), ("bigger than", "gt"),
    ("higher than", "gt"), ("less than", "lt"), ("fewer than", "lt"), ("smaller than", "lt"), ("lower than", "lt"),
    ("cheaper than", "lt"), ("longer than", "gt"), ("shorter than", "lt"),
    ("at least", "gte"), ("at most", "lte"), ("up to", "lte"), ("minimum of", "gte"),
    ("maximum of", "lte"),
    ("exactly", "eq"), ("over", "gt"), ("above", "gt"), ("exceeding", "gt"), ("under", "lt"), ("below", "lt"),
    (">=", "gte"), ("<=", "lte"), (">", "gt"), ("<", "lt"), ("==", "eq"), ("=", "eq"), ("!=", "ne"), ("<>", "ne"),
)  # fmt: skip
_AFTER_NUMBER: tuple[tuple[str, Op], ...] = (
    ("or more", "gte"), ("or above", "gte"), ("or higher", "gte"), ("and up", "gte"), ("and more", "gte"), ("+", "gte"),
    ("or less", "lte"), ("or fewer", "lte"), ("or below", "lte"), ("or lower", "lte"),
)  # fmt: skip
_UNITS = {"g": "gb", "gib": "gb", "gig": "gb", "gigs": "gb", "gigabyte": "gb", "gigabytes": "gb", "t": "tb",
"tib": "tb",
          "terabyte": "tb", "terabytes": "tb", "mib": "mb", "megabyte": "mb", "megabytes": "mb"}  # fmt: skip
_Bounds = tuple[tuple[Op, Cell], ...]
_SIZES = ("kb", "mb", "gb", "tb", "pb")
_TIME_FILLERS = COPULAS | frozenset(
    """that which has have had do does did been already about to will due the their its date dates go going out
    run runs ends end ended ending still yet""".split()
)
_PAST_VERBS = frozenset("seen bought made run".split())
_EXPIRED = frozenset("expired lapsed overdue".split())
_ABOUT = frozenset("about around roughly approximately approx circa almost nearly ~".split())
#: Before a number field they say no amount.
VAGUE = frozenset("high low big large small little huge massive tiny enough much insufficient ample".split())


def comparison(s: Scanner) -> bool:
    """ "more than 64 GB of RAM", "at least 8 cores", "memory over 64", "between 8 and 16 cores", "16+ cores"."""
    name = s.field_at(0, "number")
    if name is not None:
        found = _amount(s, s.skip(words.FILLERS | {":"}, 1), name)
        return found is not None and _compare(s, name, *found)
    found = _amount(s, 0, None)
    if found is None:
        return False
    at = s.skip({"of", "in", "worth"}, found[1])
    after = s.field_at(at, "number")
    if after is None:
        return _by_unit(s, found[1])
    found = _amount(s, 0, after)
    return found is not None and _compare(s, after, *_widened(s, found[0], at + 1))


def _by_unit(s: Scanner, end: int) -> bool:
    """An amount without a field: of the one that is measured so; when several are, it must be said."""
    owners = _fields_of_unit(s, end)
    if len(owners) > 1:
        titles = " or ".join(s.spec_of(name).title for name in owners)
        s.doubt(f"An amount in {s.spec_of(owners[0]).unit} can be {titles} here: please say which you mean.")
        return s.take(end)
    found = _amount(s, 0, owners[0]) if owners else None
    return found is not None and _compare(s, owners[0], *found)


def _widened(s: Scanner, bounds: _Bounds, size: int) -> tuple[_Bounds, int]:
    """ "64 GB of memory or more": the comparison may follow the field."""
    for phrase, op in _AFTER_NUMBER if [op for op, _ in bounds] == ["eq"] else ():
        if taken := s.says(phrase, ahead=size):
            return ((op, bounds[0][1]),), size + taken
    return bounds, size


def vague(s: Scanner) -> bool:
    """ "high memory hosts", "lots of disk": no amount that could be compared with."""
    size = s.says("lots of", "plenty of", "a lot of") or int(s.low() in VAGUE)
    name = s.field_at(size, "number") if size else None
    if name is None or compares(s, size + 1) or words.number_of(s.low(size + 1)) is not None:
        return False
    s.doubt(f"How much is “{s.low()} {s.low(size)}”? Please give a number for {s.spec_of(name).title}.")
    return s.take(size + 1)


def covered(s: Scanner) -> bool:
    """ "under warranty", "out of warranty", "with a valid certificate": the date field says until when."""
    size = s.says("no longer under", "no longer in", "still under", "still in", "out of", "under", "in", "outside of")
    size = size or s.says("with a valid", "with valid", "with a current", "with an active", "having a valid")
    name = s.field_at(size, "date", "datetime") if size else None
    if name is None or name not in s.lexicon.stem_fields("expires") or _time_at(s, size + 1, False):
        return False
    over = s.low() in ("out", "outside", "no")
    return _add_time(s, name, dates.before_now(s.now), size + 1, negated=s.negated == over)


def _compare(s: Scanner, name: str, bounds: _Bounds, size: int) -> bool:
    if {s.low(-1), s.low(1)} & _ABOUT and [op for op, _ in bounds] == ["eq"]:
        s.doubt("I compare exactly: please give the bounds, as in “between 60 and 70”.")
    if s.negated and len(bounds) > 1:
        return False
    filters = [Filter(field=name, op=OPPOSITES[op] if s.negated else op, value=value) for op, value in bounds]
    s.take(size)
    s.add(filters)
    return True


def compares(s: Scanner, ahead: int) -> Op | None:
    """The comparison that stands here."""
    return next((op for phrase, op in _COMPARISONS if s.says(phrase, ahead=ahead)), None)


def _amount(s: Scanner, at: int, name: str | None) -> tuple[_Bounds, int] | None:
    """The bounds that stand here, in the field's own unit, and where they end."""
    if s.low(at) == "between":
        return _between(s, at, name)
    op, size = next(
        ((o, s.says(phrase, ahead=at)) for phrase, o in _COMPARISONS if s.says(phrase, ahead=at)), (None, 0)
    )
    number = words.number_of(s.low(at + size))
    if number is None:
        return None
    upper = words.number_of(s.low(at + size + 2)) if s.low(at + size + 1) in ("to", "-", "through") else None
    if op is None and upper is not None:
        factor, end = _unit(s, at + size + 3, name)
        return (("gte", number * factor), ("lte", upper * factor)), end
    factor, end = _unit(s, at + size + 1, name)
    for phrase, after in _AFTER_NUMBER if op is None else ():
        if taken := s.says(phrase, ahead=end):
            op, end = after, end + taken
            break
    return ((op or "eq", number * factor),), end


def _between(s: Scanner, at: int, name: str | None) -> tuple[_Bounds, int] | None:
    low, high = words.number_of(s.low(at + 1)), words.number_of(s.low(at + 3))
    if low is None or high is None or s.low(at + 2) not in ("and", "to"):
        return None
    factor, end = _unit(s, at + 4, name)
    return (("gte", low * factor), ("lte", high * factor)), end


def _unit(s: Scanner, at: int, name: str | None) -> tuple[int | float, int]:
    """The factor from the unit typed here to the field's own, and the place after it."""
    typed = _UNITS.get(s.low(at), s.low(at))
    own = s.spec_of(name).unit.lower() if name else ""
    if typed and (typed == own or words.singular(typed) == words.singular(own)):
        return 1, at + 1
    if typed in _SIZES and (own in _SIZES or not name):
        power = _SIZES.index(typed) - _SIZES.index(own) if own else 0
        return (1024**power if power >= 0 else 1 / 1024**-power), at + 1
    if (
        name is None
        and typed
        and any(words.singular(f.unit.lower()) == words.singular(typed) for f in s.lexicon.spec.fields if f.unit)
    ):
        return 1, at + 1
    return 1, at


def _fields_of_unit(s: Scanner, end: int) -> tuple[str, ...]:
    """The number fields that are measured in a unit typed before `end`."""
    for at in range(1, end):
        owners = _owners(s, _UNITS.get(s.low(at), s.low(at)))
        if owners:
            return owners
    return ()


def _owners(s: Scanner, typed: str) -> tuple[str, ...]:
    fields = s.lexicon.fields_of_type("number")
    owners = [f.name for f in fields if f.unit and words.singular(f.unit.lower()) == words.singular(typed)]
    if not owners and typed in _SIZES:
        owners = [f.name for f in fields if f.unit.lower() in _SIZES]
    return tuple(owners)


def time(s: Scanner) -> bool:
    """ "certificates expiring in the next 30 days", "purchased before 2024", "not seen in the last 7 days"."""
    subject = _subject(s)
    candidates = subject.fields
    if not candidates and s.says("older than", "newer than", "younger than"):
        candidates = tuple(f.name for f in s.lexicon.fields_of_type("date", "datetime"))[:1]
    found = _time_at(s, subject.size, subject.past) if candidates else None
    if found is not None:
        span, size = found[0], subject.size + found[1]
    elif subject.expired:
        span, size = dates.before_now(s.now), subject.size
    else:
        return False
    s.negation = subject.negation if subject.negation is not None else s.negation
    return _add_time(s, _likeliest(s, candidates), span, size)


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """What a phrase of time is said of: "certificates about to expire"."""

    fields: tuple[str, ...] = ()
    #: Items it takes.
    size: int = 0
    #: The verb looks back: "seen", "purchased".
    past: bool = False
    expired: bool = False
    #: The item of a negation within.
    negation: int | None = None


def _subject(s: Scanner) -> _Subject:
    subject = _Subject()
    while True:
        low, named = s.low(subject.size), _date_fields(s, subject.size)
        if named:
            both = tuple(field for field in subject.fields if field in named)
            past = low.endswith("ed") or low.split()[-1] in _PAST_VERBS
            subject = replace(
                subject, fields=both or named, past=subject.past or past, expired=subject.expired or low in _EXPIRED
            )
        elif subject.fields and low == "not":
            subject = replace(subject, negation=s.position + subject.size)
        elif not subject.fields or low not in _TIME_FILLERS or _time_at(s, subject.size, subject.past):
            return subject
        subject = replace(subject, size=subject.size + 1)


def _date_fields(s: Scanner, ahead: int) -> tuple[str, ...]:
    item = s.item(ahead)
    if item is None:
        return ()
    names = [*item.fields, *s.stem_fields(ahead)]
    return tuple(dict.fromkeys(n for n in names if s.spec_of(n).type in ("date", "datetime")))


def _likeliest(s: Scanner, candidates: tuple[str, ...]) -> str:
    """The field that the request named already, else the first of the spec."""
    asked = [c.filter.field for c in s.draft.conditions] + [name for name, _ in s.draft.mentioned] + s.draft.columns
    named = [c for c in candidates if c in asked]
    return named[0] if named else min(candidates, key=s.lexicon.rank_of)


def _time_at(s: Scanner, ahead: int, past: bool) -> tuple[dates.Span, int] | None:
    """The time that stands here and how many items it takes."""
    start = s.item(ahead)
    if start is None:
        return None
    rest = s.items[s.position + ahead : s.position + ahead + 9]
    phrase = [part for item in rest for part in item.low.split(" ")]
    found = dates.read(phrase, s.now, past=past)
    if found is None:
        return None
    taken = 0
    for count, item in enumerate(rest, start=1):
        taken += len(item.low.split(" "))
        if taken >= found.length:
            return (found.span, count) if taken == found.length else None
    return None


def _add_time(s: Scanner, name: str, span: dates.Span, size: int, *, negated: bool | None = None) -> bool:
    negated = s.negated if negated is None else negated
    filters = dates.to_filters(name, span, is_date=s.spec_of(name).type == "date", negated=negated)
    if filters is None:
        return False
    s.take(size)
    s.draft.mentioned = [(field, at) for field, at in s.draft.mentioned if field != name]
    s.add(filters)
    return True
