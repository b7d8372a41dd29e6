"""How runs are drawn that did not go straight through: begun again, stopped, failed, gone on with."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from conversations.models import Message, Run, RunEvent
from conversations.pipeline.events import Cancelled, StageComplete, StageStart, Token
from tests.answers import answered, asked, exported, happened
from tests.test_fragments import (
    TABLE,
    drawn_answer,
    frame_of,
    running,
    stage_complete,
    stage_start,
    state_of,
    tokens,
)

pytestmark = pytest.mark.django_db


def test_a_stage_that_begins_again_takes_back_what_it_wrote_and_says_so(alice: User) -> None:
    state = running(alice, stage_complete(), stage_start("D"), *tokens("First block.\n\nSecond"))
    again = StageStart(stage="D", name="Response Generation", message="Writing the answer", attempt=2)
    drawn = frame_of(state, again)
    assert state.text == ""
    assert 'hx-swap-oob="morph"' in drawn
    assert "First block." not in drawn
    assert "started again (attempt 2)" in drawn
    assert "started again" not in frame_of(state, StageComplete(
        stage="D", name="Response Generation", status="completed", duration_ms=3, message="done"
    ))  # fmt: skip


def test_a_stage_that_begins_again_keeps_what_others_wrote(alice: User) -> None:
    state = running(alice, *tokens("Kept. "), stage_complete(), stage_start("D"), Token(text="Lost.", offset=6))
    frame_of(state, StageStart(stage="D", name="Response Generation", message="", attempt=2))
    assert state.text == "Kept. "
    frame_of(state, StageStart(stage="D", name="Response Generation", message="", attempt=3))
    assert state.text == "Kept. "


def test_a_state_is_as_far_as_its_row_though_a_lost_attempts_tokens_are_gone(alice: User) -> None:
    run = asked(alice)
    happened(run, stage_start("D"), *tokens("Lost ", "words"))
    RunEvent.objects.filter(run=run, type="token").delete()
    state = state_of(run)
    assert (state.seq, state.text) == (4, "")


def test_the_end_of_a_stopped_run_tells_its_stages_apart(alice: User) -> None:
    state = running(alice, stage_complete(), stage_start("B"))
    end = Cancelled(message="", total_duration_ms=3200, stop_ms=40, ran=["A"], not_run=["B", "C", "E", "D"])
    state.apply(state.seq + 1, end)
    assert state.status == Run.Status.CANCELLED
    assert [s.status for s in state.stages.values()] == ["completed", "stopped", "not_run", "not_run", "not_run"]


def stopped(user: User, text: str = "Kept.") -> Run:
    """A run that was stopped in its second stage."""
    run = answered(user, text, status=Run.Status.CANCELLED)
    run.stages.exclude(stage__in="AB").delete()
    run.stages.filter(stage="B").update(status="stopped", duration_ms=None)
    return run


def test_a_stopped_run_shows_what_ran_what_is_kept_and_how_to_go_on(alice: User) -> None:
    run = stopped(alice)
    html = drawn_answer(run)
    for words in ("<b>Stopped</b> after 1.2 s in stage 2 of 5", "done · 3 ms", "not run", "Kept.", "Continue"):
        assert words in html
    assert f'form="actions" formaction="/runs/{run.pk}/continue/"' in html
    assert 'data-run-status="cancelled" open>' in html


def test_a_failed_run_can_be_continued_from_where_it_failed(alice: User) -> None:
    run = answered(alice, "", status=Run.Status.FAILED)
    run.stages.filter(stage="E").update(status="failed")
    run.stages.filter(stage="D").delete()
    assert "Continue from Execution" in drawn_answer(run)


def test_what_may_have_happened_offers_no_way_on(alice: User) -> None:
    run = answered(alice, "", status=Run.Status.FAILED)
    said = "tickets.open had begun when the server stopped. Check there."
    Run.objects.filter(pk=run.pk).update(error_code="outcome_unknown", error_message=said)
    html = drawn_answer(run)
    assert said in html
    assert "It may or may not have been done" in html
    assert "formaction" not in html


def test_a_run_that_was_gone_on_with_offers_it_no_more(alice: User) -> None:
    run = stopped(alice)
    Run.objects.filter(pk=asked(alice).pk).update(resumes=run)
    assert "formaction" not in drawn_answer(run)


def test_a_waiting_run_can_be_stopped_and_a_running_one_says_where(alice: User) -> None:
    run = asked(alice)
    assert f'class="button quiet unqueue" type="submit" form="actions" formaction="/runs/{run.pk}/stop/"' in (
        drawn_answer(run)
    )
    happened(run, stage_start())
    drawn = drawn_answer(run)
    assert "unqueue" not in drawn
    assert f'data-stop="/runs/{run.pk}/stop/"' in drawn


def resumed(user: User, old: Run) -> Run:
    run = answered(user, "Again.\n\n" + TABLE, conversation=old.conversation)
    run.stages.filter(stage__in="AB").update(message="reused from the run that this one goes on with", duration_ms=0)
    Run.objects.filter(pk=run.pk).update(resumes=old)
    return run


def test_a_resumed_run_says_what_it_goes_on_with_and_what_it_reused(alice: User) -> None:
    old = stopped(alice)
    html = drawn_answer(resumed(alice, old))
    assert f'Goes on with <a href="#message-{old.answer_id}">the request above</a>' in html
    assert "; reused: Classification, Tool Selection</span>" in html
    assert html.count('<span class="state">reused</span>') == 2


def test_a_reused_stage_is_told_while_the_run_goes_on(alice: User) -> None:
    old, run = stopped(alice), asked(alice)
    Run.objects.filter(pk=run.pk).update(resumes=old)
    happened(run, stage_start())
    reused = StageComplete(stage="A", name="Classification", status="completed", duration_ms=0, message="reused from …")
    drawn = frame_of(state_of(run), reused)
    assert f'id="run-{run.pk}-resumes" hx-swap-oob="true"' in drawn
    assert "; reused: Classification</span>" in drawn


def test_a_resumed_run_shows_the_file_that_the_old_one_wrote(alice: User) -> None:
    old = stopped(alice)
    export = exported(old)
    new = resumed(alice, old)
    Message.objects.filter(pk=new.answer_id).update(
        blocks=[{"start": 8, "end": 8 + len(TABLE), "export_id": str(export.pk)}]
    )
    html = drawn_answer(new)
    assert f'href="/exports/{export.pk}/"' in html
    # Both runs stand on one page.
    assert f'id="block-{export.pk}"' not in html
    assert f'id="block-{export.pk}-{new.pk}"' in html


def test_an_export_of_another_conversation_is_never_shown(alice: User, bob: User) -> None:
    export = exported(answered(bob, "His."))
    run = answered(alice, TABLE)
    Message.objects.filter(pk=run.answer_id).update(
        blocks=[{"start": 0, "end": len(TABLE), "export_id": str(export.pk)}]
    )
    assert str(export.pk) not in drawn_answer(run)
