from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from argparse import ArgumentTypeError
from typing import Any

from django.conf import settings
from django.core.checks import WARNING
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from conversations import bus, jobs, metrics, runner
from conversations.checks import trouble_with_bucket, trouble_with_database, trouble_with_redis
from conversations.execution import Executor
from conversations.hub import hub

#: Runs at once, measured on one core: they mostly wait.
_RUNS = 150
#: Seconds that a start waits for the database and its tables, which the first server makes.
_START_WITHIN_S = 60.0
#: Seconds after which a worker that was told to stop ends in any case: what it has not given back, others take over.
_STOP_WITHIN_S = 9.0


class Command(BaseCommand):
    help = "Executes runs for the servers on the same DATABASE_URL and REDIS_URL, until SIGTERM or Ctrl+C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--runs", type=_count, default=_RUNS, help=f"runs at once; default: {_RUNS}")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DISTRIBUTED:
            raise CommandError(
                "A worker needs DATABASE_URL (PostgreSQL) and REDIS_URL, the same as its servers have. "
                "Without both, `manage.py serve` executes the runs itself."
            )
        if settings.PRODUCTION:
            self.check(include_deployment_checks=True, fail_level=WARNING)
        self._wait_for_database()
        if trouble := trouble_with_redis():
            self.stderr.write(f"{trouble} What is executed here is shown a second late until it can.")
        if trouble := trouble_with_bucket():
            self.stderr.write(f"{trouble} Exports fail until it can.")
        connection.close()
        self._serve_metrics()
        asyncio.run(self._work(options["runs"]))

    def _wait_for_database(self) -> None:
        deadline, said = time.monotonic() + _START_WITHIN_S, ""
        while trouble := trouble_with_database():
            connection.close()
            if time.monotonic() >= deadline:
                raise CommandError(trouble)
            if trouble != said:
                self.stderr.write(f"Waiting. {trouble}")
                said = trouble
            time.sleep(1)

    def _serve_metrics(self) -> None:
        port = settings.OPSCHAT_METRICS_PORT
        if not port:
            return
        try:
            metrics.serve(host=settings.HOST, port=port)
        except (OSError, OverflowError) as error:
            raise CommandError(f"Can't listen on OPSCHAT_METRICS_PORT={port}: {error}") from error

    async def _work(self, n_at_once: int) -> None:
        told = _told_to_stop()
        hub.open()
        await bus.start()
        executor = Executor(engine=runner.engine(), enqueue=runner.enqueue)
        working = asyncio.create_task(jobs.work(executor.execute, n_at_once=n_at_once))
        self.stdout.write(f"opschat {settings.VERSION} executes up to {n_at_once} runs at once; Ctrl+C stops.")
        self.stdout.flush()
        await told.wait()
        _end_in_any_case()
        hub.close()
        # Cancelled first, so that it takes no job that the executor would have to give back.
        working.cancel()
        await executor.stop()
        await asyncio.gather(working, return_exceptions=True)
        await bus.stop()


def _told_to_stop() -> asyncio.Event:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    return told


def _end_in_any_case() -> None:
    """A tool's thread can't be interrupted, and a process waits for its threads: for minutes, with a long query."""
    guard = threading.Timer(_STOP_WITHIN_S, os._exit, [0])
    guard.daemon = True
    guard.start()


def _count(text: str) -> int:
    """Raises ArgumentTypeError for what is not a number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a number of runs, 1 or more")
    return int(text)
