"""What is measured beside streams of pieces: idle sockets, threads of open streams, and a server that is killed."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

from bench import judging, procstat, wire
from bench.load import Case, Client, ask_stream, open_socket
from bench.servers import WORK, Target

_SETTLE_S = 2.0
_RESUME_TIMEOUT_S = 30.0
#: Pieces of a replay come closer together than this, new ones farther apart.
_PAUSE_NS = 10_000_000


async def idle_sockets(target: Target, n_sockets: int) -> float:
    """KiB of memory for each open socket of a conversation that does nothing."""
    await _warm_up(target)
    before = procstat.rss(target.pids)
    sockets = []
    for person in target.people[:n_sockets]:
        sockets.append(await open_socket(Client(port=target.ports[0], person=person)))
    await asyncio.sleep(_SETTLE_S)
    grown = procstat.rss(target.pids) - before
    for socket in sockets:
        socket.transport.abort()
    return grown / 1024 / len(sockets)


async def _warm_up(target: Target) -> None:
    """What the first requests load is not a socket's."""
    client = Client(port=target.ports[0], person=target.people[-1])
    await ask_stream(client, Case(kind="sse", clients=1, answers=1, pieces=20))
    for _ in range(20):
        (await open_socket(client)).transport.abort()
    await asyncio.sleep(_SETTLE_S)


async def threads_of_streams(target: Target, n_streams: int) -> int:
    """Threads of the server while so many answers are being streamed."""
    body = json.dumps({"request": "bench 60 500"}).encode()
    streams = []
    for person in target.people[:n_streams]:
        client = Client(port=target.ports[0], person=person)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {person['token']}"}
        asked = wire.post("/pipeline/stream", body, client.host, headers)
        streams.append(await wire.exchange(target.ports[0], asked))
    await asyncio.gather(*(stream.until(b"start") for stream in streams))
    n_threads = procstat.threads(target.pids[0])
    for stream in streams:
        stream.transport.abort()
    return n_threads


async def killed(target: Target) -> dict[str, float | str]:
    """Kills the server in mid-answer and starts it again on its data: seconds to the next new piece, and what was lost.

    `start_s` is how long the new process takes to accept connections; `resumed_s` counts from when it was started.
    """
    n_pieces = 150
    body = json.dumps({"request": f"bench {n_pieces} 40"}).encode()
    client = Client(port=target.ports[0], person=target.people[0])
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {client.person['token']}"}
    first = await wire.exchange(target.ports[0], wire.post("/pipeline/stream", body, client.host, headers))
    await first.until(b"w30 ")
    run_id = judging.of_stream(first.record, n_pieces).run_id
    target.kill()
    begun = wire.now()
    target.launch()
    started = wire.now()
    del headers["Content-Type"]
    followed = wire.get(f"/pipeline/runs/{run_id}/stream", client.host, headers)
    again = await wire.exchange(
        target.ports[0], followed, b'"type":"complete"', b'"type":"error"', b'"type":"cancelled"'
    )
    await asyncio.wait({again.ended}, timeout=_RESUME_TIMEOUT_S)
    again.transport.close()
    return {"start_s": (started - begun) / 1e9, **_resumed(again.record, n_pieces, begun)}


def _resumed(record: wire.Record, n_pieces: int, begun: int) -> dict[str, float | str]:
    seen = judging.of_stream(record, n_pieces)
    if not seen.is_complete:
        return {"resumed": "no: the run did not complete"}
    wrong = seen.lost + seen.doubled + seen.reordered
    # The replayed part comes in one go; the first piece after it is the first new one.
    news = [at for before, at in pairwise(seen.pieces_at) if at - before > _PAUSE_NS]
    resumed_s = ((news[0] if news else seen.last_at) - begun) / 1e9
    return {"resumed": "yes" if not wrong else f"with {wrong} pieces wrong", "resumed_s": resumed_s}


async def worker_killed(target: Target) -> float:
    """Seconds from the death of the worker that has a run to the run's going on in another."""
    client = Client(port=target.ports[0], person=target.people[0])
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {client.person['token']}"}
    body = json.dumps({"request": "bench 300 100"}).encode()
    stream = await wire.exchange(client.port, wire.post("/pipeline/stream", body, client.host, headers))
    await stream.until(b"w10 ")
    doomed = target.processes[-1]
    target.add(WORK, 0)
    while target.log.count("runs at once") <= 1:  # noqa: ASYNC110  a file tells nobody
        await asyncio.sleep(0.1)
    doomed.kill()
    begun = wire.now()
    async with asyncio.timeout(_RESUME_TIMEOUT_S):
        await stream.until(b'"attempt":2')
    stream.transport.abort()
    return (wire.now() - begun) / 1e9
