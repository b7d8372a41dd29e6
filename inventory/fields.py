"""The assets as a table that can be asked: fields in their order, and people's words for them and their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from conversations.pipeline.tools import FieldSpec, Sort, TableSpec
from inventory.values import ENVIRONMENTS, STATUSES

_TYPES = {
    "servers": "server",
    "srv": "server",
    "srvs": "server",
    "vm": "virtual machine",
    "vms": "virtual machine",
    "virtual machines": "virtual machine",
    "virtual server": "virtual machine",
    "virtual servers": "virtual machine",
    "guest": "virtual machine",
    "guests": "virtual machine",
    "workstations": "workstation",
    "desktop": "workstation",
    "desktops": "workstation",
    "laptops": "laptop",
    "notebook": "laptop",
    "notebooks": "laptop",
    "routers": "router",
    "switches": "switch",
    "firewalls": "firewall",
    "fw": "firewall",
    "fws": "firewall",
    "access points": "access point",
    "ap": "access point",
    "aps": "access point",
    "wap": "access point",
    "waps": "access point",
    "wifi": "access point",
    "storages": "storage",
    "nas": "storage",
    "san": "storage",
    "storage array": "storage",
    "storage arrays": "storage",
    "printers": "printer",
    "cameras": "camera",
    "cams": "camera",
    "pdus": "pdu",
    "power distribution unit": "pdu",
    "power distribution units": "pdu",
    "patch panels": "patch panel",
}
_STATUSES = dict(STATUSES) | {
    "live": "active",
    "alive": "active",
    "in service": "active",
    "dead": "offline",
    "in maintenance": "maintenance",
    "under maintenance": "maintenance",
}
_SERVICES = {"postgres": "postgresql", "k8s": "kubernetes", "mongo": "mongodb"}
_ROLES = {"db": "database", "dbs": "database", "databases": "database"}
_OSES = {"win": "windows", "rhel": "red hat", "redhat": "red hat", "osx": "macos"}
_OS_FAMILIES = {
    "linux": (
        "linux", "ubuntu", "debian", "centos", "red hat", "redhat", "rhel", "fedora", "rocky", "suse", "sles", "alpine",
        "gentoo", "nixos", "raspbian", "flatcar", "coreos",
    ),
}  # fmt: skip
#: Letters that site names begin with -> the city.
_CITIES = {
    "AMS": "amsterdam", "BLR": "bangalore", "BOS": "boston", "CHI": "chicago", "DFW": "dallas", "DUB": "dublin",
    "FRA": "frankfurt", "LAX": "los angeles", "LON": "london", "MAD": "madrid", "NYC": "new york", "PAR": "paris",
    "SFO": "san francisco", "SIN": "singapore", "SYD": "sydney", "TOR": "toronto", "ZRH": "zurich",
}  # fmt: skip


def _text(name: str, *aliases: str) -> FieldSpec:
    return FieldSpec(name=name, type="text", aliases=aliases)


def _identifier(name: str, *aliases: str, label: str = "") -> FieldSpec:
    return FieldSpec(name=name, type="text", label=label, aliases=aliases, is_identifier=True)


def _category(name: str, *aliases: str, label: str = "", words: Mapping[str, str] | None = None) -> FieldSpec:
    return FieldSpec(name=name, type="text", label=label, aliases=aliases, value_aliases=words or {}, is_category=True)


FIELDS = (
    FieldSpec(name="id", type="id", label="ID", aliases=("uuid", "asset id")),
    _identifier("name", "names", "hostname", "hostnames", "host name", "device name", "asset name"),
    _identifier("fqdn", "fqdns", "dns name", "domain name", "fully qualified domain name", label="FQDN"),
    FieldSpec(
        name="ip_address",
        type="address",
        label="IP address",
        aliases=("ip", "ips", "ip addresses", "address", "addresses", "ipv4", "ipv6", "primary ip"),
        is_identifier=True,
    ),
    _identifier("mac_address", "mac", "macs", "mac addresses", "hardware address", label="MAC address"),
    _category("asset_type", "type", "types", "kind", "kinds", "category", "device type", label="type", words=_TYPES),
    _category("status", "state", "statuses", words=_STATUSES),
    _category("environment", "env", "envs", "environments", words=ENVIRONMENTS),
    _category("criticality", "criticalities", "priority", "importance"),
    FieldSpec(
        name="os",
        type="text",
        label="OS",
        aliases=("operating system", "operating systems", "platform", "platforms", "oses"),
        value_aliases=_OSES,
        families=_OS_FAMILIES,
        is_category=True,
        matches_part=True,
    ),
    _category("os_version", "os versions", "operating system version", "platform version", label="OS version"),
    _category("manufacturer", "manufacturers", "vendor", "vendors", "brand", "brands", "make", "makes", "maker"),
    _category("model", "models"),
    _identifier("serial_number", "serial", "serials", "serial numbers", "serial no", "sn"),
    _identifier("asset_tag", "asset tags", "asset number", "inventory number"),
    _category("site", "sites", "dc", "dcs", "data centre", "data centres", "data center", "data centers", "datacenter",
              "datacenters", "datacentre", "datacentres", "office", "offices", "where"),
    _category("location", "locations", "room", "rooms", "row", "where"),
    _category("rack", "racks", "cabinet", "cabinets"),
    _category("role", "roles", "function", "purpose", words=_ROLES),
    _category("service", "services", "software", "application", "applications", words=_SERVICES),
    _category("owner", "owners", "tenant", "tenants", "team", "teams", "owned by", "belongs to", "responsible", "who"),
    _text("support_contact", "contact", "contacts", "support", "support contacts", "email", "e-mail"),
    FieldSpec(name="tags", type="list", aliases=("tag", "tagged", "label", "labels"), is_category=True),
    FieldSpec(
        name="cpu_cores",
        type="number",
        label="CPU cores",
        aliases=("cores", "core", "cpus", "cpu", "vcpus", "vcpu", "processors"),
        unit="cores",
    ),
    FieldSpec(
        name="memory_gb",
        type="number",
        label="memory (GB)",
        aliases=("memory", "ram", "gb of ram", "gb ram", "gb of memory", "gb memory"),
        unit="GB",
    ),
    FieldSpec(
        name="disk_gb",
        type="number",
        label="disk (GB)",
        aliases=("disk", "disks", "disk space", "disk size", "gb of disk", "gb disk", "hard disk"),
        unit="GB",
    ),
    FieldSpec(
        name="purchased_on",
        type="date",
        label="purchased on",
        aliases=("purchased", "bought", "purchase date", "purchase", "acquired"),
    ),
    FieldSpec(
        name="warranty_expires_on",
        type="date",
        label="warranty expires on",
        aliases=("warranty", "warranties", "warranty expires", "warranty expiry", "warranty end"),
    ),
    FieldSpec(
        name="certificate_expires_on",
        type="date",
        label="certificate expires on",
        aliases=("certificate", "certificates", "cert", "certs", "certificate expires", "certificate expiry"),
    ),
    FieldSpec(
        name="last_seen_at",
        type="datetime",
        label="last seen",
        aliases=("last seen", "seen", "last contact", "last check-in", "last checked in"),
    ),
    _text("notes", "note", "comment", "comments", "description", "remarks"),
)  # fmt: skip

BY_NAME: Mapping[str, FieldSpec] = {field.name: field for field in FIELDS}
CATEGORIES = tuple(field for field in FIELDS if field.is_category)
IDENTIFIERS = tuple(field for field in FIELDS if field.is_identifier)

ASSETS = TableSpec(
    name="assets",
    noun=("asset", "assets"),
    noun_aliases=(
        "host", "hosts", "machine", "machines", "device", "devices", "box", "boxes", "system", "systems", "node",
        "nodes", "gear", "equipment", "hardware", "computer", "computers", "inventory", "ci", "cis",
        "configuration items",
    ),
    fields=FIELDS,
    preview_fields=("name", "asset_type", "status", "ip_address", "site", "environment", "os", "manufacturer", "model"),
    default_sort=(Sort(field="name"),),
    query_tool="assets.query",
    examples=(
        "Export all assets as CSV",
        "How many servers are there per site?",
        "Cisco devices that are offline",
        "Name, IP and owner of all production firewalls",
        "Top 5 sites by number of assets",
        "How many routers?",
    ),
)  # fmt: skip


_SAMPLE_NOTICE = "This is sample data: made-up assets to try opschat with. Import your own with import_assets."
_SAMPLE_LABEL = "Sample data"


def spec_with(*, attributes: Iterable[str], vocabulary: Mapping[str, Sequence[str]], has_sample: bool) -> TableSpec:
    """The spec of the present data: attributes appended as text fields, cities that name exactly one site, a notice.

    `vocabulary`: field -> its distinct values, for those that have few.
    """
    cities = replace(BY_NAME["site"], value_aliases=_city_words(vocabulary.get("site", ())))
    present = (cities if field.name == "site" else field for field in FIELDS)
    fields = tuple(_without_values(field, vocabulary.get(field.name, ())) for field in present)
    extra = (
        FieldSpec(name=name, type="text", is_category=name in vocabulary, is_found=True) for name in sorted(attributes)
    )
    return replace(
        ASSETS,
        fields=(*fields, *extra),
        notice=_SAMPLE_NOTICE if has_sample else "",
        label=_SAMPLE_LABEL if has_sample else "",
    )


def _without_values(field: FieldSpec, values: Iterable[str]) -> FieldSpec:
    """A word that is a value itself ("in maintenance", as ServiceNow has it) means that value and no other."""
    known = {value.casefold() for value in values}
    words = {word: value for word, value in field.value_aliases.items() if value == word or word not in known}
    return field if len(words) == len(field.value_aliases) else replace(field, value_aliases=words)


def _city_words(sites: Iterable[str]) -> Mapping[str, str]:
    """ "london" and "lon" -> "LON1", where LON1 is the only site whose name begins with LON."""
    found: dict[str, list[str]] = {}
    for site in sites:
        found.setdefault(site[:3].upper(), []).append(site)
    words: dict[str, str] = {}
    for code, city in _CITIES.items():
        if len(found.get(code, ())) == 1 and not found[code][0][3:4].isalpha():
            words |= {code.lower(): found[code][0], city: found[code][0]}
    return words
