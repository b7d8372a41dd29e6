"""What one row of a sheet says of its asset: its fields, attributes and identity."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from inventory.headers import MAX_INDEXED, OWN_ID, SOURCE_ID, Column
from inventory.recognition import Identity, identity_of
from inventory.sheets import NUL, REPLACED, OnProblem, Problem, Row, Sheet, storable
from inventory.values import BLANKS

_UNREADABLE_ID = "id (unreadable)"


@dataclass(frozen=True, kw_only=True)
class Draft:
    row: int
    #: All that the file's columns write, those that the row leaves blank included.
    fields: Mapping[str, object]
    attributes: Mapping[str, str]
    identity: Identity


@dataclass(kw_only=True)
class _Saying:
    """A draft in the making."""

    row: int
    fields: dict[str, object]
    attributes: dict[str, str] = field(default_factory=dict)
    own_id: str = ""
    source_id: str = ""


class Drafter:
    """Makes drafts of the rows of one sheet."""

    def __init__(self, sheet: Sheet, on_problem: OnProblem) -> None:
        self._on_problem = on_problem
        self._blank = dict(sheet.layout.constant)
        #: The attributes that the file decides on: an asset whose row does not give them has them no more.
        self.attributes = {_UNREADABLE_ID}
        for column in sheet.columns:
            self._blank.update(column.blank)
            self.attributes.add(column.unreadable if column.kind == "field" else _attribute_of(column))
            if column.is_kept:
                self.attributes.add(column.header)

    def draft(self, row: Row) -> Draft:
        saying = _Saying(row=row.number, fields=dict(self._blank))
        for column, raw in row.cells:
            self._take(column, self._storable(row.number, column, raw), saying)
        own_id = self._own_id(saying)
        source_id = saying.source_id
        if len(source_id) > MAX_INDEXED:
            source_id = hashlib.sha256(source_id.encode()).hexdigest()
        identity = identity_of(saying.fields, own_id=own_id, source_id=source_id, row_key=lambda: _row_key(row))
        return Draft(row=row.number, fields=saying.fields, attributes=saying.attributes, identity=identity)

    def _take(self, column: Column, text: str, saying: _Saying) -> None:
        stripped = text.strip(BLANKS)
        if not stripped:
            return
        if column.kind == "field":
            self._read(column, text if column.keeps_space else stripped, saying)
        elif column.kind == "own id":
            saying.own_id = stripped
        elif column.kind == "source id":
            saying.source_id = saying.attributes[_attribute_of(column)] = stripped
        else:
            saying.attributes[column.header] = text
            if column.kind == "surplus":
                message = f"the header has no such column; kept as attribute “{column.header}”"
                self._on_problem(Problem(row=saying.row, column=column.header, value=text, message=message))

    def _read(self, column: Column, text: str, saying: _Saying) -> None:
        if column.is_kept:
            saying.attributes[column.header] = text
        try:
            made = column.read(text) if column.read else {}
            saying.fields.update((name, made[name]) for name in column.blank)
        except ValueError as error:
            saying.attributes[column.unreadable] = text
            message = f"{error}; kept as attribute “{column.unreadable}”"
            self._on_problem(Problem(row=saying.row, column=column.header, value=text, message=message))

    def _own_id(self, saying: _Saying) -> uuid.UUID | None:
        """A column named `id` or `ID` that holds no UUID is the source's."""
        if not saying.own_id:
            return None
        try:
            return uuid.UUID(saying.own_id)
        except ValueError:
            pass
        if saying.source_id:
            saying.attributes[_UNREADABLE_ID] = saying.own_id
            message = f"no UUID; kept as attribute “{_UNREADABLE_ID}”"
            self._on_problem(Problem(row=saying.row, column=OWN_ID, value=saying.own_id, message=message))
        else:
            saying.source_id = saying.attributes[SOURCE_ID] = saying.own_id
        return None

    def _storable(self, row: int, column: Column, text: str) -> str:
        if NUL not in text:
            return text
        self._on_problem(Problem(row=row, column=column.header, value=text, message=REPLACED))
        return storable(text)


def has_id(row: Row) -> bool:
    return any(column.kind in ("own id", "source id") and text.strip(BLANKS) for column, text in row.cells)


def _attribute_of(column: Column) -> str:
    return SOURCE_ID if column.header.lower() == OWN_ID else column.header


def _row_key(row: Row) -> str:
    """The same for the same cells under the same headers, in whatever order the columns stand."""
    told = sorted(
        (column.header, text) for column, text in row.cells if column.kind != "surplus" and text.strip(BLANKS)
    )
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
