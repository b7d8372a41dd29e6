"""`python -m bench.ledger [N]`: audit entries a second, recorded and verified, in an SQLite database of its own."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import django

from bench.servers import environment

_TOGETHER = 1000
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__)
    parser.add_argument("n", type=int, nargs="?", default=200_000, help="entries; default: 200,000")
    n = parser.parse_args().n
    with tempfile.TemporaryDirectory(prefix="opschat-bench-") as folder:
        os.environ.update(environment(Path(folder), 0))
        for name in ("DATABASE_URL", "REDIS_URL"):
            os.environ.pop(name, None)
        django.setup()
        measure(n)


def measure(n: int) -> None:
    from django.core.management import call_command  # noqa: PLC0415  Django has to be set up
    from django.db import transaction  # noqa: PLC0415

    from conversations import ledger  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    alone = min(_TOGETHER, n)
    _tell("recorded, each in a transaction of its own", alone, lambda: record(0, alone))

    def rest() -> None:
        for first in range(alone, n, _TOGETHER):
            with transaction.atomic():
                record(first, min(_TOGETHER, n - first))

    _tell(f"recorded, {_TOGETHER:,} in a transaction", n - alone, rest)

    def verify() -> None:
        assert ledger.verify().n_entries == n  # noqa: S101  or the numbers mean nothing

    for _ in range(3):
        _tell("verified", n, verify)


def record(first: int, n: int) -> None:
    """As downloads leave them."""
    from conversations import audit  # noqa: PLC0415  as above

    for number in range(first, first + n):
        audit.record(
            actor=None, action="export.download", object_type="export", object_id=f"{number:032x}",
            origin=audit.Origin(ip=f"192.0.2.{number % 250}", user_agent=_BROWSER),
            detail={"format": "csv", "rows": number, "bytes": 412_000, "sha256": f"{number:064x}"},
        )  # fmt: skip


def _tell(what: str, n: int, work: Callable[[], None]) -> None:
    began = time.perf_counter()
    work()
    print(f"{n / (time.perf_counter() - began):>10,.0f} entries/s {what} ({n:,})", flush=True)


if __name__ == "__main__":
    main()
