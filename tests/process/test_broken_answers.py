"""An answer that breaks off when it has begun: the connection is cut, and the server goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.process.clients import api_of, ask
from tests.server import Server, running

#: Bytes that are verified together.
CHUNK = 256 * 1024


@pytest.fixture(params=["daphne", "uvicorn"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "server", program=request.param) as server:
        yield server


def receive(api: httpx.Client, address: str, received: list[bytes]) -> None:
    """Adds the pieces of an answer until it ends or breaks off."""
    with api.stream("GET", address, timeout=10) as answer:
        for part in answer.iter_raw():
            received.append(part)


@pytest.mark.one_database
@pytest.mark.whole
def test_a_file_changed_behind_its_first_chunk_cuts_its_own_connection_alone(server: Server) -> None:
    with api_of(server) as api:
        run = ask(api, "Export all assets as CSV")
        address = f"/exports/{run['response']['results'][0]['export_id']}/?format=ndjson"
        whole = api.get(address)
        sha256 = whole.headers["etag"].strip('"')
        path = server.data / "exports" / sha256[:2] / sha256
        path.write_bytes(whole.content[:-2] + b"?\n")
        for _ in range(2):
            received: list[bytes] = []
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                receive(api, address, received)
            assert b"".join(received) == whole.content[:CHUNK]
            # daphne looks after its connections once a second, and has to go on doing so.
            assert api.get(f"/pipeline/runs/{run['run_id']}").json() == run
        said = server.manage("shell", "-v", "0", "-c", ENDS)
    assert said.split() == ["failed"] * 2


#: The outcomes of the downloads that ended badly.
ENDS = """
from conversations.models import AuditEntry
for entry in AuditEntry.objects.filter(action="export.download_end", outcome="failed"):
    print(entry.outcome)
"""
