"""What the chat can do with the inventory; found and imported by the chat when Django starts."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.apps import apps

from conversations.pipeline.tools import CountResult, Match, Query, TableResult, TableSpec, registry
from inventory import query as asset_query
from inventory.fields import ASSETS, spec_with
from inventory.models import Asset, AttributeName, InventoryRevision


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What was learnt from the assets as of one revision."""

    revision: uuid.UUID | None
    spec: TableSpec
    vocabulary: Mapping[str, Sequence[str]]


class AssetTable:
    """The inventory as a table. What it learns from the assets it keeps until they change, in whichever process."""

    def __init__(self) -> None:
        self._known: _Known | None = None

    @property
    def spec(self) -> TableSpec:
        if not apps.ready:  # it is registered while Django starts, when the database must not be asked
            return ASSETS
        return self._learnt().spec

    def vocabulary(self) -> Mapping[str, Sequence[str]]:
        return self._learnt().vocabulary

    def find(self, terms: Iterable[str]) -> Sequence[Match]:
        return asset_query.find(terms)

    def query(self, query: Query) -> TableResult | CountResult:
        return asset_query.run(query, self.spec)

    def _learnt(self) -> _Known:
        """The revision is read before the assets: what changes in between is learnt the next time."""
        revision = InventoryRevision.current()
        known = self._known
        if known is None or known.revision != revision:
            self._known = known = _learn(revision)
        return known


def _learn(revision: uuid.UUID | None) -> _Known:
    vocabulary = asset_query.vocabulary()
    spec = spec_with(
        attributes=AttributeName.objects.values_list("name", flat=True),
        sites=vocabulary["site"],
        few=vocabulary,
        has_sample=Asset.objects.sample().exists(),
    )
    return _Known(revision=revision, spec=spec, vocabulary=vocabulary)


registry.add_table(
    AssetTable(), description="Lists, counts and groups the assets of the inventory, filtered, sorted and limited."
)
