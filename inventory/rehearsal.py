"""A dry run's recognition: what `Recogniser` marks in the database is kept in memory instead."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from inventory.models import Asset
from inventory.recognition import Identity, Kind, by_kind, find, mark_of

_Mark = tuple[Kind, object]


@dataclass(kw_only=True)
class Rehearsal:
    """Counts what an import of the same rows, in the same order, would do."""

    source: str
    n_new: int = 0
    _taken: set[uuid.UUID] = field(default_factory=set)
    #: The ids of the assets that would be made: later rows may share them.
    _made: set[_Mark] = field(default_factory=set)
    #: Of marks that several assets have: those that are still to be had, the oldest last.
    _left: dict[_Mark, list[uuid.UUID]] = field(default_factory=dict)

    def find(self, identities: Sequence[Identity]) -> list[uuid.UUID | None]:
        """The asset of each row; None for one that is not there, or that another row would make."""
        known = self._load(identities)
        found: list[uuid.UUID | None] = []
        for identity in identities:
            mark = (identity.kind, identity.value)
            is_known, pk = self._take(mark, known.get(mark, []), is_shared=identity.is_shared)
            self.n_new += not is_known
            found.append(pk)
        return found

    def n_missing(self) -> int:
        """How many assets of the source no row was recognised as."""
        ids = Asset.objects.filter(source=self.source).values_list("pk", flat=True)
        return sum(pk not in self._taken for pk in ids.iterator())

    def _take(self, mark: _Mark, candidates: list[uuid.UUID], *, is_shared: bool) -> tuple[bool, uuid.UUID | None]:
        """Whether the row's asset is there already, and which one it is when it is in the database."""
        if is_shared:
            is_known = bool(candidates) or mark in self._made
            self._taken.update(candidates)
            self._made.add(mark)
            return is_known, candidates[-1] if candidates else None
        while candidates:
            if (pk := candidates.pop()) not in self._taken:
                self._taken.add(pk)
                return True, pk
        return False, None

    def _load(self, identities: Sequence[Identity]) -> dict[_Mark, list[uuid.UUID]]:
        known = {mark: self._left[mark] for i in identities if (mark := (i.kind, i.value)) in self._left}
        new = [identity for identity in identities if (identity.kind, identity.value) not in known]
        for kind, wanted in by_kind(new).items():
            found = find(kind, wanted, source=self.source).only("id", *_marks(kind))
            for asset in found.order_by("-created_at", "-id"):
                if (value := mark_of(asset, kind)) in wanted:
                    known.setdefault((kind, value), []).append(asset.pk)
        self._left.update((mark, left) for mark, left in known.items() if len(left) > 1)
        return known


def _marks(kind: Kind) -> tuple[str, ...]:
    return ("name", "site") if kind == "name" else (kind,)
