"""What is said: sentences of fact from the tool's numbers, what was not used, and what can be done. Never a row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conversations.pipeline.embedded import calls, intents
from conversations.pipeline.embedded.lexicon import Lexicon
from conversations.pipeline.engine import Executed, TablePiece, TextPiece
from conversations.pipeline.tools import Cell, Filter, Query, Sort, SpokenTool, TableSpec

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~#&!{}])")
_WORDS = {
    "eq": "=", "ne": "is not", "in": "=", "not_in": "is none of", "contains": "contains",
    "not_contains": "does not contain",
    "starts_with": "starts with", "lt": "<", "lte": "≤", "gt": ">", "gte": "≥", "within": "in",
}  # fmt: skip
#: Rows that the page shows of a table.
SHOWN = 10
#: Values of one condition that are written out.
_LISTED = 8


def escape(text: str) -> str:
    """The text as inline Markdown that reads exactly so: from data and users, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def stream(text: str) -> Iterator[TextPiece]:
    """The text in groups of a few words, so that it can be shown as it is written."""
    parts = re.findall(r"\S+\s*|\s+", text)
    for at in range(0, len(parts), 4):
        yield TextPiece(text="".join(parts[at : at + 4]))


def executed(
    query: Query, done: Executed, index: int, lexicon: Lexicon, parsed: Mapping[str, Any]
) -> Iterator[TextPiece | TablePiece]:
    """The answer to a query that a tool has run."""
    if done.refusal:
        yield from stream(f"{escape(done.refusal)}")
        yield from stream(_notes(parsed))
        return
    yield from stream(_fact(query, done, lexicon.spec))
    yield from stream(_notes(parsed))
    if done.kind in ("rows", "groups") and done.total:
        yield TextPiece(text="\n\n")
        yield TablePiece(index=index)
        yield from stream(_rest(query, done))
    elif done.kind == "rows" and not done.total:
        yield from stream(_hint(query, lexicon))


def called(done: Executed, index: int) -> Iterator[TextPiece | TablePiece]:
    """The answer of a tool that was asked for by its own words."""
    if done.refusal:
        yield from stream(escape(done.refusal))
    elif done.kind == "count":
        yield from stream(f"**{done.total:,}**, says {escape(done.tool)}.")
    elif not done.total:
        yield from stream(f"{escape(done.tool)} found nothing.")
    else:
        yield from stream(f"**{done.total:,} {'rows' if done.total != 1 else 'row'}** from {escape(done.tool)}.\n\n")
        yield TablePiece(index=index)
        yield from stream(f"\n\nThe file has all {done.total:,} rows." if done.total > SHOWN else "")


def _fact(query: Query, done: Executed, spec: TableSpec) -> str:
    if done.kind == "groups":
        return _groups(query, done, spec)
    n = done.total if done.kind == "count" else done.matched
    conditions = f": {_conditions(query, spec)}" if query.filters else ""
    if not n:
        return (
            f"**No {escape(spec.noun[1])} match**{conditions}."
            if query.filters
            else f"There are no {escape(spec.noun[1])} yet."
        )
    facts = f"**{n:,} {_noun(n, spec)} {'match' if n != 1 else 'matches'}**{conditions}."
    if not query.filters:
        facts = f"**{n:,} {_noun(n, spec)}** {'are' if n != 1 else 'is'} there in all."
    if done.kind == "rows" and done.total < done.matched and query.limit:
        verb = "are" if done.total != 1 else "is"
        facts += f" Here {verb} the first {done.total:,} of {done.matched:,}{_order(query.sort, spec)}."
    elif done.kind == "rows" and query.sort and n > 1:
        facts += f" They are sorted{_order(query.sort, spec).removeprefix(',')}."
    return facts


def _groups(query: Query, done: Executed, spec: TableSpec) -> str:
    fields = " and ".join(_title(name, spec) for name in query.group_by)
    conditions = f", {_conditions(query, spec)}" if query.filters else ""
    if not done.total:
        return f"**No {escape(spec.noun[1])} match**{conditions.replace(', ', ': ', 1)}."
    said = f"of {escape(spec.noun[1])} by {fields}{conditions}"
    if done.total < done.matched:
        return f"**The first {done.total:,} of {done.matched:,} groups** {said}{_order(query.sort, spec)}."
    return f"**{done.total:,} {'groups' if done.total != 1 else 'group'}** {said}."


def _rest(query: Query, done: Executed) -> str:
    if done.kind != "rows" or done.total <= SHOWN:
        return ""
    fields = "the fields asked for" if query.columns else "every field"
    return f"\n\nThe file has all {done.total:,} rows and {fields}."


def _notes(parsed: Mapping[str, Any]) -> str:
    """Repaired words and words that played no part, so that nobody mistakes the answer for another."""
    lines = [f"I read “{escape(typed)}” as “{escape(meant)}”." for typed, meant in parsed.get("repairs", ())]
    formats = parsed.get("formats", ())
    unused = parsed.get("unused", ())
    words = [word for word in unused if word.lower() not in formats]
    if words:
        lines.append(
            f"**Not used: {', '.join(escape(word) for word in words)}.** "
            f"The answer does not take {'them' if len(words) > 1 else 'it'} into account."
        )
    if formats:
        lines.append(f"Not used: {', '.join(escape(word) for word in formats)}. Files are written as CSV.")
    return "".join(f"\n\n{line}" for line in lines)


def _hint(query: Query, lexicon: Lexicon) -> str:
    for condition in query.filters:
        if condition.op == "eq" and isinstance(condition.value, str):
            near = lexicon.near_values(condition.field, condition.value)
            if near:
                return (
                    f"\n\nNear values of {_title(condition.field, lexicon.spec)}: {', '.join(escape(v) for v in near)}."
                )
    return ""


def _conditions(query: Query, spec: TableSpec) -> str:
    return ", ".join(_condition(condition, spec) for condition in query.filters)


def _condition(condition: Filter, spec: TableSpec) -> str:
    title = _title(condition.field, spec)
    if condition.op in ("is_null", "not_null"):
        return f"{title} is {'empty' if condition.op == 'is_null' else 'not empty'}"
    return f"{title} {_WORDS[condition.op]} {_values(condition.value)}{_unit(condition, spec)}"


def _unit(condition: Filter, spec: TableSpec) -> str:
    field = spec.field(condition.field)
    said = field is None or not field.unit or field.unit.lower() in field.title.lower()
    return "" if said or field is None or field.type != "number" else f" {escape(field.unit)}"


def _values(value: Cell | tuple[Cell, ...]) -> str:
    if not isinstance(value, tuple):
        return escape(str(value))
    words = [escape(str(v)) for v in value]
    shown = words if len(words) <= _LISTED else [*words[: _LISTED - 1], f"{len(words) - _LISTED + 1} more"]
    return f"{', '.join(shown[:-1])} or {shown[-1]}"


def _order(sort: Sequence[Sort], spec: TableSpec) -> str:
    if not sort:
        return ""
    terms = (f"{_title(term.field, spec)}{' descending' if term.descending else ''}" for term in sort)
    return f", by {', then '.join(terms)}"


def _title(name: str, spec: TableSpec) -> str:
    field = spec.field(name)
    return escape(field.title if field else name.replace("_", " "))


def _noun(n: int, spec: TableSpec) -> str:
    return escape(spec.noun[0] if n == 1 else spec.noun[1])


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """What can be asked."""

    specs: Sequence[TableSpec]
    tools: Sequence[SpokenTool] = ()


def declined(reason: str, can: Abilities) -> str:
    return f"{reason}{_can(can, 'I can answer questions about')}"


def information(text: str, intent: str, can: Abilities) -> str:
    if intent == "help":
        return _help(can)
    if intents.says_goodbye(text):
        return "Goodbye. Everything stays here for the next time."
    if intents.says_thanks(text):
        return "You're welcome. Ask whenever you need something."
    return f"Hello!{_can(can, 'Ask me about')}"


def _help(can: Abilities) -> str:
    text = (
        "I list, count, group, filter, sort and look up rows, and every table comes with a CSV file to download: "
        "press **Download CSV** beside it, or begin with “export”."
    )
    return f"{text}{_can(can, 'You can ask about')}"


def _can(can: Abilities, lead: str) -> str:
    nouns = " and ".join(escape(spec.noun[1]) for spec in can.specs)
    examples = [example for spec in can.specs for example in spec.examples[: 4 if len(can.specs) == 1 else 2]]
    examples += [calls.shown(tool.phrasings[0]) for tool in can.tools]
    if not nouns:
        return ""
    if not examples:
        return f" {lead} {nouns}."
    return f" {lead} {nouns}, for example:\n\n" + "\n".join(f"- {escape(example)}" for example in examples)
