"""One journey under daphne and under uvicorn: sign in, ask, watch it happen, download, leave in the middle, stop."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.process.clients import Browser, api_of, ask, begin, download
from tests.server import ROOT, Server, running

PROGRAMS = ["daphne", "uvicorn"]
#: One word: two may come in two events.
SAID = b"Said"
END = "Said at the end."
WAITS = f"rows 25\nSaid before the end.\n\nwait\n{END}"
#: Rows of a file that takes a while to send.
LARGE = 300_000
#: What a socket sends when nothing happens.
HEARTBEAT = "<!--hb-->"


def serving(folder: Path, program: str) -> Any:
    return running(
        folder,
        program=program,
        DJANGO_SETTINGS_MODULE="tests.process.settings_counting",
        PYTHONWARNINGS="default",
    )


@pytest.fixture(scope="module", params=PROGRAMS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Started once for the tests that leave it running."""
    with serving(tmp_path_factory.mktemp("server"), request.param) as server:
        yield server
        log = server.log
    assert "Warning" not in log
    assert "Traceback" not in log


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[httpx.Client]:
    with api_of(server) as api:
        yield api


@pytest.fixture
def gate(server: Server) -> Iterator[Path]:
    """The file that ends every `wait`."""
    gate = server.folder / "data" / "go"
    yield gate
    gate.touch()
    gate.unlink()


def frames_until(socket: ClientConnection, text: str) -> list[str]:
    """What the socket sends up to the frame with this text."""
    frames: list[str] = []
    while not frames or text not in frames[-1]:
        frame = socket.recv(timeout=20)
        assert isinstance(frame, str)
        frames.append(frame)
    return frames


@pytest.mark.one_database
def test_alice_asks_in_the_page_and_the_answer_grows_while_it_is_written(server: Server, gate: Path) -> None:
    with Browser(server, "alice") as alice, alice.socket() as socket:
        alice.say(WAITS)
        before = frames_until(socket, "Said before the end")
        gate.touch()
        after = frames_until(socket, 'data-run-status="succeeded"')
        page = alice.http.get(alice.path).text
    assert not any(f"<p>{END}" in frame or 'data-run-status="succeeded"' in frame for frame in before)
    assert any(END in frame for frame in after)
    assert 'title="Download CSV file"' in page


@pytest.mark.one_database
def test_a_streams_events_arrive_before_the_run_ends(api: httpx.Client, gate: Path) -> None:
    with api.stream("POST", "/pipeline/stream", json={"request": WAITS}) as answer:
        pieces = answer.iter_bytes()
        seen = b""
        while SAID not in seen:
            seen += next(pieces)
        run_id = json.loads(seen.split(b"data: ")[1].split(b"\n")[0])["run_id"]
        assert api.get(f"/pipeline/runs/{run_id}").json()["status"] == "running"
        gate.touch()
        seen += b"".join(pieces)
    kinds = [json.loads(line[6:])["type"] for line in seen.decode().splitlines() if line.startswith("data: ")]
    assert kinds[0] == "start"
    assert kinds[-1] == "complete"
    assert "export" in kinds


@pytest.mark.one_database
def test_bob_and_the_signed_out_get_nothing_of_alices(server: Server, api: httpx.Client) -> None:
    run = ask(api, "rows 3")
    assert download(api, run).count(b"\r\n") == 4
    address = f"/exports/{run['response']['results'][0]['export_id']}/"
    with api_of(server, "bob") as his:
        assert his.get(address).status_code == 404
        assert his.get(f"/pipeline/runs/{run['run_id']}").status_code == 404
    assert httpx.get(server.url + address).status_code == 401


def test_who_leaves_in_mid_stream_or_mid_download_leaves_nothing_behind(server: Server, api: httpx.Client) -> None:
    large = ask(api, f"rows {LARGE}")
    (server.folder / "data" / "go").unlink(missing_ok=True)
    leave_often(server, api, large, times=4)
    before = held(api)
    leave_often(server, api, large, times=8)
    deadline = time.monotonic() + 20
    while left := left_behind(before, after := held(api)):
        assert time.monotonic() < deadline, f"{left} of {after}"
    # Pools of threads are made as they are needed; what leaks a thread per viewer has 24 more.
    assert after["threads"] <= before["threads"] + 4


def left_behind(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Open files, and tasks that have become more; one more may be of the request that asks."""
    more = [name for name, n in after["tasks"].items() if n > before["tasks"].get(name, 0) + 1]
    return [*more, *after["files"]]


def leave_often(server: Server, api: httpx.Client, large: dict[str, Any], *, times: int) -> None:
    """Streams, sockets and downloads that are closed when a part of them has come."""
    address = f"/exports/{large['response']['results'][0]['export_id']}/"
    for _ in range(times):
        begin(api, "Hello", until=b'"start"')
        with api.stream("GET", address) as answer:
            next(answer.iter_raw(1000))
        with Browser(server, "alice") as alice, alice.socket() as socket:
            socket.socket.shutdown(SHUT_RDWR)


def held(api: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(api, "held")["message"])
    return found


@pytest.mark.one_database
def test_a_socket_that_is_sent_too_much_is_closed(server: Server) -> None:
    with Browser(server, "alice") as alice, alice.socket() as socket:
        socket.send("x" * 10_000)
        with pytest.raises(ConnectionClosed) as closed:
            frames_until(socket, HEARTBEAT)
    # daphne drops the connection without a word.
    assert closed.value.rcvd is None or closed.value.rcvd.code == 1009


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_stops_in_time_and_cleanly_with_sockets_streams_and_downloads_open(tmp_path: Path, program: str) -> None:
    with serving(tmp_path / "server", program) as server, api_of(server) as api:
        large = ask(api, f"rows {LARGE}")
        with (
            Browser(server, "alice") as alice,
            alice.socket() as socket,
            api.stream("POST", "/pipeline/stream", json={"request": WAITS}) as stream,
            api.stream("GET", f"/exports/{large['response']['results'][0]['export_id']}/") as file,
        ):
            next(stream.iter_raw())
            next(file.iter_raw(1000))
            began = time.monotonic()
            server.stop()
            took_s = time.monotonic() - began
            with pytest.raises(ConnectionClosed):
                frames_until(socket, "nothing has this text")
        assert took_s < 10
        assert "Traceback" not in server.log
        server.start()
        assert ask(api, "Hi")["status"] == "succeeded"
        assert download(api, large).count(b"\r\n") == LARGE + 1


@pytest.mark.one_database
def test_without_uvicorn_the_command_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ImportError(\"No module named 'uvicorn'\")\n", encoding="utf-8")
    server = Server(
        folder=tmp_path / "server", prepared=False, variables={"PYTHONPATH": str(tmp_path)}, program="uvicorn"
    )
    refused = subprocess.run(
        server.command, cwd=ROOT, env=server.environment, capture_output=True, text=True, check=False, timeout=30
    )
    assert refused.returncode == 1
    assert "uvicorn can't serve: No module named 'uvicorn'" in refused.stderr
    assert "make run" in refused.stderr
    assert not (server.folder / "data" / "opschat.sqlite3").exists()


@pytest.mark.one_database
def test_a_server_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server", prepared=False, program="apache")
    refused = subprocess.run(
        [sys.executable, *server.command[1:]],
        cwd=ROOT, env=server.environment, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert refused.returncode != 0
    assert "daphne" in refused.stderr
    assert "uvicorn" in refused.stderr
