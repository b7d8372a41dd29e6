"""Rules that read one condition: values and their lists, text, networks, emptiness, negation."""

from __future__ import annotations

from conversations.pipeline.embedded import quantities, words
from conversations.pipeline.embedded.lexicon import Entry
from conversations.pipeline.embedded.scan import OPPOSITES, Scanner
from conversations.pipeline.embedded.words import ARTICLES, COPULAS, NUMBER_WORDS, PREPOSITIONS
from conversations.pipeline.tools import Cell, Filter, Op

_EMPTY = frozenset("empty missing blank null none unknown unset unassigned unspecified".split())
_FILLED = frozenset("set known present filled assigned".split())
#: Between a field and its value.
_SAID = frozenset("is are = == : equals equal by with named called titled as != not".split())
_STARTS = ("starts with", "start with", "starting with", "begins with", "begin with", "beginning with", "prefixed with")
_CONTAINS = ("contains", "contain", "containing", "includes", "including", "like", "matching")


def negation(s: Scanner) -> bool:
    """Remembers "not", "except", "other than" for the condition that follows."""
    size = s.says(
        "other than",
        "apart from",
        "but not",
        "but no",
        "as well as not",
        "rather than",
        "not in the",
        "is not",
        "are not",
    )
    size = size or int(s.low() in words.NEGATIONS)
    if not size:
        return False
    s.negation = s.position
    s.used.update(range(s.position + 1, s.position + size))
    s.position += size
    return True


def emptiness(s: Scanner) -> bool:
    """ "without an owner", "no owner", "missing a serial number", "with an owner", "owner is not set"."""
    return _without(s) or _with(s) or _state(s)


def _without(s: Scanner) -> bool:
    size = s.says(
        "without", "lacking", "lacks", "missing", "has no", "have no", "having no", "with no", "no", "do not have",
        "does not have", "have not got", "not have",
    )  # fmt: skip
    at = s.skip(ARTICLES | {"a", "an", "any"}, size)
    name = s.field_at(at) if size else None
    if name is None or (s.literal(at + 1, name) and s.item(at + 1) and _names_value(s, at + 1, name)):
        return False
    group = s.new_group()
    s.take(at + 1)
    s.add([Filter(field=name, op="is_null")], group)
    while s.low() in ("and", "or", "nor", ",") and (other := s.field_at(s.skip(ARTICLES, 1))):
        s.take(s.skip(ARTICLES, 1) + 1)
        s.add([Filter(field=other, op="is_null")], group)
    return True


def _names_value(s: Scanner, ahead: int, name: str) -> bool:
    item = s.item(ahead)
    return item is not None and any(entry.field == name for entry in item.values)


def _with(s: Scanner) -> bool:
    size = s.says("with", "having", "has", "have", "that have", "that has")
    at = s.skip({"a", "an", "any", "some"}, size)
    name = s.field_at(at) if size else None
    if name is None or (at == size and s.item(at + 1) is not None and not _ends(s, at + 1)):
        return False
    if s.spec_of(name).type == "address" and s.low(at + 1) in ("in", "within", "inside"):
        return False
    if quantities.compares(s, at + 1) or s.low(at + 1) in ("of", "=", ":", "is") or s.literal(at + 1, name) is not None:
        return False
    if at == size and s.spec_of(name).type == "number":
        return False
    s.take(at + 1)
    s.add([Filter(field=name, op="is_null" if s.negated else "not_null")])
    return True


def _ends(s: Scanner, ahead: int) -> bool:
    item = s.item(ahead)
    return item is None or item.low in PREPOSITIONS or item.low in ("sorted", "ordered", "?", "as")


def _state(s: Scanner) -> bool:
    name = s.field_at(0)
    if name is None:
        return False
    at = s.skip(COPULAS, 1)
    negated = s.low(at) == "not"
    word = s.low(at + negated)
    if word not in _EMPTY | _FILLED:
        return False
    empty = (word in _EMPTY) != negated
    s.take(at + negated + 1)
    s.add([Filter(field=name, op="is_null" if empty else "not_null")])
    return True


def text(s: Scanner) -> bool:
    """ "hostname starts with db", "name contains web", "with 'web' in the name", "starting with db"."""
    return _operator(s) or _inside(s)


def _operator(s: Scanner) -> bool:
    name = s.field_at(0)
    at = s.skip(words.FILLERS - {"with"} | {"not"}, 1) if name else 0
    negated = s.negated or (name is not None and "not" in s.lows(1, at - 1))
    op: Op = "starts_with"
    size = s.says(*_STARTS, ahead=at)
    if not size:
        op, size = "contains", s.says(*(_CONTAINS if name else _CONTAINS[:3]), ahead=at)
    name = name or (s.lexicon.first_identifier if size else None)
    item = s.item(s.skip(ARTICLES, at + size))
    if not size or name is None or item is None or s.spec_of(name).type in ("number", "date", "datetime"):
        return False
    if (op == "starts_with" and negated) or not (item.is_literal or item.values):
        return False
    s.take(s.skip(ARTICLES, at + size) + 1)
    s.add([Filter(field=name, op="not_contains" if negated else op, value=item.text)])
    return True


def _inside(s: Scanner) -> bool:
    item = s.item()
    at = s.skip(ARTICLES, 2)
    name = s.field_at(at)
    if (
        item is None
        or name is None
        or s.low(1) != "in"
        or s.spec_of(name).type not in ("text", "address", "list", "id")
    ):
        return False
    if item.kind != "quoted" and not (
        s.low(-1) in ("with", "having", "containing") and (item.is_literal or item.values)
    ):
        return False
    s.take(at + 1)
    s.add([Filter(field=name, op="not_contains" if s.negated else "contains", value=item.text)])
    return True


def network(s: Scanner) -> bool:
    """ "in 10.0.0.0/8", "in the 192.168 range", "10.1.x.x"."""
    item = s.item()
    at = s.skip({"in", "within", "inside", "on", "from", "the", "is", "are"}, 1 if s.field_at(0, "address") else 0)
    target = s.item(at)
    if item is None or target is None:
        return False
    prefix = target.low if target.kind == "network" else ""
    tail = int(s.low(at + 1) in ("range", "network", "subnet", "block", "net"))
    if (
        not prefix
        and tail
        and all(part.isdigit() for part in target.text.split("."))
        and target.kind in ("number", "word")
    ):
        prefix = words.part_network(target.text)
    fields = [s.field_at(0, "address"), *(f.name for f in s.lexicon.fields_of_type("address"))]
    name = next((field for field in fields if field), None)
    if not prefix or name is None or s.negated:
        return False
    s.take(at + 1 + tail)
    s.add([Filter(field=name, op="within", value=prefix)])
    return True


def field_equals(s: Scanner) -> bool:
    """ "site is DM-Akron", "owned by platform", "serial number 00012", "named web-01"."""
    item = s.item()
    names = (item.fields if item else ()) or s.stem_fields(0)
    named = s.says("named", "called", "titled")
    if named and s.lexicon.first_identifier:
        names = (s.lexicon.first_identifier,)
    if not names or item is None:
        return False
    at = s.skip(
        COPULAS
        | {
            "=",
            "==",
            ":",
            ")",
            "equals",
            "equal",
            "to",
            "named",
            "called",
            "of",
            "by",
            "with",
            "in",
            "at",
            "as",
            "set",
        },
        1,
    )
    negated = s.low(at) == "not" or s.low(at) in ("!=", "<>")
    at = s.skip(ARTICLES | {"not", "!=", "<>", "in"}, at)
    if s.low(-1) in ("what", "which") and s.low(1) in COPULAS and not (s.item(at) and _names_value(s, at, names[0])):
        return False  # "what site is web-01 in?"
    said = bool({s.low(k) for k in range(1, at)} & _SAID or item.low.split()[-1] in _SAID or named)
    return _equals(s, names, at, s.negated or negated, said=said)


def _equals(s: Scanner, names: tuple[str, ...], at: int, negated: bool, *, said: bool) -> bool:
    target = s.item(at)
    for name in names:
        if target is None or s.spec_of(name).type in ("date", "datetime") or target.is_noun:
            continue
        if any(entry.field == name for entry in target.values):
            s.take(at)
            if negated and not s.negated:
                s.negation = s.position - 1
            return value(s, name)
        part = next((e for e in s.lexicon.part(target.low) if e.field == name), None) if said else None
        if part is not None:
            s.take(at + 1)
            s.add([Filter(field=name, op=OPPOSITES[part.op] if negated else part.op, value=part.value)])
            return True
        if not _may_be_value(s, name, at, said):
            continue
        found = s.literal(at, name)
        if found is None:
            continue
        s.take(at + 1)
        s.add([Filter(field=name, op="ne" if negated else "eq", value=_run(s, found[0], target.kind))])
        s.draft.noun = s.draft.noun or s.spec_of(name).is_identifier
        return True
    return False


def _may_be_value(s: Scanner, name: str, at: int, said: bool) -> bool:
    """An unknown word is the field's value when that is said ("is", "by", "=") or when it looks like nothing else."""
    target = s.item(at)
    if target is None or not target.is_literal or target.low in NUMBER_WORDS or s.stem_fields(at):
        return False
    if target.kind in ("quoted", "address") or any(c.isdigit() for c in target.text):
        # "the type of web-01" and "who owns web-01" ask for a field of a row, they do not say that the type is web-01.
        return said or (s.low(at - 1) != "of" and s.field_at(0) is not None)
    return said


def _run(s: Scanner, first: Cell, kind: str) -> Cell:
    """A value of several unknown words: "by Ursula Le Guin"; only capitalised ones are joined."""
    if kind != "word" or not isinstance(first, str) or not first[:1].isupper():
        return first
    while (item := s.item()) and item.kind == "word" and item.text[:1].isupper() and item.low not in words.CONNECTORS:
        first = f"{first} {item.text}"
        s.take(1)
    return first


def value(s: Scanner, forced: str | None = None) -> bool:
    """A value of the data, or a list of them: "routers and switches", "not in London or Paris"."""
    item = s.item()
    if item is None or not item.values or (item.is_noun and forced is None):
        return False
    entry = _choose(s, item.values, forced)
    negated, group = s.negated, s.new_group()
    _add_value(s, entry, negated, group)
    while True:
        at = s.skip(words.CONNECTORS, 0)
        at = s.skip(ARTICLES | PREPOSITIONS - {"by", "with"}, at) if at else 0
        following = s.item(at)
        same = [e for e in following.values if e.field == entry.field] if following and at else []
        if not same:
            return True
        s.take(at)
        _add_value(s, same[0], negated, group)


def _add_value(s: Scanner, entry: Entry, negated: bool, group: int) -> None:
    s.take(1)
    if s.field_at(0) == entry.field and not s.spec_of(entry.field).is_identifier and not _described(s):
        s.take(1)
    if entry.kind == "identity":
        s.draft.identities.append(Filter(field=entry.field, op="eq", value=entry.value))
    op: Op = OPPOSITES[entry.op] if negated else entry.op
    s.add([Filter(field=entry.field, op=op, value=entry.value)], group)


def _described(s: Scanner) -> bool:
    """The field name after a value begins something of its own: "production owner is platform"."""
    return s.low(1) in COPULAS or s.low(1) in ("of", "=", ":") or s.low(-2) in ("and", ",")


def _choose(s: Scanner, entries: tuple[Entry, ...], forced: str | None) -> Entry:
    """The likeliest meaning: the field said beside it, then what "in", "at" and "by" ask for, then the spec's order."""
    neighbours = {forced, s.field_at(1)} - {None}
    if s.position and s.position - 1 in s.used:
        neighbours.add(s.field_at(-1))
    question = {"in": "where", "at": "where", "by": "who"}.get(s.low(-1), "")
    places = s.lexicon.asked_by(question) if question else ()
    return min(entries, key=lambda e: (e.field not in neighbours, e.rank > 1, e.field not in places, entries.index(e)))
