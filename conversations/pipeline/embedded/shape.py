"""Rules that read the shape of an answer: file, count, groups, columns."""

from __future__ import annotations

from collections.abc import Sequence

from conversations.pipeline.embedded import ordering, words
from conversations.pipeline.embedded.scan import Item, Scanner
from conversations.pipeline.embedded.words import ARTICLES, COPULAS

_EXPORT = frozenset(
    "export exports exported exporting download downloads downloading dump spreadsheet csv csvs extract save".split()
)
#: Files that are not written: the words stay visible.
_FORMATS = frozenset(
    """excel xlsx xls json jsonl ndjson xml parquet tsv pdf yaml yml ods docx word html markdown sheets feather
    sqlite sql""".split()
)
_FILES = frozenset("file files format formatted".split())
_LISTING = frozenset("list export find get fetch download enumerate".split())


def export(s: Scanner) -> bool:
    """ "export", "as CSV", "spreadsheet of"; other formats mean an export too, but are not taken."""
    low = s.low()
    if low in _FORMATS and _asks_format(s):
        s.draft.export = True
        s.draft.formats.append(low)
        s.position += 1
        return True
    if low in _EXPORT or (low in _FILES and (s.draft.export or s.low(-1) in ("as", "a", "to", "into"))):
        s.draft.export = True
        return s.take(1)
    return False


def _asks_format(s: Scanner) -> bool:
    before, after = s.low(-1), s.low(1)
    return (
        s.draft.export or before in ("as", "to", "in", "into", "a", "an") or after in _FILES | _EXPORT | {"of", "for"}
    )


def count(s: Scanner) -> bool:
    size = s.says(
        "how many", "number of", "numbers of", "count of", "counts of", "total number of", "total count of",
        "quantity of", "count up",
        "count", "counts", "total of",
    )  # fmt: skip
    if not size and s.low() == "total" and not s.draft.export and (item := s.item(1)) and (item.values or item.is_noun):
        size = 1
    if not size and s.says("how much"):
        size = 2
        s.draft.amount = True
    measured = s.field_at(size, "number") if size and s.low() != "count" else None
    if measured:
        opens = {item.low for item in s.items[: s.position]} <= words.FUNCTION
        s.draft.measured = measured if opens else s.draft.measured
        return s.take(size)
    if size and s.low(1) != "much":
        s.draft.count = True
        return s.take(size)
    return bool(size) and s.take(size)


def group(s: Scanner) -> bool:
    """ "per site", "grouped by site and status", "for each site", "broken down by os"."""
    size = s.says(
        "per", "grouped by", "group by", "grouping by", "for each", "for every", "in each", "in every", "at each",
        "on each", "broken down by",
        "split by", "across", "distribution of", "breakdown of", "split per", "split across", "each", "unique",
        "distinct", "different",
    )  # fmt: skip
    if s.says("break down", "breakdown", "break", "summarize", "summarise", "distribution") and (
        not size or s.field_at(s.skip(ARTICLES, size)) is None
    ):
        s.draft.breakdown = True
        return s.take(s.says("break down", "breakdown of", "distribution of") or 1)
    at = s.skip(ARTICLES, size)
    if not size or s.field_at(at) is None:
        return False
    item, following = s.item(at), s.item(at + 1)
    if s.low() in words.SOFT and (item is None or (following and (following.is_noun or following.values))):
        return False
    s.take(at)
    s.draft.group_by.extend(_field_list(s))
    return True


def by(s: Scanner) -> bool:
    """A bare "by": an order or groups, decided when the whole request is known."""
    if s.low() != "by":
        return False
    at = s.skip(ARTICLES, 1)
    if s.low(at) == "count" or s.says("number of", ahead=at):
        s.take(at)
        following = s.item(2)
        s.draft.by_count = True
        s.take(1 if s.low() == "count" else 2)
        if following and following.is_noun and s.item() is following:
            s.draft.noun = True
            s.take(1)
        direction = ordering.direction(s)
        s.draft.by_count = direction if direction is not None else s.draft.superlative is not False
        return True
    item = s.item(at)
    following = s.item(at + 1)
    named = following is not None and any(entry.kind == "identity" for entry in following.values)
    if (
        item is None
        or named
        or s.field_at(at) is None
        or (item.values and item.entries[0].kind == "value" and not item.fields)
    ):
        return False
    s.take(at)
    names = _field_list(s)
    direction = ordering.direction(s)
    s.draft.by.extend((name, direction) for name in names)
    return True


def _field_list(s: Scanner) -> list[str]:
    """FIELD, FIELD and FIELD; takes them."""
    names: list[str] = []
    at = 0
    while (name := s.field_at(at)) is not None:
        names.append(name)
        s.take(at + 1)
        at = s.skip(words.CONNECTORS | {"then", "the", "by", "per"}, 0)
        if not at or s.low(at - 1) not in words.CONNECTORS | {"the", "by", "per", "then"}:
            break
        if ordering.lists_columns(s, at):
            break
    return names


def all_columns_but(s: Scanner) -> bool:
    """ "all columns except notes for …", "… without the notes column": every field but these."""
    opened = s.says(*(f"{noun} {but}" for noun in _COLUMNS for but in _BUT)) if s.low() in _COLUMNS else 0
    start = opened or s.says(*_BUT)
    if not start:
        return False
    at = s.skip(ARTICLES | {"for"}, start)
    names, end = _names_at(s, at)
    closed = int(s.low(end) in _COLUMNS)
    if not names or not (opened or closed):
        return False
    s.draft.columns = [field.name for field in s.lexicon.spec.fields if field.name not in names]
    return s.take(end + closed)


_COLUMNS = frozenset("column columns field fields".split())
_BUT = ("except for", "except", "but not", "but", "without", "excluding", "other than", "apart from", "minus",
"not including", "omitting", "leaving out", "no")  # fmt: skip


def _names_at(s: Scanner, at: int) -> tuple[list[str], int]:
    """FIELD, FIELD and FIELD from here on, and the place after them."""
    names: list[str] = []
    end = at
    while (name := s.field_at(at)) is not None:
        names.append(name)
        end = at + 1
        at = s.skip(words.CONNECTORS | {"the"}, end)
        if at == end:
            break
    return names, end


def columns(s: Scanner) -> bool:
    """ "just name and ip of …", "the owner of …", "with their addresses", "columns: name, site"."""
    names, end = _listed(s)
    if not names:
        return False
    before = s.low(-1)
    opened = before in (
        "only",
        "just",
        "columns",
        "fields",
        "showing",
        "show",
        "including",
        "include",
        "column",
        "with:",
        ":",
        "display",
    )
    closed = int(s.low(end) in ("only", "just") and (s.item(end + 1) is None or s.low(end + 1) in _AFTER_ONLY))
    related = s.low(end) in ("of", "for", "from") and before not in ("by", "per")
    with_their = before in ("their", "its", "with", "plus") and (len(names) > 1 or before != "with")
    listed = len(names) > 1 and before not in ("by", "per", "no", "without")
    if not (
        (opened and (len(names) > 1 or related or before in ("only", "just", "columns", "fields")))
        or related
        or with_their
        or listed
        or closed
    ):
        return False
    if related and _asks_kinds(s, names):
        s.draft.group_by.extend(names)
        return s.take(end)
    if (
        before in ("their", "its")
        and s.low(-2) in ("with", "and", "including", "plus")
        and s.lexicon.spec.preview_fields
    ):
        first = s.lexicon.spec.preview_fields[0]
        names = names if first in names else [first, *names]
    s.draft.columns.extend(name for name in names if name not in s.draft.columns)
    return s.take(end + closed)


def _asks_kinds(s: Scanner, names: list[str]) -> bool:
    """ "what makes of switches", "what are the models of …": each value once."""
    before = next((k for k in range(s.position - 1, -1, -1) if s.items[k].low not in ARTICLES | COPULAS), None)
    asked = before is not None and s.items[before].low in ("what", "which")
    return asked and len(names) == 1 and s.spec_of(names[0]).is_category and words.is_plural(s.low())


_AFTER_ONLY = frozenset({"for", "of", "from", ".", "?", "!", ",", "please"})


def _listed(s: Scanner) -> tuple[list[str], int]:
    names: list[str] = []
    end = at = 0
    while (name := s.field_at(at)) is not None and not _is_value_first(s.item(at), s.item(at + 1)):
        names.append(name)
        end = at + 1
        at = s.skip(words.CONNECTORS, end)
        if at == end and not _is_next_column(s, at):
            break
        at = s.skip(ARTICLES, at)
    return names, end


def _is_next_column(s: Scanner, at: int) -> bool:
    """Fields may be listed without commas: "hostname fqdn and ip of …"."""
    item, following = s.item(at), s.item(at + 1)
    listed = s.low(at + 1) in words.CONNECTORS | {"of", "for", "from"} or (following is not None and following.fields)
    return bool(item and item.fields and not item.values and listed)


def _is_value_first(item: Item | None, following: Item | None) -> bool:
    """The word is also a value and something stands after it that it describes: "storage servers"."""
    return bool(item and item.values and following and (following.is_noun or following.values))


def mention(s: Scanner) -> bool:
    """A field named without a condition; what it means is decided at the end."""
    item = s.item()
    name = s.field_at(0) or next(iter(s.stem_fields(0)), None)
    if name is None or item is None or item.low in COPULAS:
        return False
    s.draft.mentioned.append((name, s.position))
    s.position += 1
    return True


def noun(s: Scanner) -> bool:
    item = s.item()
    if item is None or not item.is_noun:
        return False
    s.draft.noun = True
    s.draft.nouns.append(s.position)
    return s.take(1)


def is_listing(items: Sequence[Item]) -> bool:
    """The request is for rows in an order ("list …", "export …"), not for numbers."""
    return any(item.low in _LISTING for item in items[:3])
