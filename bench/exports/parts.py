"""The parts of the benchmark: each gives what it found, goal by goal."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from bench.exports import download
from bench.exports.download import Source
from bench.servers import ROOT, SERVE, Target, environment, on_core
from tests import servers as backends
from tests.ports import free_port

#: MiB that the work may need beside an idle process.
_MOST_MIB = 80.0
_MOST_GROWN_MIB = 10.0


@dataclass(frozen=True, kw_only=True)
class Goal:
    what: str
    found: float
    #: At least, or, `is_most`, at most; None: said for comparison, no goal.
    wanted: float | None = None
    is_most: bool = False
    #: What the number is made of.
    numbers: str = ""

    @property
    def is_met(self) -> bool:
        return self.wanted is None or (self.found <= self.wanted if self.is_most else self.found >= self.wanted)

    @property
    def line(self) -> str:
        said = "" if self.wanted is None else f"{'at most' if self.is_most else 'at least'} {self.wanted:,g}"
        verdict = "" if self.wanted is None else ("met" if self.is_met else "MISSED")
        return f"| {self.what} | {self.found:,.2f} | {said} | {verdict} | {self.numbers} |"


def _python(variables: Mapping[str, str], *arguments: str, is_pinned: bool = True) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(
        on_core(0, command) if is_pinned else command, cwd=ROOT, env=dict(variables), stdout=subprocess.PIPE,
        check=True, text=True,
    ).stdout  # fmt: skip


# -- Files -----------------------------------------------------------------------------------------------------------


class _Cases:
    """Cases on one database full of assets, each in a fresh process, in turn."""

    def __init__(self, folder: Path, n_rows: int, **variables: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._variables = {**environment(folder / "data", 0), "DJANGO_SETTINGS_MODULE": "opschat.settings", **variables}
        _python(self._variables, "-m", "bench.exports.assets", str(n_rows))

    def medians(self, names: Sequence[str], rounds: int) -> dict[str, dict[str, float]]:
        """Case -> rows a second and MiB beside an idle process."""
        found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(rounds):
            for name in names:
                found[name].append(json.loads(_python(self._variables, "-m", "bench.exports.cases", name, self.folder)))
        return {
            name: {
                "speed": median(row["rows"] / row["seconds"] for row in rows),
                "mib": max(row["extra_mib"] for row in rows),
            }
            for name, rows in found.items()
        }

    @property
    def folder(self) -> str:
        return str(self._folder)


def _ratio(what: str, ours: float, theirs: float, wanted: float | None, unit: str = "rows/s") -> Goal:
    return Goal(what=what, found=ours / theirs, wanted=wanted, numbers=f"{ours:,.0f} and {theirs:,.0f} {unit}")


def _memory(what: str, mib: float) -> Goal:
    return Goal(what=f"{what}: MiB beside an idle process", found=mib, wanted=_MOST_MIB, is_most=True)


def sqlite(folder: Path, options: Namespace) -> Iterator[Goal]:
    """CSV and XLSX; one part, because the workbook is made of the CSV."""
    cases = _Cases(folder, options.rows)
    found = cases.medians(["bare_loop", "guarded_csv", "export"], options.rounds)
    bare, csv, whole = (found[name] for name in ("bare_loop", "guarded_csv", "export"))
    yield _ratio("CSV on SQLite × bare loop", csv["speed"], bare["speed"], 0.65)
    yield _memory("CSV on SQLite", csv["mib"])
    yield _ratio("the whole export on SQLite × bare loop", whole["speed"], bare["speed"], None)
    yield _memory("the whole export on SQLite", whole["mib"])
    found = cases.medians(["workbook", "xlsxwriter_workbook"], 1)
    yield _ratio("XLSX × XlsxWriter", found["workbook"]["speed"], found["xlsxwriter_workbook"]["speed"], 4)
    yield _memory("XLSX", found["workbook"]["mib"])


def postgres(folder: Path, options: Namespace) -> Iterator[Goal]:
    with backends.postgres() as server:
        cases = _Cases(folder, options.rows, DATABASE_URL=server.url)
        found = cases.medians(["bare_copy", "export"], options.rounds)
    yield _ratio(
        "the whole export on PostgreSQL × bare COPY", found["export"]["speed"], found["bare_copy"]["speed"], 0.5
    )
    yield _memory("the whole export on PostgreSQL", found["export"]["mib"])


# -- Downloads -------------------------------------------------------------------------------------------------------

_PLAIN = {
    "daphne": ("-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p"),
    "uvicorn": ("-m", "uvicorn", "--log-level", "warning", "--no-access-log", "--port"),
}


def downloads(folder: Path, options: Namespace) -> Iterator[Goal]:
    for program, serve_plain in _PLAIN.items():
        data = folder / program / "data"
        made = json.loads(
            _python(environment(data, 0), "-m", "bench.exports.stored", str(options.mb * 10**6), is_pinned=False)
        )
        variables = {"OPSCHAT_DATA_DIR": str(data)}
        ours = Target(name=program, ports=[free_port()], commands=[[*SERVE, program]], variables=variables)
        port = free_port()
        command = [sys.executable, *serve_plain, str(port), "bench.exports.plain:application"]
        plain = Target(
            name=f"plain {program}", ports=[port], commands=[command], variables={"BENCH_FILE": made["file"]}
        )
        try:
            ours.start(folder / program / "ours")
            plain.start(folder / program / "plain")
            yield from _downloads(program, ours, plain, made, options)
        finally:
            ours.stop()
            plain.stop()


def _downloads(
    program: str, ours: Target, plain: Target, made: Mapping[str, Any], options: Namespace
) -> Iterator[Goal]:
    large = Source(target=ours, path=made["large"], headers={"Authorization": f"Bearer {made['token']}"})
    small = replace(large, path=made["small"])
    static = Source(target=ours, path="/static/conversations/opschat.css")
    at_cached, at_static = download.first_bytes([small, static], times=options.times)
    yield Goal(
        what=f"{program}: first byte of a cached download × a static file's", found=at_cached / at_static, wanted=2,
        is_most=True, numbers=f"{at_cached:.1f} and {at_static:.1f} ms",
    )  # fmt: skip
    theirs = Source(target=plain, path="/whole")
    for together in (1, 4):
        pairs = [
            [download.speed(each, n_bytes=made["n_bytes"], together=together) for each in (large, theirs)]
            for _ in range(options.rounds + 1)
        ]
        ours_mb, plain_mb = (median(pair[at].mb_s for pair in pairs) for at in (0, 1))
        yield _ratio(f"{program}: download, {together} at once × FileResponse", ours_mb, plain_mb, 1, "MB/s")
        grown, theirs_grown = (max(pair[at].grown for pair in pairs) for at in (0, 1))
        yield Goal(
            what=f"{program}: MiB that the server grows, {together} at once", found=grown, wanted=_MOST_GROWN_MIB,
            is_most=True, numbers=f"FileResponse: {theirs_grown:,.0f}",
        )  # fmt: skip


# -- The ledger ------------------------------------------------------------------------------------------------------


def ledger(folder: Path, options: Namespace) -> Iterator[Goal]:
    told = _python(environment(folder, 0), "-m", "bench.ledger", str(options.entries))
    verified = [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) entries/s verified", told)]
    yield Goal(what="ledger: entries verified a second", found=median(verified), wanted=20_000)


PARTS: dict[str, Callable[[Path, Namespace], Iterator[Goal]]] = {
    part.__name__: part for part in (sqlite, postgres, downloads, ledger)
}
