"""The chain of the audit entries (`chain`): adding to it, and verifying it.

Its end is a row of the same table, with the number 0: it names the last entry and its hash, signed with a key from
SECRET_KEY, so that nobody can cut off or rewrite entries in SQL alone. It is also what writers wait for: its lock has
to be the last one of a transaction, or two that wait for each other's rows deadlock.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC

from django.db import transaction

from conversations import chain, statements, threads
from conversations.chain import End
from conversations.faults import Fault, Reason, diagnose
from conversations.models import AuditEntry
from conversations.statements import EntryRow

logger = logging.getLogger(__name__)

#: Rows read at a time.
_PAGE = 5000


# -- Writing ---------------------------------------------------------------------------------------------------------


@threads.write_turn()
@transaction.atomic(savepoint=False)
def append(entry: AuditEntry) -> None:
    """Stores the entry as the next of the chain, in the caller's transaction if there is one, and as its last write.

    A ledger whose end was tampered with goes on, so that people can work, and its end is not signed any more.
    """
    end, is_signed = _locked_end()
    detail = json.dumps(entry.detail)
    _number(entry, end.seq + 1, end, detail)
    if not statements.add_entry(entry, detail):
        # A hand has put a row there, which must not keep everybody from signing in.
        logger.error("The ledger has an entry %d that nobody recorded: run verify_ledger", entry.seq)
        _number(entry, int(statements.ends()[0]) + 1, end, detail)
        statements.add_entry(entry, detail)
    entry._state.adding = False
    _move_end(End(seq=entry.seq, hash=entry.hash), is_signed=is_signed)


def begin() -> None:
    """Makes the end of a ledger without entries, as the migrations do. Does nothing when there is one."""
    _add_end(End(seq=0, hash=chain.GENESIS), is_signed=not AuditEntry.objects.exists())


def _number(entry: AuditEntry, seq: int, after: End, detail: str) -> None:
    entry.seq = seq
    at = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    # As they will be read.
    facts = (
        *(entry.id.hex, at, entry.actor_id, entry.actor_name, entry.action, entry.object_type, entry.object_id),
        *(entry.outcome, entry.ip, entry.user_agent, detail),
    )
    entry.hash = chain.digest(after.hash, seq, facts)


def _locked_end() -> tuple[End, bool]:
    """The last entry, and whether the end is signed. Locks the end until the transaction's commit."""
    row = statements.lock_end()
    if row is None:
        _add_end(_last_entry(), is_signed=False)
        row = statements.lock_end()
    end = chain.signed_end(*row) if row else None
    if end is not None:
        return end, True
    logger.error("The end of the ledger is not signed with this installation's key: run verify_ledger")
    return _last_entry(), False


def _last_entry() -> End:
    seq, *_ = statements.ends()
    hash_ = AuditEntry.objects.filter(seq=seq).values_list("hash", flat=True).first()
    return End(seq=seq, hash=hash_ or chain.GENESIS)


def _add_end(end: End, *, is_signed: bool) -> None:
    row = AuditEntry(seq=0, hash=end.hash, action="ledger.end", object_type="ledger", outcome="ok")
    statements.add_entry(row, chain.detail_of(end, is_signed=is_signed))


def _move_end(end: End, *, is_signed: bool) -> None:
    statements.move_end(hash_=end.hash, detail=chain.detail_of(end, is_signed=is_signed))


# -- Verifying -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `verify` found. Without a fault `end` is the chain's; with one it is the last entry before it."""

    end: End
    fault: Fault | None = None

    @property
    def n_entries(self) -> int:
        """Entries that are as they were recorded."""
        return self.end.seq


def verify(*, noted: End | None = None) -> Report:
    """Reads every entry up to the end as it is now, and stops at the first that is not as it was recorded.

    `noted` is an end that an earlier report gave: it has to be part of the chain. Locks nobody out, memory stays flat.
    """
    # One look. What it tells of stays as it is: entries are only added.
    last, hash_, detail = statements.ends()
    signed = chain.signed_end(hash_, detail) if hash_ is not None and detail is not None else None
    end = End(seq=0, hash=chain.GENESIS)
    seq, previous = 0, end.hash
    for row in _rows():
        if signed and seq == signed.seq:
            break
        if row[0] != seq + 1 or not chain.fits(previous, row):
            end = End(seq=seq, hash=previous)
            return Report(end=end, fault=diagnose(end, row, signed=signed, last=last))
        seq, previous = row[0], row[1]
    end = End(seq=seq, hash=previous)
    return Report(end=end, fault=_fault_of_end(end, signed, last) or _fault_of_note(end, noted))


def _rows() -> Iterator[EntryRow]:
    after = 0
    while page := statements.entries(after=after, n=_PAGE):
        yield from page
        after = page[-1][0]


def _fault_of_end(end: End, signed: End | None, last: int) -> Fault | None:
    """What is wrong with the end of a chain whose every entry fits the one before it."""
    if signed is None:
        return Fault(seq=end.seq, reason=Reason.UNSIGNED)
    if end.seq < signed.seq:
        return diagnose(end, None, signed=signed, last=last)
    beyond = statements.entries(after=end.seq, n=1)[0] if last != signed.seq else None
    if end.hash == signed.hash:
        return Fault(seq=end.seq + 1, reason=Reason.INSERTED, row=beyond) if beyond else None
    # One that fits may have been put before the last.
    found = diagnose(end, beyond, signed=signed, last=last) if beyond else None
    is_inserted = found is not None and found.reason is Reason.INSERTED
    return found if is_inserted else Fault(seq=end.seq, reason=Reason.REWRITTEN)


def _fault_of_note(end: End, noted: End | None) -> Fault | None:
    if noted is None or noted in (end, End(seq=0, hash=chain.GENESIS)):
        return None
    rows = statements.entries(after=noted.seq - 1, n=1) if noted.seq <= end.seq else []
    if rows and rows[0][1] == noted.hash:
        return None
    return Fault(seq=noted.seq, reason=Reason.NOT_NOTED, row=rows[0] if rows else None)


@threads.write_turn()
@transaction.atomic
def sign_anew() -> Report:
    """Signs the end with this installation's key when nothing else is wrong with the ledger. Writers wait meanwhile."""
    _locked_end()
    report = verify()
    if report.fault is not None and report.fault.reason is not Reason.UNSIGNED:
        return report
    _move_end(report.end, is_signed=True)
    return Report(end=report.end)
