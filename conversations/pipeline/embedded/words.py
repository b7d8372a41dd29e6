"""Text to tokens, and the fixed English words that the grammar knows. Nothing here belongs to a table."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

Kind = Literal["word", "number", "quoted", "date", "network", "address", "url", "pattern", "symbol"]


@dataclass(frozen=True, kw_only=True)
class Token:
    #: As typed, without quotes.
    text: str
    #: Lower case, contractions written out.
    low: str
    #: What the lexicon is asked: alphanumeric pieces, singular, joined by blanks.
    key: str
    kind: Kind


_TOKEN = re.compile(
    r"""
    "(?P<q1>[^"]+)" | “(?P<q2>[^”]+)” | `(?P<q3>[^`]+)` | (?<![\w'])'(?P<q4>[^']+)'(?!\w)
    | (?P<url>https?://[^\s,;]+)
    | (?P<thousands>\d{1,3}(?:,\d{3})+)(?!\w)
    | (?P<v6>(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?:/\d+)?)(?![\w:])
    | (?P<pattern>(?<![\w*%])[*%][\w.:-]*[^\W_][\w.:-]*[*%]?(?![\w*%]) | (?<![\w*%])[^\W_][\w.:-]*[*%](?![\w*%.]))
    | (?P<word>[\w@\#$€][^\s,;!?()<>="“”`|\[\]{}]*)
    | (?P<symbol><=|>=|!=|<>|==|[<>=,;:&+/?!()-])
    """,
    re.VERBOSE,
)
_NUMBER = re.compile(r"[$€]?\d+(?:\.\d+)?")
_WITH_UNIT = re.compile(
    r"(\d+(?:\.\d+)?)-?(gb|gib|gigs?|g|tb|tib|mb|mib|kb|d|h|w|days?|hours?|hrs?|weeks?|months?|years?|yrs?|mins?|%)",
    re.IGNORECASE,
)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:t[\d:.]+z?)?", re.IGNORECASE)
_PART_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){0,2}(?:\.(?:x|\*)){1,3}", re.IGNORECASE)
_SLASHED = re.compile(r"[^\W\d_]{2,}(?:/[^\W\d_]{2,})+")
_SHORTEST_STEM = 3
_PIECES = re.compile(r"[^\W_]+")

#: Written without apostrophe just as often as with one.
_CONTRACTIONS: dict[str, tuple[str, ...]] = {
    "cant": ("can", "not"), "cannot": ("can", "not"), "whats": ("what", "is"), "thats": ("that", "is"),
    "whos": ("who", "is"),
    "wheres": ("where", "is"), "hows": ("how", "is"), "theres": ("there", "is"), "im": ("i", "am"), "ill": ("i",
    "will"),
    **{f"{v}nt": (v, "not") for v in ("are", "is", "was", "were", "have", "has", "had", "do", "does", "did", "should")},
}  # fmt: skip

NUMBER_WORDS = {
    word: n for n, word in enumerate(
        """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen""".split())
} | {"twenty": 20, "thirty": 30, "fifty": 50, "hundred": 100, "dozen": 12}  # fmt: skip

CONNECTORS = frozenset({",", "and", "or", "nor", "&", "/", "and/or", "plus", "vs", "vs.", "versus", "+", ";"})
ARTICLES = frozenset("the a an any some all our my your their its his her this every each both either neither".split())
PREPOSITIONS = frozenset("in at on from within inside under by to into for of with via".split())
COPULAS = frozenset("is are was were be been being am".split())
#: Between a field and what is said of it.
FILLERS = ARTICLES | COPULAS | frozenset("of that which who have has had been with a".split())
NEGATIONS = frozenset(
    """not non no except excluding exclude besides without never outside ignoring omitting nor neither minus""".split()
)

#: Words that carry no condition: a request means the same without them.
FUNCTION = (
    CONNECTORS | ARTICLES | PREPOSITIONS | COPULAS | frozenset(
        """i me we us you u he she they who whom whose which what when where that there here have has had having do
        does did done can could will would shall should may might must please pls plz kindly just only so
        also too then as but than if about show list give gimme get fetch find display see print return
        provide tell look looking search query view retrieve enumerate pull bring want need like let lets
        know wish know try help request select currently right now rn today's asap quickly still yet already got rest
        fully complete full entire whole total overall ok okay hey hi hello um uh well thanks thank
        thx cheers morning afternoon evening day guys folks everyone existing exist exists
        various individual such those these out up-to-date
        via using use used w/ r ur are's 's s re d ll ve m out together back thing things stuff everything
        anything something anyone someone one ones information info details detail data record records row
        rows entry entries item items result results overview summary report inventory table database's
        list's listing lists set-up someone somebody moment minute please! actually really maybe perhaps
        simple basic exact precise accurate immediately urgently urgent straightforward comprehensive
        thorough field fields column columns value values come comes came go goes going live lives sit
        sits stand being belong belongs belonging made how more ? ! ( ) : - 's""".split()
    )
)  # fmt: skip

#: They mean something of a row ("the fast servers") and nothing of a field ("the available sites").
SOFT = frozenset("good fast quick important available different distinct unique current nice proper free".split())

#: Words that the rules know and that alone never name a value; unlike function words they are missed
#: when no rule took them.
GRAMMAR = (
    FUNCTION
    | NEGATIONS
    | frozenset(
        """called named titled many much number count counts total per most less least fewer fewest first last next
        between over above below before after since until sorted sort ordered order grouped group limit
        top bottom random starts contains export download csv
        percent percentage average mean median sum ratio""".split()
    )
)

#: Never the name of a field or of what a row is.
CORE = CONNECTORS | ARTICLES | PREPOSITIONS | COPULAS | NEGATIONS

#: They point at an earlier answer, which this engine does not see.
REFERENCES = frozenset("those these them they ones it its their same".split())

#: Common English words that are never typos of a value, beside those the grammar uses.
PROTECTED = frozenset(
    """access core main point stats staff about above after again against along already always among around
    because become before behind being below better between bigger blank bought bring broken built called
    cannot cause change check choose clean clear close cloud compare could count create daily delete drive
    early eight email empty enable enough equal error every exact except execute exist expect explain
    false fault field fifth final first float focus force forget found fourth fresh front given going
    great green group guess happy heavy hello human image issue joined judge keep large later latest learn
    least leave level light limit local lower maybe means message minor missing money month morning mount
    move never newer newest night ninth nothing notice often older oldest other outer owned owned
    owns paper party pause phone photo place plain plane plant please point power press price prime print
    prior private problem proper public quick quiet quite raise random range rapid reach ready really
    reason recent remain remove rename repair repeat replace reply report reset resolve restart result
    retry return review right round running safer scale score search second secret select serve seven
    share sharp shift short should since sixth small smart solve sorry sound space speak speed spend
    start state still stock stop store story strong study style super table taken thank their there these
    thing think third those three throw today together tomorrow total touch track trade train treat trend
    trial trust truth twice under union unique until update upper usage users usual valid value verify
    video visit voice waste watch water weather where which while white whole whose within without woman
    world worse worst would write wrong yesterday young yours person people house mouse horse nurse purse
    course source network port internal external primary secondary backup room team
    suite hall floor cage office panel lab group site server cluster data design home general service support
    operations operation security desk starting ending matching beginning containing including excluding following
    showing listing missing using having being sorting ordering grouping counting existing remaining broken
    virtual physical standard enterprise advanced series professional edition version warehouse storage
    inch rail unit tower mini basic simple""".split()
)


def fold(text: str) -> str:
    """Lower case without accents: what is compared."""
    decomposed = unicodedata.normalize("NFKD", text.replace("’", "'").casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def singular(piece: str) -> str:
    """One form for singular and plural; not always a word, but always the same for both."""
    if len(piece) <= len("ups") or piece[-1].isdigit():
        return piece
    for ending, form in (
        ("ies", "y"), ("sses", "ss"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("zes", "z"), ("uses", "us"),
        ("che", "ch"), ("she", "sh"), ("xe", "x"), ("ze", "z"), ("use", "us"), ("ie", "y"), ("ss", "ss"), ("us",
        "us"), ("is", "is"),
        ("s", ""),
    ):  # fmt: skip
        if piece.endswith(ending) and len(piece) > len(ending) + (1 if ending == "s" else 0):
            return piece[: -len(ending)] + form
    return piece


def pieces(text: str) -> list[str]:
    """The alphanumeric parts, in lower case."""
    return _PIECES.findall(fold(text))


def key_of(text: str) -> str:
    """The lexicon's form of a phrase: "DM-Akron" -> "dm akron", "Virtual Machines" -> "virtual machine"."""
    return " ".join(singular(piece) for piece in pieces(text))


def stem(word: str) -> str:
    """What "owned", "owner" and "owns" share; compared only with the stems of a table's own field words."""
    for ending in ("ion", "ing", "ed", "er", "or", "es", "s", "e", "y"):
        base = word.removesuffix(ending)
        if base != word and len(base) >= _SHORTEST_STEM:
            if len(base) > _SHORTEST_STEM and base[-1] == base[-2]:
                return base[:-1]
            return base.removesuffix("at") if len(base) > _SHORTEST_STEM + 1 else base
    return word


def is_plural(word: str) -> bool:
    return len(word) > len("dns") and word.endswith("s") and not word.endswith(("ss", "us", "is"))


def may_be_plural(word: str) -> bool:
    """Also of abbreviations: "vms"; asked of words that are known to be no singular."""
    abbreviated = len(word) == len("pdus") and word.endswith("us")
    return len(word) > len("us") and word.endswith("s") and (abbreviated or not word.endswith(("ss", "us", "is")))


def plural_of(word: str) -> str:
    """How an English noun is written for several."""
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(("ch", "sh", "s", "x", "z")) else f"{word}s"


def number_of(low: str) -> int | float | None:
    """The number a token stands for ("64", "1,000", "five"), or None."""
    if low in NUMBER_WORDS:
        return NUMBER_WORDS[low]
    plain = low.replace(",", "").lstrip("$€")
    if not _NUMBER.fullmatch(plain) or not plain.isascii():
        return None
    value = float(plain)
    return int(value) if value.is_integer() else value


def looks_like_identifier(token: Token) -> bool:
    """A digit beside letters or dashes, as in host names, serial and inventory numbers."""
    text = token.text
    return (
        token.kind in ("word", "address")
        and any(c.isdigit() for c in text)
        and text.replace("+", "x").isdigit() is False
        and not any(c in "/\\+" for c in text)
    )


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def tokenize(text: str) -> tuple[Token, ...]:
    tokens: list[Token] = []
    for match in _TOKEN.finditer(text.replace("’", "'")):
        group = match.lastgroup or ""
        if group.startswith("q"):
            tokens.append(_token(match[group], "quoted"))
        elif group == "word" or (group == "pattern" and _is_amount(match[group])):
            tokens.extend(_of_word(match[group]))
        elif group == "v6":
            tokens.extend(_address(match[group]) or _of_word(match[group]))
        else:
            kinds: dict[str, Kind] = {"url": "url", "pattern": "pattern", "thousands": "number", "symbol": "symbol"}
            tokens.append(_token(match[group], kinds[group]))
    return tuple(tokens)


def _is_amount(text: str) -> bool:
    """ "50%" and "10.1.*" are no texts with a wildcard."""
    return bool(re.fullmatch(r"[\d.]+%", text) or _PART_ADDRESS.fullmatch(text))


def _token(text: str, kind: Kind, low: str | None = None) -> Token:
    low = fold(text) if low is None else low
    return Token(text=text, low=low, key="" if kind in ("symbol", "pattern") else key_of(low), kind=kind)


def _of_word(word: str) -> list[Token]:
    text = word.rstrip(".:'/-_" if not word.endswith(("w/", "vs.")) else "'")
    if not text:
        return []
    if text.lower().endswith("'s") and text.lower()[:-2] not in ("what", "who", "that", "where", "there", "how", "it"):
        return [*_of_word(text[:-2]), _token("'s", "symbol")]
    return _contraction(text) or _address(text) or _literal(text) or [_token(text, "word")]


def _contraction(text: str) -> list[Token]:
    low = fold(text)
    if low.endswith("n't"):
        return [_token(text[:-3], "word"), _token("not", "word")]
    if low.endswith("'s"):
        return [_token(text[:-2], "word"), _token("is", "word")]
    if low.endswith(("'d", "'ll", "'ve", "'re", "'m")):
        return [_token(part, "word") for part in text.split("'", 1)]
    if low in _CONTRACTIONS:
        return [_token(part, "word") for part in _CONTRACTIONS[low]]
    if low.startswith("non-") and low != "non-":
        return [_token("non", "word"), _token(text[4:], "word")]
    return []


def _address(text: str) -> list[Token]:
    bare = text.strip("[]")
    if "." not in bare and ":" not in bare:
        return []
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        try:
            network = ipaddress.ip_network(bare, strict=False)
        except ValueError:
            return []
        return [_token(bare, "network", str(network))] if "/" in bare else []
    return [_token(bare, "address")]


def _literal(text: str) -> list[Token]:
    if _DATE.fullmatch(text) or _NUMBER.fullmatch(text):
        return [_token(text, "date" if _DATE.fullmatch(text) else "number")]
    if text.endswith("+") and _NUMBER.fullmatch(text[:-1]):
        return [_token(text[:-1], "number"), _token("+", "symbol")]
    if unit := _WITH_UNIT.fullmatch(text):
        return [_token(unit[1], "number"), _token(unit[2], "word")]
    if _PART_ADDRESS.fullmatch(text):
        return [_token(text, "network", part_network(text))]
    if _SLASHED.fullmatch(text) and fold(text) not in ("and/or", "w/o"):
        parts = [t for part in text.split("/") for t in (_token(part, "word"), _token("/", "symbol"))]
        return parts[:-1]
    return []


def part_network(text: str) -> str:
    """The network of a half-written IPv4 address: "10.1.x.x" and "10.1" -> "10.1.0.0/16"."""
    octets = [part for part in text.split(".") if part.isdigit()]
    return ".".join([*octets, "0", "0", "0", "0"][:4]) + f"/{8 * len(octets)}"
