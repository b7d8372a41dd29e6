"""A JSON object as named texts: what a row of CSV would hold.

* An object that stands for one thing (a reference, a choice, a date in two spellings) is that thing's text, and what
  else it says is kept beside it: `site: {"id": 7, "name": "AMS1"}` gives `site` = AMS1 and `site.id` = 7.
* Any other object gives its values under dotted names.
* A list of texts and numbers is joined with `;`; any other list is JSON.

The shapes are those of NetBox's REST API (choices `{"value", "label"}`, brief objects `{"id", "url", "display",
"name", "slug"}`, addresses `{"family", "address"}`), Snipe-IT's (`{"id", "name"}`, `{"date" or "datetime",
"formatted"}`, custom fields `{"field", "value", "field_format"}`; its AssetsTransformer.php) and ServiceNow's Table API
with any `sysparm_display_value` (`{"display_value", "value", "link"}` or `{"link", "value"}`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from inventory.json_stream import Object, free

#: Deeper objects and lists are no inventory.
MAX_DEPTH = 50
#: Longer numbers are kept as an exponent writes them.
_MAX_EXPONENT = 40
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
#: What in a reference only says its text again, in other letters; kept when it says something else.
_AGAIN = frozenset({"display", "display_name", "name", "slug", "model", "label", "value", "formatted", "display_value"})
#: Names that an object must have to stand for one thing -> which of them is its text.
_REFERENCES: Sequence[tuple[frozenset[str], str]] = (
    (frozenset({"date", "formatted"}), "date"),
    (frozenset({"datetime", "formatted"}), "datetime"),
    (frozenset({"value", "label"}), "label"),
    (frozenset({"field", "value"}), "value"),
    (frozenset({"link", "display_value"}), "display_value"),
    (frozenset({"link", "value"}), "value"),
    (frozenset({"family", "address"}), "address"),
    (frozenset({"manufacturer", "model"}), "model"),
    (frozenset({"name"}), "name"),
    (frozenset({"Name"}), "Name"),
    (frozenset({"display", "url"}), "display"),
)


class TooDeep(Exception):
    """The object holds others more than `MAX_DEPTH` deep."""


@dataclass(kw_only=True)
class Flat:
    cells: dict[str, str] = field(default_factory=dict)
    #: Dotted names of which an object had two values.
    repeated: list[str] = field(default_factory=list)
    #: As in `Object`.
    late: Collection[str] = ()

    def put(self, name: str, text: str) -> None:
        self.cells[free(name, self.cells) if name in self.cells else name] = text

    def add(self, name: str, value: Any, depth: int) -> None:
        if isinstance(value, str):
            self.put(name, value)
        elif isinstance(value, Object):
            self._add_object(name, value, depth + 1)
        elif isinstance(value, list):
            self._add_list(name, value, depth + 1)
        else:
            self.put(name, text_of(value))

    def add_all(self, record: Object, prefix: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise TooDeep
        self.repeated += [prefix + name for name in record.repeated]
        for name, value in record.items():
            self.add(prefix + name, value, depth)

    def _add_object(self, name: str, value: Object, depth: int) -> None:
        main = _main(value)
        if main is None:
            self.add_all(value, f"{name}.", depth)
            if not value:
                self.put(name, "")
            return
        text = text_of(value[main])
        self.put(name, text)
        self.add_all(value.without(main, *_again(value, text)), f"{name}.", depth)

    def _add_list(self, name: str, value: list[Any], depth: int) -> None:
        if name.lower() == "tags" and value and all(isinstance(tag, dict) and "name" in tag for tag in value):
            self.put(name, ";".join(text_of(tag["name"]) for tag in value))
            name = f"{name}.json"
        if all(isinstance(part, (str, int, Decimal)) and ";" not in str(part) for part in value):
            self.put(name, ";".join(text_of(part) for part in value))
        else:
            self.put(name, json_text(value, depth))


def flat(record: Object) -> Flat:
    """Raises TooDeep."""
    made = Flat(late=record.late)
    made.add_all(record, "", 0)
    return made


def _main(value: Mapping[str, Any]) -> str | None:
    """The name of the object's text when it stands for one thing."""
    if value.keys() >= {"display_value", "value"}:  # of an instant, `value` is UTC and ISO 8601
        return "value" if _DAY.match(str(value["value"])) else "display_value"
    for names, main in _REFERENCES:
        if value.keys() >= names and not isinstance(value[main], (dict, list)):
            return main
    return None


def _again(value: Mapping[str, Any], text: str) -> Iterator[str]:
    told = text.casefold()
    return (name for name in _AGAIN & value.keys() if text_of(value[name]).casefold() == told)


def text_of(value: Any) -> str:
    """Numbers keep their digits. Of objects and lists: JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f") if abs(value.adjusted()) < _MAX_EXPONENT else str(value)
    return str(value) if isinstance(value, int) else json_text(value, 0)


def json_text(value: Any, depth: int) -> str:
    """`json.dumps`, for numbers of any length too. Raises TooDeep."""
    if depth > MAX_DEPTH:
        raise TooDeep
    if isinstance(value, dict):
        pairs = (f"{json.dumps(name, ensure_ascii=False)}: {json_text(v, depth + 1)}" for name, v in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(json_text(part, depth + 1) for part in value) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)
