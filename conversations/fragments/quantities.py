"""Sizes and durations in words."""

from __future__ import annotations

_KILO = 1000
_SECOND_MS = 1000
_MINUTE_MS = 60_000


def size(n_bytes: int) -> str:
    """As file managers say it, in powers of 1,000: "216 B", "412 kB", "1.3 MB"."""
    if n_bytes < _KILO:
        return f"{n_bytes} B"
    amount, unit = n_bytes / _KILO, "kB"
    for larger in ("MB", "GB", "TB"):
        if amount < _KILO:
            break
        amount, unit = amount / _KILO, larger
    return f"{amount:.0f} {unit}" if unit == "kB" else f"{amount:.1f} {unit}"


def duration(ms: float) -> str:
    """As in "3 ms", "1.2 s", "2 min 5 s"."""
    if ms < 1:
        return "<1 ms"
    if ms < _SECOND_MS:
        return f"{ms:.0f} ms"
    if ms < _MINUTE_MS:
        return f"{ms / _SECOND_MS:.1f} s"
    return f"{int(ms // _MINUTE_MS)} min {int(ms % _MINUTE_MS // _SECOND_MS)} s"
