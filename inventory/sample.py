"""A believable company's assets, made up: the same ones for the same seed and day."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TypeVar

from inventory.models import SAMPLE, Asset

T = TypeVar("T")

#: Site, the second number of its addresses, its rooms.
_SITES = (
    ("LON1", 10, ("Hall A", "Hall B")),
    ("FRA1", 20, ("Hall 1", "Hall 2")),
    ("NYC2", 30, ("Suite 400", "Suite 410")),
    ("SFO1", 40, ("Cage 12",)),
    ("SIN1", 50, ("Level 3",)),
    ("AMS3", 60, ("Hall C",)),
    ("TOR1", 70, ("Comms room",)),
    ("SYD1", 80, ("Comms room",)),
    ("DUB1", 90, ("Room 2.14",)),
    ("CHI1", 100, ("Warehouse", "Front office")),
    ("ZRH1", 110, ("Lab",)),
    ("MAD1", 120, ("Floor 2", "Floor 5")),
)
_TEAMS = (
    ("Platform Engineering", "platform@example.com"),
    ("Database Team", "dba@example.com"),
    ("Network Operations", "noc@example.com"),
    ("Workplace IT", "helpdesk@example.com"),
    ("Security", "security@example.com"),
    ("Facilities", "facilities@example.com"),
    ("Data Science", "data@example.com"),
    ("E-Commerce", "shop-oncall@example.com"),
)
#: Role, the software, a short name for hosts.
_SERVICES = (
    ("web", "nginx", "web"),
    ("application", "tomcat", "app"),
    ("database", "postgresql", "db"),
    ("database", "mysql", "sql"),
    ("cache", "redis", "cache"),
    ("message queue", "rabbitmq", "mq"),
    ("monitoring", "prometheus", "mon"),
    ("load balancer", "haproxy", "lb"),
    ("container host", "kubernetes", "k8s"),
    ("mail", "postfix", "mail"),
    ("file server", "samba", "file"),
    ("build", "jenkins", "ci"),
)
_LINUX = (
    ("Ubuntu Linux", "22.04"),
    ("Ubuntu Linux", "24.04"),
    ("Debian Linux", "12"),
    ("Red Hat Enterprise Linux", "8.10"),
    ("Red Hat Enterprise Linux", "9.4"),
    ("SUSE Linux Enterprise", "15 SP5"),
)
_WINDOWS_SERVER = (("Windows Server", "2016"), ("Windows Server", "2019"), ("Windows Server", "2022"))
_DESKTOP = (("Windows", "10"), ("Windows", "11"), ("macOS", "14.6"), ("macOS", "15.1"), ("Ubuntu Linux", "24.04"))
_NOTES = (
    'Replace before audit, then "recycle"; ask Priya first',
    "Left PSU failed\nspare ordered, ticket OPS-4211",
    "Moved from Hall B, rack 7",
    "=see runbook RB-17",
    "-do not reboot during month end",
    "@noc: silence alerts on Sundays",
    "Zweitgerät für Zürich",
    "+1 spare disk in drawer",
)
#: Word -> how many of a hundred.
_STATUSES = {"active": 78, "offline": 7, "maintenance": 5, "planned": 3, "staged": 3, "retired": 4}
_CRITICALITIES = {"critical": 10, "high": 22, "medium": 38, "low": 22, "": 8}
_ENVIRONMENTS = {"production": 52, "staging": 16, "development": 16, "test": 12, "": 4}
_TAGS = (
    "pci",
    "backup-daily",
    "backup-weekly",
    "monitored",
    "legacy",
    "dmz",
    "gdpr",
    "patch-ring-a",
    "patch-ring-b",
    "end-of-life",
)


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """One sort of asset: how many, which products, what else is true of them."""

    asset_type: str
    short: str
    n: int
    products: tuple[tuple[str, str], ...]
    systems: tuple[tuple[str, str], ...] = ()
    roles: tuple[str, ...] = ()
    has_address: bool = True


_KINDS: tuple[_Kind, ...] = (
    _Kind(
        asset_type="server",
        short="srv",
        n=110,
        systems=_LINUX + _WINDOWS_SERVER,
        products=(
            ("Dell", "PowerEdge R650"),
            ("Dell", "PowerEdge R760"),
            ("HPE", "ProLiant DL360 Gen10"),
            ("HPE", "ProLiant DL380 Gen11"),
            ("Lenovo", "ThinkSystem SR650"),
            ("Supermicro", "SYS-1029P"),
        ),
    ),
    _Kind(
        asset_type="virtual machine",
        short="vm",
        n=140,
        systems=_LINUX + _WINDOWS_SERVER,
        products=(("VMware", "vSphere 8"), ("Proxmox", "KVM")),
    ),
    _Kind(
        asset_type="workstation",
        short="ws",
        n=30,
        systems=_DESKTOP,
        roles=("office",),
        products=(("Dell", "OptiPlex 7010"), ("HP", "EliteDesk 800 G9"), ("Apple", "Mac mini M2")),
    ),
    _Kind(
        asset_type="laptop",
        short="lt",
        n=60,
        systems=_DESKTOP,
        roles=("office",),
        products=(("Lenovo", "ThinkPad T14 Gen 4"), ("Dell", "Latitude 7440"), ("Apple", "MacBook Pro 14")),
    ),
    _Kind(
        asset_type="router",
        short="rtr",
        n=18,
        systems=(("Cisco IOS", "15.2(4)E7"), ("Cisco IOS XE", "17.9.4"), ("Junos", "22.4R3")),
        roles=("Edge Router", "WAN Router"),
        products=(("Cisco", "ISR 4331"), ("Cisco", "ASR 1001-X"), ("Juniper", "MX204")),
    ),
    _Kind(
        asset_type="switch",
        short="sw",
        n=46,
        systems=(("Cisco IOS XE", "17.9.4"), ("Junos", "22.4R3"), ("Arista EOS", "4.31.2F")),
        roles=("Access Switch", "Core Switch", "ToR Switch"),
        products=(("Cisco", "Catalyst 9300-48P"), ("Juniper", "EX4300-48T"), ("Arista", "7050SX3-48YC8")),
    ),
    _Kind(
        asset_type="firewall",
        short="fw",
        n=16,
        systems=(("FortiOS", "7.4.3"), ("PAN-OS", "11.1.2")),
        roles=("Perimeter Firewall", "Internal Firewall"),
        products=(("Fortinet", "FortiGate 200F"), ("Palo Alto Networks", "PA-3220")),
    ),
    _Kind(
        asset_type="access point",
        short="ap",
        n=28,
        roles=("Wireless",),
        products=(("Aruba", "AP-535"), ("Cisco", "Catalyst 9120AXI")),
    ),
    _Kind(
        asset_type="storage",
        short="nas",
        n=14,
        systems=(("ONTAP", "9.14.1"), ("DSM", "7.2")),
        roles=("Backup storage", "Primary storage"),
        products=(("NetApp", "AFF A250"), ("Synology", "RS3621xs+")),
    ),
    _Kind(
        asset_type="printer",
        short="prn",
        n=16,
        roles=("office",),
        products=(("HP", "LaserJet M507"), ("Brother", "HL-L6400DW")),
    ),
    _Kind(
        asset_type="camera",
        short="cam",
        n=14,
        roles=("Security camera",),
        products=(("Axis", "P3265-LV"), ("Hanwha", "XNV-8080R")),
    ),
    _Kind(asset_type="pdu", short="pdu", n=12, roles=("PDU",), products=(("APC", "AP8941"), ("Raritan", "PX3-5190R"))),
    _Kind(
        asset_type="patch panel",
        short="pp",
        n=10,
        roles=("Patch Panel",),
        has_address=False,
        products=(("Panduit", "48-Port Patch Panel"), ("Corning", "LC Fiber Panel")),
    ),
)
_COMPUTERS = ("server", "virtual machine", "workstation", "laptop")
_HOSTS = ("server", "virtual machine")
_OFFICE = ("workstation", "laptop", "printer")


def sample_assets(*, today: date, seed: int = 20) -> list[Asset]:
    """About 500 unsaved assets with source `sample`. Dates lie around `today`."""
    rng = random.Random(seed)  # noqa: S311  variety, not secrecy
    numbers = _Numbers()
    return [_asset(rng, kind, numbers, today) for kind in _KINDS for _ in range(kind.n)]


class _Numbers:
    """Counts up for each key."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def next(self, key: str) -> int:
        self._last[key] = self._last.get(key, 0) + 1
        return self._last[key]


def _asset(rng: random.Random, kind: _Kind, numbers: _Numbers, today: date) -> Asset:
    site, net, rooms = rng.choices(_SITES, weights=range(len(_SITES) + 4, 4, -1))[0]
    asset = Asset(
        id=uuid.UUID(int=rng.getrandbits(128), version=4), source=SAMPLE, asset_type=kind.asset_type, site=site
    )
    asset.manufacturer, asset.model = rng.choice(kind.products)
    asset.location = rng.choice(rooms) if _happens(rng, 90) else ""
    _work(rng, asset, kind)
    _name(rng, asset, kind, numbers)
    _network(rng, asset, kind, numbers, net)
    _papers(rng, asset, kind, numbers, today)
    _size(rng, asset)
    _people(rng, asset)
    if _happens(rng, 12):
        asset.notes = rng.choice(_NOTES)
    return asset


def _work(rng: random.Random, asset: Asset, kind: _Kind) -> None:
    """What it is for, where in its life it is."""
    asset.status = _draw(rng, _STATUSES)
    asset.criticality = _draw(rng, _CRITICALITIES)
    if kind.systems:
        asset.os, asset.os_version = _system(rng, asset, kind)
    if kind.asset_type in _HOSTS:
        asset.environment = _draw(rng, _ENVIRONMENTS)
        asset.role, asset.service, _ = rng.choice(_SERVICES)
    else:
        asset.environment = "" if kind.asset_type in _OFFICE else "production"
        asset.role = rng.choice(kind.roles)
    if kind.asset_type not in (*_OFFICE, "virtual machine", "camera", "access point"):
        asset.rack = f"R{rng.randint(1, 14):02}"


def _system(rng: random.Random, asset: Asset, kind: _Kind) -> tuple[str, str]:
    """One that runs on the product: macOS on Apple's, each network system on its maker's."""
    maker = {
        "Apple": "macOS",
        "Juniper": "Junos",
        "Arista": "Arista",
        "Cisco": "Cisco",
        "Fortinet": "Forti",
        "Palo Alto Networks": "PAN",
        "NetApp": "ONTAP",
        "Synology": "DSM",
    }.get(asset.manufacturer)
    fitting = [system for system in kind.systems if (system[0].startswith(maker) if maker else system[0] != "macOS")]
    return rng.choice(fitting)


def _name(rng: random.Random, asset: Asset, kind: _Kind, numbers: _Numbers) -> None:
    if not kind.has_address and _happens(rng, 70):
        return
    short = next((s for _, software, s in _SERVICES if software == asset.service), kind.short)
    stem = f"{asset.site.lower()}-{short}"
    asset.name = f"{stem}-{numbers.next(stem):02}"
    if kind.asset_type in _HOSTS:
        asset.fqdn = f"{asset.name}.{'corp' if _happens(rng, 20) else 'prod'}.example.com"


def _network(rng: random.Random, asset: Asset, kind: _Kind, numbers: _Numbers, net: int) -> None:
    if not kind.has_address:
        return
    n = numbers.next(f"net {net}")
    asset.mac_address = f"02:1a:{net:02x}:{n >> 8:02x}:{n & 255:02x}:{rng.randrange(256):02x}"
    if kind.asset_type in _HOSTS and _happens(rng, 6):
        asset.ip_address = f"2001:db8:{net:x}::{n:x}"
    elif _happens(rng, 93):
        asset.ip_address = f"10.{net}.{n // 200}.{n % 200 + 10}"


def _papers(rng: random.Random, asset: Asset, kind: _Kind, numbers: _Numbers, today: date) -> None:
    """Serial number, tag, dates."""
    asset.certificate_expires_on = _maybe(
        rng,
        70 if asset.role in ("web", "load balancer", "mail") else 0,
        lambda: today + timedelta(days=rng.randint(-30, 390)),
    )
    if asset.status not in ("planned", "staged"):
        recent = asset.status in ("active", "maintenance")
        minutes = rng.randint(1, 2 * 24 * 60) if recent else rng.randint(4 * 24 * 60, 400 * 24 * 60)
        seen = datetime.combine(today, time(6), UTC) - timedelta(minutes=minutes)
        asset.last_seen_at = seen if kind.has_address else None
    if kind.asset_type == "virtual machine":
        return
    asset.serial_number = _maybe(rng, 94, lambda: _serial(rng)) or ""
    asset.asset_tag = _maybe(rng, 85, lambda: f"{numbers.next('tag'):06}") or ""
    bought = today - timedelta(days=rng.randint(20, 2600))
    asset.purchased_on = bought
    asset.warranty_expires_on = _maybe(rng, 90, lambda: bought + timedelta(days=rng.choice((1095, 1461, 1826))))
    if asset.rack:
        asset.attributes["Rack unit"] = str(rng.randint(1, 42))


def _serial(rng: random.Random) -> str:
    if _happens(rng, 20):
        return f"{rng.randrange(10**7):010}"  # leading zeros
    if _happens(rng, 12):
        return str(rng.randrange(10**18, 10**19))  # more digits than a spreadsheet keeps
    return "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789", k=rng.choice((7, 10, 12))))


def _size(rng: random.Random, asset: Asset) -> None:
    if asset.asset_type == "storage":
        asset.disk_gb = rng.choice((24_000, 48_000, 96_000))
    if asset.asset_type not in _COMPUTERS:
        return
    big = asset.asset_type == "server"
    asset.cpu_cores = rng.choice((16, 32, 48, 64) if big else (2, 4, 8))
    asset.memory_gb = rng.choice((64, 128, 256, 512) if big else (1.5, 4, 8, 16, 32))
    asset.disk_gb = rng.choice((960, 1920, 3840, 7680) if big else (40, 80, 256, 512))


def _people(rng: random.Random, asset: Asset) -> None:
    if _happens(rng, 92):
        asset.owner, asset.support_contact = _team(rng, asset)
    asset.tags = sorted(rng.sample(_TAGS, k=rng.choices((0, 1, 2, 3), (30, 40, 20, 10))[0]))
    if asset.asset_type in _HOSTS:
        asset.attributes["Cost centre"] = f"CC-{rng.choice((1010, 1020, 2040, 3300))}"


def _draw(rng: random.Random, weights: Mapping[str, int]) -> str:
    return rng.choices([*weights], [*weights.values()])[0]


def _team(rng: random.Random, asset: Asset) -> tuple[str, str]:
    if asset.asset_type in _OFFICE:
        return _TEAMS[3]
    if asset.asset_type in ("router", "switch", "firewall", "access point"):
        return _TEAMS[2]
    return _TEAMS[1] if asset.role == "database" else rng.choice(_TEAMS)


def _maybe(rng: random.Random, percent: int, make: Callable[[], T]) -> T | None:
    return make() if _happens(rng, percent) else None


def _happens(rng: random.Random, percent: int) -> bool:
    return rng.random() * 100 < percent
