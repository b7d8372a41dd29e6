"""What people and scripts do with a server from outside."""

from __future__ import annotations

import json
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.people import PASSWORD
from tests.server import Server


def api_of(server: Server, username: str = "alice") -> httpx.Client:
    """A script with a token."""
    token = server.token_of(username)
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=20)


def ask(api: httpx.Client, request: str) -> dict[str, Any]:
    """The finished run."""
    answer: dict[str, Any] = api.post("/pipeline", json={"request": request}).raise_for_status().json()
    return answer


def download(api: httpx.Client, run: dict[str, Any]) -> bytes:
    (result,) = run["response"]["results"]
    return api.get(f"/exports/{result['export_id']}/").raise_for_status().content


def begin(api: httpx.Client, request: str, *, until: bytes) -> str:
    """Follows a run of one conversation until its stream shows these bytes, then goes away; the run's id."""
    seen = b""
    with api.stream("POST", "/pipeline/stream", json={"request": request, "session_id": "one"}) as answer:
        pieces = answer.iter_bytes()
        while until not in seen:
            seen += next(pieces)
    run_id: str = json.loads(seen.split(b"data: ")[1].split(b"\n")[0])["run_id"]
    return run_id


class Browser:
    """A signed-in page in its newest conversation: forms are posted, what happens comes through the socket."""

    def __init__(self, server: Server, username: str) -> None:
        self.server = server
        self.http = httpx.Client(base_url=server.url, timeout=20, headers={"Accept": "text/html"})
        self.http.get("/accounts/login/")
        page = self.post("/accounts/login/", username=username, password=PASSWORD)
        self.path = page.url.path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def post(self, path: str, **fields: str) -> httpx.Response:
        form = {**fields, "csrfmiddlewaretoken": self.http.cookies["csrftoken"]}
        return self.http.post(path, data=form, follow_redirects=True).raise_for_status()

    def say(self, text: str) -> None:
        self.post(f"{self.path}messages/", text=text)

    def socket(self) -> ClientConnection:
        """The socket of the conversation; the caller closes it."""
        cookie = f"sessionid={self.http.cookies['sessionid']}"
        address = f"ws://{urlsplit(self.server.url).netloc}/ws{self.path}"
        return connect(address, origin=Origin(self.server.url), additional_headers={"Cookie": cookie})
