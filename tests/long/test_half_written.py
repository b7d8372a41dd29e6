"""Files that are not written to their end: kill -9, a stop by the user, no room. Never a part of one is offered."""

from __future__ import annotations

import hashlib
import io
import resource
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from python_calamine import CalamineWorkbook

from tests.long import houses
from tests.long.houses import Ear, House
from tests.long.large_files import entries, written

MIB = 2**20
#: Rows of some 20 bytes: they take seconds to write.
N_ROWS = 2_000_000
#: Rows whose workbook takes seconds.
N_CELLS = 300_000
WITHIN_S = 90.0


@pytest.fixture
def house(tmp_path: Path, prepared: Path, ear: Ear) -> Iterator[House]:
    """One server that executes by itself, started."""
    house = houses.embedded(tmp_path / "house", prepared, ear)
    house.webs[0].start()
    yield house
    house.kill()


def client_of(house: House) -> httpx.Client:
    headers = {"Authorization": f"Bearer {house.people[0].token}"}
    return httpx.Client(base_url=house.urls[0], headers=headers, timeout=WITHIN_S)


def asked(house: House, request: str) -> str:
    """The id of the run, which goes on."""
    with client_of(house) as api, api.stream("POST", "/pipeline/stream", json={"request": request}) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                return str(httpx.Response(200, text=line[6:]).json()["run_id"])
    raise AssertionError("The stream ended before its first event.")


def run_of(house: House, run_id: str) -> dict[str, Any]:
    with client_of(house) as api:
        found: dict[str, Any] = api.get(f"/pipeline/runs/{run_id}").raise_for_status().json()
    return found


def ended(house: House, run_id: str) -> dict[str, Any]:
    until(lambda: run_of(house, run_id)["status"] not in ("queued", "running"))
    return run_of(house, run_id)


def until(what: Callable[[], Any]) -> Any:
    """What it gives as soon as it is true."""
    deadline = time.monotonic() + WITHIN_S
    while not (found := what()):
        assert time.monotonic() < deadline, "It did not become true."
        time.sleep(0.02)
    return found


def scratch(house: House) -> list[Path]:
    return list((house.data / "scratch").glob("export-*"))


def is_being_written(house: House, *, n_bytes: int) -> bool:
    return any(path.stat().st_size >= n_bytes for path in scratch(house))


def stored(house: House) -> list[Path]:
    """The exports folder's files, each of which must be whole: its name is its content's."""
    found = [path for path in (house.data / "exports").rglob("*") if path.is_file()]
    for path in found:
        with path.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == path.name
    return found


def test_a_server_killed_while_it_writes_an_export_leaves_none_and_writes_it_after_its_start(house: House) -> None:
    run_id = asked(house, f"rows {N_ROWS}")
    until(lambda: is_being_written(house, n_bytes=2 * MIB))
    house.kill()
    assert (stored(house), len(scratch(house))) == ([], 1)
    house.webs[0].start()
    run = ended(house, run_id)
    assert (run["status"], run["response"]["results"][0]["total"]) == ("succeeded", N_ROWS)
    (path,) = stored(house)
    assert path.read_bytes().count(b"\r\n") == N_ROWS + 1
    assert scratch(house) == []
    assert "1 half-written files" in house.log
    with client_of(house) as api:
        answer = api.get(f"/exports/{run['response']['results'][0]['export_id']}/")
    assert hashlib.sha256(answer.content).hexdigest() == path.name


def test_a_server_killed_while_it_makes_a_workbook_makes_it_anew(house: House) -> None:
    large = written(house, n_rows=N_CELLS, width=2)
    address = f"{large.path}?format=xlsx"
    with ThreadPoolExecutor(1) as beside:
        asking = beside.submit(lambda: client_of(house).get(address))
        until(lambda: scratch(house))
        house.kill()
        assert isinstance(asking.exception(), httpx.HTTPError)
    assert [path.name for path in stored(house)] == [large.sha256]
    assert len(scratch(house)) == 1
    house.webs[0].start()
    until(lambda: not scratch(house))
    with client_of(house) as api:
        answer = api.get(address).raise_for_status()
    assert zipfile.ZipFile(io.BytesIO(answer.content)).testzip() is None
    rows = CalamineWorkbook.from_filelike(io.BytesIO(answer.content)).get_sheet_by_index(0).to_python()
    assert (len(rows), rows[-1]) == (N_CELLS + 1, [float(N_CELLS - 1), f"{N_CELLS - 1} " * 2])
    assert len(stored(house)) == 2


def test_a_run_that_is_stopped_while_it_writes_an_export_leaves_no_file(house: House) -> None:
    run_id = asked(house, f"rows {N_ROWS}")
    until(lambda: is_being_written(house, n_bytes=2 * MIB))
    with client_of(house) as api:
        api.post(f"/pipeline/runs/{run_id}/cancel").raise_for_status()
    assert ended(house, run_id)["status"] == "cancelled"
    until(lambda: not scratch(house))
    assert stored(house) == []
    assert entries(house, "export.create") == []


def test_without_room_an_export_and_a_workbook_end_in_words_and_leave_no_file(house: House) -> None:
    large = written(house, n_rows=N_CELLS // 3, width=2)
    (web,) = house.webs
    assert web.process is not None
    # No file may become longer, which a process meets as it meets a full disk.
    resource.prlimit(web.process.pid, resource.RLIMIT_FSIZE, (6 * MIB, 6 * MIB))
    run = ended(house, asked(house, f"rows {N_ROWS}"))
    assert (run["status"], run["error"]["code"]) == ("failed", "storage_failed")
    assert "the disk may be full" in run["error"]["message"]
    assert scratch(house) == []
    assert [path.name for path in stored(house)] == [large.sha256]
    with client_of(house) as api:
        for key in ("xlsx", "xml"):
            refused = api.get(f"{large.path}?format={key}")
            assert (refused.status_code, refused.json()["error"]["code"]) == (507, "storage_failed")
            assert scratch(house) == []
        assert api.get(large.path).status_code == 200
    assert [path.name for path in stored(house)] == [large.sha256]
    # With room again the same request succeeds.
    web.stop()
    web.start()
    assert ended(house, asked(house, "rows 1000"))["status"] == "succeeded"
