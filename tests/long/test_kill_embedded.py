"""kill -9 of the embedded server at every event of a run: whoever comes back sees it finished, and nothing twice."""

from __future__ import annotations

import asyncio
import time

import httpx

from tests.long.fates import N_FILES, WHOLE, Fate, all_over, begin, begin_all, check, check_succeeded, undisturbed
from tests.long.houses import House

CHANGE = "change {key}\nwords 3 every 1 ms"


async def n_steps(client: httpx.AsyncClient, house: House, request: str) -> int:
    """Of a whole run of it."""
    fate = await begin(client, house, f"{request}\nhold 1:9999", person=house.people[0])
    told = await house.ear.hear_of([fate.run_id])
    await fate.over()
    n: int = told[fate.run_id]["n"]
    return n


async def killed_and_started(house: House) -> float:
    """Seconds until it accepts connections again."""
    house.kill()
    began = time.monotonic()
    await house.started(*house.webs)
    return time.monotonic() - began


async def test_a_server_killed_at_every_event_loses_and_doubles_nothing(
    embedded: House, client: httpx.AsyncClient
) -> None:
    await embedded.started(*embedded.webs)
    expected = await undisturbed(client, embedded, WHOLE)
    n = await n_steps(client, embedded, WHOLE)
    assert n > 12
    requests = [f"{WHOLE}\nhold 1:{at}{how}" for at in range(n + 1) for how in ("", " quietly")]
    fates = await begin_all(client, embedded, requests)
    await embedded.ear.hear_of([fate.run_id for fate in fates])
    await killed_and_started(embedded)
    await all_over(fates)
    for fate in fates:
        await check_succeeded(client, embedded, fate, message=expected["message"], n_files=N_FILES)


async def test_a_server_killed_twice_at_every_event_goes_on_a_third_time(
    embedded: House, client: httpx.AsyncClient
) -> None:
    await embedded.started(*embedded.webs)
    expected = await undisturbed(client, embedded, WHOLE)
    n = await n_steps(client, embedded, WHOLE)
    requests = [f"{WHOLE}\nhold 1:{at} 2:{(at * 7) % (n - at)}" for at in range(n - 1)]
    fates = await begin_all(client, embedded, requests)
    held = await embedded.ear.held([fate.run_id for fate in fates])
    assert len(held) > n / 2
    await killed_and_started(embedded)
    await embedded.ear.hear_of(held, attempt=2)
    await killed_and_started(embedded)
    await all_over(fates)
    for fate in fates:
        await check_succeeded(client, embedded, fate, message=expected["message"], n_files=N_FILES)


async def test_a_server_killed_in_the_midst_of_a_transaction_goes_on(
    embedded: House, client: httpx.AsyncClient
) -> None:
    await embedded.started(*embedded.webs)
    expected = await undisturbed(client, embedded, WHOLE)
    n = await n_steps(client, embedded, WHOLE)
    for at in (0, n // 2, "end"):
        fate = await begin(client, embedded, f"{WHOLE}\ndie 1:{at}", person=embedded.people[0])
        process = embedded.webs[0].process
        assert process is not None
        assert await asyncio.to_thread(process.wait, 30) == -9
        await killed_and_started(embedded)
        await all_over([fate])
        await check_succeeded(client, embedded, fate, message=expected["message"], n_files=N_FILES)


async def test_a_tool_that_changes_something_is_called_once_at_most_wherever_the_server_is_killed(
    embedded: House, client: httpx.AsyncClient
) -> None:
    await embedded.started(*embedded.webs)
    expected = await undisturbed(client, embedded, CHANGE.format(key="undisturbed"))
    n = await n_steps(client, embedded, CHANGE.format(key="counted"))
    requests = [f"{CHANGE.format(key=f'key{at}')}\nhold 1:{at}" for at in range(n + 1)]
    fates = await begin_all(client, embedded, requests)
    await embedded.ear.hear_of([fate.run_id for fate in fates])
    await killed_and_started(embedded)
    await all_over(fates)
    n_changes = embedded.n_changes
    unknown = [await changed_once(client, embedded, fate, n_changes.get(f"key{at}", 0), expected["message"])
               for at, fate in enumerate(fates)]  # fmt: skip
    # Begun and not ended, as far as the rows know: one place in the run's way.
    assert sum(unknown) == 1


async def changed_once(client: httpx.AsyncClient, house: House, fate: Fate, n_calls: int, message: str) -> bool:
    """Whether its outcome is unknown."""
    if fate.stream.status == "succeeded":
        await check_succeeded(client, house, fate, message=message)
        assert n_calls == 1
        return False
    run = await check(client, house, fate, message="", status="failed")
    assert run["error"]["code"] == "outcome_unknown"
    assert n_calls <= 1
    return True
