"""`make bench`: measures opschat beside the seed baseline and prints a table.

docs/performance.md says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import cases, report, servers
from bench.load import Case, Row, drive
from bench.servers import Data, Target
from tests import servers as backends

PARTS = ("floor", "sse", "ws", "long", "paced", "idle", "threads", "kill")
SERVERS = ("seed", "uvicorn", "daphne", "distributed")
_FIRST_PORT = 8650
#: In a folder that git does not see.
_OUT = Path(".data/bench.json")


def main() -> int:
    options = _options()
    if "seed" in options.servers and not _has_fastapi(options.seed_python):
        print(
            f"The baseline needs fastapi, and {options.seed_python} hasn't got it. Name a Python that has fastapi, "
            'uvicorn, uvloop and httptools: make bench ARGS="--seed-python PATH"',
            file=sys.stderr,
        )
        return 2
    servers.leave_core_0()
    # So that what was started is stopped too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="opschat-bench-"))
    try:
        Bench(options, folder).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--full", action="store_true", help="five rounds, and twice the answers in each")
    parser.add_argument("--rounds", type=int, help="default: 3")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--servers", nargs="+", choices=SERVERS, help="default: all, distributed with --full only")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--pieces", type=int, default=200, help="of an answer that is not paced; default: 200")
    parser.add_argument("--seed-python", default=sys.executable, help="Python with fastapi for the baseline")
    parser.add_argument("--out", type=Path, default=_OUT, help=f"results as JSON; default: {_OUT}")
    options = parser.parse_args()
    options.servers = options.servers or [name for name in SERVERS if options.full or name != "distributed"]
    return options


def _has_fastapi(python: str) -> bool:
    if python == sys.executable:
        return importlib.util.find_spec("fastapi") is not None
    return subprocess.run([python, "-c", "import fastapi, uvicorn"], check=False).returncode == 0


class Bench:
    """All rounds: in each every server in turn, so that what else the machine does falls on all of them."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.rounds: int = options.rounds or (5 if options.full else 3)
        self.rows: dict[tuple[str, str, int], list[Row]] = defaultdict(list)
        self.facts: list[tuple[str, str, str]] = []
        self.n_starts = 0
        self.embedded_data: Data | None = None

    def run(self) -> None:
        with ExitStack() as started:
            _say("preparing data")
            targets = [self._target(name, started) for name in self.options.servers]
            for number in range(self.rounds):
                for target in targets:
                    _say(f"round {number + 1} of {self.rounds}: {target.name}")
                    self._measure(target, self._cases(target, is_last=number == self.rounds - 1))
            for target in targets:
                if target.data is not None:
                    self._look(target)
        self._tell()

    def _target(self, name: str, started: ExitStack) -> Target:
        if name == "seed":
            return servers.seed(_FIRST_PORT, self.options.seed_python)
        if name == "distributed":
            return self._distributed(started)
        if self.embedded_data is None:
            self.embedded_data = Data(folder=self.folder / "sqlite").prepare()
        return servers.embedded(name, _FIRST_PORT + 1, self.embedded_data)

    def _distributed(self, started: ExitStack) -> Target:
        """Its database and its Valkey run beside the client, not on the core of what is measured."""
        postgres, valkey = started.enter_context(backends.postgres()), started.enter_context(backends.valkey())
        data = Data(folder=self.folder / "postgres", postgres=postgres.url.rpartition("/")[0]).prepare()
        programs = [backend.program for backend in (postgres, valkey)]
        others = [program.process.pid for program in programs if program and program.process]
        return servers.distributed("uvicorn", [_FIRST_PORT + 2, _FIRST_PORT + 3], data, valkey.url, others)

    def _cases(self, target: Target, *, is_last: bool) -> list[tuple[str, Case]]:
        """Name and case. The long and the paced ones take their time, and are measured once unless --full."""
        kinds = ["sse"] if target.data is None else ["floor", "sse", "ws"]
        short = [kind for kind in kinds if kind in self.options.parts]
        found = [(kind, self._short(kind, n)) for kind in short for n in self.options.clients]
        if is_last or self.options.full:
            if "long" in self.options.parts:
                found.append(("sse, 2,000 pieces", Case(kind="sse", clients=100, answers=100, pieces=2000)))
            if "paced" in self.options.parts:
                found += [(f"{kind}, 50 pieces/s", _paced(kind)) for kind in kinds if kind != "floor"]
        return found

    def _short(self, kind: str, clients: int) -> Case:
        answers = {1: 30, 10: 60}.get(clients, 2 * clients) * (2 if self.options.full else 1)
        pieces = 1 if kind == "floor" else self.options.pieces
        return Case(kind=kind, clients=clients, answers=answers, pieces=pieces)

    def _measure(self, target: Target, wanted: Sequence[tuple[str, Case]]) -> None:
        self._start(target)
        try:
            asyncio.run(drive(target, Case(kind="sse", clients=4, answers=20, pieces=20)))
            for name, case in wanted:
                self.rows[(target.name, name, case.clients)].append(asyncio.run(drive(target, case)))
        finally:
            target.stop()

    def _start(self, target: Target) -> None:
        self.n_starts += 1
        target.start(self.folder / str(self.n_starts))

    def _look(self, target: Target) -> None:
        """The single numbers, each on a server of its own."""
        for part, measure in (("idle", self._idle), ("threads", self._threads), ("kill", self._kill)):
            if part in self.options.parts:
                _say(f"{part}: {target.name}")
                self._start(target)
                try:
                    measure(target)
                finally:
                    target.kill()

    def _idle(self, target: Target) -> None:
        kib = asyncio.run(cases.idle_sockets(target, servers.N_PEOPLE))
        self._fact(target, f"memory for each of {servers.N_PEOPLE:,} idle sockets", f"{kib:.0f} KiB")

    def _threads(self, target: Target) -> None:
        n_streams = 300
        n_threads = asyncio.run(cases.threads_of_streams(target, n_streams))
        self._fact(target, f"threads at {n_streams} open streams", str(n_threads))

    def _kill(self, target: Target) -> None:
        if len(target.commands) > 1:
            taken_s = asyncio.run(cases.worker_killed(target))
            self._fact(target, "worker killed in mid-answer, going on in another", f"after {taken_s:.1f} s")
            return
        found = asyncio.run(cases.killed(target))
        resumed = f" after {found['resumed_s']:.1f} s" if "resumed_s" in found else ""
        value = f"start {found['start_s']:.1f} s; resumed: {found['resumed']}{resumed}"
        self._fact(target, "killed in mid-answer, started again", value)

    def _fact(self, target: Target, what: str, value: str) -> None:
        self.facts.append((target.name, what, value))

    def _tell(self) -> None:
        load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        print(f"{report.table(self.rows)}\n\n{report.facts(self.facts)}\n\nrounds {self.rounds}; load average {load}")
        rows = [
            {
                "server": target,
                "case": case,
                "clients": n,
                **report.medians(found),
                "rounds": [r.to_dict() for r in found],
            }
            for (target, case, n), found in self.rows.items()
        ]
        result = {"rows": rows, "facts": self.facts, "load_average": os.getloadavg()}
        self.options.out.parent.mkdir(parents=True, exist_ok=True)
        self.options.out.write_text(json.dumps(result, indent=1), encoding="utf-8")
        _say(f"results as JSON: {self.options.out}")


def _paced(kind: str) -> Case:
    return Case(kind=kind, clients=50, answers=50, pieces=200, pace_ms=20, ramp_s=2)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
