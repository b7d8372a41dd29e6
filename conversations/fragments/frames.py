"""A run as HTML: as articles of the page, and as frames of out-of-band swaps for the socket.

Every frame begins with a comment that holds the run and the newest event drawn: a page drops what it has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from conversations.fragments import markdown
from conversations.fragments.blocks import blocks_of
from conversations.fragments.page import history
from conversations.fragments.quantities import duration
from conversations.fragments.states import RESUMABLE, Mark, RunState, StageState
from conversations.fragments.understood import chips, unused_words
from conversations.models import Conversation, Run

if TYPE_CHECKING:
    from conversations.models import Caller


def article(state: RunState) -> SafeString:
    """The ask and the answer as the page holds them."""
    return format_html("{}{}", _draw("ask", state), _answer(state))


def new_run_frame(state: RunState) -> str:
    """Adds a run that the page hasn't got. May query when the run has ended meanwhile."""
    return f'{_head(state)}<div hx-swap-oob="beforeend:#content">{article(state)}</div>'


def snapshot_frame(state: RunState) -> str:
    """The whole answer, morphed in place. Reads the run's rows when it has just ended."""
    return f"{_head(state)}{_answer(state, oob='morph')}"


def frame(state: RunState, *, since: Mark) -> str:
    """One frame for all that changed after `since`. Reads the run's rows when it has just ended."""
    seen = markdown.frozen_length(since.text)
    if state.is_finished or state.status != since.status or state.text[:seen] != since.text[:seen]:
        return snapshot_frame(state)
    return "".join((_head(state), *_changed_stages(state, since), *_changed_text(state, since, seen)))


def sidebar_frame(user: Caller, current_conversation_id: UUID | None) -> str:
    """The user's conversations, and the current one's title, as they are now."""
    groups = history(user, current_conversation_id)
    listed = (row for group in groups for row in group.conversations)
    # One that fell off the list's end has to be looked up.
    title = next((row for row in listed if row.pk == current_conversation_id), None) or (
        Conversation.objects.owned_by(user).filter(pk=current_conversation_id).first()
    )
    context = {"history": groups, "title": title, "current": current_conversation_id}
    return f"<!--sidebar-->{render_to_string('conversations/_sidebar_frame.html', context)}"


def _head(state: RunState) -> str:
    if state.is_behind_rows:
        state.read_rows()
    return f"<!--{state.run_id}:{state.seq}-->"


def _changed_stages(state: RunState, since: Mark) -> list[SafeString]:
    changed = [stage for letter, stage in state.stages.items() if stage != since.stages[letter]]
    parts = [_stage(state, stage, oob="true") for stage in changed]
    if any(stage.status != since.stages[stage.letter].status for stage in changed):
        parts.append(_draw("summary", state, oob="true"))
    if any(stage.is_reused for stage in changed):
        parts.append(_draw("resumes", state, oob="true"))
    if changed:
        parts += [_draw("doing", state, oob="true"), _draw("bar", state, oob="true")]
    return parts


def _changed_text(state: RunState, since: Mark, seen: int) -> list[SafeString]:
    """Blocks that can no longer change are added once; only the open last one is drawn again."""
    if state.text == since.text:
        return []
    frozen = markdown.frozen_length(state.text)
    context = {
        "run_id": state.run_id,
        "frozen": markdown.render(state.text[seen:frozen], is_start=seen == 0),
        "open": markdown.render(state.text[frozen:], is_start=frozen == 0),
    }
    return [render_to_string("conversations/_text_frame.html", context)]


def _answer(state: RunState, *, oob: str = "") -> SafeString:
    if state.is_behind_rows:
        state.read_rows()
    if state.is_finished:
        parts: dict[str, Any] = {"blocks": blocks_of(state.answer, state.exports)}
        parts |= {"chips": chips(state.response), "unused_words": unused_words(state.response, state.text)}
    else:
        frozen = markdown.frozen_length(state.text)
        parts = {
            "frozen": markdown.render(state.text[:frozen], is_start=True),
            "open": markdown.render(state.text[frozen:], is_start=frozen == 0),
        }
    stages = [_stage(state, stage) for stage in state.stages.values()]
    return _draw("answer", state, oob=oob, stages=stages, **parts)


def _draw(name: str, state: RunState, **context: Any) -> SafeString:
    context = {"state": state, **_numbers(state), **_continuing(state), **context}
    return render_to_string(f"conversations/_{name}.html", context)


def _numbers(state: RunState) -> Mapping[str, Any]:
    """What the run's header says in numbers: its place in the stages, and times."""
    elapsed_ms = state.total_duration_ms
    if elapsed_ms is None:
        elapsed_ms = max(0.0, (timezone.now() - state.created_at).total_seconds() * 1000)
    ended = ("completed", "skipped")
    halfway = ("running", "failed", "stopped")
    stages = list(state.stages.values())
    done = sum(stage.status in ended for stage in stages)
    place = next((n for n, stage in enumerate(stages, 1) if stage.status in halfway), None)
    current = state.current_stage
    percent = (done * 100 + (current.percent or 0 if current else 0)) / len(stages)
    return {
        "elapsed_ms": round(elapsed_ms),
        "elapsed": duration(elapsed_ms),
        "n_stages": len(stages),
        "stage_number": place or min(done + 1, len(stages)),
        "failed_in": place,
        "percent": round(percent),
        "is_open": state.status in (Run.Status.RUNNING, Run.Status.FAILED, Run.Status.CANCELLED),
    }


def _continuing(state: RunState) -> Mapping[str, Any]:
    """Whether and from where another run can go on with this one, and what this one has of the run that it resumes."""
    undone = next((s for s in state.stages.values() if s.status not in ("completed", "skipped")), None)
    return {
        # What may have happened must not happen twice: somebody has to look first.
        "can_continue": state.status in RESUMABLE and not state.is_resumed and state.error_code != "outcome_unknown",
        "continue_from": undone.name if undone else "",
        "reused": [stage.name for stage in state.stages.values() if stage.is_reused],
    }


def _stage(state: RunState, stage: StageState, *, oob: str = "") -> SafeString:
    elapsed_ms = stage.duration_ms
    if stage.status == "running" and stage.started_at:
        elapsed_ms = max(0.0, (timezone.now() - stage.started_at).total_seconds() * 1000)
    context = {
        "stage": stage,
        "run_id": state.run_id,
        "elapsed_ms": None if elapsed_ms is None else round(elapsed_ms),
        "elapsed": "" if elapsed_ms is None else duration(elapsed_ms),
        "oob": oob,
    }
    return render_to_string("conversations/_stage.html", context)
