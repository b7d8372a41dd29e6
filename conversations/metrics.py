"""What this process measures, in the words of Prometheus. Numbers only: no name, text or address of anybody.

The histograms and viewers are this process's own. What is counted from rows (`opschat_runs`, the queue) is the same in
every process that reads the same database.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Literal

from django.db import DatabaseError, connection
from django.db.models import Count, Exists, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from conversations.models import Run

#: The answer's Content-Type: Prometheus' text format.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["socket", "stream"]

_FAST = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.25, 0.5, 1, 2.5, 5, 10, 20)
_commits = Histogram("opschat_commit_seconds", "Time of a group commit of the event writer.", buckets=_FAST)
_events = Counter("opschat_events", "Events stored by this process.")
_lag = Histogram(
    "opschat_event_lag_seconds", "From the commit of a batch of events until a viewer was sent it.", buckets=_FAST
)
_cancels = Histogram(
    "opschat_cancel_seconds",
    "From the request to stop a run until the run had stopped.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_viewers = Gauge("opschat_viewers", "Open sockets of pages and streams of the API.", ["kind"])
_viewers.labels("socket")
_viewers.labels("stream")


def observe_commit(seconds: float, n_events: int) -> None:
    """One group commit of this process's event writer."""
    _commits.observe(seconds)
    _events.inc(n_events)


def observe_lag(seconds: float) -> None:
    """How long after its commit a viewer was sent a batch. Clocks of two machines may differ: never below 0."""
    _lag.observe(max(0.0, seconds))


def observe_cancel(seconds: float) -> None:
    _cancels.observe(seconds)


@contextmanager
def viewing(kind: Kind) -> Iterator[None]:
    """An open viewer, for as long as it is."""
    viewers = _viewers.labels(kind)
    viewers.inc()
    try:
        yield
    finally:
        viewers.dec()


# -- From the rows ---------------------------------------------------------------------------------------------------


def queue_age_s(now: datetime | None = None) -> float:
    """Seconds for which the longest waiting run could have run: since it was stored, or the one before it ended."""
    earlier = Run.objects.filter(conversation=OuterRef("conversation"), position__lt=OuterRef("position"))
    before = earlier.order_by("-position").values("finished_at")[:1]
    could_run: QuerySet[Run] = Run.objects.filter(~Exists(earlier.unfinished()), status=Run.Status.QUEUED)
    since: datetime | None = (
        could_run.annotate(since=Greatest("created_at", Coalesce(Subquery(before), "created_at")))
        .order_by("since")
        .values_list("since", flat=True)
        .first()
    )
    return max(0.0, ((now or timezone.now()) - since).total_seconds()) if since else 0.0


def runs_by_status() -> dict[str, int]:
    """Every status, also those that no run has."""
    counted = dict(Run.objects.order_by().values_list("status").annotate(Count("pk")))
    return {status: counted.get(status, 0) for status in Run.Status.values}


class _Rows(Collector):
    """Counts at every scrape, in the thread of the scrape. Without a database the process's own numbers remain."""

    def __init__(self, *, is_asked: bool = True) -> None:
        self._is_asked = is_asked

    def collect(self) -> Iterator[Metric]:
        found = self._found() if self._is_asked else []
        yield GaugeMetricFamily("opschat_database_up", "1: the database answered.", value=1 if found else 0)
        yield from found

    def _found(self) -> list[Metric]:
        try:
            return _counted()
        except DatabaseError:
            return []
        finally:
            # The thread may be made for this scrape alone.
            connection.close()


def _counted() -> list[Metric]:
    runs = GaugeMetricFamily("opschat_runs", "Stored runs by status.", labels=["status"])
    for status, n_runs in runs_by_status().items():
        runs.add_metric([status], n_runs)
    about = "How long the longest waiting run could have run already; 0: none waits."
    return [runs, GaugeMetricFamily("opschat_queue_age_seconds", about, value=queue_age_s())]


def _registry(rows: _Rows) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(REGISTRY)
    registry.register(rows)
    return registry


# -- Serving ---------------------------------------------------------------------------------------------------------

_everything = _registry(_Rows())
_without_rows = _registry(_Rows(is_asked=False))


def text() -> bytes:
    """Everything, for a scrape. Waits for the database: never on the event loop."""
    return generate_latest(_everything)


def text_without_rows() -> bytes:
    """The same while the database doesn't answer. Waits for nothing."""
    return generate_latest(_without_rows)


def serve(*, host: str, port: int) -> None:
    """Answers scrapes in a thread of its own, to everybody who reaches the address: for processes without HTTP.

    Raises OSError when the address is taken.
    """
    start_http_server(port, addr=host, registry=_everything)
