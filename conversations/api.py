"""Runs as JSON: Django views of the HTTP contract. `stream` has its streaming half, `views.downloads` the files."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponseBase, JsonResponse
from django.views.decorators.http import require_POST, require_safe

from conversations import audit, runner, runs
from conversations.audit import origin_of
from conversations.models import Run, Visible
from conversations.requests import error_body, signed_in

_NO_RUN = "There is no such run, or it isn't yours."


def _error(status: int, code: str, message: str, *, field: str | None = None) -> JsonResponse:
    return JsonResponse(error_body(code, message, field=field), status=status)


# -- Runs ------------------------------------------------------------------------------------------------------------


_visible: Visible[Run] = Visible(lambda: Run.objects.select_related("ask", "answer", "conversation"))


@require_safe
def run_detail(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    run = _visible.get(request.user, run_id)
    if run is None:
        raise Http404(_NO_RUN)
    audit.opened(
        actor=request.user, owner_id=run.conversation.owner_id, object_type="conversation",
        object_id=run.conversation_id, through="run", origin=origin_of(request), detail={"run": str(run.pk)},
    )  # fmt: skip
    return JsonResponse(runs.summary(run))


@require_POST
def run_cancel(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """Asks for the end; the `cancelled` event confirms it."""
    run = _own_run(request, run_id)
    try:
        runner.cancel(run=run, user=signed_in(request), origin=origin_of(request))
    except runs.AlreadyEnded as error:
        return _error(409, "conflict", str(error))
    return JsonResponse({"run_id": str(run.pk), "status": "cancelling"}, status=202)


@require_POST
def run_resume(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """Goes on with a failed or cancelled run in a new one."""
    run = _own_run(request, run_id)
    try:
        resumed = runner.resume(run=run, user=signed_in(request), origin=origin_of(request))
    except runs.NotResumable as error:
        return _error(409, "conflict", str(error))
    except runs.TooManyRuns as error:
        response = _error(429, "too_many", str(error))
        response["Retry-After"] = str(error.retry_after_s)
        return response
    return JsonResponse({"run_id": str(resumed.pk)}, status=201)


def _own_run(request: HttpRequest, run_id: UUID) -> Run:
    run: Run | None = Run.objects.owned_by(request.user).select_related("conversation").filter(pk=run_id).first()
    if run is None:
        raise Http404(_NO_RUN)
    return run
