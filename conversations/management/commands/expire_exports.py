from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from conversations import exports, files


class Command(BaseCommand):
    help = "Deletes the files of expired exports, and files that no export needs. What was asked, and the ledger, stay."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say what would go, and delete nothing")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        try:
            found = exports.expire(dry_run=dry_run)
        except OSError as error:
            raise CommandError(f"What is left goes the next time. {error}") from error
        if not dry_run:
            files.sweep()
        what = "would go" if dry_run else "deleted"
        self.stdout.write(
            f"{found.n_exports:,} expired exports {what} ({found.n_bytes:,} bytes); {found.n_held:,} are kept by legal "
            f"holds; {found.n_orphans:,} files that no export needs {what}."
        )
