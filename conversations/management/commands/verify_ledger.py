from __future__ import annotations

import re
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from conversations import audit, ledger
from conversations.chain import End
from conversations.ledger import Report


class Command(BaseCommand):
    help = (
        "Verifies the chain of the audit entries and prints its end, to be noted elsewhere; or names the first entry "
        "that is not as it was recorded, and exits with 1. Reads alone, while servers and workers go on."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        noted = "an end that was printed before: it has to be part of the chain"
        parser.add_argument("--expect", type=_end, metavar="SEQ:HASH", dest="noted", help=noted)
        anew = "signs the end with another SECRET_KEY than before, when nothing else is wrong; leaves an audit entry"
        parser.add_argument("--sign-anew", action="store_true", help=anew)

    def handle(self, *args: Any, noted: End | None, sign_anew: bool, **options: Any) -> None:
        if sign_anew:
            _sign_anew()
        report = ledger.verify(noted=noted)
        if report.fault is not None:
            raise CommandError(str(report.fault))
        part = f"; {noted.seq} is as noted" if noted else ""
        self.stdout.write(f"{report.n_entries} entries, chain intact{part}, ends in {report.end}")


@transaction.atomic
def _sign_anew() -> None:
    report: Report = ledger.sign_anew()
    if report.fault is None:
        audit.record(actor=None, action="ledger.sign", object_type="ledger", object_id=str(report.end.seq))


_END = re.compile(r"(\d{1,15}):([0-9a-f]{64})")


def _end(text: str) -> End:
    found = _END.fullmatch(text.strip())
    if found is None:
        raise ValueError
    return End(seq=int(found[1]), hash=found[2])
