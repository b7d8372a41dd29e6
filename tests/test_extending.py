"""A new stage and a new event, as CONTRIBUTING says: what `events`, `stage` and `orchestrator` are told is all.

The dictionaries and the subclass below stand for the lines that would be written in those three files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import pytest
from django.contrib.auth.models import User
from django.test import Client

from conversations import execution, threads
from conversations.models import RunEvent, StageRun
from conversations.pipeline import events, stage
from conversations.pipeline.engine import Classification, Executed, Request
from conversations.pipeline.orchestrator import Orchestrator
from conversations.runner import EmbeddedRunner
from tests.calls import ask, call, token_of

#: mypy knows the stages by their letters.
V = cast("events.StageLetter", "V")


@dataclass(frozen=True, kw_only=True)
class Remark:
    type: ClassVar[str] = "remark"
    text: str


class Verifying(Orchestrator):
    """Checks the results before it answers."""

    async def _respond(
        self, request: Request, classification: Classification, executed: list[Executed]
    ) -> dict[str, Any]:
        async with self._stage(V, {"results": len(executed)}) as verification:
            self.journal.record(cast("events.Event", Remark(text="All numbers agree.")))
            verification.output = {"agrees": True}
        return await super()._respond(request, classification, executed)


@pytest.fixture
def verifying(monkeypatch: pytest.MonkeyPatch) -> None:
    name = events.STAGES["D"]
    monkeypatch.delitem(events.STAGES, "D")
    monkeypatch.setitem(events.STAGES, V, "Verification")
    monkeypatch.setitem(events.STAGES, "D", name)
    monkeypatch.setitem(stage._STARTS, V, "Checking the numbers")
    monkeypatch.setitem(events.KINDS, Remark.type, Remark)
    monkeypatch.setattr(execution, "Orchestrator", Verifying)


@pytest.mark.usefixtures("verifying")
async def test_a_new_stage_and_a_new_event_are_stored_streamed_and_shown(alice: User, running: EmbeddedRunner) -> None:
    answer = await ask(alice, "rows 3\nHere they are:")
    kinds = [event["type"] for event in answer.events if event.get("stage") == V or event["type"] == "remark"]
    assert kinds == ["stage_start", "remark", "stage_complete"]
    run_id = answer.events[0]["run_id"]
    stored = await threads.reading(lambda: StageRun.objects.get(run=run_id, stage=V))
    assert (stored.status, stored.output) == ("completed", {"agrees": True})
    assert await threads.reading(RunEvent.objects.filter(run=run_id, type="remark").count) == 1
    bearer = f"Bearer {await token_of(alice)}"
    again = await call("GET", f"/pipeline/runs/{run_id}/stream", authorization=bearer)
    assert [e["text"] for e in again.events if e["type"] == "remark"] == ["All numbers agree."]
    run = (await call("GET", f"/pipeline/runs/{run_id}", authorization=bearer)).json()
    assert [s["stage"] for s in run["stages"]] == ["A", "B", "C", "E", V, "D"]
    page = await threads.reading(page_of, alice, run["conversation_id"])
    assert "Verification" in page


def page_of(user: User, conversation_id: str) -> str:
    client = Client(headers={"host": "localhost"})
    client.force_login(user)
    return client.get(f"/conversations/{conversation_id}/").content.decode()
