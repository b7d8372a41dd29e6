"""The chain of the audit entries: each one's hash covers the one before it, and its end is signed.

An entry's hash is the SHA-256 of a JSON object: its stored facts, its number and `previous`, the hash of the entry
before it; keys sorted, no blanks, UTF-8. Whoever has the rows can compute it. The end is a row of the same table with
the number 0: it names the last entry and its hash, signed with a key from SECRET_KEY, so that nobody can cut off or
rewrite entries in SQL. It is also what writers wait for: its lock has to be the last one of a transaction, or two that
wait for each other's rows deadlock.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from decimal import Decimal
from functools import lru_cache
from typing import Any

from django.core import signing
from django.db import transaction

from conversations import statements, threads
from conversations.models import AuditEntry
from conversations.statements import EntryRow

logger = logging.getLogger(__name__)

#: What the first entry follows.
GENESIS = "0" * 64
_SALT = "conversations.ledger"
#: Digits before the point of a number in `detail`: floats have no more.
_MOST_DIGITS = 400


# -- One entry -------------------------------------------------------------------------------------------------------


def digest(previous: str, seq: int, facts: Sequence[Any]) -> str:
    """The hash of an entry; its facts as `statements.EntryRow` has them after number and hash.

    Never changed: every chain that was ever written has to verify. Raises ValueError, TypeError or RecursionError for
    facts that no entry has.
    """
    id_, at, actor_id, actor_name, action, object_type, object_id, outcome, ip, user_agent, detail = facts
    whole = {
        "action": action,
        "actor_id": actor_id,
        "actor_name": actor_name,
        "at": at,
        "detail": _read(detail),
        "id": id_,
        "ip": ip if ip is None else _spelled(ip),
        "object_id": object_id,
        "object_type": object_type,
        "outcome": outcome,
        "previous": previous,
        "seq": seq,
        "user_agent": user_agent,
    }
    # SQLite's JSON may hold half a surrogate pair.
    return hashlib.sha256(_write(whole).encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache(maxsize=4096)
def _spelled(ip: str) -> str:
    """One spelling for each address: databases and Pythons have several for IPv6."""
    address = ipaddress.ip_address(ip)
    return ip if address.version == 4 else address.packed.hex(":", 2)  # noqa: PLR2004  IPv4


def _number(text: str) -> int | float:
    """A number of JSON that isn't written as an integer. PostgreSQL writes 1e22 with all digits, and 1.0 as it is."""
    exact = Decimal(text)
    if exact.adjusted() > _MOST_DIGITS:
        raise ValueError("No float is so large.")
    if exact == exact.to_integral_value():
        return int(exact)
    number = float(text)
    if Decimal(repr(number)) != exact:
        raise ValueError("More digits than a float has.")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses names that come twice: readers choose differently among them."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("A name comes twice.")
    return found


def _refused(text: str) -> Any:
    raise ValueError(f"{text} is not JSON.")


_read = json.JSONDecoder(parse_float=_number, parse_constant=_refused, object_pairs_hook=_object).decode
_write = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode


# -- The end ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class End:
    """The last entry's number and hash; 0 and GENESIS without entries."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


def signature(end: End) -> str:
    return signing.Signer(salt=_SALT).signature(str(end))


def signed_end(hash_: str, detail: str) -> End | None:
    """What the end's row says; None when this installation's keys have not signed it."""
    try:
        said = json.loads(detail)
        end = End(seq=int(said["seq"]), hash=hash_)
        signing.Signer(salt=_SALT).unsign(f"{end}:{said['signature']}")
    except (ValueError, TypeError, KeyError, RecursionError, signing.BadSignature):
        return None
    return end


def detail_of(end: End, *, is_signed: bool) -> str:
    """`detail` of the end's row."""
    return json.dumps({"seq": end.seq, "signature": signature(end) if is_signed else ""})


def begin() -> None:
    """Makes the end of a ledger without entries. Does nothing when there is one."""
    nothing = End(seq=0, hash=GENESIS)
    _add_end(nothing, is_signed=not AuditEntry.objects.exists())


# -- Writing ---------------------------------------------------------------------------------------------------------


@threads.write_turn()
@transaction.atomic(savepoint=False)
def append(entry: AuditEntry) -> None:
    """Stores the entry as the next of the chain, in the caller's transaction if there is one, and as its last write.

    A ledger whose end was tampered with goes on, so that people can work, and its end is never signed again.
    """
    end, is_signed = _locked_end()
    detail = json.dumps(entry.detail)
    entry.seq = end.seq + 1
    entry.hash = digest(end.hash, entry.seq, _facts(entry, detail))
    if not statements.add_entry(entry, detail):
        # A hand has put a row there, which must not keep everybody from signing in.
        entry.seq = statements.ends()[0] + 1
        entry.hash = digest(end.hash, entry.seq, _facts(entry, detail))
        logger.error("The ledger has a row %d that nobody recorded: run verify_ledger", end.seq + 1)
        statements.add_entry(entry, detail)
    entry._state.adding = False
    moved = End(seq=entry.seq, hash=entry.hash)
    statements.move_end(hash_=moved.hash, detail=detail_of(moved, is_signed=is_signed))


def _facts(entry: AuditEntry, detail: str) -> EntryRow:
    """Of an entry that is to be stored, as they will be read."""
    at = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    return (
        *(entry.id.hex, at, entry.actor_id, entry.actor_name, entry.action, entry.object_type, entry.object_id),
        *(entry.outcome, entry.ip, entry.user_agent, detail),
    )


def _locked_end() -> tuple[End, bool]:
    """The last entry, and whether the end is signed. Locks the end until the transaction's commit."""
    row = statements.lock_end()
    if row is None:
        _add_end(_last_entry(), is_signed=False)
        row = statements.lock_end()
    end = signed_end(*row) if row else None
    if end is not None:
        return end, True
    logger.error("The end of the ledger is not signed with this installation's key: run verify_ledger")
    return _last_entry(), False


def _last_entry() -> End:
    seq, *_ = statements.ends()
    hash_ = AuditEntry.objects.filter(seq=seq).values_list("hash", flat=True).first()
    return End(seq=seq, hash=hash_ or GENESIS)


def _add_end(end: End, *, is_signed: bool) -> None:
    row = AuditEntry(seq=0, hash=end.hash, action="ledger.end", object_type="ledger", outcome="ok")
    statements.add_entry(row, detail_of(end, is_signed=is_signed))
