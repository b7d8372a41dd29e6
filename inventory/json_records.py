"""Where in a JSON file the assets are, one object each. What tools give, and where that is said:

* a list of objects, or objects one after another, on a line each or not;
* an answer of an API that holds the list by a name: NetBox `results`, Snipe-IT `rows`, ServiceNow `result` or
  `records`;
* `aws ec2 describe-instances`: `Reservations`, each with `Instances` (EC2 API reference, DescribeInstances), or what
  its `--query` left of them;
* `ansible-inventory --list`: `_meta.hostvars` and groups with `hosts` and `children` (Ansible's developer guide on
  dynamic inventory); hosts without variables stand in the groups only;
* gathered facts: `{"ansible_facts": {…}}` (the module `setup`), or host -> that, or host -> its variables.

EC2's tags, a list of `Key` and `Value` or, in Ansible's inventory plugin amazon.aws.aws_ec2, an object, are values of
the asset under their keys; a tag without a value is a tag of the asset, and so is an Ansible group.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Literal

from inventory.json_stream import Object, events, items, line_value, named_items
from inventory.sheets import MAX_CELL_CHARS, NotATable

#: Names by which an answer holds its list.
_LISTS = frozenset("results rows result records Reservations Instances data items assets devices hosts".split())
#: Bytes of a line that hardly holds one object.
_LONG_LINE = 1024 * 1024
_PAGES = ("results", "rows", "result", "records")
_HOSTVARS = "_meta.hostvars"
#: Groups that say nothing of a host.
_ALL = ("all", "ungrouped")


@dataclass(frozen=True, kw_only=True)
class Unread:
    """A line that is no JSON."""

    text: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Shape:
    kind: Literal["values", "lines", "by name", "inventory"]
    #: ijson's path of the values.
    prefix: str = ""
    #: The file is one object and may be anything: it counts as an asset only if it says which.
    is_lone: bool = False


def shape_of(file: BinaryIO) -> Shape:
    """Reads as much of the file as tells."""
    if _has_lines(file):
        return Shape(kind="lines")
    stream = events(file)
    if next(stream)[1] == "start_array":
        return Shape(kind="values", prefix="item")
    starts: dict[str, str] = {}
    for name, event in _starts(stream):
        if (name in _LISTS and event == "start_array") or (name == "result" and event == "start_map"):
            return Shape(kind="values", prefix=f"{name}.item" if event == "start_array" else name)
        if (name, event) == (_HOSTVARS, "start_map"):
            return Shape(kind="inventory")
        starts[name] = event
    if starts and set(starts.values()) == {"start_map"} and "ansible_facts" not in starts:
        return Shape(kind="by name")
    return Shape(kind="values", is_lone=next(stream, None) is None)


def _starts(stream: Iterator[tuple[str, str, Any]]) -> Iterator[tuple[str, str]]:
    """Of the object that has begun: each name with the event that begins its value; the same of Ansible's hostvars."""
    name: str | None = None
    for prefix, event, value in stream:
        if name is not None or (prefix, event) == (_HOSTVARS, "start_map"):
            yield prefix if name is None else name, event
        elif (prefix, event) == ("", "end_map"):
            return
        name = value if (prefix, event) == ("", "map_key") else None


def _has_lines(file: BinaryIO) -> bool:
    """Each line is an object. One line alone is read like any other JSON."""
    file.seek(0)
    lines = (line.removeprefix(codecs.BOM_UTF8).strip() for line in iter(partial(file.readline, _LONG_LINE), b""))
    first, second = (next((line for line in lines if line), b"") for _ in range(2))
    return first[:1] == second[:1] == b"{" and first[-1:] == b"}"


def records(file: BinaryIO, shape: Shape) -> Iterator[tuple[int, Any]]:
    """Number and value of each, from the first one on: objects, and whatever stands where one should be."""
    if shape.kind == "lines":
        yield from _of_lines(file)
    else:
        yield from enumerate(_of_values(file, shape), start=1)


def _of_lines(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    file.seek(0)
    for number, line in enumerate(iter(partial(file.readline, MAX_CELL_CHARS), b""), start=1):
        if len(line) == MAX_CELL_CHARS:
            raise NotATable(f"Line {number} is longer than {MAX_CELL_CHARS:,} bytes: no object of an inventory is.")
        text = line.removeprefix(codecs.BOM_UTF8).strip()
        if text:
            for value in _parts(_line(text)):
                yield number, value


def _line(text: bytes) -> Any:
    try:
        return line_value(text)
    except json.JSONDecodeError as error:
        why = f"{error.msg.removesuffix(' at')} at character {error.pos + 1}"
    except (ValueError, RecursionError) as error:
        why = str(error)
    return Unread(text=text[:200].decode(errors="replace"), why=f"is no JSON ({why})")


def _of_values(file: BinaryIO, shape: Shape) -> Iterator[Any]:
    if shape.kind == "inventory":
        yield from _hosts(file)
    elif shape.kind == "by name":
        for name, value in named_items(file, ""):
            yield _named(name, value)
    else:
        for value in items(file, shape.prefix):
            yield from _parts(value)


def _parts(value: Any) -> Iterator[Any]:
    """The assets of one value of a list: all instances of a reservation, of a list its values."""
    parts = _page(value)
    if parts is not None:
        for part in parts:
            yield _prepared(part)
    elif isinstance(value, Object) and isinstance(value.get("Instances"), list):
        shared = value.without("Instances")
        for part in value["Instances"]:
            is_object = isinstance(part, Object)
            yield _prepared(part.with_values_of(shared, prefix="Reservation") if is_object else part)
    else:
        yield _prepared(value)


def _page(value: Any) -> list[Any] | None:
    """A list, as `--query 'Reservations[].Instances'` leaves them, or an API's answer on a line of its own."""
    if isinstance(value, list):
        return value
    named = next((value[name] for name in _PAGES if name in value), None) if isinstance(value, dict) else None
    return named if isinstance(named, list) and all(isinstance(part, dict) for part in named) else None


def _prepared(value: Any) -> Any:
    """An object's facts, custom fields and tags as values of its own."""
    if not isinstance(value, Object):
        return value
    facts, custom = value.get("ansible_facts"), value.get("custom_fields")
    if isinstance(facts, Object):
        value = facts.with_values_of(value.without("ansible_facts"), prefix="result")
    if isinstance(custom, Object):
        value = value.without("custom_fields").with_values_of(custom, prefix="custom_fields", are_late=True)
    name = next((name for name in ("Tags", "tags") if _pairs(value.get(name)) is not None), None)
    return value if name is None else _with_tags_apart(value, name)


def _with_tags_apart(record: Object, name: str) -> Object:
    pairs = _pairs(record[name]) or []
    values = Object.of([(key, value) for key, value in pairs if value not in ("", None)])
    made = record.without(name).with_values_of(values, prefix=name, are_late=True)
    made["tags"] = [key for key, value in pairs if value in ("", None)]
    return made


def _pairs(tags: Any) -> list[tuple[str, Any]] | None:
    if isinstance(tags, dict):
        return list(tags.items())
    if isinstance(tags, list) and all(isinstance(tag, dict) and tag.keys() == {"Key", "Value"} for tag in tags):
        return [(str(tag["Key"]), tag["Value"]) for tag in tags]
    return None


def _named(name: str, value: Any) -> Any:
    """An object that stands under a name. EC2's tag `Name` names the asset better than the inventory does."""
    value = _prepared(value)
    if not isinstance(value, Object):
        return value
    own = next((value[key] for key in ("name", "Name") if isinstance(value.get(key), str) and value[key]), "")
    made = Object.of([("name", own or name)]).with_values_of(value.without("name", "Name"), prefix="value")
    if own and own != name:
        made["key"] = name
    return made


# Ansible's inventory


def _hosts(file: BinaryIO) -> Iterator[Any]:
    groups = _groups(file)
    left = dict.fromkeys(groups)
    for name, variables in named_items(file, _HOSTVARS):
        left.pop(name, None)
        yield _host(name, variables, groups.get(name, ()))
    for name in left:
        yield _host(name, Object(), groups[name])


def _host(name: str, variables: Any, groups: Sequence[str]) -> Any:
    made = _named(name, variables)
    if not isinstance(made, Object):
        return made
    tags = made.get("tags", [])
    has_tags = not isinstance(tags, list)  # a variable of that name
    host = made.without("key", *(() if has_tags else ("tags",)))
    host["inventory_hostname"] = name
    host["groups" if has_tags else "tags"] = list(groups) if has_tags else [*tags, *groups]
    return host


def _groups(file: BinaryIO) -> dict[str, tuple[str, ...]]:
    """Host -> its groups, and the groups that these are in."""
    members: dict[str, list[str]] = {}
    above: dict[str, list[str]] = {}
    for prefix, event, value in events(file):
        if event == "string" and not prefix.startswith("_meta."):
            if prefix.endswith(".hosts.item"):
                members.setdefault(value, []).append(prefix.removesuffix(".hosts.item"))
            elif prefix.endswith(".children.item"):
                above.setdefault(value, []).append(prefix.removesuffix(".children.item"))
    known: dict[tuple[str, ...], tuple[str, ...]] = {}  # most hosts share their groups with others
    return {host: known.setdefault(tuple(own), _with_above(own, above)) for host, own in members.items()}


def _with_above(groups: Sequence[str], above: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    found = dict.fromkeys(groups)
    queue = list(groups)
    for group in queue:
        new = [parent for parent in above.get(group, ()) if parent not in found]
        found.update(dict.fromkeys(new))
        queue += new
    return tuple(group for group in found if group not in _ALL)
