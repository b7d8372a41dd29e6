"""The review: staff read what they may see."""

from __future__ import annotations

import re
import uuid
from typing import Any
from urllib.parse import unquote

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from conversations import audit, tokens
from conversations.models import AuditEntry, Conversation, Message, Run, RunEvent
from tests.answers import answered, exported

BROWSER = {"accept": "text/html"}


@pytest.fixture
def history(alice: User) -> dict[str, Any]:
    """One row of each kind, of alice."""
    run = answered(alice, "All of <b>them</b>.", response={"results": [{"tool": "assets.query"}]})
    export = exported(run)
    return {
        "conversation": run.conversation, "message": run.answer, "run": run, "stagerun": run.stages.get(stage="E"),
        "runevent": run.events.get(seq=1), "export": export,
        "auditentry": AuditEntry.objects.get(action="run.submit"), "apitoken": tokens.make(user=alice)[0],
    }  # fmt: skip


def page(row: Any, kind: str = "change") -> str:
    return reverse(f"admin:conversations_{row._meta.model_name}_{kind}", args=[row.pk] if kind == "change" else [])


def listed(row: Any) -> str:
    """The list with the row; parts are listed by what they are part of."""
    parent = {Message: "conversation", RunEvent: "run"}.get(type(row))
    return page(row, "changelist") + (f"?{parent}={getattr(row, f'{parent}_id')}" if parent else "")


def read(client: Client, address: str) -> str:
    response = client.get(address, headers=BROWSER)
    assert response.status_code == 200, address
    return response.content.decode()


def links(content: str) -> set[str]:
    return set(re.findall(r'href="([^"]+)"', content.replace("&amp;", "&")))


def test_a_reviewer_reads_every_kind_of_row(history: dict[str, Any], erin: User, client: Client) -> None:
    client.force_login(erin)
    for row in history.values():
        read(client, page(row))
        assert page(row) in links(read(client, listed(row)))


def test_staff_without_the_permission_find_nothing_of_others(
    history: dict[str, Any], bob: User, client: Client
) -> None:
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    client.force_login(bob)
    for row in history.values():
        assert client.get(page(row), headers=BROWSER).status_code == 404
        response = client.get(listed(row), headers=BROWSER)
        assert response.status_code == 404 or page(row) not in links(response.content.decode())


def test_staff_without_the_permission_read_their_own(history: dict[str, Any], alice: User, client: Client) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    client.force_login(alice)
    for row in history.values():
        read(client, page(row))
        assert page(row) in links(read(client, listed(row)))


def test_parts_are_listed_by_what_they_are_part_of(history: dict[str, Any], erin: User, client: Client) -> None:
    client.force_login(erin)
    for address in (page(history["runevent"], "changelist"), listed(history["runevent"]) + f"&run={uuid.uuid4()}"):
        response = client.get(address, headers=BROWSER)
        assert response.status_code == 400
        assert "Run events are listed by one run" in response.content.decode()


# -- What a page shows -----------------------------------------------------------------------------------------------


def test_a_runs_page_shows_stages_events_and_exports(history: dict[str, Any], erin: User, client: Client) -> None:
    client.force_login(erin)
    content = read(client, page(history["run"]))
    for text in ("one step is enough", "Request stored", "export_1795349047113", "1.2 s", "Created (UTC)"):
        assert text in content
    assert "All of &lt;b&gt;them&lt;/b&gt;." in content


def test_pages_lead_from_one_to_the_other(history: dict[str, Any], erin: User, client: Client) -> None:
    client.force_login(erin)
    conversation, run, export = history["conversation"], history["run"], history["export"]
    chat, trail = reverse("conversation", args=[conversation.pk]), page(history["auditentry"], "changelist")
    expected = {
        "conversation": {page(run), page(history["message"]), chat},
        "message": {page(conversation), page(run)},
        "run": {page(conversation), page(history["stagerun"]), page(history["runevent"]), page(export)},
        "stagerun": {page(run), page(conversation)},
        "runevent": {page(run)},
        "export": {
            page(run), page(conversation), reverse("export", args=[export.pk]),
            f"{trail}?object_type=export&object_id={export.pk}",
        },
        "auditentry": {page(run)},
    }  # fmt: skip
    for kind, addresses in expected.items():
        assert addresses <= links(read(client, page(history[kind]))), kind


def test_an_exports_page_shows_who_asked_for_its_file(
    history: dict[str, Any], bob: User, erin: User, client: Client
) -> None:
    client.force_login(bob)
    client.get(reverse("export", args=[history["export"].pk]))
    client.force_login(erin)
    content = read(client, page(history["export"]))
    assert re.search(r"export\.download</td>\s*<td>bob</td>\s*<td>denied", content)
    assert "412 kB (412,000 bytes)" in content


def test_an_entry_of_what_is_gone_has_no_link_to_it(alice: User, erin: User, client: Client) -> None:
    run = answered(alice, "Yes.")
    entry = audit.record(
        actor=alice, action="run.submit", object_type="run", object_id="no id", outcome=audit.Outcome.NOT_FOUND
    )
    client.force_login(erin)
    assert page(run).rsplit("/", 3)[0] + "/no id/change/" not in read(client, page(entry))


def test_the_audit_entries_of_one_object_are_listed_alone(history: dict[str, Any], erin: User, client: Client) -> None:
    client.force_login(erin)
    content = read(
        client, page(history["auditentry"], "changelist") + f"?object_type=run&object_id={history['run'].pk}"
    )
    assert "1 audit entry" in content
    assert "run.submit" in content


def test_a_token_is_shown_without_its_digest(history: dict[str, Any], erin: User, client: Client) -> None:
    client.force_login(erin)
    token = history["apitoken"]
    assert token.digest[:12] not in read(client, page(token)) + read(client, listed(token))


# -- Looks leave entries ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "object_type"),
    [
        ("conversation", "conversation"), ("message", "conversation"), ("run", "conversation"),
        ("stagerun", "conversation"), ("runevent", "conversation"), ("export", "export"),
    ],
)  # fmt: skip
def test_a_look_at_anothers_content_leaves_an_entry(
    history: dict[str, Any], erin: User, client: Client, kind: str, object_type: str
) -> None:
    client.force_login(erin)
    read(client, page(history[kind]))
    entry = AuditEntry.objects.get(actor_name="erin", action__endswith=".review")
    assert (entry.action, entry.object_id) == (f"{object_type}.review", str(history[object_type].pk))
    assert entry.detail["through"] == "admin"


@pytest.mark.parametrize("kind", ["message", "runevent"])
def test_a_list_of_parts_leaves_an_entry_too(history: dict[str, Any], erin: User, client: Client, kind: str) -> None:
    client.force_login(erin)
    read(client, listed(history[kind]))
    entry = AuditEntry.objects.get(actor_name="erin", action__endswith=".review")
    assert entry.object_id == str(history["conversation"].pk)


def test_a_look_at_ones_own_leaves_none(erin: User, client: Client) -> None:
    run = answered(erin, "Yes.")
    client.force_login(erin)
    for row in (run.conversation, run, exported(run)):
        read(client, page(row))
    assert not AuditEntry.objects.filter(action__endswith=".review").exists()


# -- The way in ------------------------------------------------------------------------------------------------------


def test_who_is_signed_out_is_led_to_our_own_sign_in_and_back(erin: User, client: Client) -> None:
    address = "/admin/conversations/run/?status=failed"
    response = client.get(address, follow=True, headers=BROWSER)
    last, _ = response.redirect_chain[-1]
    assert unquote(last) == f"/accounts/login/?next={address}"
    client.force_login(erin)
    assert client.get(last, headers=BROWSER)["Location"] == address


def test_the_admins_own_sign_in_signs_nobody_in(erin: User, client: Client) -> None:
    client.post("/admin/login/", {"username": "erin", "password": "correct horse battery", "next": "/admin/"})
    assert "_auth_user_id" not in client.session


def test_who_is_not_staff_finds_nothing_there(alice: User, client: Client) -> None:
    client.force_login(alice)
    for address in ("/admin/", "/admin/login/?next=/admin/", "/admin/conversations/run/", "/admin/nowhere/"):
        assert client.get(address, headers=BROWSER).status_code == 404, address


def test_changing_ones_password_is_for_the_account_page(erin: User, client: Client) -> None:
    client.force_login(erin)
    assert client.get("/admin/password_change/")["Location"] == reverse("account")


def test_no_object_is_found_by_its_type_and_number(erin: User, alice: User, client: Client) -> None:
    client.force_login(erin)
    for object_id in (alice.pk, 999_999, "abc", "%00"):
        assert client.get(f"/admin/r/4/{object_id}/", headers=BROWSER).status_code == 404


def test_run_and_conversation_rows_are_unknown_to_the_review_when_they_do_not_exist(erin: User, client: Client) -> None:
    client.force_login(erin)
    for model in (Conversation, Run):
        for row_id in ("00000000-0000-4000-8000-000000000000", "abc", "%00"):
            address = f"/admin/conversations/{model._meta.model_name}/{row_id}/change/"
            assert client.get(address, headers=BROWSER).status_code == 404, address
