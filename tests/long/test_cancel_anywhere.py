"""Stop, pressed at another process than the one that executes, in every stage, with and without a bus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.long.fates import STAGES, Fate, all_over, begin_all, replayed
from tests.long.houses import House

#: Seconds for what takes a second at most on a machine that has nothing else to do.
SLACK_MS = 2500


def request_of(stage: str) -> str:
    return f"plan\nrows 1200\nhang {stage}\nwords 20 every 1 ms"


def is_in(stage: str) -> Callable[[Any], bool]:
    if stage == "D":
        return lambda stream: stream.n_words == 20
    return lambda stream: stage in stream.attempts


async def cancelled(client: httpx.AsyncClient, url: str, fate: Fate) -> int:
    """The status of the answer."""
    headers = {"Authorization": f"Bearer {fate.asked.person.token}"}
    return (await client.post(f"{url}/pipeline/runs/{fate.run_id}/cancel", headers=headers)).status_code


async def cancelled_in_every_stage(client: httpx.AsyncClient, house: House) -> list[float]:
    """Milliseconds that each took to end."""
    fates = await begin_all(client, house, [request_of(stage) for stage in STAGES], may_jump=False)
    for stage, fate in zip(STAGES, fates, strict=True):
        await fate.stream.until(is_in(stage))
        assert await cancelled(client, house.urls[1], fate) == 202
    await all_over(fates)
    for number, (stage, fate) in enumerate(zip(STAGES, fates, strict=True)):
        await check_cancelled(client, house, fate, ran=STAGES[:number], stopped_in=stage)
    return [fate.stream.events[-1]["stop_ms"] for fate in fates]


async def check_cancelled(
    client: httpx.AsyncClient, house: House, fate: Fate, *, ran: list[str], stopped_in: str
) -> None:
    event = fate.stream.events[-1]
    assert (event["type"], fate.page.status) == ("cancelled", "cancelled")
    assert (event["ran"], event["not_run"]) == (ran, STAGES[len(ran) :])
    assert fate.stream.ended_stages == ran
    # What was said so far stays, in the rows and on the page.
    n_said = 20 if stopped_in == "D" else 0
    assert (fate.stream.n_words, fate.page.n_words) == (n_said, n_said)
    late = await replayed(client, house, fate.asked)
    assert (late.cursor, late.text) == (fate.stream.cursor, event["message"])
    rows = house.query("SELECT max(seq), count(*) FROM conversations_runevent WHERE run_id = %s", fate.run_id)
    assert rows == [(fate.stream.cursor, fate.stream.cursor)]
    assert await cancelled(client, house.urls[0], fate) == 409


@pytest.mark.parametrize(("dropped", "within_ms"), [(0.0, 2000), (1.0, 2500 + SLACK_MS)], ids=["bus", "no-bus"])
async def test_a_run_is_stopped_in_every_stage_from_another_process(
    many: Callable[..., House], client: httpx.AsyncClient, dropped: float, within_ms: float
) -> None:
    house = many(dropped=dropped)
    await house.started(house.add_worker(), house.add_web(), house.add_web(program="uvicorn"))
    stop_ms = await cancelled_in_every_stage(client, house)
    print(f"stop_ms with {dropped:.0%} of the bus' messages lost: {stop_ms}")
    assert max(stop_ms) < within_ms


async def test_two_who_stop_a_run_at_once_stop_it_once(many: Callable[..., House], client: httpx.AsyncClient) -> None:
    house = many()
    await house.started(house.add_worker(), house.add_web(), house.add_web(program="uvicorn"))
    fates = await begin_all(client, house, ["words 500 every 20 ms"] * 10, may_jump=False)
    for number, fate in enumerate(fates):
        await fate.stream.until(lambda stream, number=number: stream.n_words > number)
        answers = await asyncio.gather(*(cancelled(client, url, fate) for url in house.urls))
        assert 202 in answers
        assert set(answers) <= {202, 409}
    await all_over(fates)
    for fate in fates:
        assert fate.stream.status == "cancelled"
        assert fate.page.n_words == fate.stream.n_words
        late = await replayed(client, house, fate.asked)
        assert late.cursor == fate.stream.cursor


async def test_what_waits_is_stopped_at_once_and_its_conversation_goes_on(
    many: Callable[..., House], client: httpx.AsyncClient
) -> None:
    house = many()
    await house.started(house.add_worker(), house.add_web(), house.add_web(program="uvicorn"))
    (first,) = await begin_all(client, house, ["hang E"], may_jump=False)
    inside = {"session_id": first.asked.conversation_id}
    waiting, last = await begin_all(client, house, ["words 5 every 1 ms"] * 2, fields=inside, of=house.people[0])
    assert await cancelled(client, house.urls[1], waiting) == 202
    await waiting.over()
    assert waiting.stream.status == "cancelled"
    assert await cancelled(client, house.urls[1], first) == 202
    await all_over([first, waiting, last])
    assert [fate.stream.status for fate in (first, waiting, last)] == ["cancelled", "cancelled", "succeeded"]
