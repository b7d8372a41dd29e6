"""Workers that die, freeze or are told to stop: another takes their runs over, and nobody sees anything twice."""

from __future__ import annotations

import asyncio
import signal
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any

import httpx

from conversations import runs
from tests.long.fates import N_FILES, WHOLE, Fate, all_over, begin_all, check_succeeded, undisturbed
from tests.long.houses import House, Worker
from tests.long.test_kill_embedded import CHANGE, changed_once, n_steps

#: Seconds from a worker's death until another has its runs: a lease of 5, a look each second, a slow machine.
TAKEN_OVER_WITHIN_S = 15.0
LASTING = "plan\nrows 1200\nwords 200 every 40 ms"


async def started(many: Callable[..., House], *, n_workers: int = 2) -> House:
    """Workers and two web servers."""
    house = many()
    workers = [house.add_worker() for _ in range(n_workers)]
    await house.started(*workers, house.add_web(), house.add_web(program="uvicorn"))
    return house


def report(what: str, seconds: Sequence[float]) -> None:
    print(f"{what}: median {statistics.median(seconds):.1f} s, at most {max(seconds):.1f} s, of {len(seconds)}")


def taken_over(fates: Sequence[Fate], since: float) -> list[float]:
    """Seconds until each SSE viewer saw the answer begin anew."""
    return [fate.stream.begun_at["D"] - since for fate in fates]


def gone_on(fates: Sequence[Fate], since: float) -> list[float]:
    """Seconds until the first event that each SSE viewer saw then, if it had not seen the last one."""
    first = [min((at for at in fate.stream.seen_at.values() if at > since), default=None) for fate in fates]
    return [at - since for at in first if at is not None]


async def replaced(house: House) -> float:
    """Starts another worker, then the newest one so far is killed; when it was."""
    dying = house.workers[-1]
    await house.started(house.add_worker())
    at = time.monotonic()
    dying.kill()
    return at


async def speaking(client: httpx.AsyncClient, house: House, n_runs: int) -> list[Fate]:
    """Runs in mid-answer."""
    fates = await begin_all(client, house, [LASTING] * n_runs)
    await asyncio.gather(*(fate.stream.until(lambda viewer: viewer.n_words > 5) for fate in fates))
    return fates


def executed_by(house: House, worker: Worker, fates: Sequence[Fate]) -> list[Fate]:
    """Those of the runs that it executes now."""
    assert worker.process is not None
    owned = house.query(
        "SELECT id FROM conversations_run WHERE status = 'running' AND split_part(owner, ':', 2) = %s",
        str(worker.process.pid),
    )
    run_ids = {str(run_id) for (run_id,) in owned}
    return [fate for fate in fates if fate.run_id in run_ids]


def begun_anew(fates: Sequence[Fate]) -> Awaitable[Any]:
    return asyncio.gather(*(fate.stream.until(lambda viewer: viewer.attempts.get("D") == 2) for fate in fates))


async def test_a_worker_killed_at_every_event_loses_and_doubles_nothing(
    many: Callable[..., House], client: httpx.AsyncClient
) -> None:
    house = await started(many, n_workers=1)
    expected = await undisturbed(client, house, WHOLE)
    n = await n_steps(client, house, WHOLE)
    requests = [f"{WHOLE}\nhold 1:{at} 2:{(at * 7) % 5}{how}" for at in range(n) for how in ("", " quietly")]
    fates = await begin_all(client, house, requests)
    held = await house.ear.held([fate.run_id for fate in fates])
    assert len(held) > n
    await replaced(house)
    await house.ear.hear_of(held, attempt=2)
    killed_at = await replaced(house)
    await all_over(fates)
    seconds = gone_on(fates, killed_at)
    report("kill -9 of the next worker to going on elsewhere", seconds)
    assert max(seconds) < TAKEN_OVER_WITHIN_S
    for fate in fates:
        await check_succeeded(client, house, fate, message=expected["message"], n_files=N_FILES)


async def test_a_tool_that_changes_something_is_called_once_at_most_wherever_a_worker_is_killed(
    many: Callable[..., House], client: httpx.AsyncClient
) -> None:
    house = await started(many, n_workers=1)
    expected = await undisturbed(client, house, CHANGE.format(key="undisturbed"))
    n = await n_steps(client, house, CHANGE.format(key="counted"))
    fates = await begin_all(client, house, [f"{CHANGE.format(key=f'key{at}')}\nhold 1:{at}" for at in range(n)])
    await house.ear.hear_of([fate.run_id for fate in fates])
    await replaced(house)
    await all_over(fates)
    unknown = [
        await changed_once(client, house, fate, house.n_changes.get(f"key{at}", 0), expected["message"])
        for at, fate in enumerate(fates)
    ]
    assert sum(unknown) == 1


async def test_runs_of_a_worker_killed_while_they_speak_go_on_in_time(
    many: Callable[..., House], client: httpx.AsyncClient
) -> None:
    house = await started(many)
    message = (await undisturbed(client, house, LASTING))["message"]
    fates = await speaking(client, house, 20)
    lost = executed_by(house, house.workers[0], fates)
    killed_at = time.monotonic()
    house.workers[0].kill()
    await begun_anew(lost)
    seconds = taken_over(lost, killed_at)
    report("kill -9 of a worker in mid-answer to going on elsewhere", seconds)
    assert max(seconds) < TAKEN_OVER_WITHIN_S
    await check_all(client, house, fates, message)


async def check_all(client: httpx.AsyncClient, house: House, fates: Sequence[Fate], message: str) -> None:
    await all_over(fates)
    for fate in fates:
        await check_succeeded(client, house, fate, message=message, n_files=1)


async def test_a_worker_that_freezes_and_wakes_up_late_writes_nothing(
    many: Callable[..., House], client: httpx.AsyncClient
) -> None:
    house = await started(many)
    message = (await undisturbed(client, house, LASTING))["message"]
    fates = await speaking(client, house, 20)
    zombie = house.workers[0]
    lost = executed_by(house, zombie, fates)
    zombie.send(signal.SIGSTOP)
    frozen_at = time.monotonic()
    await begun_anew(lost)
    report("SIGSTOP of a worker to going on elsewhere", taken_over(lost, frozen_at))
    zombie.send(signal.SIGCONT)
    await check_all(client, house, fates, message)
    owners = house.query("SELECT DISTINCT owner FROM conversations_run WHERE attempt = 2")
    assert len(owners) == 1
    # It lives, and works on what comes next.
    await house.stopped(house.workers[1])
    assert (await undisturbed(client, house, LASTING))["message"] == message
    assert zombie.process is not None
    assert zombie.process.poll() is None
    # Its fence kept it off, not the numbers that were taken by then.
    assert "duplicate key" not in zombie.log, zombie.log
    assert "taken over by another process" in zombie.log or "has another owner now" in zombie.log


async def test_runs_of_a_worker_that_is_told_to_stop_go_on_elsewhere_at_once(
    many: Callable[..., House], client: httpx.AsyncClient
) -> None:
    house = await started(many)
    message = (await undisturbed(client, house, LASTING))["message"]
    fates = await speaking(client, house, 20)
    lost = executed_by(house, house.workers[0], fates)
    told_at = time.monotonic()
    await house.stopped(house.workers[0])
    print(f"SIGTERM of a worker to its end: {time.monotonic() - told_at:.1f} s")
    await begun_anew(lost)
    waited = [longest_silence(fate) for fate in lost]
    report("longest silence of a stream whose worker was told to stop", waited)
    # Given back, not found by its lease.
    assert max(waited) < runs.LEASE_S - 1
    await check_all(client, house, fates, message)


def longest_silence(fate: Fate) -> float:
    times = sorted(fate.stream.seen_at.values())
    return max(later - earlier for earlier, later in pairwise(times))
