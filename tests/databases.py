"""On which databases a test runs, and the data that a server of a test begins with."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from django.db import connection
from psycopg import sql

from tests.environment import POSTGRES, address_of, is_postgres, is_whole, run_folder, run_prefix, without_settings
from tests.people import PASSWORD

ROOT = Path(__file__).resolve().parent.parent
#: Their tests start the product.
FOLDERS = ("browser", "long", "process")


def needs_a_database(item: pytest.Item) -> bool:
    """Whether its outcome may differ by database. The others run once, on SQLite.

    pytest-django refuses the ORM, and `Server.start` a process, to a test of which this is not said. The mark
    `one_database` says it of one that uses a database all the same: other tests show on both that it stores and finds.
    `make test-long` runs those on PostgreSQL too.
    """
    if item.get_closest_marker("one_database") and not is_whole():
        return False
    fixtures = {"db", "transactional_db", "server"} & set(getattr(item, "fixturenames", ()))
    folder = item.path.relative_to(ROOT / "tests").parts[0]
    return bool(fixtures) or folder in FOLDERS or item.get_closest_marker("django_db") is not None


#: Of the test that runs, and of session-wide fixtures that it is the first to use.
_may_start = False


def begin_test(item: pytest.Item) -> None:
    global _may_start  # noqa: PLW0603  one test runs at a time
    _may_start = needs_a_database(item) or item.get_closest_marker("one_database") is not None


def check_it_may_start() -> None:
    assert _may_start, "A test that starts the product takes it from a fixture `server` or is in tests/process."


# -- A server's data -------------------------------------------------------------------------------------------------


def begin(data: Path, *, prepared: bool) -> dict[str, str]:
    """Fills the data folder of a server; the variables that name its database, one of its own.

    Prepared: as a first start leaves it, with the sample data and the demo accounts. Else, and where there is a data
    folder, nothing is added.
    """
    if prepared and not data.exists():
        with _only_one():
            shutil.copytree(_prepared(), data)
    if not is_postgres():
        return {}
    return {"DATABASE_URL": _new_database(_PREPARED if prepared else "template0")}


#: Database of the run's PostgreSQL that the prepared ones are copied from.
_PREPARED = "prepared"


def _prepared() -> Path:
    """The data folder of a first start, which is made once in a run: it loads the sample and hashes four passwords."""
    folder = run_folder() / "prepared"
    if folder.exists():
        return folder
    unfinished = run_folder() / "unfinished"
    variables = {
        "OPSCHAT_DATA_DIR": str(unfinished),
        "OPSCHAT_DEMO_PASSWORD": PASSWORD,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }
    if is_postgres():
        variables["DATABASE_URL"] = _new_database("template0", name=_PREPARED)
    tokens = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v0", "-c", _PREPARE],
        cwd=ROOT,
        env={**without_settings(os.environ), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    (unfinished / "tokens.json").write_text(tokens.splitlines()[-1], encoding="utf-8")
    return unfinished.rename(folder)


#: In one process, because each takes a second to begin.
_PREPARE = """
import json
from django.contrib.auth.models import User
from django.core.management import call_command
from conversations import tokens
call_command("migrate", verbosity=0)
call_command("seed_demo")
print(json.dumps({user.username: tokens.make(user=user)[1] for user in User.objects.all()}))
"""


def token_of(data: Path, username: str) -> str | None:
    """Of an account of the prepared data; None where there is none."""
    path = data / "tokens.json"
    found: str | None = json.loads(path.read_text(encoding="utf-8")).get(username) if path.exists() else None
    return found


@contextmanager
def _only_one() -> Iterator[None]:
    """Of the processes of the run."""
    with (run_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def end_connections() -> None:
    """Ends every session with this process's test database."""
    name = connection.settings_dict["NAME"]
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]  # PostgreSQL's has it
    with psycopg.connect(os.environ[POSTGRES], autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [name])


def _new_database(template: str, *, name: str = "") -> str:
    """Its address."""
    there = run_prefix()
    name = there + (name or uuid4().hex[:12])
    source = template if template == "template0" else there + template
    with psycopg.connect(os.environ[POSTGRES], autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(source)))
    return address_of(name)
