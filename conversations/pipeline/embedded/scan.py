"""The scanner that the grammar's rules move: tokens grouped into items, a position, and the draft of a query."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Literal

from conversations.pipeline.embedded import words
from conversations.pipeline.embedded.lexicon import MAX_PHRASE, Entry, Lexicon
from conversations.pipeline.embedded.words import Token
from conversations.pipeline.tools import Cell, FieldSpec, Filter, Op, Sort

OPPOSITES: dict[Op, Op] = {
    "eq": "ne", "ne": "eq", "in": "not_in", "not_in": "in", "contains": "not_contains", "not_contains": "contains",
    "lt": "gte", "gte": "lt", "gt": "lte", "lte": "gt", "is_null": "not_null", "not_null": "is_null",
}  # fmt: skip
#: Numbers of more digits than a year may be the number of a row.
_SHORTEST_ROW = 4
#: Tokens before a value among which its field is looked for.
_NEAR = 5
_INNER_SYMBOLS = frozenset({",", "/", "&", "+", "-", ":", "(", ")"})


@dataclass(frozen=True, kw_only=True)
class Item:
    """One or more tokens that mean something together: tokens[start:end]."""

    kind: Literal["known", "word", "number", "quoted", "date", "network", "address", "url", "pattern", "symbol"]
    start: int
    end: int
    text: str
    low: str
    #: Likeliest first; empty unless `kind` is "known".
    entries: tuple[Entry, ...] = ()

    @property
    def is_noun(self) -> bool:
        return any(entry.kind == "noun" for entry in self.entries)

    @property
    def fields(self) -> tuple[str, ...]:
        """Of two that differ in case the one written so first: "ID" and "id"."""
        found = (entry.field for entry in self.entries if entry.kind == "field")
        return tuple(sorted(found, key=lambda name: name != self.text))

    @property
    def values(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.kind in ("value", "identity"))

    @property
    def is_literal(self) -> bool:
        """Something that can be compared with: typed text, a number, an address, a date."""
        if self.kind in ("quoted", "number", "date", "address"):
            return True
        return self.kind == "word" and self.low not in words.FUNCTION


def segment(tokens: Sequence[Token], lexicon: Lexicon, extras: Mapping[str, tuple[Entry, ...]]) -> list[Item]:
    """Longest match first, left to right; a phrase never begins or ends inside a typed word."""
    items: list[Item] = []
    at = 0
    while at < len(tokens):
        item = _known(tokens, at, lexicon, extras) or _single(tokens[at], at)
        items.append(item)
        at = item.end
    return items


def _known(tokens: Sequence[Token], at: int, lexicon: Lexicon, extras: Mapping[str, tuple[Entry, ...]]) -> Item | None:
    longest = 1 if tokens[at].kind == "quoted" else min(MAX_PHRASE, len(tokens) - at)
    for size in range(longest, 0, -1):
        span = tokens[at : at + size]
        if not span[-1].key or not span[0].key:
            continue
        if any((not t.key and t.low not in _INNER_SYMBOLS) or t.kind == "quoted" for t in span[1:]):
            continue
        key = " ".join(token.key for token in span if token.key)
        entries = (*extras.get(key, ()), *lexicon.lookup(key))
        if size == 1 and _is_plain(span[0]) and not _is_state(tokens, at, lexicon):
            entries = tuple(e for e in entries if _is_meant(e, span[0]))
        if size > 1 and lexicon.is_composed(key) and not _is_named(entries, tokens, at, lexicon):
            # "linux servers" are servers with Linux, even where some column has "Linux Server".
            continue
        if (
            size > 1
            and entries
            and entries[0].op == "contains"
            and words.is_plural(span[-1].low)
            and lexicon.lookup(span[-1].key)
        ):
            # "windows servers" are servers that run Windows, even where a system is called "Windows Server".
            continue
        if entries:
            text = " ".join(token.text for token in span)
            return Item(kind="known", start=at, end=at + size, text=text, low=words.fold(text), entries=entries)
    return None


def _is_named(entries: Sequence[Entry], tokens: Sequence[Token], at: int, lexicon: Lexicon) -> bool:
    """One of the entries' fields is said just before: "class is Linux Server", "patch group Linux Servers"."""
    fields = {entry.field for entry in entries}
    before = [token.text for token in tokens[max(0, at - _NEAR) : at]]
    spans = (before[start:end] for start in range(len(before)) for end in range(start + 1, len(before) + 1))
    return any(fields & set(lexicon.named(" ".join(span))) for span in spans)


def _is_plain(token: Token) -> bool:
    """Numbers and function words mean a value only beside their field; "IT" in capitals may be one."""
    if token.kind == "number" or len(token.key) <= 1:
        return token.kind != "quoted"
    return token.kind == "word" and token.low in words.GRAMMAR and not (token.text.isupper() and len(token.text) > 1)


def _is_state(tokens: Sequence[Token], at: int, lexicon: Lexicon) -> bool:
    """A table's own word for a value beats the grammar's: "live hosts"; not the verb of a place: "live in"."""
    token, following = tokens[at], tokens[at + 1].low if at + 1 < len(tokens) else ""
    return (
        token.low not in words.CORE
        and following not in words.PREPOSITIONS
        and any(token.low == word for field in lexicon.spec.fields for word in field.value_aliases)
    )


def _is_meant(entry: Entry, token: Token) -> bool:
    """A row may be known by a long number; else a number or function word can only be a field or noun."""
    if entry.kind == "identity":
        return token.kind == "number" and len(token.text) > _SHORTEST_ROW
    return entry.kind in ("noun", "field") and _may_name(token)


def _may_name(token: Token) -> bool:
    """A field or noun may be called as a word of the grammar is: "team", "order"."""
    return token.kind == "word" and len(token.low) > len("us") and token.low not in words.CORE


def _single(token: Token, at: int) -> Item:
    return Item(kind=token.kind, start=at, end=at + 1, text=token.text, low=token.low)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A filter on one value, before those on the same field are joined."""

    filter: Filter
    #: Conditions with the same number were listed together: "routers and switches".
    group: int
    #: The last item of what said it.
    at: int = 0


@dataclass(kw_only=True)
class Draft:
    """What has been understood so far."""

    conditions: list[Condition] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    sort: list[Sort] = field(default_factory=list)
    #: Part of the query ("sort", "limit", "columns") -> the items that said it.
    places: dict[str, set[int]] = field(default_factory=dict)
    #: Fields after a bare "by", and whether a direction was said.
    by: list[tuple[str, bool | None]] = field(default_factory=list)
    group_by: list[str] = field(default_factory=list)
    limit: int | None = None
    #: "the most", "largest" without a field: descending or not.
    superlative: bool | None = None
    #: "the fewest", "the most routers": groups in the order of their counts, descending or not.
    by_count: bool | None = None
    count: bool = False
    breakdown: bool = False
    #: "sort the servers by …": a bare "by" is an order.
    sorting: bool = False
    export: bool = False
    #: Formats other than CSV that were asked for.
    formats: list[str] = field(default_factory=list)
    noun: bool = False
    #: Fields named without a condition, with the index of their item.
    mentioned: list[tuple[str, int]] = field(default_factory=list)
    identities: list[Filter] = field(default_factory=list)
    #: A number field that was asked for like a number of rows: "how many cores".
    measured: str = ""
    #: "how much" was asked.
    amount: bool = False
    #: Why the request must not be run, in words: the first reason found.
    problem: str = ""
    #: Places of the nouns: what is asked for.
    nouns: list[int] = field(default_factory=list)
    #: Places of the limits that were said.
    limits: list[int] = field(default_factory=list)
    asks_null: bool = False


@cache
def _parts(phrase: str) -> tuple[str, ...]:
    """The words of a rule's own phrase; there are some hundreds of them."""
    return tuple(phrase.split())


class Scanner:
    """Rules read ahead from `position` and `take` what they have understood."""

    def __init__(self, items: Sequence[Item], lexicon: Lexicon, now: datetime) -> None:
        self.items = items
        self.lexicon = lexicon
        self.now = now
        self.draft = Draft()
        self.position = 0
        #: Items that play a part in what will be done.
        self.used: set[int] = set()
        #: The item of a negation that waits for its condition.
        self.negation: int | None = None
        self._groups = 0

    def item(self, ahead: int = 0) -> Item | None:
        at = self.position + ahead
        return self.items[at] if 0 <= at < len(self.items) else None

    def low(self, ahead: int = 0) -> str:
        item = self.item(ahead)
        return item.low if item else ""

    def lows(self, ahead: int, size: int) -> tuple[str, ...]:
        return tuple(self.low(ahead + k) for k in range(size))

    def says(self, *phrases: str, ahead: int = 0) -> int:
        """How many items the first of the phrases that stands here takes; 0 when none does."""
        here = self.low(ahead)
        for phrase in phrases:
            parts = _parts(phrase)
            if parts[0] == here and self.lows(ahead, len(parts)) == parts:
                return len(parts)
        return 0

    def skip(self, skipped: Collection[str], ahead: int = 0) -> int:
        """The first place from `ahead` on whose word is none of these."""
        while self.low(ahead) in skipped and self.item(ahead):
            ahead += 1
        return ahead

    def take(self, size: int) -> bool:
        self.used.update(range(self.position, self.position + size))
        self.position += size
        return True

    def field_at(self, ahead: int, *types: str) -> str | None:
        """The field that the item names, also when its first meaning is a value."""
        item = self.item(ahead)
        for name in item.fields if item else ():
            if not types or self.spec_of(name).type in types:
                return name
        return None

    def names_value(self, ahead: int, name: str) -> bool:
        """A known value of the field stands there."""
        item = self.item(ahead)
        return item is not None and any(entry.field == name for entry in item.values)

    def spec_of(self, name: str) -> FieldSpec:
        return self.lexicon.fields[name]

    def stem_fields(self, ahead: int) -> tuple[str, ...]:
        """The fields that an otherwise unknown word may be the verb of."""
        item = self.item(ahead)
        if item is None or item.kind != "word" or item.low in words.FUNCTION:
            return ()
        return self.lexicon.stem_fields(item.low)

    def doubt(self, reason: str) -> None:
        """Remembers why the request must not be run."""
        self.draft.problem = self.draft.problem or reason

    @property
    def negated(self) -> bool:
        return self.negation is not None

    def new_group(self) -> int:
        self._groups += 1
        return self._groups

    def add(self, filters: Iterable[Filter], group: int | None = None) -> None:
        """Adds conditions and spends the negation before them, if there was one."""
        group = self.new_group() if group is None else group
        at = max(self.position - 1, 0)
        self.draft.conditions.extend(Condition(filter=f, group=group, at=at) for f in filters)
        if self.negation is not None:
            self.used.add(self.negation)
            self.negation = None

    def literal(self, ahead: int, name: str) -> tuple[Cell, int] | None:
        """What is typed at this place as a value of the field, and how many items it takes."""
        item = self.item(ahead)
        if item is None:
            return None
        for entry in item.values:
            if entry.field == name:
                return entry.value, 1
        number = words.number_of(item.low)
        if self.spec_of(name).type == "number":
            return (number, 1) if number is not None else None
        if number is not None and (known := self.lexicon.numeric(name, number)) is not None:
            return known, 1
        if item.is_literal or (item.values and item.kind == "known"):
            return item.text, 1
        return None
