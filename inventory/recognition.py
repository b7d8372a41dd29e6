"""Which asset a row is. Rules: the inventory's contract, section Import.

A row is recognised by the first of these that it has: our id, the source's own id, the serial number, the asset tag,
name and site, the row itself. A stronger mark that is not found is not followed by a weaker one: a replaced device
that took over a name is a new asset, and a wrong merge would lose what a duplicate shows.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol, TypeVar

from django.db.models import F, Window
from django.db.models.functions import Lower, RowNumber

from inventory.models import Asset, AssetQuerySet
from inventory.values import spellings

Kind = Literal["id", "source_id", "serial_number", "asset_tag", "name", "row_key"]
SHARED: tuple[Kind, ...] = ("id", "source_id")

#: What people and firmware write where a serial number or a tag is not known; it recognises nothing.
_PLACEHOLDERS = frozenset({
    "-", "--", ".", "?", "0", "n/a", "na", "none", "null", "nil", "unknown", "not available", "not specified", "empty",
    "not applicable", "tbd", "default string", "system serial number", "to be filled by o.e.m.",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a row is recognised by. `value` compares exactly; for a name it is name and site."""

    kind: Kind
    value: object
    #: Set for assets that a row makes, so that later files find them.
    own_id: uuid.UUID | None = None
    source_id: str = ""
    row_key: str = ""

    @property
    def is_shared(self) -> bool:
        """Rows with the same id are the same asset; with the same serial number or name they are not."""
        return self.kind in SHARED


class Identified(Protocol):
    @property
    def row(self) -> int: ...

    @property
    def identity(self) -> Identity: ...


def identity_of(
    fields: Mapping[str, object], *, own_id: uuid.UUID | None, source_id: str, row_key: Callable[[], str]
) -> Identity:
    if own_id:
        return Identity(kind="id", value=own_id, own_id=own_id)
    if source_id:
        return Identity(kind="source_id", value=source_id, source_id=source_id)
    marks: tuple[Kind, ...] = ("serial_number", "asset_tag")
    for kind in marks:
        text = str(fields.get(kind) or "")
        if text and text.lower() not in _PLACEHOLDERS:
            return Identity(kind=kind, value=text)
    if fields.get("name"):
        return Identity(kind="name", value=(fields["name"], fields.get("site") or ""))
    key = row_key()
    return Identity(kind="row_key", value=key, row_key=key)


T = TypeVar("T", bound=Identified)


@dataclass(frozen=True, kw_only=True)
class Recogniser:
    """Finds or makes the assets of a batch of rows. One import takes an asset for one row, unless rows share its id."""

    source: str
    import_id: uuid.UUID
    at: datetime

    def match(self, drafts: Sequence[T]) -> list[tuple[T, Asset]]:
        """Each row with its asset, unsaved and marked as taken by this import, which must save it before the next call.

        Give it all rows with ids first: they name their asset, and another row must not have taken it.
        """
        known = self._load([draft.identity for draft in drafts])
        matched: list[tuple[T, Asset]] = []
        for draft in drafts:
            candidates = known.setdefault((draft.identity.kind, draft.identity.value), [])
            asset = self._choose(draft.identity, candidates)
            if asset is None:
                asset = self._new(draft)
                candidates.append(asset)
            asset.import_id = self.import_id
            matched.append((draft, asset))
        return matched

    def _choose(self, identity: Identity, candidates: Iterable[Asset]) -> Asset | None:
        return next((a for a in candidates if identity.is_shared or a.import_id != self.import_id), None)

    def _new(self, draft: Identified) -> Asset:
        return Asset(
            id=draft.identity.own_id or uuid.uuid4(),
            source=self.source,
            source_id=draft.identity.source_id,
            row_key=draft.identity.row_key,
            # Rows that look the same are told apart by their order in the file.
            created_at=self.at + timedelta(microseconds=draft.row),
        )

    def _load(self, identities: Sequence[Identity]) -> dict[tuple[Kind, object], list[Asset]]:
        """The assets that the identities may mean, oldest first; one object for each row of the database."""
        objects: dict[uuid.UUID, Asset] = {}
        known: dict[tuple[Kind, object], list[Asset]] = {}
        for kind, wanted in by_kind(identities).items():
            for loaded in self._find(kind, wanted, limit=len(identities)):
                asset = objects.setdefault(loaded.pk, loaded)
                known.setdefault((kind, mark_of(asset, kind)), []).append(asset)
        return known

    def _find(self, kind: Kind, values: Iterable[object], *, limit: int) -> Iterable[Asset]:
        found = find(kind, values, source=self.source)
        if kind in SHARED:
            return found
        marks = ("name", "site") if kind == "name" else (kind,)
        return _oldest(found.exclude(import_id=self.import_id), *marks, limit=limit)


def by_kind(identities: Iterable[Identity]) -> dict[Kind, set[object]]:
    values: dict[Kind, set[object]] = {}
    for identity in identities:
        values.setdefault(identity.kind, set()).add(identity.value)
    return values


def mark_of(asset: Asset, kind: Kind) -> object:
    """What the asset has where an `Identity` of the kind has its `value`."""
    return (asset.name, asset.site) if kind == "name" else getattr(asset, kind)


def find(kind: Kind, values: Iterable[object], *, source: str) -> AssetQuerySet:
    """The assets that have one of the marks, and some more."""
    if kind == "id":
        return Asset.objects.filter(pk__in=values)
    if kind == "source_id":
        return Asset.objects.filter(source=source, source_id__in=values)
    if kind == "row_key":
        return Asset.objects.filter(source=source, row_key__in=values)
    texts = [value[0] if isinstance(value, tuple) else value for value in values]
    # By the index on the lower-cased text, which finds more than is wanted.
    lowered = [spelling for text in texts for spelling in spellings(str(text))]
    return Asset.objects.alias(_lower=Lower(kind)).filter(_lower__in=lowered)


def _oldest(assets: AssetQuerySet, *marks: str, limit: int) -> AssetQuerySet:
    """Of the assets that look the same the first ones, in their order: a file may have thousands of them."""
    nth = Window(RowNumber(), partition_by=[F(mark) for mark in marks], order_by=("created_at", "id"))
    return assets.annotate(_nth=nth).filter(_nth__lte=limit).order_by("created_at", "id")
