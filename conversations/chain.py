"""What makes a chain of the audit entries: the hash of an entry, and the signature of the last one.

An entry's hash is the SHA-256 of a JSON object: its stored facts, its number `seq`, and `previous`, the hash of the
entry before it; keys sorted, no blanks, UTF-8. Whoever has the rows can compute it, whatever the database.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from django.core import signing

#: What the first entry follows.
GENESIS = "0" * 64
_SALT = "conversations.ledger"
#: Digits before the point of a number in `detail`: floats have no more.
_MOST_DIGITS = 400


# -- One entry -------------------------------------------------------------------------------------------------------


def digest(previous: str, seq: int, facts: Sequence[Any]) -> str:
    """The hash of an entry; its facts are those of a `statements.EntryRow`, in its order.

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


def fits(previous: str, row: Sequence[Any], *, seq: int | None = None) -> bool:
    """Whether a `statements.EntryRow` has the hash of an entry that follows `previous`; with the number `seq`."""
    found = hash_of(previous, row[0] if seq is None else seq, row[2:])
    return found is not None and bool(row[1] == found)


def hash_of(previous: str, seq: int, facts: Sequence[Any]) -> str | None:
    """As `digest`, of what a hand may have written; None for facts that no entry has."""
    try:
        return digest(previous, seq, facts)
    except (ValueError, TypeError, RecursionError):
        return None


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
