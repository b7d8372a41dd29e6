"""Text to value: how one cell is read, whoever wrote it. Readers raise ValueError, which says what is wrong."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from unicodedata import category

STATUSES: Mapping[str, str] = {
    "up": "active",
    "online": "active",
    "running": "active",
    "down": "offline",
    "failed": "offline",
    "unreachable": "offline",
    "decommissioned": "retired",
    "decommissioning": "retired",
    "disposed": "retired",
}
ENVIRONMENTS: Mapping[str, str] = {
    "prod": "production",
    "stage": "staging",
    "stg": "staging",
    "dev": "development",
    "qa": "test",
    "testing": "test",
} | {word: word for word in ("production", "staging", "development", "test")}
CRITICALITIES: Mapping[str, str] = {word: word for word in ("critical", "high", "medium", "low")}
#: The canonical types.
ASSET_TYPES = (
    "virtual machine", "access point", "patch panel", "workstation", "firewall", "storage", "printer", "server",
    "laptop", "router", "switch", "camera", "pdu",
)  # fmt: skip
_TYPE_ALIASES: Mapping[str, str] = {"vm": "virtual machine"} | {
    spelling: word for word in ASSET_TYPES for spelling in (word, f"{word}s", f"{word}es")
}
#: White space that nobody means around a value: not the control characters that `str.strip` takes, too.
BLANKS = " \t\r\n" + "".join(char for char in map(chr, range(0x80, 0x3001)) if category(char)[0] == "Z")

#: From here on not every whole number has a place of its own among the floating-point ones.
_EXACT = 2.0**53
_NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(?:([KMGT])i?B)?", re.IGNORECASE)
_GIGABYTES = {"K": 1 / 1024**2, "M": 1 / 1024, "G": 1.0, "T": 1024.0}
#: "Ubuntu Linux 20.04": the version begins with the first word after the name that begins with a digit.
_PLATFORM = re.compile(r"(?P<os>\S.*?)\s+(?P<version>[vV]?\d.*)")


def read_address(text: str) -> str:
    """The address in its canonical spelling; a prefix length is accepted and left out."""
    try:
        return str(ipaddress.ip_interface(text).ip)
    except ValueError:
        raise ValueError("no IP address") from None


def address_key(address: str) -> str:
    """A text that sorts as addresses do, IPv4 first: the version, then the number in hex. Blank for no address.

    With it a network is a range of texts, which every database can search by index.
    """
    if not address:
        return ""
    ip = ipaddress.ip_address(address)
    return f"{ip.version}{int(ip):0{ip.max_prefixlen // 4}x}"


def network_keys(text: str) -> tuple[str, str]:
    """First and last `address_key` of a network ("10.0.0.0/8"). Host bits are ignored; one address is a network too."""
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError("no network prefix") from None
    return address_key(str(network[0])), address_key(str(network[-1]))


def read_number(text: str) -> float:
    """A finite decimal number without separators between thousands."""
    found = _NUMBER.fullmatch(text)
    number = float(found[1]) if found and not found[2] else math.inf
    if not math.isfinite(number):
        raise ValueError("no number")
    if abs(number) > _EXACT:
        raise ValueError("too large a number")
    return number


def read_gigabytes(text: str) -> float:
    """As `read_number`, but a unit is understood: "512 MB", "2 TB". A bare number is gigabytes."""
    found = _NUMBER.fullmatch(text)
    if not found or not found[2]:
        return read_number(text)
    return read_number(found[1]) * _GIGABYTES[found[2].upper()]


def read_date(text: str) -> date:
    """ISO 8601; of an instant the date in UTC is kept."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    try:
        return read_instant(text).date()
    except ValueError:
        raise ValueError("no date like 2026-12-31") from None


def read_instant(text: str) -> datetime:
    """ISO 8601, aware, in UTC; without an offset it is UTC already, without a time it is midnight."""
    try:
        instant = datetime.fromisoformat(text)
        return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError("no time like 2026-12-31T23:59:59Z") from None


def write_instant(instant: datetime) -> str:
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def day_of(day: date) -> datetime:
    """The first instant of the day."""
    return datetime.combine(day, time.min, UTC)


def read_tags(text: str) -> list[str]:
    """Separated by `;`, `,` or line breaks, which no tag holds; in their order, each once."""
    return list(dict.fromkeys(tag for part in re.split("[;,\r\n]", text) if (tag := part.strip(BLANKS))))


def read_status(text: str) -> str:
    """A canonical word, or the word as it is, lower-cased."""
    return STATUSES.get(text.lower(), text.lower())


def read_environment(text: str) -> str:
    return ENVIRONMENTS.get(text.lower(), text)


def read_criticality(text: str) -> str:
    return CRITICALITIES.get(text.lower(), text)


def read_asset_type(text: str) -> str:
    return _TYPE_ALIASES.get(text.lower(), text)


def type_of_role(role: str) -> str:
    """The type that the role's last words name ("Core Switch" -> "switch"), else blank."""
    words = f" {role.lower()}"
    return next((word for word in ASSET_TYPES if words.endswith(f" {word}")), "")


def read_platform(text: str) -> tuple[str, str]:
    """Family and version: "Ubuntu Linux 20.04" -> ("Ubuntu Linux", "20.04"); "Cisco IOS" has no version."""
    found = _PLATFORM.fullmatch(text)
    return (found["os"], found["version"]) if found else (text, "")


#: How the text of a field's cell is read; fields that are not here hold the text itself.
READERS: Mapping[str, Callable[[str], object]] = {
    "ip_address": read_address,
    "asset_type": read_asset_type,
    "status": read_status,
    "environment": read_environment,
    "criticality": read_criticality,
    "tags": read_tags,
    "cpu_cores": read_number,
    "memory_gb": read_gigabytes,
    "disk_gb": read_gigabytes,
    "purchased_on": read_date,
    "warranty_expires_on": read_date,
    "certificate_expires_on": read_date,
    "last_seen_at": read_instant,
}


def spellings(text: str) -> tuple[str, ...]:
    """The texts whose LOWER() in the database finds `text` whatever its case.

    SQLite's LOWER() changes ASCII letters only, so that other letters have to be tried in the cases that people write:
    as given, all small, all capitals, and with a capital first. A mixture of these in one word is not found there.
    """
    if text.isascii():
        return (text.lower(),)
    cased = (text, text.lower(), text.upper(), text.title(), text.capitalize())
    return tuple(dict.fromkeys((text.lower(), *(_ascii_lower(spelling) for spelling in cased))))


def _ascii_lower(text: str) -> str:
    return "".join(char.lower() if char.isascii() else char for char in text)
