"""A JSON file as a sheet: a column for each name that an object of it has, in the order in which they first occur."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from inventory.flattening import MAX_DEPTH, Flat, TooDeep, flat, json_text
from inventory.headers import Column
from inventory.json_records import Shape, Unread, records, shape_of
from inventory.sheets import NUL, REPLACED, NotATable, OnProblem, Problem, Row, Sheet, columns_from, is_blank, storable

_MAX_HELD = 1000
#: One of these, or an id, says which asset an object is.
_NAMING = frozenset({"name", "fqdn", "ip_address", "mac_address", "serial_number", "asset_tag"})


def json_sheet(file: BinaryIO, on_problem: OnProblem) -> Sheet:
    """Reads the file through. Reports what is no object; raises NotATable for a file without any, or broken JSON."""
    shape = shape_of(file)
    names, late, n_rows = _names(file, shape, on_problem)
    layout, columns = columns_from([storable(name) for name in names], late=late)
    if shape.is_lone and not _names_an_asset(columns):
        raise NotATable(
            "It is one JSON object without a name or an address, maybe a tool's error message, of "
            f"{', '.join(names)[:200]}. Export a list of objects."
        )
    by_name = dict(zip(names, columns, strict=True))

    def rows() -> Iterator[Row]:
        for number, flattened in _flat(file, shape, lambda problem: None):  # reported already
            if not flattened.cells.keys() <= by_name.keys():
                raise NotATable("The file changed.")
            yield Row(number, [(by_name[name], text) for name, text in flattened.cells.items() if text])

    return Sheet(format="JSON", layout=layout, columns=columns, n_rows=n_rows, rows=rows)


def _names(file: BinaryIO, shape: Shape, on_problem: OnProblem) -> tuple[list[str], set[str], int]:
    """The names that the objects have, those of them that come late, and the number of objects."""
    names: dict[str, None] = {}
    late: set[str] = set()
    n_rows = 0
    held = _HeldBack(on_problem)
    for number, flattened in _flat(file, shape, held):
        n_rows += 1
        held.let_go()
        late.update(flattened.late)
        if not flattened.cells.keys() <= names.keys():
            for name in flattened.cells.keys() - names.keys():
                _report_name(number, name, on_problem)
            names.update(dict.fromkeys(flattened.cells))
    if not n_rows:
        why = f" The first of what it holds: {held.problems[0]}." if held.problems else ""
        raise NotATable(f"The JSON holds no object that could be an asset.{why} Export a list of objects.")
    return list(names), late, n_rows


class _HeldBack:
    """Keeps problems back until there is a first row: without one, they are not worth a line each."""

    def __init__(self, on_problem: OnProblem) -> None:
        self._on_problem = on_problem
        self._is_open = False
        self.problems: list[Problem] = []

    def __call__(self, problem: Problem) -> None:
        if self._is_open:
            self._on_problem(problem)
            return
        self.problems.append(problem)
        if len(self.problems) == _MAX_HELD:
            self.let_go()

    def let_go(self) -> None:
        self._is_open = True
        while self.problems:
            self._on_problem(self.problems.pop(0))


def _flat(file: BinaryIO, shape: Shape, on_problem: OnProblem) -> Iterator[tuple[int, Flat]]:
    for number, value in records(file, shape):
        why = _why_none(value)
        try:
            flattened = Flat() if why else flat(value)
        except TooDeep:
            why = f"is nested more than {MAX_DEPTH} levels deep"
        if why:
            on_problem(Problem(row=number, column="", value=_shown(value), message=f"{why} and is left out"))
            continue
        for name in flattened.repeated:
            message = f"the object has this name twice; the second value is kept as “{name} (2)”"
            on_problem(Problem(row=number, column=name or "(no name)", value=name, message=message))
        if not is_blank(flattened.cells.values()):
            yield number, flattened


def _why_none(value: Any) -> str:
    if isinstance(value, Unread):
        return value.why
    return "" if isinstance(value, dict) else "is no JSON object"


def _shown(value: Any) -> str:
    if isinstance(value, Unread):
        return value.text
    if isinstance(value, dict):
        return f"{{{', '.join(value)}}}"
    return "[…]" if isinstance(value, list) else json_text(value, 0)


def _report_name(number: int, name: str, on_problem: OnProblem) -> None:
    if NUL in name:
        on_problem(Problem(row=number, column=storable(name), value=name, message=REPLACED))


def _names_an_asset(columns: Sequence[Column]) -> bool:
    return any(column.kind in ("own id", "source id") or _NAMING & column.blank.keys() for column in columns)
