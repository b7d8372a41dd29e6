"""The product as a process: what stays over a restart, what a crash leaves, and what streams really look like."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.process.clients import api_of, ask, begin, download
from tests.server import ROOT, Server, free_port, running

DATA = ROOT / "tests" / "data"


@pytest.fixture(params=["daphne", pytest.param("uvicorn", marks=pytest.mark.whole)])
def program(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def server(tmp_path: Path, program: str) -> Iterator[Server]:
    with running(tmp_path / "server", program=program) as server:
        yield server


@pytest.fixture
def empty_server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "server", prepared=False, DEMO="0") as server:
        yield server


@pytest.mark.one_database
def test_the_seeds_own_request_is_answered_event_by_event(server: Server) -> None:
    body = {"request": "Hi", "context": {}, "user_id": "test", "session_id": "test"}
    with api_of(server) as api, api.stream("POST", "/pipeline/stream", json=body) as answer:
        events = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
    assert [e["type"] for e in events if e["type"] != "token"] == [
        "start", "stage_start", "stage_complete", "stage_complete", "stage_complete", "stage_complete", "stage_start",
        "stage_complete", "complete",
    ]  # fmt: skip
    assert events[-1]["response"]["intent"] == "smalltalk"


def test_a_download_is_the_same_after_a_restart(server: Server) -> None:
    with api_of(server) as api:
        run = ask(api, "Export all assets as CSV")
        before = download(api, run)
        server.stop()
        server.start()
        assert download(api, run) == before
        assert api.get(f"/pipeline/runs/{run['run_id']}").json() == run


@pytest.mark.whole
def test_netbox_files_imported_while_the_server_runs_are_in_the_next_answer(empty_server: Server) -> None:
    empty_server.manage(
        "shell", "-v0", "-c", "from django.contrib.auth.models import User; User.objects.create_user('zoe')"
    )
    with api_of(empty_server, "zoe") as api:
        assert ask(api, "how many assets?")["response"]["results"][0]["total"] == 0
        empty_server.manage("import_assets", str(DATA / "netbox-demo-devices.csv"))
        empty_server.manage("import_assets", str(DATA / "netbox-demo-virtual-machines.csv"))
        run = ask(api, "Export all assets as CSV")
        assert run["response"]["results"][0]["total"] == 252
        assert download(api, run).count(b"\r\n") >= 253
        assert ask(api, "cisco devices in DM-Akron")["response"]["results"][0]["total"] == 2


def test_after_a_crash_in_mid_run_it_is_gone_on_with_and_so_is_what_waited(tmp_path: Path) -> None:
    with (
        running(tmp_path / "server", DJANGO_SETTINGS_MODULE="tests.settings_dictated") as server,
        api_of(server) as api,
    ):
        begun = begin(api, "Said before.\nwait\nSaid after.", until=b"Said")
        waiting = begin(api, "Hi", until=b'"start"')
        server.kill()
        (server.data / "go").touch()
        server.start()
        events = [api.get(f"/pipeline/runs/{run_id}/stream").text for run_id in (begun, waiting)]
        ends = [api.get(f"/pipeline/runs/{run_id}").json() for run_id in (begun, waiting)]
        assert [end["status"] for end in ends] == ["succeeded"] * 2
        assert ends[0]["message"] == "Said before.\nSaid after.\n"
        assert [text.count('"type":"complete"') for text in events] == [1, 1]
        assert ask(api, "Hi again")["status"] == "succeeded"


@pytest.mark.one_database
def test_uvicorn_ends_open_streams_when_it_is_asked_to_stop(tmp_path: Path) -> None:
    settings = {"DJANGO_SETTINGS_MODULE": "tests.settings_dictated"}
    server = Server(folder=tmp_path / "server", variables=settings)
    command = ["-m", "uvicorn", "--port", str(server.port), "--log-level", "warning", "opschat.asgi:application"]
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=server.environment)
    try:
        with api_of(server) as api:
            answered(api)
            with api.stream("POST", "/pipeline/stream", json={"request": "wait\nHi"}) as answer:
                pieces = answer.iter_bytes()
                next(pieces)
                process.terminate()
                assert b'"complete"' not in b"".join(pieces)
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.mark.one_database
@pytest.mark.whole
def test_a_second_server_on_the_same_data_says_so_and_ends(server: Server) -> None:
    second = subprocess.run(
        server.command,
        cwd=ROOT,
        env={**server.environment, "PORT": str(free_port())},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert second.returncode == 1
    assert "Another opschat server runs on this data folder" in second.stderr


@pytest.mark.one_database
def test_a_taken_port_is_said_before_any_work(server: Server, tmp_path: Path) -> None:
    second = subprocess.run(
        server.command,
        cwd=ROOT,
        env={**server.environment, "OPSCHAT_DATA_DIR": str(tmp_path / "other")},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert second.returncode == 1
    assert f"Can't listen on 127.0.0.1:{server.port}" in second.stderr


def test_runserver_executes_runs_and_stops_cleanly(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server")
    process = subprocess.Popen(
        [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{server.port}"],
        cwd=ROOT, env=server.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with api_of(server) as api:
            assert answered(api)["status"] == "succeeded"
    finally:
        process.terminate()
        status = process.wait(timeout=20)
    assert status == 0


@pytest.mark.one_database
def test_uvicorn_and_daphne_start_and_stop_the_runner(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server")
    for command in (
        ["-m", "uvicorn", "--port", str(server.port), "--log-level", "warning", "opschat.asgi:application"],
        ["-m", "daphne", "-p", str(server.port), "opschat.asgi:application"],
    ):
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=server.environment)
        try:
            with api_of(server) as api:
                assert answered(api)["status"] == "succeeded"
        finally:
            process.terminate()
            status = process.wait(timeout=20)
        # uvicorn stops, then ends by the signal itself.
        assert status == (-signal.SIGTERM if "uvicorn" in command else 0), command


def answered(api: httpx.Client) -> dict[str, Any]:
    """The answer to a first request, as soon as the server accepts connections."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return ask(api, "How many assets are there?")
        except httpx.ConnectError:
            if time.monotonic() > deadline:
                raise


@pytest.mark.whole
def test_an_import_may_come_before_the_first_start(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server", prepared=False)
    server.manage("import_assets", str(DATA / "netbox-demo-devices.csv"))
    try:
        server.start()
        with api_of(server) as api:
            assert ask(api, "How many assets are there?")["response"]["results"][0]["total"] == 72
        server.stop()
    finally:
        server.kill()
