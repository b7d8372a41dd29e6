"""What the chat can do with the inventory; found and imported by the chat when Django starts."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.apps import apps

from conversations.pipeline.tools import CountResult, Match, Query, TableResult, TableSpec, registry
from inventory import query as asset_query
from inventory.fields import ASSETS, spec_with
from inventory.models import Asset, AttributeName, InventoryRevision

#: An import renews the revision with each batch, and learning a large inventory takes as long as a batch: while one is
#: running, what was learnt serves so long. The rows of an answer are always those of now.
RELEARN_S = 5.0


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What was learnt from the assets as of one revision."""

    revision: uuid.UUID | None
    #: On the monotonic clock.
    learnt_at: float
    spec: TableSpec
    vocabulary: Mapping[str, Sequence[str]]

    def is_good_enough(self, revision: uuid.UUID | None, *, is_importing: bool) -> bool:
        is_young = time.monotonic() - self.learnt_at < RELEARN_S
        return self.revision == revision or (is_importing and is_young)


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
        revision, is_importing = InventoryRevision.state()
        known = self._known
        if known is None or not known.is_good_enough(revision, is_importing=is_importing):
            self._known = known = _learn(revision)
        return known


def _learn(revision: uuid.UUID | None) -> _Known:
    learnt_at = time.monotonic()
    vocabulary = asset_query.vocabulary()
    spec = spec_with(
        attributes=AttributeName.objects.values_list("name", flat=True),
        vocabulary=vocabulary,
        has_sample=Asset.objects.sample().exists(),
    )
    return _Known(revision=revision, learnt_at=learnt_at, spec=spec, vocabulary=vocabulary)


registry.add_table(
    AssetTable(), description="Lists, counts and groups the assets of the inventory, filtered, sorted and limited."
)
