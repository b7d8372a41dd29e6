"""Rules that read conditions on parts of a text: "name starts with db", "with OPS-42 in the notes", "lon1-*"."""

from __future__ import annotations

from conversations.pipeline.embedded import words
from conversations.pipeline.embedded.scan import Scanner
from conversations.pipeline.embedded.words import ARTICLES
from conversations.pipeline.tools import Filter, Op

_STARTS = (
    "starts with", "start with", "starting with", "begins with", "begin with", "beginning with", "prefixed with",
    "starts", "starting", "begins", "beginning",
)  # fmt: skip
#: The first of them need no field: "starting with db".
_WITH_WITH = 7
_CONTAINS = ("contains", "contain", "containing", "includes", "including", "like", "matching")
_ENDS = (
    "ends with", "end with", "ending with", "ends in", "end in", "ending in", "ending on", "finishing with",
    "suffixed with",
)  # fmt: skip
#: After these a text in the middle is named.
_WITH = frozenset({"with", "having", "containing", "has", "have", "mention", "mentioning", "mentions", "say", "saying"})
_POSSESSIVES = ARTICLES | {"its", "their", "the"}
_NO_ENDS = "I can look for what a text starts with or contains, but not for what it ends with: try “contains”."


def text(s: Scanner) -> bool:
    """ "hostname starts with db", "name contains web", "with 'web' in the name", "starting with db", "db-*"."""
    return _pattern(s) or _ending(s) or _operator(s) or _inside(s)


def _pattern(s: Scanner) -> bool:
    """A text with wildcards at its ends, with or without its field before it."""
    name = s.field_at(0)
    at = s.skip(words.FILLERS | {"like", "matching", "=", ":", "named", "called"}, 1 if name else 0)
    item = s.item(at)
    name = name or s.lexicon.first_identifier
    if item is None or item.kind != "pattern" or name is None or s.spec_of(name).type in ("number", "date", "datetime"):
        return False
    bare = item.text.strip("*%")
    starts, ends = item.text[0] not in "*%", item.text[-1] not in "*%"
    if ends or any(c in "*%" for c in bare):
        s.doubt(_NO_ENDS)
    s.take(at + 1)
    op: Op = "starts_with" if starts else "contains"
    if s.negated and starts:
        s.doubt("I can't look for texts that don't start with something.")
    s.add([Filter(field=name, op="not_contains" if s.negated else op, value=bare)])
    return True


def _ending(s: Scanner) -> bool:
    at = 1 if s.field_at(0) in s.lexicon.text_fields else 0
    at = s.skip(words.COPULAS | {"that", "which"}, at)
    size = s.says(*_ENDS, ahead=at)
    item = s.item(at + size)
    dash = int(item is not None and item.low in ("-", "."))
    item = s.item(at + size + dash)
    if not size or item is None or item.kind not in ("word", "number", "quoted", "known", "symbol"):
        return False
    if item.kind != "quoted" and not dash and not any(c.isdigit() for c in item.text) and not at:
        return False
    s.doubt(_NO_ENDS)
    return s.take(at + size + dash + 1)


def _operator(s: Scanner) -> bool:
    name = s.field_at(0)
    at = s.skip(words.FILLERS - {"with"} | {"not"}, 1) if name else 0
    negated = s.negated or (name is not None and "not" in s.lows(1, at - 1))
    op: Op = "starts_with"
    size = s.says(*(_STARTS if name else _STARTS[:_WITH_WITH]), ahead=at)
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
    """ "with rtr in its name", "with ticket OPS-4211 in the notes": all words between are the text."""
    end = next((k for k in range(1, _LONGEST + 1) if s.low(k) == "in"), 0)
    at = s.skip(_POSSESSIVES, end + 1)
    name = s.field_at(at)
    if not end or name is None or s.spec_of(name).type not in ("text", "address", "list", "id"):
        return False
    between = [s.items[s.position + k] for k in range(end)]
    quoted = between[0].kind == "quoted" and end == 1
    if not quoted and not (s.low(-1) in _WITH and all(item.is_literal or item.values for item in between)):
        return False
    said = " ".join(item.text for item in between)
    s.take(at + 1)
    s.add([Filter(field=name, op="not_contains" if s.negated else "contains", value=said)])
    return True


#: Words of the longest text that is read without quotes.
_LONGEST = 5
