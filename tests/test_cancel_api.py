"""POST /pipeline/runs/<id>/cancel and …/resume, and the page's two forms that do the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from conversations import runner, runs, tokens
from conversations.models import AuditEntry, Run, StageRun
from tests.answers import answered, asked, exported
from tests.calls import call, token_of
from tests.test_sockets import conversation_of, submitted

pytestmark = pytest.mark.django_db

Post = Callable[..., Any]

WAYS = ("cancel", "resume")
PAGES = {"cancel": "stop", "resume": "continue"}


@pytest.fixture
def post() -> Post:
    def send(user: User, run: Run, what: str, **headers: str) -> Any:
        _, token = tokens.make(user=user)
        address = f"/pipeline/runs/{run.pk}/{what}"
        return Client().post(address, headers={"Authorization": f"Bearer {token}", **headers})

    return send


@pytest.fixture
def press() -> Post:
    """The page's form."""

    def send(user: User, run: Run, what: str, **headers: str) -> Any:
        client = Client()
        client.force_login(user)
        return client.post(f"/runs/{run.pk}/{what}/", headers=headers)

    return send


def now(run: Run) -> Run:
    return Run.objects.get(pk=run.pk)


def executed(run: Run) -> Run:
    """As somebody executes it."""
    Run.objects.filter(pk=run.pk).update(status=Run.Status.RUNNING, owner="somebody", attempt=1)
    StageRun.objects.create(run=run, stage="A", attempt=1, status="running", started_at=run.created_at)
    return run


# -- Cancel ----------------------------------------------------------------------------------------------------------


def test_a_running_run_is_asked_to_stop(alice: User, post: Post) -> None:
    run = executed(asked(alice))
    answer = post(alice, run, "cancel", **{"User-Agent": "x"})
    assert (answer.status_code, answer.json()) == (202, {"run_id": str(run.pk), "status": "cancelling"})
    assert (now(run).status, now(run).cancel_requested_at is None) == ("running", False)
    entry = AuditEntry.objects.get(action="run.cancel")
    assert (entry.actor_name, entry.object_id, entry.user_agent) == ("alice", str(run.pk), "x")


def test_a_waiting_run_is_stopped_at_once(alice: User, post: Post) -> None:
    run = asked(alice)
    assert post(alice, run, "cancel").status_code == 202
    assert now(run).status == "cancelled"


@pytest.mark.django_db(transaction=True)
async def test_the_cancelled_event_says_what_ran(alice: User, running: Any) -> None:
    run = await submitted(await conversation_of(alice), alice, "count 1\nKept.\nwait\nNever said.")
    authorization = f"Bearer {await token_of(alice)}"
    path = f"/pipeline/runs/{run.pk}"
    begun: list[str] = []
    while "D" not in begun:
        begun = [stage["stage"] for stage in (await call("GET", path, authorization=authorization)).json()["stages"]]
    assert (await call("POST", f"{path}/cancel", authorization=authorization)).status == 202
    end = (await call("GET", f"{path}/stream", authorization=authorization)).events[-1]
    assert (end["type"], end["ran"], end["not_run"]) == ("cancelled", ["A", "B", "E"], ["D", "C"])
    assert end["stop_ms"] < 500
    assert (await call("GET", path, authorization=authorization)).json()["message"] == end["message"]


def test_an_ended_run_is_a_conflict(alice: User, post: Post) -> None:
    answer = post(alice, answered(alice, "Done."), "cancel")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    assert not AuditEntry.objects.filter(action="run.cancel").exists()


# -- Resume ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Run.Status.FAILED, Run.Status.CANCELLED])
def test_a_run_that_did_not_finish_is_gone_on_with(alice: User, post: Post, status: str) -> None:
    run = answered(alice, "So far", status=status)
    answer = post(alice, run, "resume")
    new = Run.objects.get(resumes=run)
    assert (answer.status_code, answer.json()) == (201, {"run_id": str(new.pk)})
    assert (new.ask.text, new.conversation_id, new.status) == (run.ask.text, run.conversation_id, "queued")
    assert now(run).status == status
    assert AuditEntry.objects.get(action="run.resume").object_id == str(new.pk)


def test_going_on_twice_gives_the_same_run(alice: User, post: Post) -> None:
    run = answered(alice, "", status=Run.Status.FAILED)
    assert post(alice, run, "resume").json() == post(alice, run, "resume").json()
    assert Run.objects.filter(resumes=run).count() == 1


def test_what_succeeded_or_still_goes_is_a_conflict(alice: User, post: Post) -> None:
    for run in (answered(alice, "Done."), asked(alice)):
        answer = post(alice, run, "resume")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")


def test_what_may_have_happened_is_not_repeated(alice: User, post: Post) -> None:
    run = answered(alice, "", status=Run.Status.FAILED)
    Run.objects.filter(pk=run.pk).update(error_code="outcome_unknown")
    answer = post(alice, run, "resume")
    assert answer.status_code == 409
    assert "check there" in answer.json()["error"]["message"]


def test_too_many_unfinished_runs_are_refused_with_a_time_to_wait(alice: User, post: Post, press: Post) -> None:
    run = answered(alice, "", status=Run.Status.FAILED)
    for _ in range(runs.MAX_UNFINISHED):
        runner.submit(user=alice, text="again")
    for answer in (post(alice, run, "resume"), press(alice, run, "continue", **{"HX-Request": "true"})):
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")
    assert not Run.objects.filter(resumes=run).exists()


# -- Who -------------------------------------------------------------------------------------------------------------


def test_the_owner_alone(alice: User, charlie: User, erin: User, post: Post, press: Post) -> None:
    waiting, failed = asked(alice), answered(alice, "", status=Run.Status.FAILED)
    for user in (charlie, erin):
        for run, what in ((waiting, "cancel"), (failed, "resume")):
            assert post(user, run, what).json()["error"]["code"] == "not_found"
            assert press(user, run, PAGES[what]).status_code == 404
    assert now(waiting).status == "queued"
    assert not Run.objects.filter(resumes=failed).exists()


@pytest.mark.parametrize("what", WAYS)
def test_a_session_needs_its_csrf_token(alice: User, what: str) -> None:
    run = asked(alice) if what == "cancel" else answered(alice, "", status=Run.Status.FAILED)
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    for address in (f"/pipeline/runs/{run.pk}/{what}", f"/runs/{run.pk}/{PAGES[what]}/"):
        assert client.post(address).status_code == 403
    client.cookies["csrftoken"] = "a" * 32
    answer = client.post(f"/pipeline/runs/{run.pk}/{what}", headers={"X-CSRFToken": "a" * 32})
    assert answer.status_code in (201, 202)


# -- The page's forms ------------------------------------------------------------------------------------------------


def test_stop_leads_back_to_the_answer(alice: User, press: Post) -> None:
    run = executed(asked(alice))
    answer = press(alice, run, "stop")
    assert answer.headers["Location"] == f"/conversations/{run.conversation_id}/#message-{run.answer_id}"
    assert now(run).cancel_requested_at is not None


def test_a_page_that_is_loaded_while_a_run_stops_says_so(alice: User, press: Post) -> None:
    run = executed(asked(alice))
    press(alice, run, "stop")
    client = Client()
    client.force_login(alice)
    page = client.get(f"/conversations/{run.conversation_id}/").text
    assert f'data-stop="/runs/{run.pk}/stop/" data-stopping' in page
    assert 'aria-disabled="true"' in page


def test_stopping_what_has_ended_is_no_error(alice: User, press: Post) -> None:
    run = answered(alice, "Done.")
    assert press(alice, run, "stop").status_code == 302
    assert press(alice, run, "stop", **{"HX-Request": "true"}).status_code == 204


def test_continue_leads_to_the_new_answer(alice: User, press: Post) -> None:
    run = answered(alice, "So far", status=Run.Status.CANCELLED)
    answer = press(alice, run, "continue")
    new = Run.objects.get(resumes=run)
    assert answer.headers["Location"] == f"/conversations/{run.conversation_id}/#message-{new.answer_id}"


def test_continue_brings_the_script_the_new_articles(alice: User, press: Post) -> None:
    run = answered(alice, "So far", status=Run.Status.CANCELLED)
    answer = press(alice, run, "continue", **{"HX-Request": "true"})
    assert answer.text.startswith(f'<!--{Run.objects.get(resumes=run).pk}:1--><div hx-swap-oob="beforeend:#content">')


def test_what_can_not_be_continued_is_said_beside_the_composer(alice: User, press: Post) -> None:
    run = answered(alice, "Done.")
    for headers in ({}, {"HX-Request": "true"}):
        answer = press(alice, run, "continue", **headers)
        assert answer.status_code == 409
        assert "Only a run that failed or was stopped" in answer.text
        assert 'id="composer-error"' in answer.text


def test_a_code_block_of_a_resumed_answer_is_counted_behind_its_tables(alice: User) -> None:
    old = answered(alice, "", status=Run.Status.CANCELLED)
    export = exported(old)
    text = "```csv\na\n1\n```\n\n```python\nprint()\n```\n"
    new = answered(alice, text, conversation=old.conversation)
    new.answer.blocks = [{"start": 0, "end": text.index("```python"), "export_id": str(export.pk)}]
    new.answer.save()
    client = Client()
    client.force_login(alice)
    assert client.get(f"/messages/{new.answer_id}/blocks/1/code.py").text == "print()\n"
