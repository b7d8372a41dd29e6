"""Rules that read one condition: values and their lists, text, networks, emptiness, negation."""

from __future__ import annotations

from conversations.pipeline.embedded import quantities, words
from conversations.pipeline.embedded.lexicon import Entry
from conversations.pipeline.embedded.scan import OPPOSITES, Item, Scanner
from conversations.pipeline.embedded.words import ARTICLES, COPULAS, NUMBER_WORDS, PREPOSITIONS
from conversations.pipeline.tools import Cell, Filter, Op

#: Between a field and its value.
_SAID = frozenset("is are = == : equals equal by with named called titled as != not".split())


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
    size = size or int(s.low() in words.NEGATIONS or _all_but(s))
    if not size or (s.low() == "not" and s.low(-1) in ("can", "could")):
        return False  # "users cannot log in" rules no value out
    s.negation = s.position
    s.used.update(range(s.position + 1, s.position + size))
    s.position += size
    return True


def _all_but(s: Scanner) -> bool:
    """ "everything but printers", "all hosts but the offline ones"."""
    if s.low() not in ("but", "save") or s.low(1) in ("only", "just", "also", "not", "no"):
        return False
    before = s.item(-1)
    if before is None:
        return False
    return before.low in _ALL or (before.is_noun and s.low(-2) in words.ARTICLES | {"everything"})


_ALL = frozenset({"all", "everything", "anything", "any", "every"})
#: What follows them changes nothing: "including retired ones".
_INCLUDING = frozenset({"including", "include", "includes", "even"})


def included(s: Scanner) -> bool:
    """ "every host including retired ones": no condition; with others on the field it is one more value."""
    item = s.item(s.skip(ARTICLES, 1))
    if s.low() not in _INCLUDING or item is None or not item.values or item.fields:
        return False
    names = {entry.field for entry in item.values}
    same = next((c for c in s.draft.conditions if c.filter.field in names and c.filter.op == "eq"), None)
    s.take(s.skip(ARTICLES, 1))
    if same is None:
        s.take(1)
    else:
        entry = next(entry for entry in item.values if entry.field == same.filter.field)
        s.take(1)
        s.add([Filter(field=entry.field, op="eq", value=entry.value)], same.group)
    s.take(int(s.low() == "ones"))
    return True


def network(s: Scanner) -> bool:
    """ "in 10.0.0.0/8", "in the 192.168 range", "10.1.x.x", "between 10.0.0.1 and 10.0.0.9"."""
    if _between(s):
        return True
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
    if not prefix or name is None:
        return False
    if s.negated:
        s.doubt(f"I can look inside a network, but not for what is outside of one ({prefix}).")
    s.take(at + 1 + tail)
    s.add([Filter(field=name, op="within", value=prefix)])
    return True


def _between(s: Scanner) -> bool:
    at = s.skip({"is", "are", "the", "in"}, 1 if s.field_at(0, "address") else 0)
    low, high = s.item(at + 1), s.item(at + 3)
    fields = [s.field_at(0, "address"), *(f.name for f in s.lexicon.fields_of_type("address"))]
    name = next((field for field in fields if field), None)
    framed = s.low(at) in ("between", "from") and s.low(at + 2) in ("and", "to", "-")
    if not framed or low is None or high is None or name is None:
        return False
    if not (_is_address(low) and _is_address(high)) or s.negated:
        return False
    s.take(at + 4)
    s.add([Filter(field=name, op="gte", value=low.text), Filter(field=name, op="lte", value=high.text)])
    return True


def _is_address(item: Item) -> bool:
    """Typed as an address, though a row may be known by it."""
    return words.is_address(item.text)


def span(s: Scanner) -> bool:
    """ "racks R103 to R105", "between R103 and R105": the known values that are numbered so."""
    named = s.field_at(0)
    at = s.skip({"from", "between", "in", "is", "are"}, int(named is not None))
    low, high = s.item(at), s.item(at + 2)
    joins = {"to", "through", "until", "-", "–"} | ({"and"} if s.low(at - 1) == "between" else set())
    if low is None or high is None or s.low(at + 1) not in joins:
        return False
    known = {name: s.lexicon.numbered(name, low.text, high.text) for name in ([named] if named else s.lexicon.fields)}
    name = next((name for name, values in known.items() if values), named)
    values = known[name] if name else None
    if name is None or values is None or not s.spec_of(name).is_category:
        return False
    if not values:
        s.doubt(f"I know no {s.spec_of(name).title} from “{low.text}” to “{high.text}”.")
    s.take(at + 3)
    s.add([Filter(field=name, op="not_in" if s.negated else "in", value=values)])
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
    if s.low(-1) in ("what", "which") and s.low(1) in COPULAS and not (s.item(at) and s.names_value(at, names[0])):
        return False  # "what site is web-01 in?"
    said = bool({s.low(k) for k in range(1, at)} & _SAID or item.low.split()[-1] in _SAID or named)
    return _equals(s, names, at, s.negated or negated, said=said)


def _equals(s: Scanner, names: tuple[str, ...], at: int, negated: bool, *, said: bool) -> bool:
    target = s.item(at)
    for name in names:
        if target is None or s.spec_of(name).type in ("date", "datetime") or target.is_noun:
            continue
        own = any(entry.field == name for entry in target.values)
        if own or _is_numbered(target, _pieces(s.item())):
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


def _pieces(item: Item | None) -> set[str]:
    return {words.singular(piece) for piece in words.pieces(item.low)} if item else set()


def _is_numbered(target: Item, said: set[str]) -> bool:
    """The row's own field is called by the word before it, though another field is too: "tag 00012", asset tag."""
    return any(e.kind == "identity" and said and said <= set(e.field.split("_")) for e in target.values)


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
    if _is_vague(s, item):
        return False
    entry = _choose(s, item.values, forced)
    negated, group = s.negated, s.new_group()
    # A row can have several values of a list field, and "both" says that it has.
    each = s.spec_of(entry.field).type == "list" and _has_each(s, entry.field)
    _add_value(s, entry, negated, group)
    while True:
        at = s.skip(words.CONNECTORS, 0)
        if negated and at and s.low(at - 1) == "," and s.low(at) in ARTICLES:
            return True  # "not the printers, the routers"
        at = s.skip(ARTICLES | PREPOSITIONS - {"by", "with"}, at) if at else 0
        following = s.item(at)
        same = [e for e in following.values if e.field == entry.field] if following and at else []
        if not same:
            return True
        s.take(at)
        _add_value(s, same[0], negated, s.new_group() if each else group)


def _has_each(s: Scanner, name: str) -> bool:
    """ "both dmz and legacy", "tagged dmz and legacy": one row has them all; "dmz and legacy hosts" are two kinds."""
    if "both" in s.lows(-2, 2):
        return True
    at = s.skip(words.CONNECTORS, 1)
    return s.field_at(-1) == name and at == _NEXT_BUT_ONE and s.low(1) in ("and", "&", "+", "plus")


_NEXT_BUT_ONE = 2


def _is_vague(s: Scanner, item: Item) -> bool:
    """ "high memory hosts" is said of an amount, not of the value "high" of another field."""
    following = s.item(1)
    if item.low not in quantities.VAGUE or following is None or s.field_at(1, "number") is None:
        return False
    return not quantities.compares(s, 2) and words.number_of(s.low(2)) is None


def _add_value(s: Scanner, entry: Entry, negated: bool, group: int) -> None:
    s.take(1)
    if s.field_at(0) == entry.field and not s.spec_of(entry.field).is_identifier and not _described(s):
        s.take(1)
    if entry.kind == "identity":
        s.draft.identities.append(Filter(field=entry.field, op="eq", value=entry.value))
    op: Op = OPPOSITES[entry.op] if negated else entry.op
    s.add([Filter(field=entry.field, op=op, value=entry.value)], group)
    if not negated:
        _add_detail(s, entry)


def _add_detail(s: Scanner, entry: Entry) -> None:
    """A number right after a value may be that of the field named after it: "ubuntu 24.04" and OS, OS version."""
    item = s.item()
    if item is None or item.kind not in ("number", "known") or not item.text[:1].isdigit():
        return
    for name in s.lexicon.details(entry.field):
        known = next((e for e in item.values if e.field == name), None)
        exact = known.value if known else s.lexicon.spelling(name, item.text)
        beginning = s.lexicon.beginning(name, item.text)
        if exact is None and not beginning:
            continue
        s.take(1)
        if exact is None:
            s.add([Filter(field=name, op="starts_with", value=f"{item.text}.")])
            return
        group = s.new_group()
        s.add([Filter(field=name, op="eq", value=exact)], group)
        _more_details(s, name, group)
        return


def _more_details(s: Scanner, name: str, group: int) -> None:
    """ "… 22.04 and 24.04"."""
    while at := s.skip(words.CONNECTORS, 0):
        item = s.item(at)
        other = s.lexicon.spelling(name, item.text) if item is not None and item.text[:1].isdigit() else None
        if other is None:
            return
        s.take(at + 1)
        s.add([Filter(field=name, op="eq", value=other)], group)


def _described(s: Scanner) -> bool:
    """The field name after a value begins something of its own: "… production, environment = …"."""
    return s.low(1) in ("of", "=", ":")


def _choose(s: Scanner, entries: tuple[Entry, ...], forced: str | None) -> Entry:
    """The likeliest meaning: the field said beside it, then what "in", "at" and "by" ask for, then the spec's order."""
    neighbours = {forced, s.field_at(1)} - {None}
    if s.position and s.position - 1 in s.used:
        neighbours.add(s.field_at(-1))
    question = {"in": "where", "at": "where", "by": "who"}.get(s.low(-1), "")
    places = s.lexicon.asked_by(question) if question else ()
    return min(entries, key=lambda e: (e.field not in neighbours, e.rank > 1, e.field not in places, entries.index(e)))
