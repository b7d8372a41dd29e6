"""What the columns of a file mean: the field names themselves, and the names that other tools' exports use."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from inventory.layouts import LAYOUTS, PLAIN, Layout, Meaning, Reader, key_of, one
from inventory.values import BLANKS, READERS, read_instant

OWN_ID = "id"
#: The attribute that keeps the source's own id.
SOURCE_ID = "ID"

TEXTS = (
    "name", "fqdn", "mac_address", "os", "os_version", "manufacturer", "model", "serial_number", "asset_tag", "site",
    "location", "rack", "role", "service", "owner", "support_contact", "notes",
)  # fmt: skip
#: What a field holds when the cell is blank; texts hold "".
_EMPTY: Mapping[str, object] = {"tags": []} | {
    name: None for name in READERS if name.endswith(("_on", "_at", "_gb", "_cores"))
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
FIELDS = frozenset((OWN_ID, *TEXTS, *READERS))
_FIELDS: Mapping[str, str] = {
    **{key_of(alias): name for name, aliases in _ALIASES.items() for alias in aliases},
    **{key_of(name): name for name in (*TEXTS, *READERS)},
}


@dataclass(frozen=True, kw_only=True)
class Column:
    #: As in the file; unnamed columns and second ones of a name are given one of their own.
    header: str
    kind: Literal["field", "attribute", "own id", "source id", "surplus"]
    #: For fields: which ones it writes, each with what it holds when the cell is blank; and how the text is read.
    blank: Mapping[str, object] = field(default_factory=dict)
    read: Reader | None = None
    #: The text is an attribute, too.
    is_kept: bool = False

    @property
    def unreadable(self) -> str:
        """The attribute that keeps a value which is none for its field. Its name is never the field's own."""
        return f"{self.header} (unreadable)"

    @property
    def is_instant(self) -> bool:
        return any(READERS.get(name) is read_instant for name in self.blank)

    @property
    def keeps_space(self) -> bool:
        """White space around the text is part of it."""
        return "notes" in self.blank


def layout_of(header: Sequence[str]) -> Layout:
    if any(text.strip().lower() == "asset_type" for text in header):  # our own export, whatever attributes it carries
        return PLAIN
    keys = {key_of(text) for text in header}
    return next((layout for layout in LAYOUTS if any(told <= keys for told in layout.recognised_by)), PLAIN)


def columns_of(header: Sequence[str], layout: Layout, *, late: Container[str] = ()) -> list[Column] | None:
    """What each column means; None when no name in the header is known, which is then no header.

    A field is written by one column: the one with its very name if there is one, else the first. Others are attributes.
    """
    names = _distinct(text.strip(BLANKS) for text in header)
    # Late ones choose last. Exact names choose first, so that a column that only resembles a field's name never takes
    # its place; columns that write two fields leave the second to a column of its own.
    meanings = [_meaning(name, layout) for name in names]
    ranks = [(name in late, name not in FIELDS, _n_written(meanings[n]), n) for n, name in enumerate(names)]
    order = [rank[-1] for rank in sorted(ranks)]
    chosen: dict[int, Column] = {}
    taken = set(layout.constant)
    for n in order:
        column = _column(names[n], meanings[n], layout, taken)
        taken.update(column.blank, (column.kind,))
        chosen[n] = column
    if all(column.kind == "attribute" for column in chosen.values()):
        return None
    return [chosen[n] for n in range(len(names))]


def _n_written(meaning: Meaning | None) -> int:
    return len(meaning.writes) if meaning else 0


def _distinct(headers: Iterable[str]) -> list[str]:
    names: dict[str, None] = {}
    again: dict[str, int] = {}
    for n, header in enumerate(headers, start=1):
        name = first = header[:MAX_HEADER] or f"column_{n}"
        while name in names:
            again[first] = again.get(first, 1) + 1
            name = f"{first} ({again[first]})"
        names[name] = None
    return list(names)


def _column(header: str, meaning: Meaning | None, layout: Layout, taken: set[str]) -> Column:
    kind = _id_kind(header, layout, taken)
    if kind:
        return Column(header=header, kind=kind)
    if meaning is None or meaning.writes[0] in taken:
        return Column(header=header, kind="attribute")
    blank = {name: _EMPTY.get(name, "") for name in meaning.writes if name not in taken}
    return Column(header=header, kind="field", blank=blank, read=_limited(meaning.read), is_kept=meaning.is_kept)


def _id_kind(header: str, layout: Layout, taken: set[str]) -> Literal["own id", "source id", ""]:
    key = key_of(header)
    if key in layout.source_ids:
        return "source id" if "source id" not in taken else ""
    if key != OWN_ID:
        return ""
    return "own id" if "own id" not in taken else "source id" if "source id" not in taken else ""


def _meaning(header: str, layout: Layout) -> Meaning | None:
    key = key_of(header)
    name = _FIELDS.get(key)
    return layout.own.get(key) or (one(name) if name else None)


def _limited(read: Reader) -> Reader:
    def limited(text: str) -> Mapping[str, object]:
        made = read(text)
        if len(text) > MAX_INDEXED and any(len(str(made.get(name, ""))) > MAX_INDEXED for name in _INDEXED):
            raise ValueError(f"longer than {MAX_INDEXED} characters")
        return made

    return limited
