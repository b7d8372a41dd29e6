"""Thirty people for minutes: they ask, stop, reload, leave; nothing may grow, nothing may go wrong."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from tests.long.fates import begin, undisturbed
from tests.long.houses import House
from tests.long.people import Person
from tests.long.test_cancel_anywhere import cancelled

N_USERS = 30
LASTS_S = float(os.environ.get("OPSCHAT_TEST_SOAK_S", "240"))
#: Pools of threads and of connections are made as they are needed.
WARMS_S = LASTS_S / 4
#: How much more there may be at the end.
MORE = {"tasks": 3, "threads": 4, "files": 12, "megabytes": 40}


async def use(client: httpx.AsyncClient, house: House, person: Person, until: float) -> dict[str, int]:
    """What one person does; how often what came of it."""
    dice = random.Random(person.token)  # noqa: S311  for tests
    outcomes = {"succeeded": 0, "cancelled": 0}
    while time.monotonic() < until:
        request = dice.choice(["rows 600\nwords 30 every 40 ms", "words 60 every 30 ms", "plan\nrows 5000", "csv"])
        fate = await begin(client, house, request, person=person, leaves=dice, may_jump=False)
        if "words" in request and dice.random() < 0.3:
            await fate.stream.until(lambda stream: stream.n_words > 3)
            assert await cancelled(client, house.urls[0], fate) in (202, 409)
        await fate.over()
        assert fate.page.status == fate.stream.status
        assert fate.page.n_words == fate.stream.n_words
        outcomes[fate.stream.status] += 1
        await reload(client, house, person, fate.asked.conversation_id)
    return outcomes


async def reload(client: httpx.AsyncClient, house: House, person: Person, conversation_id: str) -> None:
    headers = {"Cookie": f"sessionid={person.session}", "Accept": "text/html"}
    page = await client.get(f"{house.urls[0]}/conversations/{conversation_id}/", headers=headers)
    assert page.status_code == 200
    assert "data-run-status=" in page.text


async def held(client: httpx.AsyncClient, house: House) -> Mapping[str, float]:
    """What the server holds when nobody uses it."""
    found: dict[str, float] = json.loads((await undisturbed(client, house, "held"))["message"])
    process = house.webs[0].process
    assert process is not None
    status = await asyncio.to_thread(Path(f"/proc/{process.pid}/status").read_text)
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert resident is not None
    return {**found, "megabytes": int(resident[1]) / 1024}


async def used(client: httpx.AsyncClient, house: House, seconds: float) -> dict[str, int]:
    until = time.monotonic() + seconds
    outcomes = await asyncio.gather(*(use(client, house, person, until) for person in house.people[:N_USERS]))
    return {status: sum(outcome[status] for outcome in outcomes) for status in outcomes[0]}


@pytest.mark.parametrize("embedded", ["daphne"], indirect=True)
async def test_nothing_grows_while_thirty_people_use_a_server(embedded: House, client: httpx.AsyncClient) -> None:
    await embedded.started(*embedded.webs)
    await used(client, embedded, WARMS_S)
    before = await held(client, embedded)
    outcomes = await used(client, embedded, LASTS_S - WARMS_S)
    after = await held(client, embedded)
    print(f"runs: {outcomes}; held before: {before}; after: {after}")
    assert min(outcomes.values()) > 0
    assert {name for name, most in MORE.items() if after[name] > before[name] + most} == set(), (before, after)
    await embedded.stopped(*embedded.webs)
    log = embedded.log
    assert not re.search(r" (ERROR|CRITICAL) |Traceback", log), log[-5000:]
