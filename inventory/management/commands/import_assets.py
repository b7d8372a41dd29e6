"""Puts the rows of a file into the inventory."""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from inventory.importing import ImportRunning, NotATable, Problem, Summary, Unfinished, import_file

#: Columns named in the summary of problems.
_MOST_COLUMNS = 5


class Command(BaseCommand):
    help = (
        "Imports assets from a CSV, TSV or JSON file of any length or an XLSX workbook's first sheet; what it is, it "
        "tells by its content. Known are our own "
        "exports; NetBox's tables and REST API (devices, virtual machines); Snipe-IT's asset list and API; "
        "ServiceNow's lists of configuration items and Table API; ansible-inventory --list and gathered facts; aws ec2 "
        "describe-instances and the console's table. Any other table is read by its first line, any other JSON by the "
        "names in its objects (a list, or one a line); a column that is no field of an asset is kept as an attribute. "
        "Exit status: 0; 1 when something could not be read, and the rest was imported; 2 when the file is no table, "
        "or another import is running, and nothing was written."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--source", help="where the assets come from (default: its format, else the file's name)")
        parser.add_argument("--dry-run", action="store_true", help="report, and write nothing")
        parser.add_argument(
            "--delete-missing", action="store_true", help="remove this source's assets that the file has not"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        _prepare_database()
        try:
            summary = import_file(
                path,
                source=options["source"],
                dry_run=options["dry_run"],
                delete_missing=options["delete_missing"],
                on_problem=lambda problem: self._report(path, problem),
            )
        except (NotATable, ImportRunning) as error:
            raise CommandError(f"{path}: {error} Nothing was written.", returncode=2) from error
        except Unfinished as error:
            raise CommandError(f"{path}: {error} Import it again to complete it.", returncode=1) from error
        except OSError as error:
            raise CommandError(
                f"{error.filename or path}: {error.strerror or error}. Nothing was written.", returncode=2
            ) from error
        self.stdout.write(_sentence(path, summary, dry_run=options["dry_run"]))
        for warning in summary.warnings:
            self.stderr.write(f"{path.name}: {warning}")
        if summary.n_problems:
            raise CommandError(_problems(path, summary, delete_missing=options["delete_missing"]), returncode=1)

    def _report(self, path: Path, problem: Problem) -> None:
        self.stderr.write(f"{path.name}: {problem}")


def _prepare_database() -> None:
    """An import may be the first thing that is done in a data folder, before any server ran there."""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        call_command("migrate", verbosity=0, interactive=False)


def _sentence(path: Path, summary: Summary, *, dry_run: bool) -> str:
    done = [f"{summary.n_new} new", f"{summary.n_known} known already"]
    if summary.n_deleted:
        done.append(f"{summary.n_deleted} removed")
    text = f"{path.name}: {summary.recognised_as}, {_count(summary.n_rows, 'row')} as source “{summary.source}”"
    return f"{text}: {', '.join(done)}.{' Dry run: nothing was written.' if dry_run else ''}"


def _problems(path: Path, summary: Summary, *, delete_missing: bool) -> str:
    """How many, where, and what to do about them."""
    columns = Counter({column: n for column, n in summary.problems.items() if column})
    text = [f"{path.name}: {_count(summary.n_problems, 'problem')}, listed above."]
    if columns:
        most = ", ".join(f"{column} {n:,}" for column, n in columns.most_common(_MOST_COLUMNS))
        more = " …" if len(columns) > _MOST_COLUMNS else ""
        text.append(f"By column: {most}{more}. Correct these in the file and import it again.")
    if summary.n_unread:
        text.append(f"{_count(summary.n_unread, 'row')} could not be read and did not go in.")
        if delete_missing:
            text.append("So nothing was removed as missing.")
    return " ".join(text)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
