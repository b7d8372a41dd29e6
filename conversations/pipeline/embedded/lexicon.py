"""The words of one table: its nouns, its fields and its values, found whole, by part, or in spite of a typo."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz import process
from rapidfuzz.distance import OSA

from conversations.pipeline.embedded import words
from conversations.pipeline.engine import KnownTable
from conversations.pipeline.tools import FieldSpec, TableSpec

#: Longest phrase that is looked up, in tokens.
MAX_PHRASE = 7
#: Letters of the shortest word that a typo may stand for; a typo itself must be longer.
_SHORTEST_REPAIRED = 4
#: Letters and digits of the shortest piece of a value that is one by itself.
_SHORTEST_FRAGMENT = 4
#: Words of so many letters are only joined with their plural where it is declared: "ups" is not "up".
_TOO_SHORT_FOR_PLURAL = 2
#: From so many letters on two of them may be wrong.
_TWO_TYPOS = 8


#: Words of the language: neither typos nor parts of names.
_NEVER_REPAIRED = words.PROTECTED | words.GRAMMAR | words.SOFT


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One meaning of a phrase. `rank`: 0 declared by the spec, 1 a whole value of the data, 2 a part of one."""

    kind: Literal["noun", "field", "value", "identity"]
    field: str = ""
    value: str = ""
    op: Literal["eq", "contains"] = "eq"
    rank: int = 0


class Lexicon:
    """Built once for a spec and vocabulary; see `lexicon_of`."""

    def __init__(self, spec: TableSpec, vocabulary: Mapping[str, Sequence[str]]) -> None:
        self.spec = spec
        self.fields: dict[str, FieldSpec] = {f.name: f for f in spec.fields}
        self._vocabulary = vocabulary
        self._order = _preference(spec)
        self._entries: dict[str, dict[tuple[str, str], Entry]] = {}
        self._parts: dict[str, set[tuple[str, str]]] = {}
        self._stems: dict[str, list[str]] = {}
        self._composed: set[str] = set()
        #: The words a typo may have been meant as: the form that is looked up -> how it is written.
        self._spellings: dict[str, set[str]] = {}
        self._add_nouns()
        for field in spec.fields:
            self._add_field(field)
            self._add_values(field)
        self._add_details()
        self._phrases = {key: self._sorted(found.values()) for key, found in self._entries.items()}
        self._targets = sorted(self._spellings)

    def lookup(self, key: str) -> tuple[Entry, ...]:
        """The meanings of a whole phrase, likeliest first."""
        return self._phrases.get(key, ())

    def is_composed(self, key: str) -> bool:
        """Only found fields have such a value ("Linux Server"), and the declared fields know all of its words."""
        return key in self._composed and all(self.fields[e.field].is_found for e in self.lookup(key) if e.field)

    def stem_fields(self, word: str) -> tuple[str, ...]:
        """The fields that a verb speaks of: "owned" -> owner, "expiring" -> every date field that expires."""
        return tuple(self._stems.get(words.stem(word), ()))

    def is_everyday(self, key: str) -> bool:
        """The phrase is a declared word for a value that rows have: "down", not the name of a product."""
        return any(
            e.rank == 0 and e.kind == "value" and e.value in self._vocabulary.get(e.field, ()) for e in self.lookup(key)
        )

    def part(self, word: str) -> tuple[Entry, ...]:
        """Values of which the word is one part: "akron" -> DM-Akron. Of several in a field: all that contain it."""
        key = words.singular(word) if words.singular(word) in self._parts else word
        if len(word) < _SHORTEST_REPAIRED or word in _NEVER_REPAIRED or key in _NEVER_REPAIRED:
            return ()
        by_field: dict[str, list[str]] = {}
        for field, value in sorted(self._parts.get(key, ())):
            by_field.setdefault(field, []).append(value)
        entries = [
            Entry(kind="value", field=field, value=found[0] if len(found) == 1 else key,
                  op="eq" if len(found) == 1 else "contains", rank=2)
            for field, found in by_field.items()
        ]  # fmt: skip
        return self._sorted(entries)

    def repair(self, word: str) -> str | None:
        """The known word that a typo most likely stands for, as written; None when none or several are as near."""
        singular = words.singular(word)
        if len(word) <= _SHORTEST_REPAIRED or not word.isalpha() or word in _NEVER_REPAIRED:
            return None
        cutoff = 1 if len(singular) < _TWO_TYPOS else 2
        near = process.extract(singular, self._targets, scorer=OSA.distance, score_cutoff=cutoff, limit=4)
        near = [hit for hit in near if hit[0][0] == singular[0] and hit[1] > 0]
        best = [hit[0] for hit in near if hit[1] == near[0][1]]
        if len(best) != 1:
            return None
        plural = words.is_plural(word)
        written = min(self._spellings[best[0]], key=lambda w: (words.is_plural(w) != plural, len(w), w))
        return words.plural_of(written) if plural and not words.is_plural(written) else written

    def contained(self, field: str, part: str) -> tuple[str, ...]:
        """The field's values that contain the part, case-blind."""
        parts = self.fields[field].family(part)
        return tuple(v for v in self._vocabulary.get(field, ()) if any(words.fold(p) in words.fold(v) for p in parts))

    def details(self, field: str) -> tuple[str, ...]:
        """Fields named after this one: "os_version" says more of "os"."""
        return tuple(name for name in self.fields if name.startswith(f"{field}_"))

    def spelling(self, field: str, text: str) -> str | None:
        """The field's value that is written so."""
        return next((v for v in self._vocabulary.get(field, ()) if words.fold(v) == words.fold(text)), None)

    def numeric(self, field: str, number: float) -> str | None:
        """The field's text that is this number: "39.0" for 39."""
        return next((v for v in self._vocabulary.get(field, ()) if words.number_of(v) == number), None)

    def beginning(self, field: str, text: str) -> bool:
        """Some value of the field is the text and more after a dot: "20" and "20.04"."""
        return any(words.fold(v).startswith(f"{words.fold(text)}.") for v in self._vocabulary.get(field, ()))

    def fragment(self, word: str) -> tuple[Entry, ...]:
        """A piece of a value with a digit in it, "r760" of "PowerEdge R760"; only when one field has such values."""
        if len(word) < _SHORTEST_FRAGMENT or not (any(map(str.isdigit, word)) and any(map(str.isalpha, word))):
            return ()
        pattern = re.compile(rf"(?<![^\W_]){re.escape(words.fold(word))}")
        found = {f for f, values in self._vocabulary.items() if any(pattern.search(words.fold(v)) for v in values)}
        return tuple(Entry(kind="value", field=f, value=word, op="contains", rank=2) for f in found if len(found) == 1)

    def named(self, word: str) -> tuple[str, ...]:
        """The fields called so."""
        return tuple(e.field for e in self.lookup(words.key_of(word)) if e.kind == "field")

    def named_at(self, tokens: Sequence[words.Token]) -> frozenset[int]:
        """The places of the tokens that are the table's own noun, not one of its other names."""
        keys = [token.key for token in tokens]
        own = {tuple(words.key_of(noun).split(" ")) for noun in self.spec.noun}
        found = {
            (at, size)
            for noun in own
            for size in [len(noun)]
            for at in range(len(keys))
            if tuple(keys[at : at + size]) == noun
        }
        return frozenset(place for at, size in found for place in range(at, at + size))

    def measures(self, word: str) -> bool:
        """The word names a number field or its unit."""
        units = {f.unit.lower() for f in self.spec.fields if f.unit}
        return word in units or any(self.fields[name].type == "number" for name in self.named(word))

    @property
    def text_fields(self) -> frozenset[str]:
        return frozenset(f.name for f in self.spec.fields if f.type in ("text", "id", "address", "list"))

    def numbered(self, field: str, first: str, last: str) -> tuple[str, ...] | None:
        """The field's values from "R103" to "R105", in the order of their numbers; None when the two begin unlike."""
        (start, low), (end, high) = _numbered(first), _numbered(last)
        if not start or low is None or high is None or end not in (start, ""):
            return None
        numbers = ((*_numbered(value), value) for value in self._vocabulary.get(field, ()))
        within = [(n, value) for begins, n, value in numbers if begins == start and n is not None and low <= n <= high]
        return tuple(value for _, value in sorted(within))

    def near_values(self, field: str, value: str, limit: int = 3) -> tuple[str, ...]:
        """Values of the field that resemble one that found nothing."""
        known = {words.fold(v): v for v in self._vocabulary.get(field, ())}
        hits = process.extract(words.fold(value), list(known), limit=limit, score_cutoff=70)
        return tuple(known[hit[0]] for hit in hits if hit[0] != words.fold(value))

    def fields_of_type(self, *types: str) -> tuple[FieldSpec, ...]:
        """In the order in which the spec prefers them: those with a unit first."""
        found = [f for f in self.spec.fields if f.type in types]
        return tuple(sorted(found, key=lambda f: (not f.unit, self._order[f.name])))

    def rank_of(self, field: str) -> int:
        return self._order[field]

    def asked_by(self, question: str) -> tuple[str, ...]:
        """Fields whose aliases say that they answer "where" or "who"."""
        return tuple(f.name for f in self.spec.fields if question in f.aliases)

    @property
    def kind_fields(self) -> tuple[str, ...]:
        """Fields whose values are nouns for rows: some of their words are declared in the plural ("routers")."""
        return tuple(
            f.name for f in self.spec.fields
            if f.is_category and any(words.is_plural(word) or f"{word}s" in f.value_aliases for word in f.value_aliases)
        )  # fmt: skip

    def is_countable(self, noun: str) -> bool:
        """One row may be called so: "host", whose plural is declared too; not "hardware"."""
        return noun == self.spec.noun[0] or words.plural_of(noun) in self.spec.noun_aliases

    @property
    def first_identifier(self) -> str | None:
        """What "named" and "starting with" mean without a field: the most telling textual identifier."""
        found = [f.name for f in self.spec.fields if f.is_identifier and f.type in ("text", "id")]
        return min(found, key=self._order.__getitem__, default=None)

    def _add(self, phrase: str, entry: Entry) -> None:
        key = words.key_of(phrase)
        if not key:
            return
        if entry.kind in ("noun", "field") and len(key.split(" ")[-1]) == _TOO_SHORT_FOR_PLURAL:
            self._entries.setdefault(f"{key}s", {}).setdefault((entry.kind, entry.field), entry)
        self._entries.setdefault(key, {}).setdefault((entry.kind, entry.field), entry)
        for word in words.pieces(phrase):
            if word.isalpha() and len(word) >= _SHORTEST_REPAIRED:
                self._spellings.setdefault(words.singular(word), set()).add(word)

    def _add_nouns(self) -> None:
        for noun in (*self.spec.noun, *self.spec.noun_aliases):
            self._add(noun, Entry(kind="noun"))

    def _add_field(self, field: FieldSpec) -> None:
        for phrase in _names(field):
            rank = 0 if phrase in (field.name, field.title) else 1
            self._add(phrase, Entry(kind="field", field=field.name, rank=rank))
            parts = words.fold(phrase).replace("_", " ").split()
            if len(parts) == 1 or field.type in ("date", "datetime"):
                for part in parts:
                    self._add_stem(part, field.name)

    def _add_details(self) -> None:
        """ "os and version": the last word of a field named after another is its name too, if nothing else is."""
        for name in list(self.fields):
            for detail in self.details(name):
                short = detail.removeprefix(f"{name}_")
                others = [f for f in self.fields if f.endswith(f"_{short}")]
                if words.key_of(short) not in self._entries and len(others) == 1:
                    self._add(short, Entry(kind="field", field=detail, rank=1))

    def _add_stem(self, word: str, field: str) -> None:
        found = self._stems.setdefault(words.stem(word), [])
        if field not in found and word not in words.GRAMMAR and len(word) > len("on"):
            found.append(field)

    def _add_values(self, field: FieldSpec) -> None:
        op: Literal["eq", "contains"] = "contains" if field.matches_part else "eq"
        for phrase, value in field.value_aliases.items():
            self._add(phrase, Entry(kind="value", field=field.name, value=value, op=op))
            self._add(value, Entry(kind="value", field=field.name, value=value, op=op))
        for family in field.families:
            if self.contained(field.name, family):
                self._add(family, Entry(kind="value", field=field.name, value=family.capitalize(), op=op))
        for value in self._vocabulary.get(field.name, ()):
            key = words.key_of(value)
            if field.is_found and self._is_said_without(key):
                self._composed.add(key)
            self._add(value, Entry(kind="value", field=field.name, value=value, op=op, rank=1))
            self._add_parts(field, value)

    def _is_said_without(self, key: str) -> bool:
        """The phrase is several that are known: nouns, and values of declared fields."""
        parts = key.split(" ")
        reached = {0}
        for start in range(len(parts)):
            ends = range(start + 1, len(parts) + 1) if start in reached else ()
            reached |= {end for end in ends if end - start < len(parts) and self._is_declared(parts[start:end])}
        return len(parts) in reached

    def _is_declared(self, parts: Sequence[str]) -> bool:
        entries = self._entries.get(" ".join(parts), {}).values()
        return any(e.kind == "noun" or (e.kind == "value" and not self.fields[e.field].is_found) for e in entries)

    def _add_parts(self, field: FieldSpec, value: str) -> None:
        for piece in value.replace("-", " ").replace("_", " ").split():
            part = piece.strip(".,;:()[]'\"/")
            if not part.isalpha() or words.fold(part) in words.FUNCTION:
                continue
            if field.matches_part and len(part) > len("on"):
                self._add(part, Entry(kind="value", field=field.name, value=part, op="contains", rank=2))
            # Names have parts that name them too ("Akron"); the words of a description are just words ("access point").
            if part[0].isupper():
                self._parts.setdefault(words.fold(part), set()).add((field.name, value))

    def _sorted(self, entries: Iterable[Entry]) -> tuple[Entry, ...]:
        kinds = ("noun", "identity", "value", "field")
        return tuple(sorted(entries, key=lambda e: (kinds.index(e.kind), e.rank, self._order.get(e.field, -1))))


def _numbered(text: str) -> tuple[str, int | None]:
    """ "R103" -> ("r", 103)."""
    found = re.fullmatch(r"(.*?)(\d{1,9})", words.fold(text))
    return (found[1], int(found[2])) if found else (words.fold(text), None)


def _names(field: FieldSpec) -> Iterator[str]:
    """Every phrase for the field: also the name without its unit or closing preposition ("memory_gb" -> "memory")."""
    yield from (field.name, field.title)
    yield from (alias for alias in field.aliases if alias not in ("where", "who", "when"))
    parts = field.name.split("_")
    if len(parts) > 1 and parts[-1] in ("on", "at", "in", field.unit.lower()):
        yield " ".join(parts[:-1])
    if field.title.endswith(")") and " (" in field.title:
        yield field.title.split(" (")[0]


def _preference(spec: TableSpec) -> dict[str, int]:
    """Which field a word means when several know it: the ones shown first, then the order of declaration."""
    names = dict.fromkeys((*spec.preview_fields, *(f.name for f in spec.fields)))
    return {name: position for position, name in enumerate(names)}


_lexicons: OrderedDict[tuple[int, int], tuple[TableSpec, Mapping[str, Sequence[str]], Lexicon]] = OrderedDict()
_KEPT = 8


def lexicon_of(table: KnownTable) -> Lexicon:
    """The table's lexicon, kept for as long as it is asked with the same spec and vocabulary, or equal ones."""
    cache_key = (id(table.spec), id(table.vocabulary))
    kept = _lexicons.get(cache_key)
    # The kept references make sure that an id still means the object that it meant.
    if kept is not None:
        return kept[2]
    for spec, vocabulary, lexicon in _lexicons.values():
        if spec == table.spec and vocabulary == table.vocabulary:
            return lexicon
    lexicon = Lexicon(table.spec, table.vocabulary)
    _lexicons[cache_key] = (table.spec, table.vocabulary, lexicon)
    while len(_lexicons) > _KEPT:
        _lexicons.popitem(last=False)
    return lexicon
