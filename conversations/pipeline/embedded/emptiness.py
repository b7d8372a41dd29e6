"""Rules that read whether a field has any value: "without an owner", "unnamed", "with a serial number"."""

from __future__ import annotations

from conversations.pipeline.embedded import quantities
from conversations.pipeline.embedded.scan import Scanner
from conversations.pipeline.embedded.words import ARTICLES, COPULAS, PREPOSITIONS
from conversations.pipeline.tools import Filter

_EMPTY = frozenset("empty missing blank null none unknown unset unassigned unspecified".split())
_FILLED = frozenset("set known present filled assigned".split())


def emptiness(s: Scanner) -> bool:
    """ "without an owner", "no owner", "missing a serial number", "with an owner", "owner is not set"."""
    return _without(s) or _never(s) or _lacking(s) or _with(s) or _state(s)


def _never(s: Scanner) -> bool:
    """ "never seen", "hosts not owned": the verb of a field with nothing after it that says by whom or when."""
    size = int(s.low() in ("never", "not"))
    size += int(s.low(size) in ("been", "yet", "ever"))
    fields = s.stem_fields(size) or ((s.field_at(size),) if s.low(size).endswith(_VERBAL) else ())
    name = next((field for field in fields if field), None)
    following = s.item(size + 1)
    if not size or name is None or len(fields) > 1 or (s.low() == "not" and following and not _ends(s, size + 1)):
        return False
    if following is not None and (following.low in ("by", "in", "since", "for", "before", "after", "within", "to")):
        return False
    s.take(size + 1)
    s.add([Filter(field=name, op="is_null")])
    return True


_VERBAL = ("ed", "en", "seen", "bought")


def _lacking(s: Scanner) -> bool:
    """One word for it: "unnamed", "untagged", "ownerless"."""
    item = s.item()
    if item is None or item.kind != "word":
        return False
    bare = item.low.replace("-", "")
    fields: tuple[str, ...] = ()
    if bare.startswith("un") and bare.endswith("ed"):
        fields = s.lexicon.stem_fields(bare.removeprefix("un")) or s.lexicon.named(bare.removeprefix("un"))
    elif bare.endswith("less"):
        fields = s.lexicon.named(bare.removesuffix("less"))
    if len(fields) != 1 or s.negated:
        return False
    s.take(1)
    s.add([Filter(field=fields[0], op="is_null")])
    return True


def _without(s: Scanner) -> bool:
    size = s.says(
        "without", "lacking", "lacks", "missing", "has no", "have no", "having no", "with no", "no", "do not have",
        "does not have", "have not got", "not have",
    )  # fmt: skip
    at = s.skip(ARTICLES | {"a", "an", "any"}, size)
    name = s.field_at(at) if size else None
    if name is None or (s.literal(at + 1, name) and s.item(at + 1) and s.names_value(at + 1, name)):
        return False
    group = s.new_group()
    s.take(at + 1)
    s.add([Filter(field=name, op="is_null")], group)
    while s.low() in ("and", "or", "nor", ",") and (other := s.field_at(s.skip(ARTICLES, 1))):
        s.take(s.skip(ARTICLES, 1) + 1)
        s.add([Filter(field=other, op="is_null")], group)
    return True


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
