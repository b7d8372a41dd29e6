"""Assets for the benchmark, the same ones each time, written past the ORM, which would take many minutes.

`python -m bench.exports.assets N` in the product's environment fills the database that it names.
"""

from __future__ import annotations

import random
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import django

#: What is exported: a column of each type, as many as in people's inventories.
COLUMNS = (
    "id", "name", "ip_address", "os", "os_version", "environment", "owner", "location", "cpu_cores", "memory_gb",
    "disk_gb", "last_seen_at",
)  # fmt: skip
_SYSTEMS = (("Ubuntu Linux", "24.04 LTS"), ("Windows Server", "2022, Datacenter"), ("RHEL", 'RHEL "Plow" 9.4'))
_ENVIRONMENTS = ("production", "staging", "development")
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_SECONDS = 25_000_000


def assets(n: int) -> Iterator[dict[str, Any]]:
    """Field -> value. Of fifty owners one begins as a formula does, of three versions one has quotes."""
    chance = random.Random(7)  # noqa: S311  no secret
    for number in range(1, n + 1):
        system, version = _SYSTEMS[number % 3]
        yield {
            "id": uuid.UUID(int=chance.getrandbits(128), version=4),
            "name": f"srv-{number:07d}.dc{number % 9}.example.net",
            "ip_address": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
            "os": system,
            "os_version": version,
            "environment": _ENVIRONMENTS[number % 3],
            "owner": f"@oncall-{number % 211}" if number % 50 == 0 else f"Team {number % 211}, Ops",
            "location": f"Zürich R{number % 40}",
            "cpu_cores": float(2 << number % 6),
            "memory_gb": 4.0 * (1 + number % 64),
            "disk_gb": round(chance.random() * 900, 2),
            "last_seen_at": _FIRST + timedelta(seconds=chance.randrange(_SECONDS)),
        }


def load(n: int) -> None:
    """Fills the empty table. Reads of it need nothing that is derived but the key of the addresses."""
    from django.db import connection  # noqa: PLC0415  Django has to be set up

    from inventory.models import Asset, InventoryRevision  # noqa: PLC0415  as above
    from inventory.values import address_key  # noqa: PLC0415  as above

    fields = {field.name: field for field in Asset._meta.concrete_fields}
    blank = Asset(created_at=_FIRST, updated_at=_FIRST)
    usual = [field.get_db_prep_save(getattr(blank, field.attname), connection) for field in fields.values()]
    given = [(at, field) for at, (name, field) in enumerate(fields.items()) if name in (*COLUMNS, "ip_key")]

    def rows() -> Iterator[list[Any]]:
        for asset in assets(n):
            asset["ip_key"] = address_key(asset["ip_address"])
            row = usual.copy()
            for at, field in given:
                value = asset[field.name]
                # Texts and numbers every database takes as they are; asking Django of each costs more than the rest.
                row[at] = value if isinstance(value, str | float) else field.get_db_prep_save(value, connection)
            yield row

    _write(connection, Asset._meta.db_table, [field.column for field in fields.values()], rows())
    InventoryRevision.renew()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _write(connection: Any, table: str, columns: list[str], rows: Iterator[list[Any]]) -> None:
    names = ", ".join(f'"{column}"' for column in columns)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            marks = ", ".join(["%s"] * len(columns))
            cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)  # noqa: S608  our own names


if __name__ == "__main__":
    django.setup()
    from django.core.management import call_command
    from django.db import transaction

    call_command("migrate", verbosity=0)
    with transaction.atomic():
        load(int(sys.argv[1]))
