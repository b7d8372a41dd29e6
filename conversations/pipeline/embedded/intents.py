"""What kind of request it is, before and beside its query: small talk, help, knowledge, checks, changes."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from conversations.pipeline.embedded.words import NUMBER_WORDS, REFERENCES, Token
from conversations.pipeline.engine import Intent

_LONGEST_GREETING = 12
#: So many unknown words, and at least as many as known ones, make another language or subject.
_TOO_MANY = 3
_GREETINGS = frozenset(
    "hi hello hey hiya yo howdy greetings hallo moin hola sup morning evening afternoon heya".split()
)
_THANKS = frozenset(
    "thanks thank thx cheers ty bye goodbye ciao cool great nice perfect awesome lol haha wow excellent welcome".split()
)
_SMALL = _GREETINGS | _THANKS | frozenset(
    """good day you you're all very much so a lot that is that's it for today one then ok okay there again
    everyone team world folks guys my friend see later have night well done job work works now just and
    i'm fine sure yes no yep nope please how are things doing going what's up whats to meet was helpful
    really me mate buddy everybody the , . ! ? : ) ( ;""".split()
)  # fmt: skip
_LEAD_IN = r"^(?:(?:hi|hello|hey|um|so|please|ok|well|and|can\ you|could\ you|tell\ me|i\ want\ to\ know)\ )*"
_HELP = re.compile(
    _LEAD_IN
    + r"""(?:
      help(?:\ me)?(?:\ please)?$ | help\ with\b | can\ you\ help
      | (?:what|which)\ (?:things\ |else\ |all\ )?(?:can|could|do)\ (?:you|i|we)\ (?:do|help|ask|offer|answer|support)\b
      | who\ are\ you | what\ are\ you | what\ is\ this | what\ does\ this | how\ does\ this | how\ do\ you\ work
      | how\ (?:do|can|could|should|would)\ i\ (?:export|download|ask|use|search|filter|find|list)\b
      | how\ (?:do|can|could|should|would)\ i\ (?:get|query|start|save|count|sort|group|see)\b
      | how\ to\ (?:export|download|ask|use|search|filter|query|sort|group)\b
      | (?:list|show|display)?\ ?(?:me\ )?(?:all\ |the\ |your\ |available\ )*(?:tools|capabilities|commands|skills)\b
      | (?:all\ |the\ |your\ )*examples\b
      | (?:what|which)\ (?:(?:kind|sort|type)s?\ of\ )?(?:tools|commands|questions|queries|requests)\b
      | what\ (?:should|can)\ i\b
      | (?:give|show)\ me\ (?:some\ |an?\ )?examples?\b
      | (?:usage|instructions|manual|getting\ started)$ | what\ (?:is|are)\ (?:your|possible|supported)\b
    )""",
    re.VERBOSE,
)
_KNOWLEDGE = re.compile(
    _LEAD_IN
    + r"""(?:
      explain | define | describe\ (?:how|why|what|the\ (?:difference|process|concept)) | teach | calculate | compute
      | translate | summarize\ this | why\b | what\ does\ .*\b(?:mean|stand\ for|do)$
      | (?:show|teach|tell)\ (?:me\ |us\ )?how\ to\b
      | how\ (?:would|to|does|do\ (?:i|you|we|they)|can\ i|should|did|is\ it)\b
      | what\ (?:is|are)\ an?\b
      | what\ (?:is|are)\ the\ (?:difference|purpose|meaning|definition|point|benefit|advantage|best|role\ of)\b
      | what\ (?:steps|approach|strategy|would|should)\b | difference\ between | write\b | a\ (?:joke|story)\b
      | compose | draft | imagine | design\b | architect\b | recommend | suggest | advise
      | compare\ (?:the\ )?(?:pros|advantages)
    )""",
    re.VERBOSE,
)

_CHANGES = frozenset(
    """set update change modify edit add create insert register delete remove move rename assign reassign mark
    put retire decommission replace correct tag untag label transfer relocate import archive dispose""".split()
)
_ACTIONS = frozenset(
    """restart reboot start stop kill terminate shutdown install uninstall deploy redeploy patch upgrade
    downgrade configure reconfigure run execute wipe drop erase purge clean enable disable rotate drain
    fix repair resolve backup restore migrate scale provision rollback roll bounce reset renew revoke
    grant block unblock open close lock unlock mount unmount format flush reload power boot troubleshoot
    debug diagnose investigate analyze analyse optimize build develop implement send email notify schedule
    automate generate write perform monitor rebuild recover overhaul process secure rm sudo failover
    attempt drain ssh scan audit login connect book order buy call invite post publish upload compile test
    validate verify ignore forget pretend switch-off turn mail text forward share monitor host cache store
    stage rack boot seed sync replicate snapshot""".split()
)
_CHECKS = frozenset(
    """ping traceroute tracert nslookup dig telnet curl wget mtr reach reachable resolve resolves resolving pings
    respond responds responding listening alive netstat connectivity latency nameservers nameserver""".split()
)
#: Nouns as well: a change only when they open the request and "to" says what becomes of it.
_OBJECTS = frozenset("the a an all every each any my our this that these those everything both".split())
_NOUN_VERBS = frozenset("switch turn tag label stage rack store patch".split())
_CHECK_VERBS = frozenset({"check", "verify", "test", "validate", "probe"})
_QUESTION = frozenset(
    {"how", "which", "what", "who", "list", "show", "count", "find", "export", "give", "download", "get"}
)
_LEADS = frozenset(
    """please pls plz kindly can could would will you u i we to need want like have just hey hi hello ok okay so
    now then also and urgent immediately safely let us lets must should go ahead try help me a an ! , :
    the my all do""".split()
)
_AGGREGATES = frozenset(
    "percentage percent average avg mean median sum ratio proportion trend forecast correlation variance %".split()
)
_CONDITIONALS = frozenset({"if", "unless", "otherwise", "whenever"})


#: Never the outcome of a repair, and never repaired themselves.
VERBS = _CHANGES | _ACTIONS | _CHECKS | _CHECK_VERBS


def smalltalk(tokens: Sequence[Token]) -> bool:
    """Nothing but pleasantries."""
    lows = [token.low.strip(".!") for token in tokens]
    if len(lows) > _LONGEST_GREETING or not lows:
        return False
    return (
        all(low in _SMALL or not low for low in lows) and any(low in _GREETINGS | _THANKS for low in lows)
    ) or _how_are_you(lows)


def _how_are_you(lows: Sequence[str]) -> bool:
    said = " ".join(low for low in lows if low.isalpha())
    return said in (
        "how are you",
        "how are you doing",
        "how is it going",
        "what is up",
        "good day",
        "good night",
        "ok",
        "okay",
    )


def says_goodbye(text: str) -> bool:
    return re.search(r"\b(?:bye|goodbye|good night|see you|ciao)\b", text.lower()) is not None


def says_thanks(text: str) -> bool:
    return re.search(r"\b(?:thanks|thank|thx|ty|cheers)\b", text.lower()) is not None


def is_help(tokens: Sequence[Token]) -> bool:
    return _HELP.match(_plain(tokens)) is not None


def is_knowledge(tokens: Sequence[Token]) -> bool:
    """A question about the world, by its form alone."""
    return _KNOWLEDGE.match(_plain(tokens)) is not None


def is_definition(tokens: Sequence[Token]) -> bool:
    """ "What is DHCP?": about the world unless every word of it is the table's."""
    return re.match(r"^(?:(?:hi|so|and|ok)\s+)*what\s+(?:is|are)\s", _plain(tokens) + " ") is not None


def has_condition(tokens: Sequence[Token]) -> bool:
    """ "if … then": half of such a request must not be done."""
    return any(token.low in _CONDITIONALS for token in tokens)


def is_aggregate(tokens: Sequence[Token]) -> bool:
    return any(token.low in _AGGREGATES for token in tokens)


def action(tokens: Sequence[Token], known: Collection[int]) -> tuple[Intent, str] | None:
    """The intent and the verb when something is to be done, at the head or after "and".

    `known`: places of the table's own words, which are no verbs.
    """
    lead = _lead(tokens)
    for at, token in enumerate(tokens):
        starts = at == lead or (at > lead and tokens[at - 1].low in ("and", "then", ",", "or", ";", "&"))
        # A verb said politely or as a second wish: "…, and can you disable it".
        starts = starts or (at > lead and tokens[at - 1].low in ("then", "you", "please"))
        starts = starts or (
            at > lead + 1 and tokens[at - 1].low == "to" and tokens[at - 2].low in ("need", "want", "have", "like")
        )
        found = _verb(token.low, at, tokens, known) if starts else None
        if found:
            return found, token.text
    return None


def _verb(low: str, at: int, tokens: Sequence[Token], known: Collection[int]) -> Intent | None:
    if low in _NOUN_VERBS and at == _lead(tokens) and _changes_to(tokens[at + 1 :]):
        return "asset_change"
    sorts = low == "order" and any(token.low == "by" for token in tokens[at:])
    if sorts or (at in known and low not in _CHECKS and not _is_order(low, at, tokens)):
        return None
    if low in _CHECKS or low in _CHECK_VERBS:
        following = tokens[at + 1].low if at + 1 < len(tokens) else ""
        return None if following in _QUESTION - {"what"} else "network_check"
    if low in _CHANGES or (low in _NOUN_VERBS and _is_order(low, at, tokens)):
        return "asset_change"
    if low == "get" and tokens[at + 1 : at + 2] and tokens[at + 1].low == "rid":
        return "asset_change"
    return "unsupported" if low in _ACTIONS else None


def _is_order(low: str, at: int, tokens: Sequence[Token]) -> bool:
    """A verb with its object is no word of the table: "test the servers", "tag all laptops"."""
    following = tokens[at + 1].low if at + 1 < len(tokens) else ""
    return at == _lead(tokens) and following in _OBJECTS and low != "order"


def head_verb(tokens: Sequence[Token]) -> int | None:
    """The place of what can only be a verb, known or not: the first word, before "the" or "all"."""
    lead = _lead(tokens)
    following = tokens[lead + 1].low if lead + 1 < len(tokens) else ""
    ordered = following in _OBJECTS - REFERENCES - {"that", "this", "any", "both"}
    return lead if ordered and tokens[lead].kind == "word" and tokens[lead].low not in _ASKS else None


#: Verbs that only ask, though they are no words of the grammar.
_ASKS = frozenset("filter summarize summarise tabulate name detail describe review pick choose extract".split())


def _changes_to(rest: Sequence[Token]) -> bool:
    """ "switch web-01 to maintenance"; not "patch panels belonging to …"."""
    return any(
        token.low == "to" and at and not rest[at - 1].low.endswith(("ing", "ed", "s")) for at, token in enumerate(rest)
    ) and not (rest and rest[0].low.endswith("s"))


def _lead(tokens: Sequence[Token]) -> int:
    for at, token in enumerate(tokens):
        if token.low not in _LEADS:
            return at
    return len(tokens)


def network_check(tokens: Sequence[Token]) -> str | None:
    """The word that asks whether something answers: "is port 443 open on …", "can u reach …", "https://…"."""
    lows = [token.low for token in tokens]
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.kind == "url" or token.low in _CHECKS:
            return token.text
        if (
            token.low in ("port", "ports")
            and following
            and (following.kind == "number" or "open" in lows or "listening" in lows)
        ):
            return token.text
        if (
            token.low in ("dns", "mx", "ssh")
            and following
            and following.low in ("for", "records", "record", "lookup", "of")
        ):
            return token.text
    return None


def looks_back(tokens: Sequence[Token], known: Sequence[int]) -> bool:
    """ "only the ones in Paris", "what about London?": an earlier answer is meant, which is not seen here."""
    lows = [token.low for token in tokens]
    if lows[:2] in (["what", "about"], ["how", "about"], ["and", "in"], ["and", "the"]):
        return True
    first = min(known, default=len(tokens))
    if any(low in _ANYTHING for low in lows[:first]):
        return False  # "anything with db in its name"
    asks = lows[0] in _ASKING and not any(token.text == "IT" for token in tokens)
    if asks and "it" in lows[1:4]:
        return True
    return any(token.low in REFERENCES and not token.text.isupper() and at < first for at, token in enumerate(tokens))


_ANYTHING = frozenset("anything everything all any every something".split())
_ASKING = frozenset("what which where who when is does how".split())


def is_foreign(n_unused: int, n_used: int) -> bool:
    """Most of it was not understood: another language, or another subject."""
    return n_unused >= _TOO_MANY and n_unused >= n_used


def _plain(tokens: Sequence[Token]) -> str:
    return " ".join(token.low for token in tokens if token.kind != "symbol" and token.low not in NUMBER_WORDS)
