"""Going on from what earlier attempts have stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conversations.pipeline.earlier import Calls, Earlier, StageRecord
from conversations.pipeline.engine import Classification, Executed, ToolCall, Understood
from conversations.pipeline.stage import StageFailed
from conversations.pipeline.tools import Column, Filter, Sort
from tests.engines import ToyTool

CALLS = tuple(ToolCall(tool="toy.make", arguments={"kind": "count", "n": n}) for n in range(3))
DONE = Executed(
    tool="toy.make", arguments={"n": 1}, kind="rows", total=2, matched=5, truncated=True,
    columns=(Column(name="n", type="number"), Column(name="text", type="text")), rows=((1, "a"), (None, "b")),
    export_id="e", refusal="",
)  # fmt: skip


def record(output: dict[str, Any], *, status: Any = "unfinished") -> StageRecord:
    return StageRecord(status=status, output=json.loads(json.dumps(output)), duration_ms=1.5, is_own=True)


class ChangingTool(ToyTool):
    read_only = False
    idempotent = False


def test_calls_that_were_done_are_left_out() -> None:
    calls = Calls(CALLS, record({"results": [DONE.to_stored()]}))
    assert list(calls.left) == list(CALLS[1:])
    assert calls.executed == [DONE]


def test_without_a_record_every_call_is_left() -> None:
    assert list(Calls(CALLS, None).left) == list(CALLS)


def test_a_begun_call_is_repeated_when_that_does_no_harm() -> None:
    calls = Calls(CALLS, record({"results": [], "calling": 0}))
    assert calls.begin(ToyTool()) == {"results": [], "calling": 0}


def test_a_begun_call_that_must_not_be_repeated_fails_the_stage() -> None:
    calls = Calls(CALLS, record({"results": [DONE.to_stored()], "calling": 1}))
    with pytest.raises(StageFailed) as failed:
        calls.begin(ChangingTool())
    assert failed.value.code == "outcome_unknown"


def test_a_call_after_the_begun_one_was_done_may_be_made() -> None:
    calls = Calls(CALLS, record({"results": [DONE.to_stored()], "calling": 0}))
    assert calls.begin(ChangingTool())["calling"] == 1


def test_what_is_noted_after_a_call_names_none_that_is_begun() -> None:
    calls = Calls(CALLS, None)
    calls.begin(ToyTool())
    assert calls.end(DONE) == {"results": [DONE.to_stored()]}


def test_a_stage_that_ended_is_reused_and_one_that_did_not_is_not() -> None:
    earlier = Earlier(
        records={
            "A": record({"intent": "help"}, status="completed"),
            "B": record({}),
            "C": record({}, status="skipped"),
        },
        attempts={"A": 1, "B": 2},
    )
    assert earlier.output_of("A") == {"intent": "help"}
    assert earlier.output_of("B") is earlier.output_of("C") is earlier.output_of("E") is None
    assert (earlier.was_skipped("C"), earlier.was_skipped("A")) == (True, False)
    assert (earlier.next_attempt("A"), earlier.next_attempt("B"), earlier.next_attempt("E")) == (2, 3, 1)


def test_a_classification_survives_being_stored() -> None:
    understood = Understood(
        filters=(Filter(field="site", op="in", value=("A", "B")), Filter(field="os", op="is_null")),
        columns=("name",), sort=(Sort(field="name", descending=True),), limit=3, group_by=("site",),
    )  # fmt: skip
    found = Classification(intent="export", understood=understood, unused_words=("please",), parsed={"tool": "t"})
    assert Classification.from_dict(json.loads(json.dumps(found.to_dict()))) == found
