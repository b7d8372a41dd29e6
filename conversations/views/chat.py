"""The pages of conversations. Every write is a form post; what follows comes over the socket or with the next page."""

from __future__ import annotations

import re
import uuid
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import BadRequest
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe

from conversations import audit, fragments, runner, runs
from conversations.audit import origin_of
from conversations.forms import MessageForm, ThemeForm
from conversations.fragments import RunState
from conversations.models import Conversation, Message, Run
from conversations.requests import check_form, refusal, signed_in

_THEME_AGE_S = 365 * 24 * 3600
#: Runs that a conversation's page shows, and that "earlier messages" adds.
_RUNS_A_PAGE = 50
_MOST_RUNS = 2000
_NUMBER = re.compile(r"[0-9]{1,9}")


@require_safe
def home(request: HttpRequest) -> HttpResponseBase:
    """To the newest conversation, or a new one."""
    newest = Conversation.objects.owned_by(request.user).first()
    return redirect("conversation", (newest or runs.open_conversation(owner=signed_in(request))).pk)


@require_POST
def conversations(request: HttpRequest) -> HttpResponseBase:
    """Opens a conversation: with the text as its first message, or an empty one when no text is sent."""
    empty = Conversation.objects.owned_by(request.user).filter(n_messages=0, session_name=None).first()
    if "text" not in request.POST:
        return redirect("conversation", (empty or runs.open_conversation(owner=signed_in(request))).pk)
    try:
        return _stored(request, _submit(request, empty))
    except runs.InvalidRequest as error:
        return refusal(request, 400, "invalid_request", error.message, field=error.field)
    except runs.TooManyRuns as error:
        return _later(refusal(request, 429, "too_many", str(error)), error)


@require_safe
def conversation(request: HttpRequest, conversation_id: UUID) -> HttpResponse:
    found = get_object_or_404(Conversation.objects.visible_to(request.user).select_related("owner"), pk=conversation_id)
    _opened(request, found, through="page", by_itself="HX-Request" in request.headers)
    return _page(request, found)


def _opened(request: HttpRequest, conversation: Conversation, *, through: str, by_itself: bool = False) -> None:
    """A reviewer's look at another user's conversation is audited."""
    audit.opened(
        actor=signed_in(request), owner_id=conversation.owner_id, object_type="conversation", object_id=conversation.pk,
        through=through, origin=origin_of(request), by_itself=by_itself,
    )  # fmt: skip


@require_POST
def messages(request: HttpRequest, conversation_id: UUID) -> HttpResponseBase:
    """Stores a message and starts its run. For HTMX the answer is the new articles, else the page again."""
    found = get_object_or_404(Conversation.objects.owned_by(request.user).select_related("owner"), pk=conversation_id)
    try:
        return _stored(request, _submit(request, found))
    except runs.InvalidRequest as error:
        return _refused(request, found, error.message, status=422)
    except runs.TooManyRuns as error:
        return _later(_refused(request, found, str(error), status=429), error)


@require_POST
def stop_run(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Asks a run to stop; one that has ended meanwhile is what was wanted."""
    run = _own_run(request, run_id)
    with suppress(runs.AlreadyEnded):
        runner.cancel(run=run, user=signed_in(request), origin=origin_of(request))
    # The script needs no words: the end comes over the socket.
    return HttpResponse(status=204) if "HX-Request" in request.headers else _to_answer(run)


@require_POST
def continue_run(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """Goes on with a failed or stopped run in a new one, which is answered as a message's is."""
    run = _own_run(request, run_id)
    try:
        return _stored(request, runner.resume(run=run, user=signed_in(request), origin=origin_of(request)))
    except runs.NotResumable as error:
        return _refused(request, run.conversation, str(error), status=409)
    except runs.TooManyRuns as error:
        return _later(_refused(request, run.conversation, str(error), status=429), error)


def _own_run(request: HttpRequest, run_id: UUID) -> Run:
    own = Run.objects.owned_by(request.user).select_related("conversation__owner")
    run: Run = get_object_or_404(own, pk=run_id)
    return run


def _to_answer(run: Run) -> HttpResponse:
    return HttpResponseRedirect(f"{_address(run)}#message-{run.answer_id}")


def _stored(request: HttpRequest, run: Run) -> HttpResponse:
    if "HX-Request" in request.headers:
        # As it was stored: the socket draws the rest, and two that draw from different points would write twice.
        return HttpResponse(fragments.new_run_frame(RunState.just_stored(run)))
    return _to_answer(run)


def _later(response: HttpResponse, error: runs.TooManyRuns) -> HttpResponse:
    response["Retry-After"] = str(error.retry_after_s)
    return response


def _submit(request: HttpRequest, conversation: Conversation | None) -> Run:
    """Raises runs.InvalidRequest and runs.TooManyRuns; then nothing is stored."""
    check_form(request)
    form = MessageForm(request.POST)
    if not form.is_valid():
        field, errors = next(iter(form.errors.items()))
        raise runs.InvalidRequest(field, str(errors[0]) if field == "text" else f"“{field}”: {errors[0]}")
    client_id = form.cleaned_data["client_id"]
    return runner.submit(
        user=signed_in(request),
        text=form.cleaned_data["text"],
        conversation=conversation,
        idempotency_key=f"page:{client_id}" if client_id else None,
        origin=origin_of(request),
    )


def _address(run: Run) -> str:
    return redirect("conversation", run.conversation_id).url


def _refused(request: HttpRequest, conversation: Conversation, error: str, *, status: int) -> HttpResponse:
    """Says what is wrong beside the composer, which keeps what was typed."""
    if "HX-Request" in request.headers:
        return HttpResponse(
            render_to_string("conversations/_composer_error.html", {"error": error, "oob": "true"}), status=status
        )
    return _page(request, conversation, status=status, error=error, draft=request.POST.get("text", ""))


def _page(request: HttpRequest, conversation: Conversation, *, status: int = 200, **context: Any) -> HttpResponse:
    n_runs = _wanted_runs(request)
    newest = list(conversation.runs.select_related("conversation").order_by("-position")[: n_runs + 1])
    states = RunState.of_runs(newest[:n_runs][::-1])
    is_owner = conversation.owner_id == request.user.pk
    context |= {
        "conversation": conversation,
        "is_owner": is_owner,
        "runs": [fragments.article(state) for state in states],
        "unfinished": next((state for state in states if not state.is_finished), None),
        "earlier": n_runs + _RUNS_A_PAGE if len(newest) > n_runs else None,
        "history": fragments.history(request.user, conversation.pk),
        "client_id": uuid.uuid4(),
        "labels": fragments.labels(),
    }
    if is_owner and not states:
        context["tables"] = fragments.start_tables()
    response = render(request, "conversations/conversation.html", context, status=status)
    # The page is as old as its newest event: going back must not show an older one.
    response["Cache-Control"] = "no-store"
    return response


def _wanted_runs(request: HttpRequest) -> int:
    """How many of the newest runs the page shows: `?runs=`, at least one page of them."""
    asked = request.GET.get("runs", "0")
    if not _NUMBER.fullmatch(asked):
        raise BadRequest("“runs” must be a number of messages.")
    return min(max(int(asked), _RUNS_A_PAGE), _MOST_RUNS)


@require_safe
def code_download(request: HttpRequest, message_id: UUID, number: int, extension: str) -> HttpResponse:
    """A code block of an answer as a file."""
    answers = Message.objects.visible_to(request.user).filter(role=Message.Role.ANSWER).select_related("conversation")
    found = get_object_or_404(answers, pk=message_id)
    run = get_object_or_404(Run.objects.select_related("answer").prefetch_related("exports__files"), answer=found)
    block = fragments.code_block(found, fragments.exports_shown([run])[run.pk], number)
    if block is None or block.extension != extension:
        raise Http404
    _opened(request, found.conversation, through="code")
    response = HttpResponse(block.code, content_type=block.mime)
    response["Content-Disposition"] = f'attachment; filename="code.{block.extension}"'
    return response


@login_not_required
@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Keeps the theme in a cookie: the sign-in page has no user yet, and the server writes it into the page."""
    form = ThemeForm(request.POST)
    if not form.is_valid():
        known = ", ".join(fragments.THEMES)
        return refusal(request, 400, "invalid_request", f"“theme” must be one of: {known}.", field="theme")
    referrer = request.headers.get("Referer", "")
    is_ours = url_has_allowed_host_and_scheme(referrer, {request.get_host()}, require_https=request.is_secure())
    response = redirect(referrer if is_ours else "/")
    response.set_cookie(
        "theme",
        form.cleaned_data["theme"],
        max_age=_THEME_AGE_S,
        samesite="Lax",
        secure=request.is_secure(),
        httponly=True,
    )
    return response
