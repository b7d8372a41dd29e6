"""Valkey and PostgreSQL stop, and start again, while runs go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from tests.long.fates import Fate, all_over, begin_all, check_succeeded, undisturbed
from tests.long.houses import House, Site
from tests.long.test_kill_worker import LASTING
from tests.long.viewers import Viewer

N_RUNS = 12


async def speaking(many: Callable[..., House], client: httpx.AsyncClient) -> tuple[House, str, list[Fate]]:
    """Runs in mid-answer, and the text that each will have."""
    house = many()
    webs = house.add_web(), house.add_web(program="uvicorn")
    await house.started(house.add_worker(), house.add_worker(), *webs)
    message = (await undisturbed(client, house, LASTING))["message"]
    fates = await begin_all(client, house, [LASTING] * N_RUNS)
    await asyncio.gather(*(fate.stream.until(lambda viewer: viewer.n_words > 10) for fate in fates))
    return house, message, fates


def all_live(house: House) -> None:
    for process in house.processes:
        assert process.process is not None
        assert process.process.poll() is None, process.log


def is_past(cursor: int) -> Callable[[Viewer], bool]:
    return lambda viewer: viewer.cursor > cursor or viewer.status != ""


async def progress(fates: list[Fate]) -> None:
    """Each viewer sees something new."""
    viewers = [viewer for fate in fates for viewer in fate.viewers]
    await asyncio.gather(*(viewer.until(is_past(viewer.cursor)) for viewer in viewers))


async def test_without_valkey_everything_goes_on_and_with_it_again_at_once(
    many: Callable[..., House], client: httpx.AsyncClient, site: Site
) -> None:
    house, message, fates = await speaking(many, client)
    await asyncio.to_thread(site.valkey.stop)
    try:
        await progress(fates)
        await progress(fates)
        during = await begin_all(client, house, [LASTING] * 2)
        await asyncio.gather(*(fate.stream.until(lambda viewer: viewer.n_words > 10) for fate in during))
    finally:
        await asyncio.to_thread(site.valkey.start)
    after = await begin_all(client, house, [LASTING] * 2)
    await all_over([*fates, *during, *after])
    for fate in (*fates, *during, *after):
        run = await check_succeeded(client, house, fate, message=message, n_files=1)
        assert {stage["attempt"] for stage in run["stages"]} == {1}
    all_live(house)


@pytest.mark.parametrize("how", ["restarted", "killed"])
async def test_a_restart_of_postgresql_costs_nobody_a_word(
    many: Callable[..., House], client: httpx.AsyncClient, site: Site, how: str
) -> None:
    house, message, fates = await speaking(many, client)
    await asyncio.to_thread(site.postgres.kill if how == "killed" else site.postgres.stop)
    await asyncio.to_thread(site.postgres.start)
    await all_over(fates)
    for fate in fates:
        await check_succeeded(client, house, fate, message=message, n_files=1)
    all_live(house)
    assert (await undisturbed(client, house, LASTING))["message"] == message
