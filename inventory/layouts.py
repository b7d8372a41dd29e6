"""What the columns of other tools' exports mean, where it is not what their names say.

Headers are compared in lower case with blanks for underscores (`key_of`). JSON's nested values have dotted names
(`inventory.flattening`). Where the columns come from:

* NetBox: its table export and REST API (`/api/dcim/devices/`, `/api/virtualization/virtual-machines/`). Memory is in
  MB; so is a disk since 4.1, which also brought `display_url` (its release notes, "Breaking Changes").
* Snipe-IT: the asset list's export (AssetPresenter.php) and `/api/v1/hardware` (AssetsTransformer.php).
* ServiceNow: lists of cmdb_ci_server and its kin, exported with their labels or as the Table API names them. The
  numbers of its states are those of the Ansible collection servicenow.itsm (module_utils/configuration_item.py).
* Ansible: inventory variables and the facts that the module `setup` gathers.
* EC2: DescribeInstances, the console's table, and the same in snake case from amazon.aws.aws_ec2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from inventory import values

#: Makes fields of one cell's text. Raises ValueError.
Reader = Callable[[str], Mapping[str, object]]


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What a column writes, and how its text is read."""

    writes: tuple[str, ...]
    read: Reader
    #: The text is an attribute, too, because the fields don't say all of it.
    is_kept: bool = False


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A recognised set of headers. Its name is the default source."""

    name: str
    #: For people.
    title: str
    #: Columns that mean something else here, by `key_of` their header.
    own: Mapping[str, Meaning] = field(default_factory=dict)
    #: What every row of such a file is.
    constant: Mapping[str, object] = field(default_factory=dict)
    #: Headers that only such files have together: any of the sets tells.
    recognised_by: tuple[frozenset[str], ...] = ()
    #: Columns, beside ID, that hold the source's own id.
    source_ids: frozenset[str] = frozenset()


def key_of(header: str) -> str:
    return " ".join(header.lower().replace("_", " ").split())


def one(name: str, read: Callable[[str], object] | None = None, *, is_kept: bool = False) -> Meaning:
    """The column is a field; without `read` it is read as the field always is."""
    convert = read or values.READERS.get(name, str)
    return Meaning(writes=(name,), read=lambda text: {name: convert(text)}, is_kept=is_kept)


def _sets(*sets: str) -> tuple[frozenset[str], ...]:
    """Each set is written in one text, its headers separated by commas."""
    return tuple(frozenset(header.strip() for header in one_set.split(",")) for one_set in sets)


def _platform(text: str) -> Mapping[str, object]:
    os, version = values.read_platform(text)
    return {"os": os, "os_version": version}


def _role(text: str) -> Mapping[str, object]:
    return {"role": text, "asset_type": values.type_of_role(text)}


def _class(text: str) -> str:
    """ServiceNow's classes: "Linux Server" or cmdb_ci_linux_server -> server. Another is kept as it is."""
    words = text.removeprefix("cmdb_ci_").replace("_", " ")
    return values.type_of_role(words.removesuffix(" instance").removesuffix(" Instance")) or text


def _ansible_host(text: str) -> Mapping[str, object]:
    """The address to connect to, or a name of the host."""
    try:
        return {"ip_address": values.read_address(text), "fqdn": ""}
    except ValueError:
        return {"ip_address": "", "fqdn": text}


def _megabytes(text: str) -> float:
    return values.read_number(text) / 1024


def _guest(text: str) -> str:
    return "virtual machine" if text.lower() == "guest" else ""


def _coded(words: Mapping[str, str]) -> Callable[[str], str]:
    """A state by its number or its word."""
    return lambda text: values.read_status(words.get(text, text))


PLATFORM = Meaning(writes=("os", "os_version"), read=_platform)
MEGABYTES = one("memory_gb", _megabytes)
_ROLE = Meaning(writes=("role", "asset_type"), read=_role)

_NETBOX_VM = {"platform": PLATFORM, "memory": MEGABYTES, "memory (mb)": MEGABYTES}
_NETBOX_ADDRESS = {f"primary ip{version}": one("ip_address") for version in ("", "4", "6")}

_INSTALL_STATUS = {
    "0": "implementing", "1": "installed", "2": "on order", "3": "in maintenance", "4": "pending install",
    "5": "pending repair", "6": "in stock", "7": "retired", "8": "stolen", "100": "absent",
}  # fmt: skip
_OPERATIONAL_STATUS = {
    "1": "operational", "2": "non-operational", "3": "repair in progress", "4": "dr standby", "5": "ready",
    "6": "retired", "7": "pipeline", "8": "catalog",
}  # fmt: skip
_BUSINESS_CRITICALITY = {
    "1 - most critical": "critical", "2 - somewhat critical": "high", "3 - less critical": "medium",
    "4 - not critical": "low",
}  # fmt: skip

_FACTS = {
    "ansible hostname": one("name"),
    "ansible fqdn": one("fqdn"),
    "ansible default ipv4.address": one("ip_address"),
    "ansible default ipv4.macaddress": one("mac_address"),
    "ansible distribution": one("os"),
    "ansible distribution version": one("os_version"),
    "ansible processor vcpus": one("cpu_cores"),
    "ansible memtotal mb": MEGABYTES,
    "ansible system vendor": one("manufacturer"),
    "ansible product name": one("model"),
    "ansible product serial": one("serial_number"),
    "ansible virtualization role": one("asset_type", _guest, is_kept=True),
    "ansible date time.iso8601": one("last_seen_at"),
    # Two fields, so that a column for the one or the other comes before it.
    "ansible host": Meaning(writes=("ip_address", "fqdn"), read=_ansible_host),
}

LAYOUTS = (
    Layout(
        name="ec2-instances",
        title="EC2 instances",
        source_ids=frozenset({"instanceid", "instance id"}),
        own={
            **dict.fromkeys(
                ("privateipaddress", "private ip address", "private ipv4 address", "private ip addresses"),
                one("ip_address"),
            ),
            **dict.fromkeys(
                ("privatednsname", "private dns name", "private ip dns name (ipv4 only)", "private ipv4 dns"),
                one("fqdn"),
            ),
            **dict.fromkeys(("instancetype", "instance type"), one("model")),
            **dict.fromkeys(("state", "instance state", "state.name"), one("status")),
            **dict.fromkeys(
                ("placement.availabilityzone", "placement.availability zone", "availability zone", "availabilityzone"),
                one("site"),
            ),
            **dict.fromkeys(("platformdetails", "platform details"), one("os")),
            "platform": PLATFORM,
            **dict.fromkeys(
                ("cpuoptions.corecount", "cpu options.core count"), one("cpu_cores", is_kept=True)
            ),
            "ansible host": _FACTS["ansible host"],
        },
        constant={"asset_type": "virtual machine"},
        recognised_by=_sets("instanceid", "instance id"),
    ),
    Layout(
        name="ansible-facts",
        title="Ansible facts",
        own=_FACTS,
        recognised_by=_sets("ansible hostname", "ansible nodename", "ansible distribution"),
    ),
    Layout(
        name="ansible-inventory",
        title="Ansible inventory",
        own=_FACTS,
        recognised_by=_sets("inventory hostname", "ansible host"),
    ),
    Layout(
        name="servicenow-cmdb",
        title="ServiceNow configuration items",
        source_ids=frozenset({"sys id"}),
        own={
            **dict.fromkeys(("sys class name", "class"), one("asset_type", _class, is_kept=True)),
            **dict.fromkeys(("install status", "status"), one("status", _coded(_INSTALL_STATUS))),
            "operational status": one("status", _coded(_OPERATIONAL_STATUS)),
            **dict.fromkeys(("used for", "classification"), one("environment")),
            **dict.fromkeys(
                ("business criticality", "busines criticality"),
                one("criticality", lambda text: _BUSINESS_CRITICALITY.get(text.lower(), values.read_criticality(text))),
            ),
            **dict.fromkeys(("ram", "ram (mb)"), MEGABYTES),
            **dict.fromkeys(("disk space", "disk space (gb)"), one("disk_gb")),
            **dict.fromkeys(("most recent discovery", "last discovered"), one("last_seen_at")),
        },
        recognised_by=_sets(
            "sys id", "sys class name", "name, class, operational status", "name, class, most recent discovery",
            "name, class, support group", "name, class, model id",
        ),
    ),
    Layout(
        name="snipe-it-assets",
        title="Snipe-IT assets",
        own={"checked out to": one("owner")},
        recognised_by=_sets(
            "asset tag, checked out to", "asset tag, model no.", "asset tag, status label, rtd location"
        ),
    ),
    Layout(
        name="netbox-virtual-machines",
        title="NetBox virtual machines",
        own={**_NETBOX_VM, **_NETBOX_ADDRESS, "disk": one("disk_gb", lambda text: values.read_number(text) / 1000)},
        constant={"asset_type": "virtual machine"},
        recognised_by=_sets("cluster, vcpus, display url"),
    ),
    Layout(
        name="netbox-virtual-machines",
        title="NetBox virtual machines",
        own={**_NETBOX_VM, **_NETBOX_ADDRESS},
        constant={"asset_type": "virtual machine"},
        recognised_by=_sets("cluster, vcpus"),
    ),
    Layout(
        name="netbox-devices",
        title="NetBox devices",
        own={
            "type": one("model"),
            "device type": one("model"),
            "device type.manufacturer": one("manufacturer"),
            "role": _ROLE,
            "device role": _ROLE,
            "platform": PLATFORM,
            **_NETBOX_ADDRESS,
        },
        recognised_by=_sets("role, type, manufacturer", "device type, device type.manufacturer"),
    ),
)  # fmt: skip
#: Any other file; its source is the file's own name.
PLAIN = Layout(name="", title="", own={"platform": PLATFORM, "memory (mb)": MEGABYTES})
