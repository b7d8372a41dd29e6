from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.storage import storages
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection
from django.utils import timezone

from conversations.models import ExportFile

#: Bytes copied at a time.
_CHUNK = 256 * 1024


class Command(BaseCommand):
    help = (
        "Copies the database, then the exports, into a new folder, while servers and workers go on. Without PostgreSQL "
        "the copy can be served as it is: OPSCHAT_DATA_DIR=FOLDER."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        said = "must not exist; it is there as soon as it is complete"
        parser.add_argument("folder", type=Path, metavar="FOLDER", help=said)

    def handle(self, *args: Any, folder: Path, **options: Any) -> None:
        copy = _begun(folder)
        try:
            n_files, wrong = _copied(copy)
            copy.rename(folder)
        except (DatabaseError, OSError) as error:
            raise CommandError(f"The backup broke off: {error}") from error
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        self.stdout.write(f"The database and {n_files} exported files are in {folder}.")
        if bucket := settings.OPSCHAT_EXPORT_BUCKET:
            self.stdout.write(
                f"The files were copied from the bucket {bucket}. To serve the copy, unset OPSCHAT_EXPORT_BUCKET, or "
                "copy its folder `exports` into a bucket."
            )
        if wrong:
            # They were so before: the rest is worth keeping.
            raise CommandError(f"The files of {len(wrong)} exports are missing or damaged here: {', '.join(wrong)}")


def _begun(folder: Path) -> Path:
    """Where the copy is made before it gets its name."""
    if folder.exists():
        raise CommandError(f"{folder} exists. Name a folder that doesn't, one for each backup.")
    copy = folder.with_name(f"{folder.name}.incomplete")
    try:
        # Nobody else's to read: it holds every conversation, and the hashes of passwords.
        copy.mkdir(mode=0o700)
    except FileExistsError:
        raise CommandError(f"{copy} is there: another backup is at it, or one was killed. Then delete it.") from None
    except OSError as error:
        raise CommandError(f"Can't make {copy}: {error.strerror}.") from error
    return copy


def _copied(copy: Path) -> tuple[int, list[str]]:
    """How many exported files were copied, and the exports whose file is missing or not what was written."""
    begun_at = timezone.now()
    # Rows first: a file is stored before its row, so every file that these rows name is there.
    (_copy_sqlite if connection.vendor == "sqlite" else _dump_postgres)(copy)
    n_files, wrong = _copy_exports(copy)
    made = settings.DATA_DIR / "secret_key"
    if made.exists():
        # Made for trying out; a key from the environment is not ours to copy.
        _write(copy / made.name, lambda: iter([made.read_bytes()]))
    about = {"opschat": settings.VERSION, "begun_at": begun_at.isoformat(), "exports": n_files, "wrong": wrong}
    _write(copy / "backup.json", lambda: iter([json.dumps(about, indent=1).encode() + b"\n"]))
    return n_files, wrong


# -- Database --------------------------------------------------------------------------------------------------------


def _copy_sqlite(copy: Path) -> None:
    """One consistent state, without making anybody wait who writes (SQLite's VACUUM INTO reads a snapshot)."""
    path = copy / Path(connection.settings_dict["NAME"]).name
    with connection.cursor() as cursor:
        cursor.execute("VACUUM INTO %s", [str(path)])
    path.chmod(0o600)
    # VACUUM INTO leaves that to its caller.
    _sync(path)
    with sqlite3.connect(path) as snapshot:
        (said,) = snapshot.execute("PRAGMA quick_check(1)").fetchone()
    snapshot.close()
    if said != "ok":
        raise CommandError(f"The copy of the database is damaged ({said}), so the database may be.")


def _dump_postgres(copy: Path) -> None:
    """pg_dump reads one snapshot and locks nobody out."""
    program = shutil.which("pg_dump")
    if program is None:
        raise CommandError(
            "pg_dump is not on PATH: install PostgreSQL's client of the server's version or newer, or dump where the "
            "server is (docs/operations.md, Backup)."
        )
    path = copy / "database.dump"
    database = connection.settings_dict
    names = {"PGHOST": "HOST", "PGPORT": "PORT", "PGUSER": "USER", "PGPASSWORD": "PASSWORD", "PGDATABASE": "NAME"}
    # Not as arguments, which everybody on this machine can read.
    given = {name: str(database[key]) for name, key in names.items() if database[key]}
    given |= {f"PG{key.upper()}": str(value) for key, value in database["OPTIONS"].items() if key.startswith("ssl")}
    done = subprocess.run(
        [program, "--format=custom", "--no-owner", "--no-privileges", "--no-password", f"--file={path}"],
        env={"PATH": os.defpath, "HOME": str(Path.home()), **given}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise CommandError(f"pg_dump failed:\n{done.stderr.strip()}")
    path.chmod(0o600)
    _sync(path)


# -- Files -----------------------------------------------------------------------------------------------------------


def _copy_exports(copy: Path) -> tuple[int, list[str]]:
    """Each file once, whatever the number of exports that have its content."""
    wrong: list[str] = []
    n_files = 0
    rows = ExportFile.objects.filter(export__deleted_at=None).order_by("path")
    for path, same in groupby(rows.iterator(), key=lambda stored: str(stored.path)):
        first, *others = same
        if _is_copied(first, copy / "exports" / path):
            n_files += 1
        else:
            wrong += [str(stored.export_id) for stored in (first, *others)]
    return n_files, wrong


def _is_copied(stored: ExportFile, path: Path) -> bool:
    digest = hashlib.sha256()

    def read() -> Iterator[bytes]:
        with storages["exports"].open(stored.path, "rb") as file:
            for chunk in file.chunks(_CHUNK):
                digest.update(chunk)
                yield chunk

    try:
        _write(path, read)
    except FileNotFoundError:
        path.unlink()
        return False
    return digest.hexdigest() == stored.sha256


def _write(path: Path, read: Callable[[], Iterator[bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        path.chmod(0o600)
        for chunk in read():
            file.write(chunk)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
