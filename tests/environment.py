"""Given to pytest as `-p tests.environment`, so that it is read before Django is: the settings of a test run.

Nothing of the caller's leaks in, and nothing is written outside folders that go when the run ends. OPSCHAT_TEST_…
variables are the tests' own and stay. OPSCHAT_TEST_DB says on which database they run: `sqlite`, or `postgres`, for
which PostgreSQL and Valkey are started, once for all processes of the run.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from tests.servers import NoServer, postgres, valkey

#: Set by the run's first process for the others, of pytest-xdist: a folder, and its servers' addresses.
RUN, POSTGRES, VALKEY = "OPSCHAT_TEST_RUN", "OPSCHAT_TEST_RUN_POSTGRES", "OPSCHAT_TEST_RUN_VALKEY"


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what opschat reads."""
    return {
        name: value
        for name, value in environment.items()
        if name not in ("HOST", "PORT", "DEMO", "DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE")
        and (not name.startswith("OPSCHAT_") or name.startswith("OPSCHAT_TEST_"))
    }


for _name in os.environ.keys() - without_settings(os.environ).keys():
    del os.environ[_name]

#: Of this process.
DATA_DIR = Path(tempfile.mkdtemp(prefix="opschat-test-"))
atexit.register(shutil.rmtree, DATA_DIR, ignore_errors=True)
os.environ["OPSCHAT_DATA_DIR"] = str(DATA_DIR)


def is_postgres() -> bool:
    return os.environ.get("OPSCHAT_TEST_DB") == "postgres"


def is_whole() -> bool:
    """In `make test-long`: on every database, in every view, of every string."""
    return bool(os.environ.get("OPSCHAT_TEST_ALL"))


def run_folder() -> Path:
    """What the processes of the run share."""
    return Path(os.environ[RUN])


def run_prefix() -> str:
    """How the names of the run's databases begin."""
    return f"opschat_{run_folder().name.rpartition('-')[2]}_"


def address_of(database: str) -> str:
    """In the run's PostgreSQL."""
    return urlunsplit(urlsplit(os.environ[POSTGRES])._replace(path=f"/{database}"))


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Before pytest-django reads the settings. Raises UsageError for what can't be started."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        _begin_run(early_config)
    if is_postgres():
        # One process serves and executes, as with SQLite. The processes that tests start may be many.
        os.environ["DATABASE_URL"] = address_of(f"{run_prefix()}main")
    yield


def _begin_run(config: pytest.Config) -> None:
    chosen = os.environ.get("OPSCHAT_TEST_DB", "sqlite")
    if chosen not in ("sqlite", "postgres"):
        raise pytest.UsageError(f"OPSCHAT_TEST_DB is {chosen!r}. Choose sqlite or postgres.")
    run = ExitStack()
    config.add_cleanup(run.close)
    os.environ[RUN] = run.enter_context(tempfile.TemporaryDirectory(prefix="opschat-test-run-"))
    if chosen == "postgres":
        try:
            server = run.enter_context(postgres())
            os.environ[POSTGRES], os.environ[VALKEY] = server.url, run.enter_context(valkey()).url
        except NoServer as error:
            raise pytest.UsageError(str(error)) from error
        if not server.is_ours:
            run.callback(_drop_databases)


def _drop_databases() -> None:
    """Those of this run, in a server that stays."""
    with psycopg.connect(os.environ[POSTGRES], autocommit=True) as admin:
        names = admin.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [run_prefix()])
        for (name,) in names.fetchall():
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
