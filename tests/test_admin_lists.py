"""The review's lists: filters, search, addresses that make no sense, and how many queries a page takes."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.log import log_response

from conversations import audit, tokens
from conversations.admin.review import SECTION_ROWS
from conversations.models import Conversation, Message, Run
from inventory.models import Asset
from tests.answers import answered, exported
from tests.histories import history, long_conversation

BROWSER = {"accept": "text/html"}
LISTS = ("conversation", "run", "stagerun", "export", "auditentry", "apitoken")


def address(model: str, **filters: object) -> str:
    return f"{reverse(f'admin:conversations_{model}_changelist')}?{urlencode(filters)}"


def found(client: Client, model: str, **filters: object) -> set[Any]:
    """The rows that the list shows."""
    response = client.get(address(model, **filters), headers=BROWSER)
    assert response.status_code == 200
    return set(response.context["cl"].result_list)


@pytest.fixture
def reviewer(erin: User, client: Client) -> Client:
    client.force_login(erin)
    return client


# -- Filters and search ----------------------------------------------------------------------------------------------


def test_lists_are_filtered_by_the_users_name(alice: User, bob: User, reviewer: Client) -> None:
    of_alice, of_bob = answered(alice, "Yes."), answered(bob, "No.")
    exported(of_alice)
    exported(of_bob)
    assert found(reviewer, "conversation", user="alice") == {of_alice.conversation}
    assert found(reviewer, "run", user="bob") == {of_bob}
    assert found(reviewer, "stagerun", user="bob") == set(of_bob.stages.all())
    assert found(reviewer, "export", user="alice") == set(of_alice.exports.all())
    assert {entry.actor_name for entry in found(reviewer, "auditentry", user="bob")} == {"bob"}


def test_a_name_that_nobody_has_brings_similar_ones(alice: User, reviewer: Client) -> None:
    response = reviewer.get(address("run", user="lic"), headers=BROWSER)
    assert "No user of this name." in response.content.decode()
    assert '<a href="?user=alice">alice</a>' in response.content.decode()


def test_staff_without_the_permission_learn_no_names_of_others(
    alice: User, bob: User, charlie: User, client: Client
) -> None:
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    for user in (alice, bob):
        answered(user, "Yes.")
    client.force_login(bob)
    pages = [client.get(address(m, user=u), headers=BROWSER).content for m in LISTS for u in ("alice", "li", "zzz", "")]
    assert not any(b"alice<" in page or b"charlie" in page for page in pages)


def test_an_owners_name_leads_to_the_rows_of_this_owner(alice: User, reviewer: Client) -> None:
    answered(alice, "Yes.")
    assert b'<a href="?user=alice">alice</a>' in reviewer.get(address("conversation"), headers=BROWSER).content


def test_lists_are_filtered_by_day_both_ends_included(alice: User, reviewer: Client) -> None:
    old, new = answered(alice, "Yes."), answered(alice, "No.")
    Run.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=3))
    day = (timezone.now() - timedelta(days=3)).date().isoformat()
    assert found(reviewer, "run", **{"from": day, "to": day}) == {old}
    assert found(reviewer, "run", **{"from": timezone.now().date().isoformat()}) == {new}
    assert found(reviewer, "conversation", to=day) == {old.conversation}


def test_a_conversation_is_found_by_the_status_stage_and_tool_of_one_of_its_runs(alice: User, reviewer: Client) -> None:
    failed = answered(alice, "", status=Run.Status.FAILED)
    failed.stages.filter(stage="E").update(status="failed", input={"calls": [{"tool": "assets.query"}]})
    succeeded = answered(alice, "Yes.", conversation=failed.conversation)
    other = answered(alice, "Hello.")
    assert found(reviewer, "run", status="failed") == {failed} == found(reviewer, "run", failed="E")
    assert found(reviewer, "run", failed="any") == {failed}
    assert found(reviewer, "run", failed="A") == set()
    assert found(reviewer, "run", tool="assets.query") == {failed}
    assert found(reviewer, "conversation", failed="E", tool="assets.query") == {failed.conversation}
    assert found(reviewer, "conversation", status="succeeded") == {succeeded.conversation, other.conversation}
    # One run has to be all of it: the conversation has a failed run, and one that succeeded.
    assert found(reviewer, "conversation", status="succeeded", failed="E") == set()


def test_an_argument_that_looks_like_a_call_is_no_call(alice: User, reviewer: Client) -> None:
    run = answered(alice, "Yes.")
    call = {"tool": "toy.make", "arguments": {"value": '"tool": "assets.query"'}}
    run.stages.filter(stage="E").update(input={"calls": [call]})
    assert found(reviewer, "run", tool="assets.query") == set()
    assert found(reviewer, "run", tool="toy.make") == {run}


def test_stage_runs_are_filtered_by_stage_and_status(alice: User, reviewer: Client) -> None:
    run = answered(alice, "Yes.")
    assert found(reviewer, "stagerun", stage="C", status="skipped") == {run.stages.get(stage="C")}


def test_exports_and_entries_are_filtered_by_what_they_are(alice: User, reviewer: Client) -> None:
    run = answered(alice, "Yes.")
    export, typed = exported(run), exported(run, source="text")
    assert found(reviewer, "export", tool="assets.query") == {export}
    assert found(reviewer, "export", source="text") == {typed}
    entry = audit.record(actor=alice, action="export.download", object_type="export", object_id="1", outcome="denied")
    assert found(reviewer, "auditentry", outcome="denied") == {entry}
    assert found(reviewer, "auditentry", action="export.") == {entry}
    assert found(reviewer, "auditentry", action="export.download") == {entry}
    assert found(reviewer, "auditentry", action="export") == set()


def test_search_finds_words_in_titles_requests_answers_names_and_ids(alice: User, reviewer: Client) -> None:
    run, other = answered(alice, "There are 54 of them."), answered(alice, "None at all.")
    Conversation.objects.filter(pk=run.conversation_id).update(title="night shift")
    Message.objects.filter(pk=run.ask_id).update(text="Any printers left?")
    export = exported(run, name="export_42")
    for words in ("night", "shift night", '"printers left"', "printers 54", str(run.conversation_id)):
        assert found(reviewer, "conversation", q=words) == {run.conversation}, words
    for words in ("printers", "54 them", str(run.pk), str(run.conversation_id)):
        assert found(reviewer, "run", q=words) == {run}, words
    assert found(reviewer, "conversation", q='"left printers"') == set()
    assert found(reviewer, "export", q="export_42") == {export} == found(reviewer, "export", q=str(run.pk))
    assert {entry.object_id for entry in found(reviewer, "auditentry", q=str(other.pk))} == {str(other.pk)}
    assert {entry.actor_name for entry in found(reviewer, "auditentry", q="ALIC")} == {"alice"}


# -- Addresses that make no sense ------------------------------------------------------------------------------------


NONSENSE = [
    "p=99999", "p=0", "p=-1", "e=1", "nonsense=1", "o=99", "o=x", "all=", "owner=abc", "user=%ED%A0%80",
    "user__password=x", "user__username__startswith=a", "q=" + "a+" * 3000, "q=%22", "q=%", "q='", "status=zzz",
    "failed=Z", "tool=none", "stage=Z", "source=x", "outcome=x", "from=yesterday", "from=9999-12-31",
    "from=0001-01-01", "to=9999-12-31", "from=2026-02-30", "from=2026-11-22&to=2026-11-21", "_to_field=x", "_popup=1",
    "run=1", "conversation=x", "action=.",
]  # fmt: skip
NULS = ["q=%00", "user=%00", "%00=1", "object_id=%00", "conversation=%00", "id__exact=%00"]


@pytest.mark.parametrize("model", LISTS)
def test_an_address_that_makes_no_sense_gets_a_page_or_a_clear_error(model: str, alice: User, reviewer: Client) -> None:
    history(alice, 60)
    for query in NONSENSE:
        assert reviewer.get(address(model) + query, headers=BROWSER).status_code in (200, 400), query
    for query in NULS:
        response = reviewer.get(address(model) + query, headers=BROWSER)
        assert response.status_code == 400, query
        assert "NUL" in response.content.decode(), query


def test_a_refused_filter_is_named(alice: User, reviewer: Client) -> None:
    history(alice, 60)
    for query, said in {
        "status=zzz": "“status” is one of: queued, running, succeeded, failed, cancelled.",
        "from=yesterday": "“from” is no day; write it as 2026-11-22.",
        "from=2026-11-22&to=2026-11-21": "“from” is after “to”; swap them.",
        "q=" + "a+" * 11: "“q” has more than 10 words; search for fewer.",
        "owner=1": "There is no filter “owner” here.",
        "p=99999": "The list has no such page, or no such filter.",
        "q=%00": "“q” has a NUL character; remove it.",
    }.items():
        response = reviewer.get(address("run") + query, headers=BROWSER)
        assert response.status_code == 400, query
        assert said in response.content.decode()


def test_what_is_never_shown_can_not_be_guessed_by_a_filter(alice: User, reviewer: Client) -> None:
    token, _ = tokens.make(user=alice)
    for lookup in ("digest", "digest__startswith"):
        query = {lookup: token.digest}
        assert reviewer.get(address("apitoken", **query), headers=BROWSER).status_code == 400


def test_the_list_of_assets_refuses_nonsense_too(reviewer: Client) -> None:
    Asset.objects.bulk_create(Asset(name=f"web-{i}") for i in range(60))
    for query in ("q=%00", "site__exact=%00", "p=99999", "nonsense=1", "q=" + "a+" * 3000):
        assert reviewer.get(f"/admin/inventory/asset/?{query}", headers=BROWSER).status_code == 400, query


def test_assets_without_a_value_are_filtered_by_a_link_with_words(reviewer: Client) -> None:
    nowhere, _ = Asset.objects.bulk_create([Asset(name="web-1"), Asset(name="web-2", environment="production")])
    response = reviewer.get("/admin/inventory/asset/", headers=BROWSER)
    assert re.search(r'<a href="\?environment=">\s*\(empty\)\s*</a>', response.content.decode())
    filtered = reviewer.get("/admin/inventory/asset/?environment=", headers=BROWSER)
    assert list(filtered.context["cl"].result_list) == [nowhere]


# -- The log ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def log() -> Iterator[StringIO]:
    """What the server's own log handler writes."""
    (handler,) = [handler for handler in logging.getLogger().handlers if handler.name == "console"]
    assert isinstance(handler, logging.StreamHandler)
    written = StringIO()
    before = handler.setStream(written)
    yield written
    handler.setStream(before)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/admin/conversations/run/?status=zzz", 400),
        ("/admin/conversations/run/?_to_field=owner", 400),
        ("/admin/inventory/asset/?owner__username=x", 400),
        ("/admin/conversations/run/add/", 403),
    ],
)
def test_a_refusal_is_one_line_in_the_log(reviewer: Client, log: StringIO, path: str, status: int) -> None:
    assert reviewer.get(path, headers=BROWSER).status_code == status
    (line,) = log.getvalue().splitlines()
    assert " WARNING django." in line


def test_a_failure_keeps_its_stack_in_the_log(log: StringIO) -> None:
    failure = HttpResponse(status=500)
    try:
        raise RuntimeError("broken")
    except RuntimeError as error:
        log_response("Internal Server Error: %s", "/x/", response=failure, request=HttpRequest(), exception=error)
    assert " ERROR django.request: Internal Server Error: /x/\nTraceback" in log.getvalue()
    assert "RuntimeError: broken" in log.getvalue()


# -- How much a page takes -------------------------------------------------------------------------------------------

QUERIES: dict[str, list[dict[str, object]]] = {
    "conversation": [
        {}, {"user": "alice"}, {"user": "lic"}, {"from": "2020-01-01", "to": "2120-01-01"}, {"status": "failed"},
        {"status": "succeeded"}, {"failed": "E"}, {"failed": "any"}, {"tool": "toy.make"}, {"q": "rack"},
        {"q": "nothing"}, {"user": "alice", "status": "failed", "failed": "E", "tool": "toy.make", "q": "rack"},
    ],
    "run": [
        {}, {"user": "alice"}, {"from": "2020-01-01"}, {"status": "failed"}, {"failed": "E"}, {"tool": "toy.make"},
        {"q": "rack"},
    ],
    "stagerun": [{}, {"user": "alice"}, {"from": "2020-01-01"}, {"stage": "E", "status": "failed"}, {"q": "rack"}],
    "export": [
        {}, {"user": "alice"}, {"from": "2020-01-01"}, {"source": "tool"}, {"tool": "toy.make"}, {"q": "export"},
    ],
    "auditentry": [
        {}, {"user": "alice"}, {"from": "2020-01-01"}, {"action": "export."}, {"outcome": "ok"}, {"q": "ali"},
    ],
}  # fmt: skip


def n_queries(client: Client) -> dict[str, int]:
    """List and filters -> queries of its page."""
    counted = {}
    for model, all_filters in QUERIES.items():
        for filters in all_filters:
            with CaptureQueriesContext(
                connection,
            ) as queries:
                assert client.get(address(model, **filters), headers=BROWSER).status_code == 200
            counted[address(model, **filters)] = len(queries)
    return counted


def read(client: Client, row: Any) -> tuple[int, Any]:
    """(queries, response) of a row's page."""
    with CaptureQueriesContext(connection) as queries:
        response = client.get(reverse(f"admin:conversations_{row._meta.model_name}_change", args=[row.pk]))
    return len(queries), response


@pytest.mark.whole
def test_a_list_takes_the_same_queries_for_10_and_for_10_000_conversations(alice: User, reviewer: Client) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            # The rows below are made in one transaction, and for seconds without a word to the database.
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    history(alice, 10)
    few = n_queries(reviewer)
    history(alice, 10_000 - 10, n_events=0)
    assert Conversation.objects.count() == 10_000
    with connection.cursor() as cursor:
        # Databases do it by themselves now and then; without, PostgreSQL plans as if the tables were empty: minutes.
        cursor.execute("ANALYZE")
    assert n_queries(reviewer) == few
    assert max(few.values()) <= 9


def test_the_page_of_a_long_conversation_shows_the_newest_and_leads_to_the_rest(alice: User, reviewer: Client) -> None:
    short, long = long_conversation(alice, 1), long_conversation(alice, 250)
    read(reviewer, short)  # The first page of a process looks a content type up.
    (n_short, _), (n_long, response) = read(reviewer, short), read(reviewer, long)
    assert n_short == n_long
    assert [len(section["rows"]) for section in response.context["sections"]] == [SECTION_ROWS, SECTION_ROWS]
    content = response.content.decode()
    assert address("message", conversation=long.pk) in content
    assert address("run", conversation=long.pk) in content
    assert len(found(reviewer, "run", conversation=long.pk)) == 50


def test_the_page_of_a_run_shows_some_of_its_events_and_leads_to_the_rest(alice: User, reviewer: Client) -> None:
    run, few = history(alice, 1, n_events=500)[0], history(alice, 1)[0]
    read(reviewer, few)
    (n_few, _), (n_many, response) = read(reviewer, few), read(reviewer, run)
    assert n_few == n_many
    assert len(response.context["sections"][-1]["rows"]) == SECTION_ROWS
    assert address("runevent", run=run.pk) in response.content.decode()
    assert len(found(reviewer, "runevent", run=run.pk, p=2)) == 50
