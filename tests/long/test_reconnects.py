"""Viewers that leave and come back at random, half of them without a word, over both transports."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from collections.abc import Callable

import httpx

from tests.long.fates import Fate, all_over, begin_all, check_succeeded, undisturbed
from tests.long.houses import House

LASTING = "plan\nrows 600\nwords 200 every 25 ms"
N_RUNS = 24
#: In all three houses together, over both transports.
N_RECONNECTS = 1000
#: Seconds; a look at the rows is taken each second, and a silent viewer's own each 15.
SEEN_WITHIN_S = 5.0


def reconnects(fates: list[Fate]) -> Counter[str]:
    """Transport -> how often the viewers came back."""
    back: Counter[str] = Counter()
    for viewer in (viewer for fate in fates for viewer in fate.viewers):
        back[viewer.kind] += viewer.n_connected - 1
    return back


async def disturbed(client: httpx.AsyncClient, house: House) -> None:
    """Every viewer of every run leaves after a few events, again and again, until they came back often enough."""
    message = (await undisturbed(client, house, LASTING))["message"]
    dice = random.Random(house.folder.name)  # noqa: S311  for tests
    back: Counter[str] = Counter()
    while back.total() < N_RECONNECTS / 3:
        fates = await begin_all(client, house, [LASTING] * N_RUNS, leaves=dice, may_jump=False)
        await all_over(fates)
        for fate in fates:
            await check_succeeded(client, house, fate, message=message, n_files=1)
        back += reconnects(fates)
    print(f"reconnects: {dict(back)}")
    assert back.keys() == {"sse", "ws"}


async def test_viewers_of_an_embedded_server_come_back_to_the_same_text(
    embedded: House, client: httpx.AsyncClient
) -> None:
    await embedded.started(*embedded.webs)
    await disturbed(client, embedded)


async def test_viewers_come_back_to_any_web_server(many: Callable[..., House], client: httpx.AsyncClient) -> None:
    house = many()
    await house.started(house.add_worker(), house.add_web(), house.add_web(program="uvicorn"))
    await disturbed(client, house)


async def test_viewers_come_back_where_the_bus_loses_messages(
    many: Callable[..., House], client: httpx.AsyncClient
) -> None:
    house = many(dropped=0.1)
    await house.started(house.add_worker(), house.add_web(), house.add_web(program="uvicorn"))
    await disturbed(client, house)


async def test_nobody_waits_long_where_the_bus_loses_messages(
    many: Callable[..., House], client: httpx.AsyncClient
) -> None:
    house = many(dropped=0.1)
    await house.started(house.add_worker(), house.add_web(), house.add_web(program="uvicorn"))
    fates = await begin_all(client, house, ["words 60 every 25 ms"] * 40, may_jump=False)
    await all_over(fates)
    late = [ended_at - stored_at(house, fate) for fate in fates for ended_at in end_seen_at(fate)]
    print(f"the end was seen after: median {statistics.median(late):.2f} s, at most {max(late):.2f} s")
    assert max(late) < SEEN_WITHIN_S


def end_seen_at(fate: Fate) -> list[float]:
    """By each viewer, as time.time()."""
    now, then = time.time(), time.monotonic()
    return [now - (then - viewer.seen_at[viewer.cursor]) for viewer in fate.viewers]


def stored_at(house: House, fate: Fate) -> float:
    rows = house.query("SELECT extract(epoch FROM finished_at)::float FROM conversations_run WHERE id=%s", fate.run_id)
    at: float = rows[0][0]
    return at
