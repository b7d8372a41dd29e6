"""The benchmark's judgement: what it would say of a server that loses, doubles or swaps pieces, and of ours."""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import judging
from bench.exports import parts
from bench.exports.parts import Goal
from bench.load import Case, Row, drive
from bench.servers import Data, Target, embedded
from bench.wire import Record
from tests.ports import free_port

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def streamed(*pieces: str, ended: bool = True) -> Record:
    """An answer of the stream whose chunks came a millisecond apart."""
    events = [{"type": "start"}, *({"type": "token", "text": piece} for piece in pieces)]
    events += [{"type": "complete", "message": "".join(pieces)}] * ended
    bodies = [f"data: {json.dumps({**event, 'run_id': 'r'})}\n\n".encode() for event in events]
    chunks = [HEAD, *(b"%x\r\n%s\r\n" % (len(body), body) for body in bodies)]
    return Record(sent_at=0, times=[1_000_000 * n for n in range(1, len(chunks) + 1)], chunks=chunks)


def drawn(*frames: str) -> Record:
    """Frames of a socket: each the text drawn after it, the last one of a run that has ended."""
    run = "00000000-0000-0000-0000-000000000000"
    head = f"<!--{run}:7-->"
    chunks = [f'{head}<div hx-swap-oob="innerHTML:#run-{run}-open"><p>{text}</p></div>' for text in frames[:-1]]
    chunks.append(f'{head}<details data-run-status="succeeded"></details><p>{frames[-1]}</p>')
    return Record(sent_at=0, times=list(range(1, len(chunks) + 1)), chunks=[chunk.encode() for chunk in chunks])


def verdict(seen: judging.Seen) -> tuple[int, int, int, bool]:
    return seen.lost, seen.doubled, seen.reordered, seen.is_complete


def test_a_whole_answer_has_nothing_wrong_and_times_for_each_piece() -> None:
    seen = judging.of_stream(streamed("w0 ", "w1 w2 "), 3)
    assert verdict(seen) == (0, 0, 0, True)
    assert (seen.first_at, seen.pieces_at) == (2_000_000, [3_000_000, 4_000_000, 4_000_000])


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (("w0 ", "w2 "), (1, 0, 0, True)),
        (("w0 ", "w1 ", "w1 ", "w2 "), (0, 1, 0, True)),
        (("w0 ", "w2 ", "w1 "), (0, 0, 1, True)),
    ],
)
def test_what_a_stream_lost_doubled_or_swapped_is_counted(
    pieces: tuple[str, ...], expected: tuple[int, int, int, bool]
) -> None:
    assert verdict(judging.of_stream(streamed(*pieces), 3)) == expected


def test_an_answer_that_breaks_off_is_not_complete() -> None:
    assert verdict(judging.of_stream(streamed("w0 ", "w1 ", ended=False), 3)) == (1, 0, 0, False)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (("w0 w1", "w0 w1 w2", "w0 w1 w2"), (0, 0, 0, True)),
        (("w0 w2", "w0 w1 w2"), (0, 0, 1, True)),
        (("w0 w1", "w0", "w0 w1 w2"), (0, 0, 1, True)),
        (("w0 w1", "w0 w1"), (1, 0, 0, True)),
        (("w0 w1", "w0 w1 w1 w2"), (0, 1, 0, True)),
    ],
)
def test_what_a_page_was_drawn_wrong_is_counted(frames: tuple[str, ...], expected: tuple[int, int, int, bool]) -> None:
    assert verdict(judging.of_socket(drawn(*frames), 3)) == expected


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("bench")
    made = embedded("uvicorn", free_port(), Data(folder=folder / "data").prepare(n_people=3))
    made.start(folder / "started")
    yield made
    made.stop()


@pytest.mark.one_database
@pytest.mark.parametrize("kind", ["sse", "ws", "floor"])
@pytest.mark.whole
def test_the_bench_sees_every_piece_of_a_real_server(target: Target, kind: str) -> None:
    row = asked(target, Case(kind=kind, clients=2, answers=4, pieces=1 if kind == "floor" else 50))
    assert (row.lost, row.doubled, row.reordered, row.incomplete) == (0, 0, 0, 0)
    assert row.facts["pieces"] == (4 if kind == "floor" else 200)
    assert row.ttfe_p50 is not None


@pytest.mark.one_database
def test_delivery_counts_from_when_a_piece_was_recorded(target: Target) -> None:
    row = asked(target, Case(kind="sse", clients=1, answers=1, pieces=20, pace_ms=5))
    assert row.delivery_p50 is not None
    assert row.delivery_p50 > 0


@pytest.mark.one_database
@pytest.mark.whole
def test_the_parts_of_bench_exports_give_a_number_for_every_goal(tmp_path: Path) -> None:
    options = Namespace(rows=300, mb=1, entries=50, times=8, rounds=1)
    found = {name: list(part(tmp_path / name, options)) for name, part in parts.PARTS.items() if name != "postgres"}
    assert {name: len(goals) for name, goals in found.items()} == {"sqlite": 6, "downloads": 10, "ledger": 1}
    assert all(goal.found >= 0 and goal.line for goals in found.values() for goal in goals)


@pytest.mark.parametrize(
    ("goal", "is_met"),
    [
        (Goal(what="a", found=0.6, wanted=0.65), False), (Goal(what="a", found=0.65, wanted=0.65), True),
        (Goal(what="a", found=80.1, wanted=80, is_most=True), False), (Goal(what="a", found=1), True),
    ],
)  # fmt: skip
def test_a_missed_goal_is_called_missed(goal: Goal, is_met: bool) -> None:
    assert (goal.is_met, "MISSED" in goal.line) == (is_met, not is_met)


def asked(target: Target, case: Case) -> Row:
    return asyncio.run(drive(target, case))
