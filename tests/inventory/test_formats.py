"""Each tool's sample in tests/data: every field that it gives, the attributes that it keeps, and itself again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from inventory.fields import FIELDS
from inventory.importing import import_file
from inventory.models import Asset
from inventory.sheets import Problem

DATA = Path(__file__).parent.parent / "data"
pytestmark = pytest.mark.django_db


def load(name: str) -> dict[str, Asset]:
    """The file's assets, by name; nothing in it may be a problem."""
    problems: list[Problem] = []
    source = import_file(DATA / name, on_problem=problems.append).source
    assert problems == []
    return {asset.name: asset for asset in Asset.objects.filter(source=source)}


def fields(asset: Asset) -> dict[str, Any]:
    """All that it has, but for its id."""
    values = {field.name: getattr(asset, field.name) for field in FIELDS if field.name != "id"}
    return {name: value for name, value in values.items() if value not in ("", None, [])}


_LNX_APP = {
    "name": "lnx-app-01",
    "fqdn": "lnx-app-01.example.com",
    "ip_address": "192.0.2.40",
    "mac_address": "02:00:5E:00:53:40",
    "asset_type": "server",
    "status": "installed",
    "environment": "production",
    "os": "Linux Red Hat",
    "os_version": "8.9",
    "manufacturer": "Dell Inc.",
    "model": "PowerEdge R740",
    "serial_number": "00045678901234567890",
    "asset_tag": "P1000479",
    "location": "Frankfurt DC 2",
    "owner": "Grace Okafor",
    "support_contact": "Linux Operations",
    "cpu_cores": 16,
    "memory_gb": 64,
    "disk_gb": 1024,
    "purchased_on": date(2021, 3, 1),
    "warranty_expires_on": date(2026, 2, 28),
    "last_seen_at": datetime(2024, 2, 29, 23, 15, tzinfo=UTC),
    "notes": "Order entry, node 1",
}
_LAPTOP = {
    "name": "lt-avaughn",
    "mac_address": "02:00:5e:00:53:01",
    "asset_type": "laptop",
    "status": "deployed",
    "manufacturer": "Lenovo",
    "model": "ThinkPad T14",
    "serial_number": "C02ZX0AAMD6T",
    "asset_tag": "0000012",
    "location": "Berlin office",
    "owner": "Ada Vaughn",
    "purchased_on": date(2023, 1, 15),
    "warranty_expires_on": date(2026, 1, 15),
    "notes": "Spare charger issued",
}
_SHOP_WEB = {
    "name": "shop-web-1",
    "fqdn": "ip-10-1-2-3.eu-central-1.compute.internal",
    "ip_address": "10.1.2.3",
    "asset_type": "virtual machine",
    "status": "active",
    "environment": "production",
    "os": "Linux/UNIX",
    "model": "m5.xlarge",
    "site": "eu-central-1a",
    "owner": "Shop Team",
}
_WEB2 = {
    "name": "web2.example.com",
    "fqdn": "web2.internal.example.com",
    "environment": "staging",
    "site": "AMS1",
    "tags": ["webservers", "europe"],
}
_SWITCH = {
    "name": "example-sw-01",
    "ip_address": "192.0.2.14",
    "asset_type": "switch",
    "status": "retired",
    "os": "Cisco IOS",
    "manufacturer": "Cisco",
    "model": "ISR 1111-8P",
    "serial_number": "00012345678901234567",
    "asset_tag": "0042",
    "site": "DM-Akron",
    "rack": "Comms closet",
    "role": "Access Switch",
    "owner": "Dunder-Mifflin, Inc.",
    "tags": ["edge", "Branch"],
}
_VM = {
    "name": "vm1",
    "ip_address": "198.51.100.7",
    "asset_type": "virtual machine",
    "status": "active",
    "os": "Ubuntu Linux",
    "os_version": "20.04",
    "role": "Application Server",
    "cpu_cores": 2.5,
    "memory_gb": 6,
    "disk_gb": 40,
}
_WEB1_FACTS = {
    "name": "web1.example.com",
    "fqdn": "web1.example.com",
    "ip_address": "192.0.2.60",
    "mac_address": "02:00:5e:00:53:60",
    "asset_type": "virtual machine",
    "os": "Ubuntu",
    "os_version": "22.04",
    "manufacturer": "QEMU",
    "model": "Standard PC",
    "serial_number": "NA",
    "cpu_cores": 8,
    "memory_gb": 15976 / 1024,
    "last_seen_at": datetime(2024, 2, 29, 20, 2, 10, tzinfo=UTC),
}
_SN_ID = "b1e2c3d4e5f60718293a4b5c6d7e8f90"
#: File, its source and the id that this gave one asset, its rows; that asset's fields, and some of its attributes.
_SAMPLES = [
    ("netbox-api-devices.json", ("netbox-devices", "90001"), 2, _SWITCH, {
        "site.id": "2", "position": "4.0", "face": "Front", "Patch Group": "Sunday night", "display": "example-sw-01",
        "role.url": "https://netbox.example.com/api/dcim/device-roles/2/",
        "last_updated": "2024-02-29T13:14:15.123456Z",
    }),
    ("netbox-api-virtual-machines.json", ("netbox-virtual-machines", "361"), 1, _VM, {
        "cluster": "DO-AMS3", "config_context.ntp.servers": "192.0.2.1;192.0.2.2", "interface_count": "1",
    }),
    ("snipe-it-assets.json", ("snipe-it-assets", "101"), 3, _LAPTOP, {
        "Patch Group": "Laptops A", "Patch Group.field": "_snipeit_patch_group_2", "model_number": "20W0",
        "assigned_to.email": "avaughn@example.com", "status_label.status_meta": "deployed",
        "supplier": "Example Supplies",
        "created_at": "2023-01-19 06:42:07", "created_at.formatted": "2023-01-19 6:42AM", "purchase_cost": "1,899.00",
        "assigned_to.employee_number": "007", "byod": "false",
    }),
    ("snipe-it-assets.csv", ("snipe-it-assets", "101"), 3, _LAPTOP, {
        "Patch Group": "Laptops A", "Model No.": "20W0", "Supplier": "Example Supplies", "Purchase Cost": "1,899.00",
    }),
    ("servicenow-servers.json", ("servicenow-cmdb", _SN_ID), 3, _LNX_APP, {
        "sys_id": _SN_ID, "sys_class_name": "Linux Server", "sys_class_name.value": "cmdb_ci_linux_server",
        "operational_status": "Operational", "manufacturer.value": "a1" * 16, "u_patch_group": "Sunday night",
        "manufacturer.link": f"https://example.service-now.com/api/now/table/core_company/{'a1' * 16}",
        "last_discovered.display_value": "29/02/2024 18:15:00", "install_status.value": "1", "virtual": "false",
    }),
    ("servicenow-servers.csv", ("servicenow-cmdb", _SN_ID), 3, _LNX_APP, {
        "Class": "Linux Server", "Operational status": "Operational", "CPU count": "2", "Patch Group": "Sunday night",
    }),
    ("servicenow-servers-columns.csv", ("servicenow-cmdb", _SN_ID), 3, _LNX_APP, {
        "sys_class_name": "cmdb_ci_linux_server", "operational_status": "1", "u_patch_group": "Sunday night",
    }),
    ("ansible-inventory.json", ("ansible-inventory", ""), 3, _WEB2, {
        "ansible_user": "deploy", "http_port": "8080", "limits.nofile": "1024", "limits.swap": "true",
    }),
    ("ansible-inventory.csv", ("ansible-inventory", ""), 3, _WEB2, {"ansible_user": "deploy", "http_port": "8080"}),
    ("ansible-facts.json", ("ansible-facts", ""), 2, _WEB1_FACTS, {
        "ansible_default_ipv4.gateway": "192.0.2.1", "ansible_virtualization_role": "guest", "ansible_hostname": "web1",
        "ansible_mounts": '[{"mount": "/", "device": "/dev/sda1", "size_total": 41555521536}]', "changed": "false",
        "ansible_all_ipv4_addresses": "192.0.2.60;172.17.0.1", "ansible_python.version.minor": "10",
    }),
    ("aws-ec2-instances.json", ("ec2-instances", "i-0598c7d356eba48d7"), 3,
     _SHOP_WEB | {"cpu_cores": 2, "tags": ["critical-path"]}, {
        "InstanceId": "i-0598c7d356eba48d7", "LaunchTime": "2024-02-29T12:34:56+00:00", "State.Code": "16",
        "Patch Group": "Sunday night", "OwnerId": "012345678901", "ReservationId": "r-02a3f596d91211712",
        "SecurityGroups": '[{"GroupName": "web", "GroupId": "sg-052f2c9b8e3c5f8c1"}]', "EnaSupport": "true",
    }),
    ("aws-ec2-instances.csv", ("ec2-instances", "i-0598c7d356eba48d7"), 3, _SHOP_WEB, {
        "Instance ID": "i-0598c7d356eba48d7", "Launch time": "2024-02-29T12:34:56+00:00", "Patch Group": "Sunday night",
    }),
    ("ansible-aws-ec2-inventory.json", ("ec2-instances", "i-0598c7d356eba48d7"), 2,
     _SHOP_WEB | {"cpu_cores": 2, "tags": ["critical-path", "aws_ec2"]}, {
        "inventory_hostname": "ip-10-1-2-3.eu-central-1.compute.internal", "Patch Group": "Sunday night",
        "image_id": "ami-0abcdef1234567890", "placement.tenancy": "default", "state.code": "16",
    }),
]  # fmt: skip


@pytest.mark.parametrize(("name", "source", "n_rows", "told", "kept"), _SAMPLES)
def test_a_sample_gives_every_field_and_keeps_the_rest_and_again_gives_nothing_new(
    name: str, source: tuple[str, str], n_rows: int, told: Mapping[str, Any], kept: Mapping[str, str]
) -> None:
    asset = load(name)[told["name"]]
    assert fields(asset) == told
    assert (asset.source, asset.source_id) == source
    assert {attribute: asset.attributes.get(attribute) for attribute in kept} == kept
    before = list(Asset.objects.order_by("pk").values("pk", "name", "attributes", *_names()))
    summary = import_file(DATA / name)
    assert (summary.n_rows, summary.n_new, summary.n_known) == (n_rows, 0, n_rows)
    assert list(Asset.objects.order_by("pk").values("pk", "name", "attributes", *_names())) == before


def _names() -> list[str]:
    return [field.name for field in FIELDS if field.name not in ("id", "name")]


_SAME_TOOL = [
    ("netbox-demo-devices.csv", "netbox-api-devices.json", 1),
    ("netbox-demo-virtual-machines.csv", "netbox-api-virtual-machines.json", 0),
    ("snipe-it-assets.csv", "snipe-it-assets.json", 0),
    ("servicenow-servers.csv", "servicenow-servers.json", 0),
    ("servicenow-servers-columns.csv", "servicenow-servers.json", 0),
    ("aws-ec2-instances.csv", "aws-ec2-instances.json", 0),
    ("ansible-inventory.csv", "ansible-inventory.json", 0),
]


@pytest.mark.parametrize(("table", "answer", "n_new"), _SAME_TOOL)
def test_a_tools_csv_and_json_are_the_same_assets_with_the_same_values(table: str, answer: str, n_new: int) -> None:
    tabled = {asset.pk: fields(asset) for asset in load(table).values()}
    assert import_file(DATA / answer).n_new == n_new
    for pk, told in tabled.items():
        answered = fields(Asset.objects.get(pk=pk))
        assert {name: answered.get(name) for name in told} == told


def test_states_are_canonical_where_the_aliases_say_so_and_else_the_tools_words() -> None:
    states = {name: asset.status for name, asset in load("servicenow-servers-columns.csv").items()}
    assert states == {"lnx-app-01": "installed", "win-sql-02": "retired", "edge-fw-01": "in maintenance"}
    states = {name: asset.status for name, asset in load("snipe-it-assets.csv").items()}
    assert states == {"lt-avaughn": "deployed", "": "ready to deploy", "pr-hall": "archived"}
    states = {name: asset.status for name, asset in load("aws-ec2-instances.csv").items()}
    assert states == {"shop-web-1": "active", "shop-ad-1": "stopped", "": "terminated"}


def test_types_are_read_from_categories_and_classes_and_an_unknown_one_is_kept() -> None:
    assert {a.asset_type for a in load("snipe-it-assets.csv").values()} == {"laptop", "server", "Label printers"}
    assert {a.asset_type for a in load("servicenow-servers.json").values()} == {"server", "firewall"}


def test_servicenows_operational_status_is_the_status_where_there_is_no_other(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("sys_id,name,operational_status\n1,a,2\n2,b,Retired\n3,c,6\n")
    import_file(path)
    assert set(Asset.objects.values_list("name", "status")) == {
        ("a", "non-operational"),
        ("b", "retired"),
        ("c", "retired"),
    }


def test_servicenow_answers_with_or_without_display_values_and_for_one_record(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"result": {"sys_id": "1", "name": "a", "location": {"link": "https://x/1", "value": "c3"}}}')
    import_file(path)
    asset = Asset.objects.get()
    assert (asset.source_id, asset.location, asset.attributes) == (
        "1",
        "c3",
        {"sys_id": "1", "location.link": "https://x/1"},
    )
    path.write_text('{"records": [{"sys_id": "1", "name": "a", "location": {"link": "x", "display_value": "Berlin"}}]}')
    assert import_file(path).n_new == 0
    assert Asset.objects.get().location == "Berlin"


def test_ec2_tags_are_values_under_their_keys_and_those_without_a_value_are_tags() -> None:
    assets = load("aws-ec2-instances.json")
    assert assets["shop-web-1"].tags == ["critical-path"]
    # The type of an instance is known; a tag of that name does not change it.
    assert (assets["shop-ad-1"].asset_type, assets["shop-ad-1"].attributes["Type"]) == ("virtual machine", "directory")
    assert assets["shop-ad-1"].attributes["Platform"] == "windows"
    assert assets[""].source_id == "i-0fedcba9876543210"


@pytest.mark.parametrize(
    "query", ["{}", "[[{}]]", "[{}]", '[{"Instances": [{}]}]', '{"Reservations": [{"Instances": [{}]}]}']
)
def test_whatever_a_query_left_of_describe_instances_is_understood(tmp_path: Path, query: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(query.replace("{}", '{"InstanceId": "i-1"}'))
    assert import_file(path).source == "ec2-instances"
    assert Asset.objects.get().source_id == "i-1"


def test_a_host_is_tagged_with_its_groups_and_those_above_them_and_one_without_variables_is_there() -> None:
    assets = load("ansible-inventory.json")
    assert assets["web1.example.com"].tags == ["webservers", "europe"]
    assert assets["web1.example.com"].ip_address == "192.0.2.60"
    assert fields(assets["db1.example.com"]) == {"name": "db1.example.com"}


def test_facts_of_one_host_and_of_a_cache_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"ansible_facts": {"ansible_hostname": "a", "ansible_memtotal_mb": 2048}, "changed": false}')
    assert import_file(path).source == "ansible-facts"
    path.write_text('{"ansible_hostname": "b", "ansible_product_serial": "0007"}')
    import_file(path)
    assert set(Asset.objects.values_list("name", "memory_gb", "serial_number")) == {("a", 2, ""), ("b", None, "0007")}


def test_a_disk_of_netbox_is_in_megabytes_since_its_version_4_1(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('[{"id": 1, "name": "old", "cluster": {"name": "c"}, "vcpus": 1, "memory": 1024, "disk": 40}]')
    import_file(path)
    path.write_text(
        '[{"id": 2, "name": "new", "display_url": "u", "cluster": {"name": "c"},'
        ' "vcpus": 1, "memory": 1024, "disk": 40000}]'
    )
    import_file(path)
    assert set(Asset.objects.values_list("name", "memory_gb", "disk_gb")) == {("old", 1, 40), ("new", 1, 40)}
