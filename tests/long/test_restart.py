"""A server that is told to stop, or killed, in mid-answer, and started again."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from tests.long.fates import all_over, begin_all, check_succeeded, undisturbed
from tests.long.houses import House
from tests.long.test_kill_worker import LASTING, report, taken_over

#: Seconds from accepting connections until every run goes on, also on a busy machine.
GOES_ON_WITHIN_S = 10.0


@pytest.mark.parametrize("ending", ["told to stop", "killed"])
async def test_an_embedded_server_goes_on_where_it_was_when_it_is_started_again(
    embedded: House, client: httpx.AsyncClient, ending: str
) -> None:
    await embedded.started(*embedded.webs)
    message = (await undisturbed(client, embedded, LASTING))["message"]
    fates = await begin_all(client, embedded, [LASTING] * 12)
    await asyncio.gather(*(fate.stream.until(lambda viewer: viewer.n_words > 10) for fate in fates))
    (web,) = embedded.webs
    if ending == "killed":
        web.kill()
    else:
        await embedded.stopped(web)
    started_at = time.monotonic()
    await embedded.started(web)
    accepting_at = time.monotonic()
    await asyncio.gather(*(fate.stream.until(lambda viewer: viewer.attempts.get("D") == 2) for fate in fates))
    print(f"{web.program}, {ending}: accepts connections after {accepting_at - started_at:.1f} s")
    report("from the start to going on", taken_over(fates, started_at))
    report("from accepting connections to going on", taken_over(fates, accepting_at))
    assert max(taken_over(fates, accepting_at)) < GOES_ON_WITHIN_S
    await all_over(fates)
    for fate in fates:
        await check_succeeded(client, embedded, fate, message=message, n_files=1)
    assert "Traceback" not in web.log
