"""Imports in the browser's way on real servers: a long file is taken, and a stop in the middle loses nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.process.clients import api_of, ask
from tests.server import running

PAGE = "/admin/inventory/asset/import/"
#: Rows whose import takes seconds, and MB that no other form may have.
N_ROWS = 8_000
PADDING = "x" * 150


def until(look: Callable[[], str], *texts: str) -> str:
    """The first page with one of the texts."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        page = look()
        if any(text in page for text in texts):
            return page
    raise AssertionError(f"No page with {texts} in time; the last:\n{page}")


@pytest.mark.parametrize("program", ["daphne", "uvicorn"])
@pytest.mark.whole
def test_an_import_that_a_restart_interrupts_is_completed_by_running_it_again(tmp_path: Path, program: str) -> None:
    rows = "".join(f"long-{n},{PADDING}\n" for n in range(N_ROWS))
    with running(tmp_path / "server", program=program) as server, api_of(server, "admin") as api:
        answer = api.post(PAGE, files={"file": ("long.csv", f"name,notes\n{rows}".encode())})
        assert answer.status_code == 302, answer.text
        address = answer.headers["Location"]

        def look() -> str:
            return api.get(address).raise_for_status().text

        until(look, f"{N_ROWS:,} rows")
        assert api.post(address, data={"action": "import"}).status_code == 302
        until(look, "<progress max")
        # The server answers meanwhile.
        assert ask(api, "how many routers?")["status"] == "succeeded"
        server.stop()
        assert "Traceback" not in server.log
        server.start()
        assert "The import was interrupted" in look()
        assert api.post(address, data={"action": "import"}).status_code == 302
        page = until(look, "Imported</h2>", "errornote")
        n_new, n_same = (
            int(page.split(f"{name}</th><td>")[1].split("<")[0].replace(",", "")) for name in ("Created", "Unchanged")
        )
        assert n_new + n_same == N_ROWS
        assert n_same > 0
        assert not list((server.data / "uploads").iterdir())
