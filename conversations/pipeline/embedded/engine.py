"""The embedded engine: reads a request with a grammar and the data's own words, and answers in fixed sentences."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conversations.pipeline.embedded import answers, calls, grammar, intents, phrases, words
from conversations.pipeline.embedded.grammar import Reading
from conversations.pipeline.embedded.lexicon import Entry, Lexicon, lexicon_of
from conversations.pipeline.embedded.words import Token
from conversations.pipeline.engine import (
    Classification,
    Ending,
    Executed,
    Intent,
    KnownTable,
    Plan,
    Request,
    ResponseType,
    Selection,
    TablePiece,
    TextPiece,
    ToolCall,
    Understood,
)
from conversations.pipeline.tools import Filter, Match, Query

#: Terms looked up for one request; a longer text is not a question for one row.
MAX_TERMS = 60
_MAX_NAME = 6
#: Digits of the shortest number that may be a row's, whatever stands before it.
_SHORTEST_NUMBER = 5
_NO_KNOWLEDGE = "I don't answer general questions: I only say what the data here say."
#: Questions about one row, whatever else they name.
#: A question that begins so wants a yes or no, and half of it must not get one.
_YES_OR_NO = frozenset("is are was were do does did has have had can will".split())
_ASKS_ONE = frozenset({"is", "where", "who", "when", "does", "what"})


#: Unknown words that may be typing errors; a request with more of them is something else (a pasted text).
_MOST_REPAIRS = 20


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """One table's reading of the request."""

    table: KnownTable
    lexicon: Lexicon
    tokens: tuple[Token, ...]
    reading: Reading
    #: (as typed, as read)
    repairs: tuple[tuple[str, str], ...] = field(default=())

    @property
    def score(self) -> tuple[bool, bool, int, int, int]:
        """Of several tables the one whose own noun is said, and said first, is meant, whatever others make of it."""
        named = self.lexicon.named_at(self.tokens)
        used = self.reading.n_used - len(self.repairs)
        return (self.reading.has_substance, bool(named), -min(named, default=0), -len(self.reading.unused), used)


class EmbeddedEngine:
    """Needs no model, no network and no state; works on any declared table."""

    name = "Embedded engine"

    async def classify(self, request: Request) -> Classification:
        # In a thread: a long request over a large vocabulary takes seconds, and the event loop has others to serve.
        return await request.in_thread(self._understood, request)

    def _understood(self, request: Request) -> Classification:
        tokens = phrases.settle(words.tokenize(phrases.polished(request.text)))
        early = _at_once(request, tokens) or _before_reading(tokens)
        if early is not None:
            return early
        attempts = [_attempt(request, table, tokens) for table in request.tables]
        if not attempts:
            return _decline("unsupported", "There is no table that I could ask.")
        return _of_best(tokens, attempts)

    async def select(self, request: Request, classification: Classification) -> Selection:
        parsed = classification.parsed
        if "tool" not in parsed:
            return Selection()
        return Selection(calls=(ToolCall(tool=parsed["tool"], arguments=parsed.get("query") or parsed["arguments"]),))

    async def plan(self, request: Request, classification: Classification, selection: Selection) -> Plan:
        return Plan(calls=selection.calls)

    async def respond(
        self, request: Request, classification: Classification, executed: Sequence[Executed]
    ) -> AsyncIterator[TextPiece | TablePiece | Ending]:
        informs = classification.intent in ("smalltalk", "help")
        pieces = _results(request, classification, executed) if executed else _words(request, classification, informs)
        for piece in pieces:
            yield piece
        told: ResponseType = "information" if informs else "declined"
        yield Ending(response_type="result" if executed else told)


def _words(request: Request, classification: Classification, informs: bool) -> Iterator[TextPiece]:
    """The answer without a result."""
    can = answers.Abilities(specs=[table.spec for table in request.tables], tools=request.tools)
    if informs:
        return answers.stream(answers.information(request.text, classification.intent, can))
    return answers.stream(answers.declined(classification.parsed.get("reason", "I can't do that."), can))


def _results(
    request: Request, classification: Classification, executed: Sequence[Executed]
) -> Iterator[TextPiece | TablePiece]:
    parsed = classification.parsed
    for index, done in enumerate(executed):
        if "query" not in parsed:
            yield from answers.called(done, index)
            continue
        table = next(table for table in request.tables if table.spec.name == parsed["query"]["table"])
        yield from answers.executed(Query.from_dict(parsed["query"]), done, index, lexicon_of(table), parsed)


def _at_once(request: Request, tokens: Sequence[Token]) -> Classification | None:
    """What the text as a whole is."""
    if not tokens:
        return _decline("unsupported", "I found no words in that.")
    call = calls.find(request.text, request.tools)
    if call is not None:
        return _called(call)
    if phrases.is_sql(request.text):
        return _decline("unsupported", "I don't read SQL: please ask in plain words.")
    return None


def _called(call: ToolCall) -> Classification:
    given = tuple(Filter(field=name, op="eq", value=value) for name, value in call.arguments.items())
    return Classification(
        intent="asset_query",
        understood=Understood(filters=given),
        parsed={"tool": call.tool, "arguments": dict(call.arguments)},
    )


def _before_reading(tokens: Sequence[Token]) -> Classification | None:
    """What the words alone tell, whatever the tables are."""
    if intents.smalltalk(tokens):
        return Classification(intent="smalltalk")
    if intents.is_help(tokens):
        return Classification(intent="help")
    if intents.has_condition(tokens):
        return _decline("unsupported", "That depends on a condition, and I don't do one thing if another is so.")
    if intents.is_knowledge(tokens):
        return _decline("knowledge", _NO_KNOWLEDGE)
    if intents.is_aggregate(tokens):
        return _decline("unsupported", "I count and group, but I don't work out averages, sums or percentages.")
    return None


def _of_best(tokens: Sequence[Token], attempts: Sequence[_Attempt]) -> Classification:
    best = max(attempts, key=lambda attempt: attempt.score)
    other = next((other for other in attempts if other is not best and _means_both(best, other)), None)
    if other is not None:
        one, another = (answers.escape(each.table.spec.noun[1]) for each in (best, other))
        return _decline("unsupported", f"I can ask one table at a time: {one} or {another}.")
    return _classify(tokens, best)


def _means_both(best: _Attempt, other: _Attempt) -> bool:
    """ "which assets have windows?" names a second table; "windows per asset" a field of the first."""
    said = (other.tokens[at] for at in other.lexicon.named_at(other.tokens))
    return bool(best.lexicon.named_at(best.tokens)) and any(not best.lexicon.named(token.low) for token in said)


def _attempt(request: Request, table: KnownTable, tokens: tuple[Token, ...]) -> _Attempt:
    """Reads with the words that are known; then looks the others up as rows, as parts of values, and as typos."""
    lexicon = lexicon_of(table)
    tokens = _split(tokens, lexicon)
    reading = grammar.read(tokens, lexicon, request.now)
    unsure = {*reading.unused_at, *(at for at, token in enumerate(tokens) if _may_be_row(token))}
    if not unsure:
        return _Attempt(table=table, lexicon=lexicon, tokens=tokens, reading=reading)
    terms = _terms(tokens, tuple(unsure))
    matches: Sequence[Match] = table.find(terms) if terms else ()
    extras = _identities(matches, lexicon)
    found = {piece for key in extras for piece in key.split()}
    rest = [at for at in reading.unused_at if not set(tokens[at].key.split()) <= found]
    for at in rest:
        parts = lexicon.part(tokens[at].low) or lexicon.fragment(tokens[at].low)
        if parts and tokens[at].low not in words.GRAMMAR:
            extras.setdefault(tokens[at].key, parts)
    tokens, repairs = _repair(tokens, [at for at in rest if tokens[at].key not in extras], lexicon)
    repairs += _read_parts(tokens, extras)
    if extras or repairs:
        reading = grammar.read(tokens, lexicon, request.now, extras)
    unknown = _unknown_rows(tokens, reading, lexicon)
    if unknown:
        reading = grammar.read(tokens, lexicon, request.now, extras | unknown)
    # A repair that explains nothing is none.
    repairs = tuple(repair for repair in repairs if repair[0] not in reading.unused)
    return _Attempt(table=table, lexicon=lexicon, tokens=tokens, reading=reading, repairs=repairs)


def _may_be_row(token: Token) -> bool:
    """A name or number of one row is looked up even where it was read as the value of a field beside it."""
    return words.looks_like_identifier(token) or (token.kind == "number" and len(token.text) >= _SHORTEST_NUMBER)


def _split(tokens: tuple[Token, ...], lexicon: Lexicon) -> tuple[Token, ...]:
    """ "16-core" is a number and a field, "status:active" a field and a value, in tables that have such a field."""
    split: list[Token] = []
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        number, _, unit = token.text.partition("-")
        if number.isdecimal() and unit.isdecimal() and following and lexicon.measures(following.low):
            split.extend(words.tokenize(f"{number} to {unit}"))
        elif lexicon.named(token.text.partition(":")[0]) and token.text.partition(":")[2]:
            name, _, value = token.text.partition(":")
            split.extend((*words.tokenize(name), *words.tokenize(":"), *words.tokenize(value)))
        elif number.isdecimal() and unit.isalpha() and lexicon.measures(unit) and not lexicon.lookup(token.key):
            split.extend(words.tokenize(f"{number} {unit}"))
        else:
            split.append(token)
    return tuple(split)


def _terms(tokens: Sequence[Token], unused: Sequence[int]) -> tuple[str, ...]:
    """Unexplained words, and phrases of a few words around them, as typed."""
    terms: dict[str, None] = {}
    for size in range(1, _MAX_NAME + 1):
        for at in range(len(tokens) - size + 1):
            if any(place in unused for place in range(at, at + size)) and len(terms) < MAX_TERMS:
                span = tokens[at : at + size]
                if size == 1 or (span[0].key and span[-1].key):
                    terms.setdefault(_joined(span))
    return tuple(term for term in terms if words.key_of(term))


def _joined(span: Sequence[Token]) -> str:
    text = span[0].text
    for token in span[1:]:
        text += token.text if token.low in (",", "'s", ":", ";", "!", "?") else f" {token.text}"
    return text


def _identities(matches: Sequence[Match], lexicon: Lexicon) -> dict[str, tuple[Entry, ...]]:
    """One meaning a term: its field of the first declared identifier that knows it."""
    found: dict[str, Entry] = {}
    for match in sorted(matches, key=lambda m: lexicon.rank_of(m.field)):
        entry = Entry(kind="identity", field=match.field, value=match.value)
        found.setdefault(words.key_of(match.term), entry)
    return {key: (entry,) for key, entry in found.items()}


def _repair(
    tokens: tuple[Token, ...], places: Sequence[int], lexicon: Lexicon
) -> tuple[tuple[Token, ...], tuple[tuple[str, str], ...]]:
    repaired, repairs = list(tokens), []
    for at in places[:_MOST_REPAIRS]:
        token = tokens[at]
        meant = lexicon.repair(token.low) if token.kind == "word" and token.low not in intents.VERBS else None
        if meant is None or meant in intents.VERBS or lexicon.lookup(token.key):
            continue
        repaired[at] = Token(text=token.text, low=meant, key=words.key_of(meant), kind="word")
        repairs.append((token.text, meant))
    return tuple(repaired), tuple(repairs)


def _read_parts(tokens: Sequence[Token], extras: Mapping[str, tuple[Entry, ...]]) -> tuple[tuple[str, str], ...]:
    """What was read in place of words that are only a part of a value."""
    found = ((token, entries[0]) for token in tokens for entries in [extras.get(token.key, ())] if entries)
    return tuple((token.text, entry.value) for token, entry in found if entry.kind == "value" and entry.op == "eq")


def _unknown_rows(tokens: Sequence[Token], reading: Reading, lexicon: Lexicon) -> dict[str, tuple[Entry, ...]]:
    """A name or address that no row has is still the condition that was meant: the answer is that there is none."""
    extras: dict[str, tuple[Entry, ...]] = {}
    if intents.is_definition(tokens) and not reading.query.columns:
        return extras
    asks_one = tokens[0].low in _ASKS_ONE or not reading.query.filters
    for at in reading.unused_at:
        token, before = tokens[at], tokens[at - 1].low if at else ""
        described = at - 1 in reading.known_at and not words.is_plural(before)
        addresses = lexicon.fields_of_type("address")
        name = lexicon.first_identifier
        if token.kind == "address" and addresses:
            extras[token.key] = (Entry(kind="identity", field=addresses[0].name, value=token.text),)
        elif (
            words.looks_like_identifier(token)
            and name
            and (asks_one or described)
            and before not in ("in", "at", "by", "per", "under")
        ):
            extras[token.key] = (Entry(kind="identity", field=name, value=token.text),)
    return extras


def _classify(tokens: Sequence[Token], attempt: _Attempt) -> Classification:
    reading = attempt.reading
    refused = _refused(tokens, attempt)
    if refused is not None:
        return refused
    query = reading.query
    parsed: dict[str, Any] = {
        "query": query.to_dict(), "tool": attempt.table.spec.query_tool, "repairs": [list(r) for r in attempt.repairs],
        "unused": list(reading.unused), "formats": list(reading.formats),
    }  # fmt: skip
    return Classification(
        intent="export" if reading.export else "asset_query",
        understood=Understood(
            filters=query.filters, columns=query.columns, sort=query.sort, limit=query.limit, group_by=query.group_by
        ),
        unused_words=reading.unused,
        parsed=parsed,
    )


def _refused(tokens: Sequence[Token], attempt: _Attempt) -> Classification | None:
    """Why the request is not run, when it must not be."""
    for check in (_not_a_question, _not_one_question, _not_understood, _not_sure):
        refused = check(tokens, attempt)
        if refused is not None:
            intent, reason = refused
            return _decline(intent, reason, attempt.reading.unused)
    return None


def _not_a_question(tokens: Sequence[Token], attempt: _Attempt) -> tuple[Intent, str] | None:
    """Something is to be done or probed, and no tool does it."""
    found = intents.action(tokens, attempt.reading.known_at)
    done = (
        found[1] if found is not None else phrases.does(tokens) or phrases.obliges(tokens) or _orders(tokens, attempt)
    )
    if done:
        intent = found[0] if found is not None else "asset_change"
        return intent, f"I have no tool that can do that (“{answers.escape(done)}”)."
    check = intents.network_check(tokens)
    return ("network_check", f"I have no tool that can check that (“{answers.escape(check)}”).") if check else None


def _orders(tokens: Sequence[Token], attempt: _Attempt) -> str:
    """An order by a verb that is unknown, or that is a value elsewhere: "flag all servers", "offline the printers"."""
    at = intents.head_verb(tokens)
    if at is None or words.may_be_plural(tokens[at].low):
        return ""
    kinds = [entry.kind for entry in attempt.lexicon.lookup(tokens[at].key)]
    is_verb = at in attempt.reading.unused_at or kinds[:1] == ["value"]
    return tokens[at].text if is_verb and tokens[at].low not in words.GRAMMAR else ""


def _not_one_question(tokens: Sequence[Token], attempt: _Attempt) -> tuple[Intent, str] | None:
    problem = attempt.reading.problem
    return ("unsupported", answers.escape(problem)) if problem else None


def _not_understood(tokens: Sequence[Token], attempt: _Attempt) -> tuple[Intent, str] | None:
    reading, plural = attempt.reading, answers.escape(attempt.table.spec.noun[1])
    defines = intents.is_definition(tokens) and (bool(reading.unused) or _defines(tokens, attempt))
    if reading.has_substance and not defines:
        return None
    reason = f"I did not understand what you want to know about {plural}."
    if reading.unused:
        reason = f"I did not understand {_quoted(reading)}."
    if not intents.is_definition(tokens):
        return "unsupported", reason
    return "knowledge", reason if reading.unused else _NO_KNOWLEDGE


def _not_sure(tokens: Sequence[Token], attempt: _Attempt) -> tuple[Intent, str] | None:
    """Enough was understood for some answer, but likely not for the one that was asked for."""
    reading, plural = attempt.reading, answers.escape(attempt.table.spec.noun[1])
    reason = ""
    if intents.looks_back(tokens, reading.known_at):
        reason = "I understand each message by itself: please say in full what you are looking for."
    elif reading.unknown_head:
        reason = f"I don't know what “{answers.escape(reading.unknown_head)}” is."
    elif reading.unused and (tokens[0].low in _YES_OR_NO or intents.is_foreign(len(reading.unused), reading.n_used)):
        reason = f"I understood too little of that; unknown to me: {_quoted(reading)}."
    elif reading.unknown_value:
        reason = f"I don't know “{answers.escape(reading.unknown_value)}”: nothing among the {plural} is called so."
    elif reading.unused_condition and not reading.query.filters:
        reason = f"I don't know {_quoted(reading)}: nothing among the {plural} is called so."
    return ("unsupported", reason) if reason else None


def _quoted(reading: Reading) -> str:
    return ", ".join(f"“{answers.escape(word)}”" for word in reading.unused)


def _defines(tokens: Sequence[Token], attempt: _Attempt) -> bool:
    """ "What is nginx?" asks about the world though rows have that value; "what is down?" asks for rows."""
    rest = [token for token in tokens if token.key and token.low not in ("what", "is", "are", "so", "and", "hi", "ok")]
    key = " ".join(token.key for token in rest)
    found = attempt.lexicon.lookup(key)
    return any(entry.kind == "value" for entry in found) and not attempt.lexicon.is_everyday(key)


def _decline(intent: Intent, reason: str, unused: Sequence[str] = ()) -> Classification:
    return Classification(intent=intent, unused_words=tuple(unused), parsed={"reason": reason})
