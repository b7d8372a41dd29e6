"""What must be true of a run at its end, whatever happened to it, for whoever watched and whoever comes later."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from tests.long.houses import House
from tests.long.people import Person
from tests.long.viewers import Asked, Page, Stream, Viewer, ask, run_of

STAGES = ["A", "B", "C", "E", "D"]
#: All stages, a file with a progress, an answer with a table and typed rows.
WHOLE = "plan\nrows 1200\nwords 6 every 1 ms\ncsv"
#: How often the page offers a file of it.
N_FILES = 2


@dataclass(kw_only=True)
class Fate:
    """A run, its viewers, and what a run of the same request came to that nobody disturbed."""

    asked: Asked
    stream: Stream
    page: Page
    following: list[asyncio.Task[None]] = field(default_factory=list)
    #: Who came when all was over.
    late: Stream | None = None

    @property
    def viewers(self) -> tuple[Viewer, Viewer]:
        return self.stream, self.page

    @property
    def run_id(self) -> str:
        return self.asked.run_id

    async def over(self) -> None:
        """Both viewers have seen the end."""
        await asyncio.gather(*self.following)

    def stop(self) -> None:
        for task in self.following:
            task.cancel()


async def begin(
    client: httpx.AsyncClient,
    house: House,
    request: str,
    *,
    person: Person,
    leaves: Random | None = None,
    may_jump: bool = True,
    within_s: float = 120,
    fields: Mapping[str, str] | None = None,
) -> Fate:
    """Asks, and has the run watched by both transports from now on."""
    urls = house.urls
    asked = await ask(client, urls[0], person, request, **(fields or {}))
    viewing: dict[str, Any] = {"asked": asked, "urls": urls, "client": client, "leaves": leaves}
    fate = Fate(asked=asked, stream=Stream(**viewing, may_jump=may_jump), page=Page(**viewing))
    fate.following = [asyncio.create_task(viewer.follow(within_s=within_s)) for viewer in fate.viewers]
    return fate


async def begin_all(
    client: httpx.AsyncClient, house: House, requests: Sequence[str], *, of: Person | None = None, **how: Any
) -> list[Fate]:
    """A few runs for each person, since one may have 20; or all of one's."""
    people = [of or house.people[n % len(house.people)] for n in range(len(requests))]
    return [
        await begin(client, house, request, person=person, **how)
        for request, person in zip(requests, people, strict=True)
    ]


async def all_over(fates: Sequence[Fate]) -> None:
    """Raises what a viewer found wrong; the others are not waited for then."""
    try:
        await asyncio.gather(*(fate.over() for fate in fates))
    finally:
        for fate in fates:
            fate.stop()
        await asyncio.gather(*(task for fate in fates for task in fate.following), return_exceptions=True)


async def undisturbed(client: httpx.AsyncClient, house: House, request: str) -> dict[str, Any]:
    """The run of a request that nobody disturbs."""
    fate = await begin(client, house, request, person=house.people[-1], may_jump=False)
    await fate.over()
    run = await run_of(client, house.urls[0], fate.asked)
    assert run["status"] == "succeeded"
    return run


async def check(client: httpx.AsyncClient, house: House, fate: Fate, *, message: str, status: str) -> dict[str, Any]:
    """The run; asserts that all agree on it."""
    run = await run_of(client, house.urls[-1], fate.asked)
    assert run["status"] == status, run
    assert run["message"] == message == fate.stream.text
    assert (fate.stream.status, fate.page.status) == (status, status)
    assert fate.page.n_words == message.count("w") == fate.stream.n_words
    late = await replayed(client, house, fate.asked)
    assert (late.text, late.status) == (message, status)
    assert late.ended_stages == fate.stream.ended_stages
    # What a lost attempt wrote is left out.
    assert "".join(event["text"] for event in late.events if event["type"] == "token") == message
    fate.late = late
    return run


async def check_succeeded(
    client: httpx.AsyncClient, house: House, fate: Fate, *, message: str, n_files: int = 0
) -> dict[str, Any]:
    run = await check(client, house, fate, message=message, status="succeeded")
    assert fate.stream.ended_stages == STAGES
    assert [(stage["stage"], stage["status"] in ("completed", "skipped")) for stage in run["stages"]] == [
        (letter, True) for letter in STAGES
    ]
    assert fate.page.last.count('title="Download CSV file"') == n_files, fate.page.last
    # Of files too: told anew, with their stage, when a process died.
    assert len(set(exports_of(fate.stream))) == len(exports_of(fate.stream)) >= n_files
    assert fate.late is not None
    assert len(exports_of(fate.late)) == n_files
    return run


def exports_of(stream: Stream) -> list[str]:
    return [event["export_id"] for event in stream.events if event["type"] == "export"]


async def replayed(client: httpx.AsyncClient, house: House, asked: Asked) -> Stream:
    """Who comes when all is over."""
    late = Stream(asked=asked, urls=house.urls, client=client, may_jump=True)
    await late.follow(within_s=20)
    return late
