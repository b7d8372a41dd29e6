"""What the whole request tells: two questions in one, values that exclude each other, words that measure nothing.

Each check says why the request must not be run, or nothing. A wrong number is worse than a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from conversations.pipeline.embedded import words
from conversations.pipeline.embedded.scan import Condition, Item, Scanner

_ONE = "Please ask one question at a time: "
_ABSENT = frozenset({"no", "without", "lacking", "zero", "none"})
_JOINS = frozenset({"and", "or", ",", "&", "/", "+", "and/or", "nor", ";"})
_ADDS = frozenset({"plus", "and", "&", "+"})
_TOTALS = frozenset("total combined aggregate cumulative summed overall sum".split())
_EXTREMES = frozenset("max maximum min minimum".split())
_SKIPPED = frozenset({"skip", "offset", "skipping"})


def find(s: Scanner) -> str:
    """The first reason why the request must not be run, or ""."""
    if s.draft.problem:
        return s.draft.problem
    for check in _CHECKS:
        reason = check(s)
        if reason:
            return reason
    return ""


def _either(s: Scanner) -> str:
    """ "cisco devices or offline devices": conditions on different fields can only all be true."""
    for k, item in enumerate(s.items):
        if item.low not in ("or", "or/and", "and/or") or k in s.used:
            continue
        before = [c for c in s.draft.conditions if c.at < k]
        after = [c for c in s.draft.conditions if c.at > k]
        if before and after and not _same_field(before, after):
            return f"{_ONE}I can join values of one field with “or”, but not conditions on different fields."
    return ""


def _same_field(before: Sequence[Condition], after: Sequence[Condition]) -> bool:
    nearest = max(before, key=lambda c: c.at), min(after, key=lambda c: c.at)
    return nearest[0].filter.field == nearest[1].filter.field


def _scattered(s: Scanner) -> str:
    """Values of one field that no "and", "or" or comma joins: "routers in LON1 and switches in SFO1"."""
    whole = [c for c in s.draft.conditions if c.filter.op in ("eq", "contains")]
    for n, first in enumerate(whole):
        for other in whole[n + 1 :]:
            name = first.filter.field
            if "contains" in (first.filter.op, other.filter.op) and not _apart(s, first, other):
                continue
            if name != other.filter.field or first.filter.value == other.filter.value or first.group == other.group:
                continue
            if s.spec_of(name).type != "list" and not joined(s, first, other):
                title = s.spec_of(name).title
                return (
                    f"{_ONE}I can't tell how {title} “{first.filter.value}” and “{other.filter.value}” belong together."
                )
    return ""


def _apart(s: Scanner, first: Condition, other: Condition) -> bool:
    """ "linux servers and windows servers": parts of one text, but each said of its own."""
    between = range(first.at + 1, other.at)
    conditions = {c.at for c in s.draft.conditions}
    joins = any(s.items[k].low in _JOINS for k in between)
    return joins and any(k in conditions or s.items[k].is_noun for k in between)


def joined(s: Scanner, first: Condition, other: Condition) -> bool:
    """Only small words stand between, and one of them joins: "that are offline or that are retired"."""
    low, high = sorted((first.at, other.at))
    between = s.items[low + 1 : high]
    conditions = {c.at for c in s.draft.conditions}
    if any(place in conditions for place in range(low + 1, high)) or any(item.is_noun for item in between):
        return False
    return any(item.low in _JOINS for item in between)


def _contradicted(s: Scanner) -> str:
    """The same value asked for and ruled out."""
    wanted = {(c.filter.field, c.filter.value) for c in s.draft.conditions if c.filter.op in ("eq", "contains")}
    refused = {(c.filter.field, c.filter.value) for c in s.draft.conditions if c.filter.op in ("ne", "not_contains")}
    both = sorted(wanted & refused, key=str)
    if not both:
        return ""
    return f"I read that as {s.spec_of(both[0][0]).title} both “{both[0][1]}” and not “{both[0][1]}”."


def _second_noun(s: Scanner) -> str:
    """ "offline hosts and cisco hosts", "firewalls plus the servers in Paris": what holds for which of them?"""
    conditions = [c.at for c in s.draft.conditions]
    for k, item in enumerate(s.items):
        at = next((j for j in range(k + 1, len(s.items)) if s.items[j].low not in words.ARTICLES), len(s.items))
        if item.low not in _ADDS or at >= len(s.items):
            continue
        heads = [n for n in s.draft.nouns if n < k], [n for n in s.draft.nouns if n > k]
        if all(heads) and any(c < k for c in conditions) and any(c > k for c in conditions):
            return f"{_ONE}the conditions may belong to one part of it alone."
        added = at > k + 1 or item.low == "plus"
        later = [c for c in conditions if c > at and s.items[c].low != s.items[at].low]
        if added and is_kind(s.items[at]) and later and any(c < k for c in conditions):
            return f"{_ONE}the conditions may belong to “{s.items[at].text}” alone."
    return ""


def is_kind(item: Item) -> bool:
    """A word for what is asked for: a noun, or a value in the plural ("routers"), not one that ends so ("windows")."""
    own = any(words.fold(entry.value) == item.low for entry in item.values)
    return item.is_noun or (bool(item.values) and words.may_be_plural(item.low) and not own)


def _two_limits(s: Scanner) -> str:
    return f"{_ONE}I can't tell which of the numbers limits what." if len(s.draft.limits) > 1 else ""


def _measured(s: Scanner) -> str:
    """ "how many cores do the servers have": a sum, not a number of rows."""
    if s.draft.measured and not s.draft.identities:
        title = s.spec_of(s.draft.measured).title
        return f"I count and group rows, but I don't add up {title}."
    if s.draft.amount and not any(s.spec_of(name).type == "number" for name in s.draft.columns):
        return "I can't tell how much of what you mean: I count rows and show their fields."
    return ""


def _aggregate(s: Scanner) -> str:
    for k, item in enumerate(s.items[:-1]):
        following = s.items[k + 1]
        number = any(s.spec_of(name).type == "number" for name in following.fields)
        after = s.items[k + 2].low if k + 2 < len(s.items) else ""
        if number and (item.low in _TOTALS or (item.low in _EXTREMES and after in words.PREPOSITIONS)):
            return "I count and group, but I don't work out sums, averages or extremes; I can sort, largest first."
    return ""


def _absent(s: Scanner) -> str:
    """ "which sites have no firewall?": groups are made of rows, and there are none."""
    asked = {name for name, _ in s.draft.mentioned} if not s.draft.group_by else set()
    grouped = asked | set(s.draft.group_by)
    negated = any(c.filter.op in ("ne", "not_in", "not_contains") for c in s.draft.conditions)
    said = any(item.low in _ABSENT or _has_not(s, k) for k, item in enumerate(s.items))
    if negated and said and any(s.spec_of(name).is_category for name in grouped) and not s.draft.nouns:
        return "I group the rows that there are, so I can't say where there are none."
    return ""


def _has_not(s: Scanner, k: int) -> bool:
    lows = [item.low for item in s.items[k : k + 3]]
    return len(lows) > 1 and (lows[:2] in (["not", "have"], ["not", "got"]) or lows[:3] == ["not", "having", "any"])


def _beyond(s: Scanner) -> str:
    """An "or more" that no amount has taken."""
    for k, item in enumerate(s.items[:-1]):
        following = s.items[k + 1]
        if item.low in ("or", "and") and following.low in _MORE and k not in s.used:
            return f"I can't tell what “{item.text} {following.text}” belongs to."
    return ""


_MORE = frozenset("more less fewer higher lower above below older newer later earlier bigger smaller up".split())


def _skips(s: Scanner) -> str:
    for k, item in enumerate(s.items[:-1]):
        rest = [other.low for other in s.items[k + 1 : k + 4]]
        if item.low in _SKIPPED and any(words.number_of(low) is not None or low == "first" for low in rest):
            return "I show the first rows of an answer or all of them, but I can't skip any."
    return ""


_CHECKS: tuple[Callable[[Scanner], str], ...] = (
    _either, _contradicted, _scattered, _second_noun, _two_limits, _measured, _aggregate, _absent, _beyond, _skips,
)  # fmt: skip
