"""Drives one server: so many clients at once, each asking again when its answer has ended."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

from bench import judging, procstat, wire
from bench.judging import Seen
from bench.servers import Target

#: Seconds after which an answer is given up, and counted as not complete.
_PATIENCE_S = 60.0
_SSE_ENDS = (b'"type":"complete"', b'"type": "complete"')
#: A run on the page, and the newest event that the page shows of it.
_SHOWN = re.compile(r'id="run-([0-9a-f-]{36})"[^>]* data-seq="([0-9]+)"')
_CSRF = "benchbenchbenchbenchbenchbenchbe"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is asked of a server."""

    kind: str  # sse, ws or floor
    clients: int
    answers: int
    pieces: int = 1
    pace_ms: float = 0
    #: Seconds over which the clients begin.
    ramp_s: float = 0

    @property
    def request(self) -> str:
        return f"bench {self.pieces} {self.pace_ms:g}"


@dataclass(kw_only=True)
class Row:
    """What was measured in one case. Latencies are milliseconds."""

    ttfe_p50: float | None = None
    ttfe_p95: float | None = None
    pieces_s: float | None = None
    #: Microseconds of CPU a piece: the server's own processes, and PostgreSQL, Valkey and the like.
    cpu_us: float | None = None
    other_us: float | None = None
    #: From when the piece was recorded, or made, to when its client had it.
    delivery_p50: float | None = None
    delivery_p99: float | None = None
    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    incomplete: int = 0
    #: Share of its core that the client needed: near 100 it was what is measured.
    client_percent: float = 0.0
    bytes_a_piece: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def percentile(values: Sequence[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


async def drive(target: Target, case: Case) -> Row:
    clients = [await _client(target, case, at) for at in range(case.clients)]
    numbers, records = iter(range(case.answers)), list[wire.Record]()
    cpu, other, own, begun = procstat.cpu_s(target.pids), procstat.cpu_s(target.others), time.process_time(), wire.now()
    await asyncio.gather(*(_ask_all(client, case, numbers, records, at) for at, client in enumerate(clients)))
    cpu, other = procstat.cpu_s(target.pids) - cpu, procstat.cpu_s(target.others) - other
    own = time.process_time() - own
    for client in clients:
        client.close()
    wall_s = (max(record.times[-1] for record in records if record.times) - begun) / 1e9
    # What came is taken apart only now, when nothing is measured any more.
    seen = [_JUDGES[case.kind](record, case.pieces) for record in records]
    row = _row(seen, wall_s)
    n_asked = case.answers * case.pieces
    row.cpu_us, row.other_us, row.client_percent = 1e6 * cpu / n_asked, 1e6 * other / n_asked, 100 * own / wall_s
    if case.pace_ms and case.kind != "floor":
        late = _lateness(target, case, seen)
        row.delivery_p50, row.delivery_p99 = percentile(late, 0.5), percentile(late, 0.99)
    return row


@dataclass(kw_only=True)
class Client:
    port: int
    person: dict[str, str]
    socket: wire.Socket | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        if self.socket is not None:
            self.socket.transport.abort()


async def _client(target: Target, case: Case, at: int) -> Client:
    """Sockets are open before the clock runs, as a page's is when its user writes."""
    client = Client(port=target.port_of(at), person=target.people[at % len(target.people)])
    if case.kind == "ws":
        client.socket = await open_socket(client, await _cursor(client))
    return client


async def _cursor(client: Client) -> str:
    """Of the page: without it the socket would begin with the runs of the case before, and they have ended."""
    path, cookie = f"/conversations/{client.person['conversation']}/", f"sessionid={client.person['session']}"
    page = await wire.exchange(client.port, wire.get(path, client.host, {"Cookie": cookie}))
    shown = _SHOWN.findall(b"".join((await _answered(page)).chunks).decode())
    return f"?cursor={quote(':'.join(shown[-1]))}" if shown else ""


async def open_socket(client: Client, cursor: str = "") -> wire.Socket:
    path = f"/ws/conversations/{client.person['conversation']}/{cursor}"
    headers = {"Cookie": f"sessionid={client.person['session']}"}
    return await wire.socket(client.port, wire.upgrade(path, client.host, headers), b"data-run-status=")


async def _ask_all(client: Client, case: Case, numbers: Iterator[int], records: list[wire.Record], at: int) -> None:
    ask = {"sse": ask_stream, "floor": _ask_floor, "ws": _ask_socket}[case.kind]
    await asyncio.sleep(case.ramp_s * at / case.clients)
    for _ in numbers:
        records.append(await ask(client, case))


async def ask_stream(client: Client, case: Case) -> wire.Record:
    body = json.dumps({"request": case.request}).encode()
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream", **_token(client)}
    asked = wire.post("/pipeline/stream", body, client.host, headers)
    return await _answered(await wire.exchange(client.port, asked, *_SSE_ENDS))


async def _ask_floor(client: Client, case: Case) -> wire.Record:
    asked = wire.post("/bench/floor", b"", client.host, _token(client))
    return await _answered(await wire.exchange(client.port, asked, b"\r\n\r\n{}"))


def _token(client: Client) -> dict[str, str]:
    return {"Authorization": f"Bearer {client.person['token']}"} if "token" in client.person else {}


async def _answered(made: wire.Exchange) -> wire.Record:
    await asyncio.wait({made.ended}, timeout=_PATIENCE_S)
    made.transport.close()
    return made.record


async def _ask_socket(client: Client, case: Case) -> wire.Record:
    """As the page does: the form is posted, the answer comes over the socket."""
    assert client.socket is not None  # noqa: S101  narrows the type
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Cookie": f"sessionid={client.person['session']}; csrftoken={_CSRF}",
        "X-CSRFToken": _CSRF,
        "HX-Request": "true",
    }
    path, body = f"/conversations/{client.person['conversation']}/messages/", f"text={quote_plus(case.request)}"
    client.socket.begin()
    posted = await wire.exchange(client.port, wire.post(path, body.encode(), client.host, headers))
    client.socket.record.sent_at = posted.record.sent_at
    await asyncio.wait({client.socket.ended}, timeout=_PATIENCE_S)
    if not b"".join((await _answered(posted)).chunks).startswith(b"HTTP/1.1 200"):
        return wire.Record(sent_at=posted.record.sent_at)
    return client.socket.record


_JUDGES = {"sse": judging.of_stream, "ws": judging.of_socket, "floor": judging.of_floor}


def _row(seen: Sequence[Seen], wall_s: float) -> Row:
    ttfe = [(one.first_at - one.sent_at) / 1e6 for one in seen if one.first_at is not None]
    n_pieces = sum(len(one.pieces_at) for one in seen)
    return Row(
        ttfe_p50=percentile(ttfe, 0.5),
        ttfe_p95=percentile(ttfe, 0.95),
        pieces_s=n_pieces / wall_s,
        lost=sum(one.lost for one in seen),
        doubled=sum(one.doubled for one in seen),
        reordered=sum(one.reordered for one in seen),
        incomplete=sum(not one.is_complete for one in seen),
        bytes_a_piece=sum(one.n_bytes for one in seen) / max(1, n_pieces),
        facts={"wall_s": wall_s, "answers": len(seen), "pieces": n_pieces},
    )


def _lateness(target: Target, case: Case, seen: Sequence[Seen]) -> list[float]:
    """Milliseconds from when each piece was made to when its client had it.

    The baseline's events say when they were made. Of ours the rows know when the first piece of each token was
    recorded; the others in it follow at the pace.
    """
    late = [at - made for one in seen for at, made in zip(one.pieces_at, one.made_at, strict=False)]
    if target.data is not None:
        rows = target.recorded([one.run_id for one in seen])
        since_1970 = time.time_ns() - wire.now()
        for one in seen:
            made = _made(rows.get(one.run_id, []), case.pace_ms)
            late += [at + since_1970 - recorded for at, recorded in zip(one.pieces_at, made, strict=False)]
    return [one / 1e6 for one in late]


def _made(rows: Sequence[Sequence[Any]], pace_ms: float) -> list[int]:
    return [at + int(n * pace_ms * 1e6) for at, text in rows for n in range(text.count(" "))]
