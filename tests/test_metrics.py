"""What Prometheus reads, who may, and that the numbers are those of what happened."""

from __future__ import annotations

import runpy
import secrets
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from conversations import metrics, runs, threads
from conversations.hub import hub
from conversations.models import Run
from conversations.runner import EmbeddedRunner
from tests.calls import Answer, ask, call, calling, cookie_of, socket, token_of
from tests.databases import ROOT
from tests.ports import free_port

pytestmark = pytest.mark.django_db(transaction=True)
TOKEN = secrets.token_urlsafe(32)


async def scrape() -> dict[str, float]:
    """Sample (name and labels as written) -> value."""
    answer = await call("GET", "/metrics", authorization=f"Bearer {TOKEN}")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = [line.rsplit(" ", 1) for line in answer.body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


@pytest.fixture(autouse=True)
def token(settings: Any) -> None:
    settings.OPSCHAT_METRICS_TOKEN = TOKEN


async def test_a_run_is_counted_by_its_status(running: EmbeddedRunner, alice: User) -> None:
    before = await scrape()
    await ask(alice, "say: hello")
    after = await scrape()
    assert after['opschat_runs{status="succeeded"}'] - before['opschat_runs{status="succeeded"}'] == 1
    assert after['opschat_runs{status="running"}'] == after['opschat_runs{status="failed"}'] == 0
    assert after["opschat_database_up"] == 1


# -- Who may read it -------------------------------------------------------------------------------------------------


async def test_a_token_of_a_staff_user_reads_it(erin: User) -> None:
    answer = await call("GET", "/metrics", authorization=f"Bearer {await token_of(erin)}")
    assert (answer.status, b"opschat_viewers" in answer.body) == (200, True)


async def test_alices_token_finds_nothing_there(alice: User) -> None:
    refused(await call("GET", "/metrics", authorization=f"Bearer {await token_of(alice)}"), 404, "not_found")


async def test_nobody_else_is_let_in(erin: User) -> None:
    refused(await call("GET", "/metrics"), 401, "not_authenticated")
    refused(await call("GET", "/metrics", cookie=await cookie_of(erin)), 401, "not_authenticated")
    for wrong in (TOKEN[:-1], TOKEN + "x", "", "made-up", "\xe9"):
        refused(await call("GET", "/metrics", authorization=f"Bearer {wrong}"), 401, "not_authenticated")


async def test_without_a_metrics_token_an_empty_one_opens_nothing(settings: Any) -> None:
    settings.OPSCHAT_METRICS_TOKEN = ""
    refused(await call("GET", "/metrics", authorization="Bearer "), 401, "not_authenticated")
    refused(await call("GET", "/metrics", authorization=f"Bearer {TOKEN}"), 401, "not_authenticated")


def refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.error["code"]) == (status, code)
    assert b"opschat_" not in answer.body


def test_a_token_that_is_easily_guessed_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSCHAT_METRICS_TOKEN", "prometheus")
    with pytest.raises(ImproperlyConfigured, match="OPSCHAT_METRICS_TOKEN is not 20 ASCII characters or more"):
        runpy.run_path(str(ROOT / "opschat/settings.py"))


# -- The numbers -----------------------------------------------------------------------------------------------------


def waiting(user: User, *, stored: timedelta, conversation: Any = None) -> Run:
    """A queued run that was stored this long ago."""
    run = runs.post_message(
        conversation=conversation or runs.open_conversation(owner=user), user=user, text="Hi", context=None,
        idempotency_key=None,
    )  # fmt: skip
    Run.objects.filter(pk=run.pk).update(created_at=timezone.now() - stored)
    return run


def test_the_queue_is_as_old_as_its_oldest_run_that_could_run(alice: User) -> None:
    assert metrics.queue_age_s() == 0
    waiting(alice, stored=timedelta(seconds=40))
    waiting(alice, stored=timedelta(seconds=20))
    assert metrics.queue_age_s() == pytest.approx(40, abs=5)


def test_a_run_behind_another_of_its_conversation_is_not_waiting_for_a_worker(alice: User) -> None:
    first = waiting(alice, stored=timedelta(seconds=400))
    second = waiting(alice, stored=timedelta(seconds=300), conversation=first.conversation)
    Run.objects.filter(pk=first.pk).update(status=Run.Status.RUNNING)
    assert metrics.queue_age_s() == 0
    Run.objects.filter(pk=first.pk).update(
        status=Run.Status.SUCCEEDED, finished_at=timezone.now() - timedelta(seconds=30)
    )
    assert metrics.queue_age_s() == pytest.approx(30, abs=5)
    Run.objects.filter(pk=second.pk).update(status=Run.Status.RUNNING)
    assert metrics.queue_age_s() == 0


async def test_what_is_observed_is_shown() -> None:
    before = await scrape()
    metrics.observe_commit(0.004, 7)
    metrics.observe_lag(-0.5)
    metrics.observe_cancel(0.3)
    after = await scrape()

    def grown(name: str) -> float:
        return round(after[name] - before[name], 6)

    assert grown("opschat_commit_seconds_sum") == 0.004
    assert grown("opschat_events_total") == 7
    assert grown('opschat_event_lag_seconds_bucket{le="0.001"}') == 1
    assert grown("opschat_event_lag_seconds_sum") == 0
    assert grown('opschat_cancel_seconds_bucket{le="0.25"}') == 0
    assert grown('opschat_cancel_seconds_bucket{le="0.5"}') == 1


async def test_open_sockets_and_streams_are_counted_while_they_are_open(alice: User) -> None:
    def viewers(samples: dict[str, float]) -> list[float]:
        return [samples[f'opschat_viewers{{kind="{kind}"}}'] for kind in ("socket", "stream")]

    hub.open()
    # Nobody executes it: its stream stays open.
    run = await threads.reading(lambda: waiting(alice, stored=timedelta(0)))
    at_first = viewers(await scrape())
    page = socket(f"/ws/conversations/{run.conversation_id}/", cookie=await cookie_of(alice))
    await page.connect(timeout=5)
    await page.receive_from(timeout=5)
    authorization = f"Bearer {await token_of(alice)}"
    async with calling("GET", f"/pipeline/runs/{run.pk}/stream", authorization=authorization) as stream:
        await stream.receive_output(timeout=5)
        await stream.receive_output(timeout=5)
        assert viewers(await scrape()) == [n + 1 for n in at_first]
    await page.disconnect()
    assert viewers(await scrape()) == at_first


def test_a_worker_answers_scrapes_on_its_own_port(alice: User) -> None:
    waiting(alice, stored=timedelta(seconds=40))
    port = free_port()
    metrics.serve(host="127.0.0.1", port=port)
    scraped = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    assert '\nopschat_runs{status="queued"} 1.0\n' in scraped
    with pytest.raises(OSError, match="in use"):
        metrics.serve(host="127.0.0.1", port=port)
