"""Large downloads: the server's memory stays flat, whether clients read fast, slowly, or not at all."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.long import houses
from tests.long.houses import Ear, House
from tests.long.large_files import LargeFile, entries, written

MIB = 2**20
#: Rows of 1,000 bytes and more.
N_ROWS, WIDTH = 120_000, 150
#: Seconds for which a client doesn't read.
STALLS_S = 4.0
WITHIN_S = 30.0


def memory(house: House) -> int:
    """Resident bytes of the server."""
    (web,) = house.webs
    assert web.process is not None
    status = Path(f"/proc/{web.process.pid}/status").read_text(encoding="ascii")
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


@pytest.fixture
def large(embedded: House) -> LargeFile:
    """In the data of a server that has answered everything once that the tests ask for."""
    large = written(embedded, n_rows=N_ROWS, width=WIDTH)
    assert large.n_bytes > 100 * MIB
    embedded.webs[0].start()
    with ThreadPoolExecutor(4) as together:
        # Pools have their threads then, and threads their memory.
        assert all(together.map(lambda _: looks(embedded, large), range(16)))
    return large


def headers(house: House) -> dict[str, str]:
    return {"Authorization": f"Bearer {house.people[0].token}"}


def looks(house: House, large: LargeFile) -> bool:
    """What others do meanwhile: a page, a small part of the file."""
    (url,) = house.urls
    part = {**headers(house), "Range": "bytes=1000-1999"}
    preview = httpx.get(f"{url}{large.path}preview", headers=headers(house), timeout=10)
    return (preview.status_code, httpx.get(url + large.path, headers=part, timeout=10).status_code) == (200, 206)


class Stalling:
    """A client that asks for the file and reads when it is told to."""

    def __init__(self, house: House, large: LargeFile) -> None:
        self._socket = socket.socket()
        # What the kernel holds for it is not the server's.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        self._socket.settimeout(WITHIN_S)
        self._socket.connect(("127.0.0.1", house.webs[0].port))
        token = house.people[0].token
        asked = f"GET {large.path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        self._socket.sendall(asked.encode())
        self.n_read = 0

    def read(self, n_bytes: int) -> None:
        while self.n_read < n_bytes:
            self.n_read += len(self._socket.recv(4096))

    def read_to_the_end(self, *, silent_s: float = WITHIN_S) -> None:
        """Until the server closes or cuts the connection. Raises TimeoutError when nothing comes for so long."""
        self._socket.settimeout(silent_s)
        with suppress(ConnectionResetError):
            while got := self._socket.recv(2**16):
                self.n_read += len(got)

    def close(self) -> None:
        self._socket.close()


def until(what: Callable[[], Any]) -> Any:
    """What it gives as soon as it is true."""
    deadline = time.monotonic() + WITHIN_S
    while not (found := what()):
        assert time.monotonic() < deadline, "It did not become true."
        time.sleep(0.05)
    return found


def test_a_client_that_stops_reading_costs_no_memory_and_no_time(embedded: House, large: LargeFile) -> None:
    before = most = memory(embedded)
    n_ended = len(entries(embedded, "export.download_end"))
    client = Stalling(embedded, large)
    client.read(300_000)
    stalls_until, slowest_s, n_looks = time.monotonic() + STALLS_S, 0.0, 0
    while time.monotonic() < stalls_until:
        began = time.monotonic()
        assert looks(embedded, large)
        slowest_s, n_looks = max(slowest_s, time.monotonic() - began), n_looks + 1
        most = max(most, memory(embedded))
    client.read(2_000_000)
    client.close()
    found = until(lambda: [end for end in ends(embedded, n_ended) if end[1]["bytes_sent"] > 1000])
    print(
        f"{embedded.webs[0].program}: {(most - before) / MIB:.1f} MiB more, {n_looks} looks, slowest {slowest_s:.2f} s"
    )
    assert most - before < 30 * MIB
    assert slowest_s < 3
    ((outcome, detail),) = found
    assert (outcome, detail["complete"]) == ("failed", False)
    # Some of what the server has sent is still on its way: 256 KiB of its own, and what the kernel's buffers hold.
    assert 1_700_000 < detail["bytes_sent"] < client.n_read + 12 * MIB < large.n_bytes
    assert "Traceback" not in embedded.log


def ends(house: House, n_before: int) -> list[tuple[str, dict[str, Any]]]:
    return entries(house, "export.download_end")[n_before:]


def test_four_clients_at_full_speed_cost_no_memory(embedded: House, large: LargeFile) -> None:
    before = most = memory(embedded)
    with ThreadPoolExecutor(4) as together:
        downloads = [together.submit(downloaded, embedded, large) for _ in range(4)]
        while not all(each.done() for each in downloads):
            most = max(most, memory(embedded))
            time.sleep(0.05)
    print(f"{embedded.webs[0].program}: {(most - before) / MIB:.1f} MiB more")
    assert [each.result() for each in downloads] == [large.sha256] * 4
    assert most - before < 40 * MIB
    assert all(outcome == "ok" for outcome, _ in entries(embedded, "export.download_end"))


def downloaded(house: House, large: LargeFile) -> str:
    """The SHA-256 of the file as it came."""
    digest = hashlib.sha256()
    with httpx.stream("GET", house.urls[0] + large.path, headers=headers(house), timeout=60) as answer:
        for piece in answer.iter_bytes():
            digest.update(piece)
    return digest.hexdigest()


def test_daphne_cuts_the_connection_of_who_does_not_go_on_reading(tmp_path: Path, prepared: Path, ear: Ear) -> None:
    house = houses.embedded(tmp_path / "house", prepared, ear, program="daphne")
    (web,) = house.webs
    web.variables = {**web.variables, "DJANGO_SETTINGS_MODULE": "tests.long.settings_stalling"}
    large = written(house, n_rows=N_ROWS // 4, width=WIDTH)
    try:
        web.start()
        client = Stalling(house, large)
        client.read(300_000)
        # It reads nothing until the server says in its ledger that it has given up.
        ((outcome, detail),) = until(lambda: ends(house, 0))
        client.read_to_the_end()
        client.close()
        # Who reads, however slowly, is not cut: each piece in time is enough.
        slow = Stalling(house, large)
        read_slowly(slow)
        slow.close()
        web.stop()
    finally:
        house.kill()
    assert (outcome, detail["complete"]) == ("failed", False)
    assert client.n_read < large.n_bytes
    assert slow.n_read > large.n_bytes
    assert "Traceback" not in house.log


def read_slowly(client: Stalling) -> None:
    """The whole file, with a rest after each fifth of a second's worth, for longer than the server's patience."""
    client.read(6_000_000)
    rests_until = time.monotonic() + 3.0
    while time.monotonic() < rests_until:
        client.read(client.n_read + 20_000)
        time.sleep(0.02)
    # The server keeps the connection for a next request.
    with suppress(TimeoutError):
        client.read_to_the_end(silent_s=1.5)
