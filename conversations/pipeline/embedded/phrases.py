"""Wordings settled before any table is asked: verbs of two words, "make me a list of", slips of small words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from conversations.pipeline.embedded import words
from conversations.pipeline.embedded.words import ARTICLES, Token

_PARTICLES = frozenset("up down off back".split())
#: With a particle they only ask to see something.
_ASKING = frozenset("look pull call dig round sum write note list show bring find fetch".split())
#: With a particle they do something to what is named.
_DOING = frozenset(
    """bring shut back take set power turn switch spin start boot tear clean knock roll bounce lock
    log fire scale speed slow trim tidy cut warm cool step dial ramp drain hang sign close send keep put
    fail""".split()
)
#: Verbs that open an action whose particle or outcome comes last: "take … offline", "bring … back up".
_OPENERS = frozenset("bring take shut power turn put knock spin boot tear fail".split())
#: Before "in" and "at" they add nothing.
_PLACED = frozenset(
    """located based sitting situated housed installed placed kept residing standing mounted residing positioned
    stationed resident found""".split()
)
#: "we own" and "we run" say of all rows what is true of them.
_HOLDING = frozenset("own run use operate manage hold keep possess maintain".split())
#: "going up" and "listed down" say nothing of their own.
_STATES = frozenset("listed being going coming".split())
_MAKING = frozenset(
    """make build create write generate prepare produce compile compose draft draw put run perform do assemble
    set collect""".split()
)
_PAPERS = frozenset(
    """list lists listing csv report reports export table spreadsheet overview summary query search breakdown
    extract dump file sheet count""".split()
)
#: Words between "a" and "list": "a complete asset list"; more than these are a sentence of their own.
_BETWEEN = 3
_BEFORE_PAPER = ARTICLES | {"me", "us", "up", "out", "together", "one", "new", "quick"}
_COURTESIES = frozenset(
    "please pls plz kindly can could would will you u i we to need want like just hi hello ok".split()
)
_SLIPS: dict[str, tuple[str, ...]] = {
    "mny": ("many",), "teh": ("the",), "hte": ("the",), "hw": ("how",), "hwo": ("how",), "n": ("and",), "adn": ("and",),
    "nad": ("and",), "nr": ("number",), "nbr": ("number",), "incl": ("including",), "inc": ("including",),
    "excl": ("excluding",), "w/o": ("without",), "wich": ("which",), "whcih": ("which",), "hwat": ("what",),
    "waht": ("what",), "lst": ("list",), "shw": ("show",), "thier": ("their",), "fo": ("of",), "wiht": ("with",),
    "lookup": ("look",), "s/n": ("serial",),
}  # fmt: skip
_NUMBERED = frozenset({"#", "nr", "no"})
#: Said of the one who answers, they are no condition: "if you can".
_POLITE_IF = re.compile(r"(?i)\bif (?:you can|you could|you would|possible|you (?:don't|do not) mind|any)\b[, ]*")
_SQL = re.compile(r"(?is)^\s*(?:select\s.+\sfrom\s+\w+(?:\s*;|\s+(?:where|order|group|limit)\b.*|\s*)$)")
_SQL_SIGN = re.compile(r"(?i)\*|[=<>;]|\blike\b|,")
_BULLET = re.compile(r"^\s*[-•]\s+(?=\w)")


def polished(text: str) -> str:
    """The text without phrases that ask nothing."""
    return _POLITE_IF.sub("", text)


def is_sql(text: str) -> bool:
    return _SQL.match(text) is not None and _SQL_SIGN.search(text) is not None


def settle(tokens: Sequence[Token]) -> tuple[Token, ...]:
    """The tokens with these wordings written as one function word, or one verb, each."""
    return _united(_papers(_corrected(tokens)))


def _corrected(tokens: Sequence[Token]) -> tuple[Token, ...]:
    corrected: list[Token] = []
    for at, token in enumerate(tokens):
        following = tokens[at + 1].low if at + 1 < len(tokens) else ""
        if token.low in _NUMBERED and following in ("of", "."):
            corrected.append(_as(token, "number"))
        elif token.low in _SLIPS and token.kind == "word" and not token.text[0].isupper():
            corrected.extend(_as(token, low) for low in _SLIPS[token.low])
        elif token.kind == "word" and (meant := _SCRAMBLED.get(_letters(token.low))) and token.low not in _SPELLED:
            corrected.append(_as(token, meant))
        else:
            corrected.append(token)
    return tuple(corrected)


def _letters(word: str) -> str:
    return word[:1] + "".join(sorted(word[1:]))


#: The letters of common words -> the word: "shwo", "lsit". One letter more or less might be another word.
_COMMON = """list show give find count export with from where which what have that many sorted order please need between
without except contains download""".split()
_SCRAMBLED = {_letters(word): word for word in _COMMON}
_SPELLED = words.PROTECTED | words.GRAMMAR | words.SOFT | {"form", "silt", "slit"}


def _as(token: Token, low: str, text: str = "") -> Token:
    """The token read as another word; its key is asked of the table."""
    return replace(token, text=text or token.text, low=low, key=low, kind="word")


def _papers(tokens: tuple[Token, ...]) -> tuple[Token, ...]:
    """ "make me a csv of …" lists: the verb says nothing about the rows."""
    lead = next((at for at, token in enumerate(tokens) if token.low not in _COURTESIES), len(tokens))
    if lead >= len(tokens):
        return tokens
    if tokens[lead].low == "set" and [t.low for t in tokens[lead + 1 : lead + 2]] == ["of"]:
        return (*tokens[:lead], _silent(tokens[lead], "list"), *tokens[lead + 1 :])
    if tokens[lead].low not in _MAKING:
        return tokens
    at = lead + 1
    while at < len(tokens) and tokens[at].low in _BEFORE_PAPER:
        at += 1
    paper = next((k for k in range(at, min(at + _BETWEEN, len(tokens))) if tokens[k].low in _PAPERS), None)
    if paper is None or any(tokens[k].kind != "word" for k in range(at, paper)):
        return tokens
    named = tokens[lead + 1 : paper]
    return (*tokens[:lead], _silent(tokens[lead], "list"), *named, *_paper(tokens[paper]), *tokens[paper + 1 :])


def _paper(token: Token) -> tuple[Token, ...]:
    """ "run a count of" counts; "a query" and "a search" are only ways to say that rows are wanted."""
    return (_silent(token, "search"),) if token.low in ("query", "search", "file", "sheet", "table") else (token,)


def _silent(token: Token, low: str, text: str = "") -> Token:
    """A word that is never looked up among the table's own."""
    return replace(token, text=text or token.text, low=low, key="", kind="word")


def _united(tokens: tuple[Token, ...]) -> tuple[Token, ...]:
    """A verb and its particle are one word, so that "look up" says nothing about what is up."""
    united: list[Token] = []
    at = 0
    while at < len(tokens):
        pair = tokens[at : at + 2]
        both = (_idle(*pair) or _phrasal(*pair)) if len(pair) > 1 else None
        united.append(both or tokens[at])
        at += 2 if both else 1
    return tuple(united)


def _idle(first: Token, second: Token) -> Token | None:
    """Two words that together mean one of them, or something of their own: "located in", "we own", "in use"."""
    said = f"{first.text} {second.text}"
    if (first.low, second.low) == ("in", "use"):
        return _silent(first, "in use", said)
    if first.low in _PLACED and second.low in ("in", "at", "on", "within", "inside"):
        return _silent(first, second.low, said)
    return _silent(first, "we", said) if first.low == "we" and second.low in _HOLDING else None


def _phrasal(verb: Token, particle: Token) -> Token | None:
    said = f"{verb.text} {particle.text}"
    if particle.low not in _PARTICLES or verb.kind != "word":
        return None
    if verb.low in _ASKING - _DOING and particle.low in ("up", "out"):
        return _silent(verb, "look", said) if verb.low not in ("list", "show", "find", "fetch") else None
    if verb.low in _DOING:
        return _silent(verb, verb.low + particle.low, said)
    participle = verb.low.endswith(("ed", "ing")) and len(verb.low) > len("aged")
    return _silent(verb, verb.low + particle.low, said) if participle and verb.low not in _STATES else None


def does(tokens: Sequence[Token]) -> str:
    """The verb of an order in two parts: "take the firewalls offline", "bring web-01 back up"; "" when there is none.

    "bring me the list" asks.
    """
    lead = next((at for at, token in enumerate(tokens) if token.low not in _COURTESIES), len(tokens))
    if lead >= len(tokens):
        return ""
    verb, following = tokens[lead], tokens[lead + 1].low if lead + 1 < len(tokens) else ""
    phrasal = verb.key == "" and any(verb.low == v + p for v in _DOING for p in _PARTICLES)
    opens = verb.low in _OPENERS and following not in ("me", "us", "")
    made = verb.low == "make" and following in ARTICLES | {"sure", "it"}
    return verb.text if phrasal or opens or made else ""


def obliges(tokens: Sequence[Token]) -> str:
    """ "web-01 should be retired", "the routers need to be active": a wish for another state."""
    lows = [token.low for token in tokens]
    for at, low in enumerate(lows):
        rest = lows[at + 1 : at + 3]
        size = 1 + int(low in _DUTIES and rest[:1] == ["be"]) + 2 * int(low in _WISHES and rest == ["to", "be"])
        if size > 1:
            return " ".join(token.text for token in tokens[at : at + size])
    return ""


_DUTIES = frozenset({"should", "must", "shall"})
_WISHES = frozenset("need needs has have ought must supposed".split())
