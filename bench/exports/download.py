"""Downloads of a stored export, beside the same file by a plain FileResponse under the same server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from bench import procstat
from bench.servers import Target

_MIB = 1024 * 1024
_READ = 1024 * 1024
_LOOK_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is asked for, and of whom."""

    target: Target
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def request(self) -> bytes:
        lines = {"Host": f"127.0.0.1:{self.target.ports[0]}", "Connection": "close", **self.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"GET {self.path} HTTP/1.1\r\n{head}\r\n".encode()


@dataclass(frozen=True, kw_only=True)
class Speed:
    mb_s: float
    #: MiB that the server grew while it sent.
    grown: float


def speed(source: Source, *, n_bytes: int, together: int) -> Speed:
    """Of `together` downloads at once. Raises RuntimeError when one is not whole."""
    return asyncio.run(_speed(source, n_bytes, together))


async def _speed(source: Source, n_bytes: int, together: int) -> Speed:
    before = procstat.rss(source.target.pids)
    looking = asyncio.create_task(_largest(source.target.pids[0]))
    began = time.perf_counter()
    got = await asyncio.gather(*(_get(source) for _ in range(together)))
    seconds = time.perf_counter() - began
    looking.cancel()
    largest = max(await looking, procstat.rss(source.target.pids))
    if got != [n_bytes] * together:
        raise RuntimeError(f"{source.target.name} gave {got} bytes of {n_bytes:,}.")
    return Speed(mb_s=sum(got) / seconds / 1e6, grown=(largest - before) / _MIB)


async def _largest(pid: int) -> int:
    """Bytes, until it is cancelled."""
    largest = 0
    try:
        while True:
            largest = max(largest, procstat.rss([pid]))
            await asyncio.sleep(_LOOK_S)
    except asyncio.CancelledError:
        return largest


async def _get(source: Source) -> int:
    """Bytes of the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", source.target.ports[0], limit=4 * _READ)
    writer.write(source.request)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode("latin-1"))
    n_bytes = 0
    while part := await reader.read(_READ):
        n_bytes += len(part)
    writer.close()
    return n_bytes


def first_bytes(sources: list[Source], *, times: int) -> list[float]:
    """Median milliseconds from connecting to the body's first byte, of each; asked in turn."""
    return asyncio.run(_first_bytes(sources, times))


async def _first_bytes(sources: list[Source], times: int) -> list[float]:
    found: list[list[float]] = [[] for _ in sources]
    for number in range(times + times // 4):
        for at, source in enumerate(sources):
            took = await _first_byte(source)
            # The first ones warm up.
            if number >= times // 4:
                found[at].append(took)
    return [median(each) for each in found]


async def _first_byte(source: Source) -> float:
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", source.target.ports[0])
    writer.write(source.request)
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(1)
    took = 1000 * (time.perf_counter() - began)
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode("latin-1"))
    # Its end too: the entry of one download must not be written during the next.
    await reader.read()
    writer.close()
    return took
