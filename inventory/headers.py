"""What the columns of a file mean: the field names themselves, and the names that other tools' exports use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from inventory import values

#: Makes fields of one cell's text. Raises ValueError.
Reader = Callable[[str], Mapping[str, object]]

OWN_ID = "id"
#: The attribute that keeps the source's own id.
SOURCE_ID = "ID"

TEXTS = (
    "name", "fqdn", "mac_address", "os", "os_version", "manufacturer", "model", "serial_number", "asset_tag", "site",
    "location", "rack", "role", "service", "owner", "support_contact", "notes",
)  # fmt: skip
_CONVERTED: Mapping[str, Callable[[str], object]] = {
    "ip_address": values.read_address,
    "asset_type": values.read_asset_type,
    "status": values.read_status,
    "environment": values.read_environment,
    "criticality": values.read_criticality,
    "tags": values.read_tags,
    "cpu_cores": values.read_number,
    "memory_gb": values.read_gigabytes,
    "disk_gb": values.read_gigabytes,
    "purchased_on": values.read_date,
    "warranty_expires_on": values.read_date,
    "certificate_expires_on": values.read_date,
    "last_seen_at": values.read_instant,
}
#: What a field holds when the cell is blank; texts hold "".
_EMPTY: Mapping[str, object] = {"tags": []} | {
    name: None for name in _CONVERTED if name.endswith(("_on", "_at", "_gb", "_cores"))
}
#: Longer texts can't be indexed by every database.
MAX_INDEXED = 500
#: A header is an attribute's name, which is indexed too; the rest of a longer one is left out.
MAX_HEADER = 200
_INDEXED = ("name", "fqdn", "mac_address", "serial_number", "asset_tag")

_ALIASES: Mapping[str, tuple[str, ...]] = {
    "name": (
        "device",
        "device name",
        "hostname",
        "host name",
        "host",
        "asset name",
        "inventory_hostname",
        "virtual machine",
    ),
    "fqdn": ("dns name", "fully qualified domain name"),
    "ip_address": (
        "ip",
        "ip address",
        "ipv4 address",
        "ipv6 address",
        "primary ip",
        "ansible_host",
        "privateipaddress",
    ),
    "mac_address": ("mac", "mac address"),
    "asset_type": ("type", "asset type", "device type", "category", "sys_class_name"),
    "status": ("state", "status label", "install_status", "operational_status"),
    "environment": ("env",),
    "criticality": ("business_criticality", "business criticality"),
    "os": ("operating system",),
    "os_version": ("os version", "operating system version"),
    "manufacturer": ("vendor", "make", "brand"),
    "model": ("model name", "model_id"),
    "serial_number": ("serial", "serial number", "serial no", "serial no."),
    "asset_tag": ("asset tag",),
    "site": ("data center", "data centre", "datacenter", "datacentre"),
    "location": ("room",),
    "rack": ("cabinet",),
    "role": ("device role",),
    "owner": ("tenant", "assigned to", "assigned_to", "owned_by", "team"),
    "support_contact": ("contact", "support contact", "support_group"),
    "tags": ("labels",),
    "cpu_cores": ("vcpus", "cores", "cpu cores", "cpu_core_count"),
    "memory_gb": ("memory", "memory (gb)", "ram (gb)"),
    "disk_gb": ("disk", "disk (gb)"),
    "purchased_on": ("purchased", "purchase date", "purchase_date"),
    "warranty_expires_on": ("warranty expires", "warranty_expiration", "warranty expiration"),
    "certificate_expires_on": ("certificate expires",),
    "last_seen_at": ("last seen", "last_seen", "last_discovered"),
    "notes": ("note", "description", "comments", "short_description"),
}
#: All names that a file may give a column to have it taken as it is.
FIELDS = frozenset((OWN_ID, *TEXTS, *_CONVERTED))
_FIELDS: Mapping[str, str] = {
    **{alias: name for name, aliases in _ALIASES.items() for alias in aliases},
    **{name: name for name in (*TEXTS, *_CONVERTED)},
}


@dataclass(frozen=True, kw_only=True)
class Column:
    #: As in the file; unnamed columns and second ones of a name are given one of their own.
    header: str
    kind: Literal["field", "attribute", "own id", "source id"]
    #: For fields: which ones it writes, each with what it holds when the cell is blank; and how the text is read.
    blank: Mapping[str, object] = field(default_factory=dict)
    read: Reader | None = None

    @property
    def unreadable(self) -> str:
        """The attribute that keeps a value which is none for its field. Its name is never the field's own."""
        return f"{self.header} (unreadable)"

    @property
    def keeps_space(self) -> bool:
        """White space around the text is part of it."""
        return "notes" in self.blank


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A recognised set of headers. Its name is the default source."""

    name: str
    #: Aliases that mean something else here: header -> how it is read.
    own: Mapping[str, tuple[tuple[str, ...], Reader]] = field(default_factory=dict)
    #: What every row of such a file is.
    constant: Mapping[str, object] = field(default_factory=dict)
    #: Headers, lower case, that only such files have together.
    recognised_by: frozenset[str] = frozenset()


def _netbox_role(text: str) -> Mapping[str, object]:
    return {"role": text, "asset_type": values.type_of_role(text)}


def _megabytes(text: str) -> Mapping[str, object]:
    return {"memory_gb": values.read_number(text) / 1024}


def _platform(text: str) -> Mapping[str, object]:
    os, version = values.read_platform(text)
    return {"os": os, "os_version": version}


_PLATFORM = (("os", "os_version"), _platform)
_MEGABYTES = (("memory_gb",), _megabytes)
LAYOUTS = (
    Layout(
        name="netbox-virtual-machines",
        own={"platform": _PLATFORM, "memory (mb)": _MEGABYTES},
        constant={"asset_type": "virtual machine"},
        recognised_by=frozenset({"cluster", "vcpus"}),
    ),
    Layout(
        name="netbox-devices",
        own={
            "type": (("model",), lambda text: {"model": text}),
            "role": (("role", "asset_type"), _netbox_role),
            "platform": _PLATFORM,
        },
        recognised_by=frozenset({"role", "type", "manufacturer"}),
    ),
)
#: Any other file; its source is the file's own name.
PLAIN = Layout(name="", own={"platform": _PLATFORM, "memory (mb)": _MEGABYTES})


def layout_of(header: Sequence[str]) -> Layout:
    lowered = {text.strip().lower() for text in header}
    if "asset_type" in lowered:  # our own export, whatever attributes it carries along
        return PLAIN
    return next((layout for layout in LAYOUTS if layout.recognised_by <= lowered), PLAIN)


def columns_of(header: Sequence[str], layout: Layout) -> list[Column] | None:
    """What each column means; None when no name in the header is known, which is then no header.

    A field is written by one column: the one with its very name if there is one, else the first. Others are attributes.
    """
    names = _distinct(text.strip() for text in header)
    # Exact names choose first, so that a column that only resembles a field's name never takes its place; columns that
    # write two fields leave the second to a column of its own.
    order = sorted(range(len(names)), key=lambda n: (names[n] not in FIELDS, len(_meaning(names[n], layout)[0]), n))
    chosen: dict[int, Column] = {}
    taken: set[str] = set()
    for n in order:
        column = _column(names[n], layout, taken)
        taken.update(column.blank, (column.kind,))
        chosen[n] = column
    if all(column.kind == "attribute" for column in chosen.values()):
        return None
    return [chosen[n] for n in range(len(names))]


def _distinct(headers: Iterable[str]) -> list[str]:
    names: list[str] = []
    for n, header in enumerate(headers, start=1):
        name = header[:MAX_HEADER] or f"column_{n}"
        again = 2
        while name in names:
            name = f"{header[:MAX_HEADER]} ({again})"
            again += 1
        names.append(name)
    return names


def _column(header: str, layout: Layout, taken: set[str]) -> Column:
    lowered = " ".join(header.lower().split())
    if lowered == OWN_ID:
        kind: Literal["own id", "source id"] = "source id" if "own id" in taken else "own id"
        return Column(header=header, kind=kind if kind not in taken else "attribute")
    writes, read = _meaning(header, layout)
    if read is None or writes[0] in taken:
        return Column(header=header, kind="attribute")
    blank = {name: _EMPTY.get(name, "") for name in writes if name not in taken}
    return Column(header=header, kind="field", blank=blank, read=read)


def _meaning(header: str, layout: Layout) -> tuple[tuple[str, ...], Reader | None]:
    lowered = " ".join(header.lower().split())
    return layout.own.get(lowered) or _plain(_FIELDS.get(lowered))


def _plain(name: str | None) -> tuple[tuple[str, ...], Reader | None]:
    if name is None:
        return (), None
    convert = _CONVERTED.get(name)
    if convert is None:
        return (name,), lambda text: {name: _short(text) if name in _INDEXED else text}
    return (name,), lambda text: {name: convert(text)}


def _short(text: str) -> str:
    if len(text) > MAX_INDEXED:
        raise ValueError(f"longer than {MAX_INDEXED} characters")
    return text
