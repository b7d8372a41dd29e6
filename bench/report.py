"""The medians of the rounds as one table, with ratios to the baseline and to the floor of the same server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from bench.load import Row

#: (target, case, clients) -> a row a round.
Rows = Mapping[tuple[str, str, int], Sequence[Row]]

_HEAD = (
    "| server | case | clients | TTFE p50 / p95 ms | × floor | pieces/s | × seed | CPU µs/piece (+ others) "
    "| delivery p50 / p99 ms | lost, doubled, out of order, incomplete |"
)
_MEDIANS = ("ttfe_p50", "ttfe_p95", "pieces_s", "cpu_us", "other_us", "delivery_p50", "delivery_p99", "client_percent")
_WORST = ("lost", "doubled", "reordered", "incomplete")


def medians(rows: Sequence[Row]) -> dict[str, Any]:
    """Of the counts of what went wrong the sum: one is too many, in whichever round."""
    found: dict[str, Any] = {}
    for name in _MEDIANS:
        values = [value for row in rows if (value := getattr(row, name)) is not None]
        found[name] = median(values) if values else None
    return found | {name: sum(getattr(row, name) for row in rows) for name in _WORST}


def table(rows: Rows) -> str:
    middle = {key: medians(found) for key, found in rows.items()}
    lines = [_HEAD, "|" + " --- |" * (_HEAD.count("|") - 1)]
    order = {target: at for at, target in enumerate(dict.fromkeys(target for target, _, _ in middle))}
    for (target, case, clients), row in sorted(middle.items(), key=lambda item: (*item[0][1:], order[item[0][0]])):
        floor = middle.get((target, "floor", clients))
        seed = middle.get(("seed", case.replace("ws", "sse"), clients))
        wrong = ", ".join(str(row[name]) for name in _WORST)
        lines.append(
            f"| {target} | {case} | {clients} | {_number(row['ttfe_p50'])} / {_number(row['ttfe_p95'])} "
            f"| {_ratio(row['ttfe_p50'], floor, 'ttfe_p50') if case != 'floor' else ''} "
            f"| {row['pieces_s']:,.0f} | {_ratio(row['pieces_s'], seed, 'pieces_s')} "
            f"| {_number(row['cpu_us'])} (+{_number(row['other_us'])}) "
            f"| {_number(row['delivery_p50'])} / {_number(row['delivery_p99'])} | {wrong} |"
        )
    return "\n".join(lines)


def facts(found: Sequence[tuple[str, str, str]]) -> str:
    """What is one number: server, what, value."""
    return "\n".join(
        ["| server | what | measured |", "| --- | --- | --- |", *(f"| {' | '.join(row)} |" for row in found)]
    )


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _ratio(value: float | None, base: Mapping[str, Any] | None, name: str) -> str:
    return f"{value / base[name]:.2f}" if value and base and base[name] else ""
