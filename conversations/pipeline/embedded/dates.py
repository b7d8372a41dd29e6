"""Phrases of time, relative to the request's own now, in UTC: "in the next 30 days", "before 2025", "this year"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from conversations.pipeline.embedded.words import number_of
from conversations.pipeline.tools import Filter, Op

_UNITS = {
    "minute": "minute", "minutes": "minute", "min": "minute", "mins": "minute", "hour": "hour", "hours": "hour",
    "hr": "hour",
    "hrs": "hour", "h": "hour", "day": "day", "days": "day", "d": "day", "week": "week", "weeks": "week", "wk": "week",
    "wks": "week", "w": "week", "month": "month", "months": "month", "quarter": "quarter", "quarters": "quarter",
    "year": "year",
    "years": "year", "yr": "year", "yrs": "year", "y": "year", "fortnight": "fortnight",
}  # fmt: skip
_MONTHS = "january february march april may june july august september october november december".split()
_WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
_LAST = frozenset({"last", "past", "previous", "prior"})
_NEXT = frozenset({"next", "coming", "following", "upcoming"})
_ONES = frozenset({"a", "an", "one"})
_SYMBOLS = {"<": "before", ">": "after", ">=": "since", "<=": "until", "=": "on", "==": "on"}
_DAY = timedelta(days=1)
#: Beyond it no date is meant, and arithmetic would leave the calendar.
_MOST = 36_525
_YEARS = range(1900, 3000)
_DAYS = range(1, 32)
_SHORT_MONTH = 3


@dataclass(frozen=True, kw_only=True)
class Span:
    """From `start` (inclusive) to `end` (exclusive, or inclusive when `through`); None is open."""

    start: datetime | None = None
    end: datetime | None = None
    through: bool = False
    #: A window that begins or ends now: its negation is what lies beyond it.
    #: An age is the same when negated: "not seen in over a month".
    window: Literal["", "past", "future", "age"] = ""


@dataclass(frozen=True, kw_only=True)
class Found:
    span: Span
    #: How many words the phrase took.
    length: int


@dataclass(frozen=True, kw_only=True)
class _Point:
    """A day, month, year or instant: from `start` until before `end`, `length` words long."""

    start: datetime
    end: datetime
    length: int


def read(phrase: Sequence[str], now: datetime, *, past: bool) -> Found | None:
    """The time that the words begin with. `past`: "within 30 days" looks back, as after "seen"."""
    words = tuple(_SYMBOLS.get(word, word) for word in phrase)
    now = now.astimezone(UTC)
    return (
        _older(words, now)
        or _rolling(words, now)
        or _within(words, now, past)
        or _between(words, now)
        or _bounded(words, now)
        or _in_point(words, now)
    )


def to_filters(field: str, span: Span, *, is_date: bool, negated: bool) -> tuple[Filter, ...] | None:
    """The span as conditions; None when its opposite can't be said with conditions that must all be true."""
    wanted = _opposite(span) if negated else span
    if wanted is None:
        return None
    filters = []
    if wanted.start is not None:
        filters.append(Filter(field=field, op="gte", value=_value(wanted.start, is_date)))
    if wanted.end is not None:
        op: Op = "lte" if wanted.through else "lt"
        filters.append(Filter(field=field, op=op, value=_value(wanted.end, is_date)))
    return tuple(filters)


def before_now(now: datetime) -> Span:
    """What "expired" means: on a day before today."""
    return Span(end=now.astimezone(UTC))


def _opposite(span: Span) -> Span | None:
    if span.window == "age":
        return span
    if span.window == "past" or span.end is None:
        return Span(end=span.start)
    if span.window == "future" or span.start is None:
        return Span(start=span.end + _DAY if span.through else span.end)
    return None


def _value(moment: datetime, is_date: bool) -> str:
    if is_date:
        return moment.date().isoformat()
    return moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _older(words: Sequence[str], now: datetime) -> Found | None:
    """ "older than 3 years", "more than 30 days ago", "in over a month"."""
    at = 1 if words[:1] in (("in",), ("for",)) else 0
    for opening, older in (
        (("older", "than"), True), (("more", "than"), True), (("longer", "than"), True), (("over",), True), (("at",
        "least"), True),
        (("newer", "than"), False), (("younger", "than"), False), (("less", "than"), False), (("under",), False),
    ):  # fmt: skip
        size = len(opening)
        if tuple(words[at : at + size]) != opening:
            continue
        amount = _amount(words, at + size)
        if amount is None:
            return None
        moment, used = _shift(now, amount[:2], -1), amount[2]
        end = at + size + used
        if words[end : end + 1] in (("ago",), ("old",)):
            end += 1
        span = Span(end=moment, window="" if opening[0] == "older" else "age") if older else Span(start=moment)
        return Found(span=span, length=end)
    return None


def _rolling(words: Sequence[str], now: datetime) -> Found | None:
    """ "the last 7 days", "in the next two weeks", "in the past month"."""
    at = _skip(words, 0, ("within", "in", "over", "during", "for", "at"))
    rolling = words[at : at + 1] == ("the",)
    at = _skip(words, at, ("the",))
    direction = -1 if words[at : at + 1] and words[at] in _LAST else 1
    if not words[at : at + 1] or words[at] not in _LAST | _NEXT:
        return None
    amount = _amount(words, at + 1)
    if amount is None and rolling and words[at + 1 : at + 2] and words[at + 1] in _UNITS:
        amount = (1, _UNITS[words[at + 1]], 1)
    if amount is None:
        return None
    moment = _shift(now, amount[:2], direction)
    return Found(span=_window(now, moment), length=at + 1 + amount[2])


def _within(words: Sequence[str], now: datetime, past: bool) -> Found | None:
    """ "within 30 days", "in 2 weeks", "for 90 days"."""
    if not words or words[0] not in ("within", "in", "for"):
        return None
    amount = _amount(words, 1)
    if amount is None:
        return None
    length = 1 + amount[2]
    past = past or words[0] == "for" or words[length : length + 1] == ("ago",)
    tail = 2 if words[length : length + 2] == ("from", "now") else 0
    return Found(span=_window(now, _shift(now, amount[:2], -1 if past else 1)), length=length + tail)


def _window(now: datetime, moment: datetime) -> Span:
    if moment < now:
        return Span(start=moment, end=now, through=True, window="past")
    return Span(start=now, end=moment, through=True, window="future")


def _between(words: Sequence[str], now: datetime) -> Found | None:
    if not words or words[0] not in ("between", "from"):
        return None
    first = _point(words[1:], now)
    if first is None or words[1 + first.length : 2 + first.length] not in (("and",), ("to",), ("until",), ("till",)):
        return None
    second = _point(words[2 + first.length :], now)
    if second is None:
        return None
    return Found(span=Span(start=first.start, end=second.end), length=2 + first.length + second.length)


def _bounded(words: Sequence[str], now: datetime) -> Found | None:
    """ "before 2025-01-01", "since monday", "by the end of the month"."""
    openings = {"before": "before", "after": "after", "since": "since", "until": "until", "till": "until",
    "by": "until",
                "from": "since", "earlier": "before", "later": "after", "older": "before", "newer": "after",
                "prior": "before"}  # fmt: skip
    if not words or words[0] not in openings:
        return None
    at = _skip(words, 1, ("than", "to"))
    point = _point(words[at:], now)
    if point is None:
        return None
    spans = {
        "before": Span(end=point.start), "after": Span(start=point.end), "since": Span(start=point.start),
        "until": Span(end=point.end),
    }  # fmt: skip
    if "end" in words[at : at + 2] and openings[words[0]] == "before":
        spans["before"] = Span(end=point.end)
    return Found(span=spans[openings[words[0]]], length=at + point.length)


def _in_point(words: Sequence[str], now: datetime) -> Found | None:
    at = _skip(words, 0, ("in", "on", "during"))
    point = _point(words[at:], now)
    if point is None or (at == 0 and words[0].isdigit()):
        return None
    return Found(span=Span(start=point.start, end=point.end), length=at + point.length)


def _amount(words: Sequence[str], at: int) -> tuple[int, str, int] | None:
    """(number, unit, words): "30 days" -> (30, "day", 2), "a month" -> (1, "month", 2)."""
    if len(words) < at + 2 or words[at + 1] not in _UNITS:
        return None
    number = 1 if words[at] in _ONES else number_of(words[at])
    if number is None or not 0 <= number <= _MOST:
        return None
    return int(number), _UNITS[words[at + 1]], 2


def _shift(moment: datetime, amount: tuple[int, str], direction: int) -> datetime:
    number, unit = amount
    months = {"month": 1, "quarter": 3, "year": 12}.get(unit)
    if months:
        return _add_months(moment, direction * min(number * months, 12_000))
    seconds = {"minute": 60, "hour": 3600, "day": 86_400, "week": 604_800, "fortnight": 1_209_600}[unit]
    return moment + timedelta(seconds=direction * number * seconds)


def _add_months(moment: datetime, months: int) -> datetime:
    """The same day of another month, or its last day when it is shorter."""
    total = moment.year * 12 + moment.month - 1 + months
    year, month = max(1, min(9998, total // 12)), total % 12 + 1
    last = (datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC) - _DAY).day
    return moment.replace(year=year, month=month, day=min(moment.day, last))


def _point(words: Sequence[str], now: datetime) -> _Point | None:
    if not words:
        return None
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return (
        _iso(words) or _named_day(words, today) or _calendar(words, today) or _end_of(words, today) or _ago(words, now)
        or _with_month(words, today) or _year(words)
    )  # fmt: skip


def _iso(words: Sequence[str]) -> _Point | None:
    try:
        moment = datetime.fromisoformat(words[0].upper()) if words[0][:4].isdigit() and "-" in words[0] else None
    except ValueError:
        return None
    if moment is None:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return _Point(start=moment, end=moment + _DAY if "t" not in words[0].lower() else moment, length=1)


def _named_day(words: Sequence[str], today: datetime) -> _Point | None:
    offsets = {"today": 0, "yesterday": -1, "tomorrow": 1, "now": 0}
    if words[0] in offsets:
        start = today + offsets[words[0]] * _DAY
        return _Point(start=start, end=start + _DAY, length=1)
    at = 1 if words[0] in _LAST | _NEXT | {"this"} else 0
    if words[at : at + 1] and words[at] in _WEEKDAYS:
        back = (today.weekday() - _WEEKDAYS.index(words[at])) % 7 or (7 if at and words[0] in _LAST else 0)
        start = today - back * _DAY + (7 * _DAY if words[0] in _NEXT else timedelta())
        return _Point(start=start, end=start + _DAY, length=at + 1)
    return None


def _period(today: datetime, unit: str) -> datetime:
    """The first day of the week, month, quarter or year that the day is in."""
    if unit == "week":
        return today - today.weekday() * _DAY
    if unit == "day":
        return today
    month = {"month": today.month, "quarter": (today.month - 1) // 3 * 3 + 1, "year": 1}[unit]
    return today.replace(month=month, day=1)


def _calendar(words: Sequence[str], today: datetime) -> _Point | None:
    """ "this year", "last month", "next quarter"."""
    unit = _UNITS.get(words[1]) if len(words) > 1 else None
    if unit not in ("week", "month", "quarter", "year") or words[0] not in _LAST | _NEXT | {"this", "current"}:
        return None
    steps = -1 if words[0] in _LAST else int(words[0] in _NEXT)
    start = _period(today, unit)
    start = _shift(start, (abs(steps), unit), steps)
    return _Point(start=start, end=_shift(start, (1, unit), 1), length=2)


def _end_of(words: Sequence[str], today: datetime) -> _Point | None:
    """ "the end of the month", "end of year": its last day."""
    at = _skip(words, 0, ("the",))
    if tuple(words[at : at + 2]) != ("end", "of"):
        return None
    at = _skip(words, at + 2, ("the", "this"))
    unit = _UNITS.get(words[at]) if len(words) > at else None
    if unit not in ("week", "month", "quarter", "year"):
        return None
    end = _shift(_period(today, unit), (1, unit), 1)
    return _Point(start=end - _DAY, end=end, length=at + 1)


def _ago(words: Sequence[str], now: datetime) -> _Point | None:
    amount = _amount(words, 0)
    if amount is None or words[amount[2] : amount[2] + 1] != ("ago",):
        return None
    start = _shift(now, amount[:2], -1)
    if amount[1] not in ("minute", "hour"):
        start = start.replace(hour=0, minute=0, second=0, microsecond=0)
    return _Point(start=start, end=start + _DAY, length=amount[2] + 1)


def _with_month(words: Sequence[str], today: datetime) -> _Point | None:
    """ "march", "March 2025", "1 March 2025", "March 1st, 2025"; without a year: this one."""
    at = 1 if len(words) > 1 and _month(words[1]) and _day(words[0]) else 0
    month, day = _month(words[at]), _day(words[0]) if at else None
    if not month:
        return None
    at += 1
    if day is None and len(words) > at and _day(words[at]):
        day, at = _day(words[at]), at + 1
    after = _skip(words, at, (",",))
    year = today.year
    if len(words) > after and _is_year(words[after]):
        year, at = int(words[after]), after + 1
    return _month_point(year, month, day, at)


def _month_point(year: int, month: int, day: int | None, length: int) -> _Point | None:
    try:
        start = datetime(year, month, day or 1, tzinfo=UTC)
    except ValueError:
        return None
    return _Point(start=start, end=start + _DAY if day else _add_months(start, 1), length=length)


def _month(word: str) -> int | None:
    for number, name in enumerate(_MONTHS, start=1):
        if word == name or (len(word) >= _SHORT_MONTH and word.rstrip(".") in (name[:3], name[:4])):
            return number
    return None


def _day(word: str) -> int | None:
    digits = word[:-2] if word.endswith(("st", "nd", "rd", "th")) else word
    return int(digits) if digits.isascii() and digits.isdigit() and int(digits) in _DAYS else None


def _is_year(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) == len("2025") and int(word) in _YEARS


def _year(words: Sequence[str]) -> _Point | None:
    if not _is_year(words[0]):
        return None
    start = datetime(int(words[0]), 1, 1, tzinfo=UTC)
    return _Point(start=start, end=_add_months(start, 12), length=1)


def _skip(words: Sequence[str], at: int, skipped: tuple[str, ...]) -> int:
    return at + 1 if len(words) > at and words[at] in skipped else at
