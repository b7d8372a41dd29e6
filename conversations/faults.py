"""What was done to an entry of the ledger that is not as it was recorded.

Hashes tell: an entry that was moved still fits its old place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from uuid import UUID

from conversations import chain, statements
from conversations.chain import End
from conversations.statements import EntryRow

#: Entries before a fault that are looked at.
_BEFORE = 100
#: Rows read at a time.
_PAGE = 2000


class Reason(StrEnum):
    """In the words of reports."""

    CHANGED = "changed: it is not what was recorded, or the entry before it was rewritten together with its hash"
    MISSING = "missing: the entry of this number was deleted"
    INSERTED = "inserted: nobody recorded it"
    MISPLACED = "out of order: another entry was recorded with this number"
    REWRITTEN = (
        "rewritten: all entries fit each other, but do not lead to the end that was signed; "
        "this one or earlier ones were rewritten together with their hashes"
    )
    UNSIGNED = (
        "not signed: the end has no signature of this installation's SECRET_KEY, so nothing says that no entry after "
        "this one was cut off, or that the chain was not rewritten"
    )
    NOT_NOTED = "not as noted: the end that was noted is no part of this chain"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """The first entry that is wrong. `row` is what has its number now or, where nothing has, what comes next."""

    seq: int
    reason: Reason
    row: EntryRow | None = None

    @property
    def entry_id(self) -> UUID | None:
        try:
            return UUID(self.row[2]) if self.row else None
        except (ValueError, TypeError, AttributeError):
            return None

    def __str__(self) -> str:
        return f"Entry {self.seq} is {self.reason}. {self._place()}".rstrip()

    def _place(self) -> str:
        """What has its number, or is next."""
        if self.row is None:
            return ""
        seq, _, id_, at, _, _, action, *_ = self.row
        there = "There is" if seq == self.seq else f"The next one, {seq}, is"
        return f"{there} {self.entry_id or id_}, at {at}, {action}."


def diagnose(good: End, row: EntryRow | None, *, signed: End | None, last: int) -> Fault:
    """What is wrong behind `good`, the last entry that fits, where `row` doesn't, or is not there.

    `last` is the highest number that an entry has. May read all entries behind it.
    """
    seq = good.seq + 1
    here = row if row is not None and row[0] == seq else None
    if here is not None and (stranger := _inserted_before(here)):
        return Fault(seq=stranger[0], reason=Reason.INSERTED, row=stranger)
    if reason := _displaced(good, here):
        return Fault(seq=seq, reason=reason, row=row)
    is_missing = here is None or _is_closed_up(here, signed=signed, last=last)
    return Fault(seq=seq, reason=Reason.MISSING if is_missing else Reason.CHANGED, row=row)


def _inserted_before(here: EntryRow) -> EntryRow | None:
    """The first of the rows that stand between this one and the entry that it was recorded after; None if none do."""
    seq = here[0]
    first = max(0, seq - 1 - _BEFORE)
    before: list[EntryRow] = [(0, chain.GENESIS)] if first == 0 else []
    before += [row for row in statements.entries(after=first, n=_BEFORE) if row[0] < seq]
    for earlier, stranger in pairwise(before):
        # Numbered anew to make room, or added behind what was in the way.
        if chain.fits(earlier[1], here, seq=earlier[0] + 1) or chain.fits(earlier[1], here):
            return stranger
    return None


def _displaced(good: End, here: EntryRow | None) -> Reason | None:
    """Whether the entry of the number is somewhere behind it; `here` has the number now."""
    seq = good.seq + 1
    before = good.hash if here is None else here[1]
    rows = _rows(after=good.seq if here is None else seq)
    for row in rows:
        if here is not None and (chain.fits(good.hash, row) or _is_swapped(good, here, row)):
            return Reason.INSERTED if chain.fits(good.hash, row) else Reason.MISPLACED
        if chain.fits(good.hash, row, seq=seq):
            is_room = here is not None and _made_room(here, row, next(rows, None), before)
            return Reason.INSERTED if is_room else Reason.MISPLACED
        before = row[1]
    return None


def _is_swapped(good: End, here: EntryRow, row: EntryRow) -> bool:
    """Whether `row` has what was recorded where `here` is, with or without its id; hashes stayed where they were."""
    return any(chain.fits(good.hash, (*here[:2], id_, *row[3:])) for id_ in (row[2], here[2]))


def _made_room(here: EntryRow, moved: EntryRow, following: EntryRow | None, before: str) -> bool:
    """Whether all entries were numbered anew for `here`, which pushed `moved` away; else they changed places."""
    if following is not None:
        return chain.fits(moved[1], following, seq=here[0] + 1)
    return not chain.fits(moved[1] if moved[0] == here[0] + 1 else before, here, seq=moved[0])


def _is_closed_up(here: EntryRow, *, signed: End | None, last: int) -> bool:
    """Whether entries were deleted and all behind them numbered anew."""
    n_lost = signed.seq - last if signed else 1
    if n_lost <= 0:
        return False
    following = next(_rows(after=here[0]), None)
    if following is not None:
        return chain.fits(here[1], following, seq=following[0] + n_lost)
    return signed is not None and here[1] == signed.hash


def _rows(*, after: int) -> Iterator[EntryRow]:
    while page := statements.entries(after=after, n=_PAGE):
        yield from page
        after = page[-1][0]
