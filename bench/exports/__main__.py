"""`make bench-exports`: exports and downloads, each beside what does the same work without any care.

docs/performance.md says what is compared and what was found.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench.exports import parts
from bench.exports.parts import Goal
from bench.servers import leave_core_0

#: In a folder that git does not see.
_OUT = Path(".data/bench-exports.json")


def main() -> int:
    options = _options()
    leave_core_0()
    # So that what was started is stopped too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="opschat-bench-"))
    found: list[Goal] = []
    try:
        for name in options.parts:
            for goal in parts.PARTS[name](folder / name, options):
                found.append(goal)
                print(goal.line, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"rows": options.rows, "goals": [asdict(goal) for goal in found], "load_average": os.getloadavg()}
    options.out.write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(f"\nLoad average at the end: {os.getloadavg()[0]:.1f}. As JSON: {options.out}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-exports", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="default: 1,000,000")
    parser.add_argument("--mb", type=int, default=200, help="of the file that is downloaded; default: 200")
    parser.add_argument("--entries", type=int, default=100_000, help="of the ledger; default: 100,000")
    parser.add_argument("--times", type=int, default=200, help="requests for a first byte; default: 200")
    parser.add_argument("--rounds", type=int, default=2, help="default: 2; medians are shown")
    parser.add_argument("--parts", nargs="+", choices=list(parts.PARTS), default=list(parts.PARTS))
    parser.add_argument("--out", type=Path, default=_OUT, help=f"results as JSON; default: {_OUT}")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
