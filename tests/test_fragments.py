from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from conversations import fragments
from conversations.fragments import RunState, markdown
from conversations.fragments.quantities import duration, size
from conversations.models import Conversation, Message, Run
from conversations.pipeline.events import (
    Complete,
    Event,
    ExportStored,
    Failed,
    StageComplete,
    StageProgress,
    StageStart,
    Token,
)
from tests.answers import answered, asked, exported, happened

pytestmark = pytest.mark.django_db

TABLE = "| name | ip_address |\n| --- | --- |\n| web-01 | 10.0.0.5 |\n"


def stage_start(letter: Any = "A") -> StageStart:
    return StageStart(stage=letter, name="Classification", message="Reading the request", attempt=1)


def stage_complete(letter: Any = "A") -> StageComplete:
    return StageComplete(stage=letter, name="Classification", status="completed", duration_ms=3.2, message="done")


def tokens(*pieces: str) -> list[Token]:
    offset, made = 0, []
    for piece in pieces:
        made.append(Token(text=piece, offset=offset))
        offset += len(piece)
    return made


def state_of(run: Run) -> RunState:
    return RunState.of_runs([Run.objects.get(pk=run.pk)])[0]


def frame_of(state: RunState, *what: Event) -> str:
    """The frame that these events, arriving together, make."""
    since = state.mark()
    for seq, event in enumerate(what, state.seq + 1):
        state.apply(seq, event)
    return fragments.frame(state, since=since)


def running(user: User, *what: Event) -> RunState:
    run = asked(user)
    happened(run, stage_start(), *what)
    return state_of(run)


# -- States ----------------------------------------------------------------------------------------------------------


def test_a_run_read_from_its_events_is_as_far_as_one_that_followed_them(alice: User) -> None:
    what: list[Event] = [stage_start(), stage_complete(), stage_start("B"), *tokens("**1 asset**", " matches.")]
    followed, run = state_of(asked(alice)), asked(alice)
    happened(run, *what)
    for seq, event in enumerate(what, 2):
        followed.apply(seq, event)
    read = state_of(run)
    assert (read.seq, read.status, read.text) == (followed.seq, followed.status, followed.text)
    assert [s.status for s in read.stages.values()] == [s.status for s in followed.stages.values()]


def test_an_event_that_was_seen_changes_nothing(alice: User) -> None:
    state = running(alice, *tokens("one"))
    state.apply(state.seq, Token(text="other", offset=0))
    assert state.text == "one"


def test_a_token_replaces_everything_from_its_offset(alice: User) -> None:
    state = running(alice, *tokens("one ", "two"))
    state.apply(state.seq + 1, Token(text="2", offset=4))
    assert state.text == "one 2"


def test_states_take_as_many_queries_for_ten_runs_as_for_two(alice: User, django_assert_num_queries: Any) -> None:
    conversation = Conversation.objects.create(owner=alice)
    for _ in range(2):
        exported(answered(alice, "**1 asset** matches.", conversation=conversation))
    happened(asked(alice, conversation=conversation), stage_start())
    with django_assert_num_queries(7) as first:
        RunState.of_runs(Run.objects.filter(conversation=conversation))
    for _ in range(8):
        exported(answered(alice, "**1 asset** matches.", conversation=conversation))
    with django_assert_num_queries(len(first)):
        RunState.of_runs(Run.objects.filter(conversation=conversation))


# -- Frames ----------------------------------------------------------------------------------------------------------


def test_every_frame_begins_with_its_run_and_newest_event(alice: User) -> None:
    state = running(alice)
    assert frame_of(state, *tokens("Hello")).startswith(f"<!--{state.run_id}:3-->")
    assert fragments.snapshot_frame(state).startswith(f"<!--{state.run_id}:3-->")
    assert fragments.new_run_frame(state).startswith(f"<!--{state.run_id}:3-->")


def test_a_stage_change_draws_that_stage_and_the_runs_header_only(alice: User) -> None:
    state = running(alice)
    drawn = frame_of(state, stage_complete())
    assert f'id="run-{state.run_id}-stage-A" data-status="completed" hx-swap-oob="true"' in drawn
    assert "done · 3 ms" in drawn
    assert f'id="run-{state.run_id}-summary"' in drawn
    assert "-stage-B" not in drawn
    assert "<article" not in drawn


def test_progress_leaves_the_summary_alone(alice: User) -> None:
    state = running(alice)
    drawn = frame_of(state, StageProgress(stage="A", percent=61, message="wrote 612 of 1,000 rows"))
    assert "running · 61 %" in drawn
    assert "wrote 612 of 1,000 rows" in drawn
    assert "-summary" not in drawn


def test_the_first_stage_draws_the_whole_answer_because_the_run_opens(alice: User) -> None:
    state = state_of(asked(alice))
    assert state.status == Run.Status.QUEUED
    drawn = frame_of(state, stage_start())
    assert f'id="message-{state.answer.pk}" hx-swap-oob="morph"' in drawn
    assert 'data-status="running" data-seq="2" open' in drawn


def test_a_block_is_added_once_and_only_the_open_one_is_drawn_again(alice: User) -> None:
    state = running(alice)
    assert "beforebegin" not in frame_of(state, Token(text="First block.", offset=0))
    second = frame_of(state, Token(text="\n\nSecond", offset=12))
    assert f'<div hx-swap-oob="beforebegin:#run-{state.run_id}-open"><p>First block.</p>' in second
    third = frame_of(state, Token(text=" block", offset=20))
    assert "First" not in third
    assert f'<div hx-swap-oob="innerHTML:#run-{state.run_id}-open"><p>Second block</p>' in third


def test_text_that_goes_back_into_a_closed_block_draws_the_answer_anew(alice: User) -> None:
    state = running(alice, *tokens("First block.\n\nSecond"))
    drawn = frame_of(state, Token(text="Other", offset=0))
    assert 'hx-swap-oob="morph"' in drawn
    assert "Second" not in drawn


def test_the_last_frame_is_the_whole_answer_with_its_file(alice: User) -> None:
    state = running(alice)
    run = Run.objects.get(pk=state.run_id)
    text = "**1 asset** matches.\n\n" + TABLE
    Message.objects.filter(pk=run.answer_id).update(text=text)
    export = exported(run, span=(22, len(text)))
    Run.objects.filter(pk=run.pk).update(status=Run.Status.SUCCEEDED, total_duration_ms=1200, last_seq=4)
    told = ExportStored(export_id=str(export.pk), filename="x.csv", rows=1204, columns=["name"], downloads={})
    drawn = frame_of(state, told, Complete(total_duration_ms=1200, message=text, response={}, stage_durations={}))
    assert f'<!--{run.pk}:4--><article class="answer" id="message-{run.answer_id}" hx-swap-oob="morph">' in drawn
    assert f'id="run-{run.pk}" data-status="succeeded" data-seq="4" data-run-status="succeeded">' in drawn
    assert f'href="/exports/{export.pk}/" download title="Download CSV file"' in drawn
    assert state.is_finished


def test_an_answer_without_a_file_is_drawn_as_from_its_rows_without_reading_them(
    alice: User, django_assert_num_queries: Any
) -> None:
    run = answered(alice, "None **at all**.", response={"unused_words": ["purple"]})
    rows = list(run.stages.all())
    ended: list[Event] = [
        StageComplete(stage=r.stage, name="", status=r.status, duration_ms=r.duration_ms, message=r.message)
        for r in rows
    ]
    end = Complete(total_duration_ms=1200, message="None **at all**.", response=run.response or {}, stage_durations={})
    Run.objects.filter(pk=run.pk).update(last_seq=2 + len(ended))
    state = RunState.just_stored(Run.objects.select_related("ask", "answer").get(pk=run.pk))
    state.answer.text = ""
    with django_assert_num_queries(0):
        drawn = frame_of(state, *ended, end)
    assert drawn == fragments.snapshot_frame(state_of(run))


def test_a_failed_run_says_where_and_why_and_stays_open(alice: User) -> None:
    state = running(alice)
    Run.objects.filter(pk=state.run_id).update(
        status=Run.Status.FAILED, error_code="timeout", error_message="No answer <within> 10 s.", last_seq=3
    )
    Run.objects.get(pk=state.run_id).stages.create(
        stage="A", attempt=1, status="failed", started_at=timezone.now(), duration_ms=10_000
    )
    error = {"code": "timeout", "message": "No answer <within> 10 s."}
    drawn = frame_of(state, Failed(error=error, stage="A", message="", total_duration_ms=10_000))
    assert 'data-run-status="failed" open>' in drawn
    assert "No answer &lt;within&gt; 10 s." in drawn
    assert "in stage 1 of 5" in drawn


def test_a_new_run_is_appended_with_its_question(alice: User) -> None:
    drawn = fragments.new_run_frame(state_of(asked(alice, "<b>how many?</b>")))
    assert '<div hx-swap-oob="beforeend:#content">' in drawn
    assert "&lt;b&gt;how many?&lt;/b&gt;" in drawn


# -- Answers ---------------------------------------------------------------------------------------------------------


def drawn_answer(run: Run) -> str:
    return fragments.article(state_of(run))


def test_a_tools_table_shows_rows_source_and_file(alice: User) -> None:
    text = "**1,204 assets match**.\n\n" + TABLE
    run = answered(alice, text)
    export = exported(run, span=(25, len(text)), n_guarded=3)
    html = drawn_answer(run)
    assert f'id="block-{export.pk}" data-kind="table" data-source="tool"' in html
    for words in (
        "1 of 1,204 rows",
        "written by tool assets.query at",
        "export_1795349047113.csv",
        "412 kB",
        "3 cells guarded",
    ):
        assert words in html
    assert '<th scope="row">web-01</th><td class="mono">10.0.0.5</td><td class="number">16</td>' in html
    assert '<time datetime="2026-11-22T12:03:00Z">2026-11-22 12:03</time>' in html
    assert '<td class="none">' in html
    assert '<p class="fact"><strong>1,204 assets match</strong>.</p>' in html
    assert "| name |" not in html


def test_a_table_shows_the_columns_that_the_answer_chose(alice: User) -> None:
    run = answered(alice, TABLE)
    exported(run, span=(0, len(TABLE)), preview_columns=["ip_address", "name"])
    html = drawn_answer(run)
    assert html.index(">ip_address<") < html.index(">name<")
    assert "memory_gb" not in html


def test_typed_rows_never_look_like_a_tools(alice: User) -> None:
    text = "```csv\na,b\n1,2\n```\n"
    run = answered(alice, text)
    columns = [{"name": "a", "type": "text"}, {"name": "b", "type": "text"}]
    exported(run, span=(0, len(text)), source="text", columns=columns, preview=[["1", "2"]], n_rows=1)
    html = drawn_answer(run)
    assert 'data-kind="table" data-source="model"' in html
    assert "typed by the model" in html
    assert "1 of 1 row<" in html
    assert "written by" not in html


def test_an_export_that_stands_nowhere_in_the_text_is_not_lost(alice: User) -> None:
    run = answered(alice, "", status=Run.Status.FAILED)
    export = exported(run)
    assert f'href="/exports/{export.pk}/"' in drawn_answer(run)


def test_code_has_its_language_a_copy_button_and_a_grey_download(alice: User) -> None:
    run = answered(alice, "Run this:\n\n```python\nprint('<b>')\n```\n\nor\n\n```\nplain\n```\n")
    html = drawn_answer(run)
    assert f'href="/messages/{run.answer_id}/blocks/1/code.py" download="code.py" title="Download code"' in html
    assert f'href="/messages/{run.answer_id}/blocks/2/code.txt"' in html
    assert "<code>print(&#x27;&lt;b&gt;&#x27;)\n</code>" in html
    assert 'class="button download"' not in html


def test_what_was_understood_and_what_was_not_used_is_said(alice: User) -> None:
    understood = {
        "filters": [
            {"field": "site", "op": "eq", "value": "DM-Akron"},
            {"field": "os", "op": "in", "value": ["a", "b"]},
            {"field": "owner", "op": "is_null", "value": None},
        ],
        "columns": [],
        "sort": [{"field": "name", "direction": "desc"}],
        "limit": 5,
        "group_by": [],
    }
    run = answered(alice, "Done.", response={"understood": understood, "unused_words": ["<pls>"]})
    html = drawn_answer(run)
    assert f'id="understood-{run.answer_id}"' in html
    for words in ("</span> = DM-Akron", "</span> one of a, b", "</span> is empty", "</span> name, descending"):
        assert words in html
    assert "<q>&lt;pls&gt;</q>" in html


def test_a_word_that_the_answer_names_as_unused_is_not_named_twice(alice: User) -> None:
    run = answered(alice, "Not used: dell.", response={"unused_words": ["dell", "asap"]})
    (state,) = RunState.of_runs([run])
    drawn = fragments.article(state)
    assert "<q>asap</q>" in drawn
    assert "<q>dell</q>" not in drawn


def test_small_talk_shows_no_chips(alice: User) -> None:
    assert "understood-" not in drawn_answer(answered(alice, "Hello!"))


# -- Markdown --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "absent"),
    [
        ("<script>alert(1)</script>", "<script"),
        ("<img src=x onerror=alert(1)>", "<img"),
        ("![x](https://evil.example/x.png)", "<img"),
        ("[x](javascript:alert(1))", "<a"),
        ("[x](data:text/html,hi)", "<a"),
        ('<div hx-swap-oob="true" id="composer">', "<div"),
    ],
)
def test_an_answer_can_bring_no_html_of_its_own(text: str, absent: str) -> None:
    assert absent not in markdown.render(text)


def test_links_leave_without_a_trace() -> None:
    assert 'rel="noopener noreferrer"' in markdown.render("[x](https://example.org/)")


@pytest.mark.parametrize(
    ("text", "frozen"),
    [
        ("", ""),
        ("open", ""),
        ("one\n\n", "one\n\n"),
        ("one\n\ntwo", "one\n\n"),
        ("one\n\n```\na\n\nb", "one\n\n"),
        ("```\na\n\nb\n```\n\ntwo", "```\na\n\nb\n```\n\n"),
        ("````\n```\n\nb", ""),
        ("one\n  \ntwo", "one\n  \n"),
    ],
)
def test_text_is_closed_up_to_the_last_blank_line_outside_a_fence(text: str, frozen: str) -> None:
    assert text[: markdown.frozen_length(text)] == frozen


def test_text_written_piece_by_piece_is_never_closed_too_early() -> None:
    text = "**Fact**.\n\n" + TABLE + "\n```py\na = 1\n\nb = 2\n```\n\nEnd."
    ends = [markdown.frozen_length(text[:n]) for n in range(len(text) + 1)]
    assert ends == sorted(ends)
    pieces = [markdown.render(text[a:b]) for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]
    assert "".join(pieces).split() == markdown.render(text).split()


# -- Sidebar and quantities ------------------------------------------------------------------------------------------


def test_the_sidebar_holds_ones_own_conversations_only(alice: User, bob: User) -> None:
    mine, his = asked(alice, "my question"), asked(bob, "his question")
    drawn = fragments.sidebar_frame(alice, mine.conversation_id)
    assert drawn.startswith('<!--sidebar--><div class="history" id="conversations" hx-swap-oob="true">')
    assert "my question" in drawn
    assert "his question" not in drawn
    assert 'aria-current="page"' in drawn
    assert ", running" in drawn
    assert "his question" not in fragments.sidebar_frame(alice, his.conversation_id)


def test_conversations_are_grouped_by_the_day_of_their_last_message(alice: User) -> None:
    today = timezone.now()
    for days in (0, 1, 3, 20, 90):
        run = asked(alice, f"{days} days ago")
        Conversation.objects.filter(pk=run.conversation_id).update(updated_at=today - timedelta(days=days))
    groups = fragments.history(alice, None)
    assert [g.title for g in groups] == ["Today", "Yesterday", "Last 7 days", "Last 30 days", "Older"]


@pytest.mark.parametrize(
    ("n_bytes", "words"),
    [(0, "0 B"), (216, "216 B"), (412_000, "412 kB"), (1_300_000, "1.3 MB"), (2 * 10**9, "2.0 GB")],
)
def test_sizes_are_said_in_powers_of_a_thousand(n_bytes: int, words: str) -> None:
    assert size(n_bytes) == words


@pytest.mark.parametrize(
    ("ms", "words"), [(0.2, "<1 ms"), (3.2, "3 ms"), (1200, "1.2 s"), (59_990, "60.0 s"), (125_000, "2 min 5 s")]
)
def test_durations_are_said_in_their_unit(ms: float, words: str) -> None:
    assert duration(ms) == words
