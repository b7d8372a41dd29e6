"""POST /pipeline/stream, POST /pipeline, GET /pipeline/runs/<id>/stream."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User

from conversations import event_log, runner, threads, tokens
from conversations.models import ApiToken, Conversation, Run, RunEvent
from conversations.runner import EmbeddedRunner
from tests.calls import Answer, ask, call, calling, cookie_of, parse_events, token_of
from tests.test_runner import engine_of

pytestmark = pytest.mark.django_db(transaction=True)


async def post(user: User, data: Any = None, *, body: bytes = b"", **headers: str) -> Answer:
    return await call(
        "POST", "/pipeline", data=data, body=body, authorization=f"Bearer {await token_of(user)}", **headers
    )


async def test_the_events_of_a_run_are_streamed_in_order(alice: User, running: EmbeddedRunner) -> None:
    answer = await ask(alice, "rows 3\nHere:", context={}, user_id="test", session_id="test")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.events
    assert [e["id"] for e in events] == list(range(1, len(events) + 1))
    assert (events[0]["type"], events[-1]["type"]) == ("start", "complete")
    stages = [e["stage"] for e in events if e["type"] == "stage_complete"]
    assert stages == ["A", "B", "C", "E", "D"]
    text = ""
    for event in events:
        if event["type"] == "token":
            text = text[: event["offset"]] + event["text"]
    assert text == events[-1]["message"]
    (export,) = [e for e in events if e["type"] == "export"]
    assert (export["rows"], export["columns"]) == (3, ["n", "text"])
    assert export["downloads"]["csv"] == f"/exports/{export['export_id']}/"


async def test_events_arrive_while_the_run_goes_on(alice: User, running: EmbeddedRunner) -> None:
    token = await token_of(alice)
    body = json.dumps({"request": "Before.\nwait\nAfter."}).encode()
    async with calling("POST", "/pipeline/stream", body=body, authorization=f"Bearer {token}") as caller:
        await caller.receive_output()
        seen = b""
        while b"Before." not in seen:
            seen += (await caller.receive_output(timeout=5))["body"]
        assert b'"complete"' not in seen
        engine_of(running).go.set()
        while b'"complete"' not in seen:
            seen += (await caller.receive_output(timeout=5))["body"]
    assert parse_events(seen)[-1]["message"] == "Before.\nAfter.\n"


async def test_plain_http_is_refused_where_https_is_asked_for(
    alice: User, running: EmbeddedRunner, settings: Any
) -> None:
    run = (await post(alice, {"request": "Hi"})).json()
    settings.SECURE_SSL_REDIRECT, settings.SECURE_PROXY_SSL_HEADER = True, ("HTTP_X_FORWARDED_PROTO", "https")
    assert (await post(alice, {"request": "Hi"}, x_forwarded_proto="https")).status == 200
    authorization = f"Bearer {await token_of(alice)}"
    for method, path in (
        ("POST", "/pipeline"), ("POST", "/pipeline/stream"), ("GET", f"/pipeline/runs/{run['run_id']}/stream"),
    ):  # fmt: skip
        plain = await call(method, path, data={"request": "Hi"}, authorization=authorization)
        said = await call(method, path, data={"request": "Hi"}, authorization=authorization, x_forwarded_proto="http")
        for answer in (plain, said):
            assert (answer.status, answer.error["message"]) == (400, "Use https://."), path
            assert "location" not in answer.headers
    assert await threads.reading(Run.objects.count) == 2


async def test_closing_the_stream_does_not_stop_the_run(alice: User, running: EmbeddedRunner) -> None:
    token = await token_of(alice)
    body = json.dumps({"request": "wait\nDone."}).encode()
    async with calling("POST", "/pipeline/stream", body=body, authorization=f"Bearer {token}") as caller:
        await caller.receive_output()
        first = parse_events((await caller.receive_output(timeout=5))["body"])[0]
    engine_of(running).go.set()
    rest = await call("GET", f"/pipeline/runs/{first['run_id']}/stream?after=1", authorization=f"Bearer {token}")
    assert rest.events[-1]["message"] == "Done.\n"


async def test_post_pipeline_answers_with_the_run_when_it_has_ended(alice: User, running: EmbeddedRunner) -> None:
    answer = await post(alice, {"request": "count 4\nSo many:"})
    run = answer.json()
    assert answer.status == 200
    assert (run["status"], run["request"], run["resumes"], run["error"]) == (
        "succeeded",
        "count 4\nSo many:",
        None,
        None,
    )
    assert run["message"].startswith("So many:")
    assert [(s["stage"], s["status"]) for s in run["stages"]] == [
        ("A", "completed"), ("B", "completed"), ("C", "skipped"), ("E", "completed"), ("D", "completed"),
    ]  # fmt: skip
    assert run["response"]["results"][0]["total"] == 4
    again = await call("GET", f"/pipeline/runs/{run['run_id']}", authorization=f"Bearer {await token_of(alice)}")
    assert again.json() == run


async def test_a_failed_run_is_answered_with_its_error(alice: User, running: EmbeddedRunner) -> None:
    run = (await post(alice, {"request": "break"})).json()
    assert (run["status"], run["error"]) == ("failed", {"code": "toy_broken", "message": "The toy is broken."})
    assert run["stages"][-1]["status"] == "failed"


async def test_the_stored_events_are_the_sent_ones(alice: User, running: EmbeddedRunner) -> None:
    sent = (await ask(alice, "rows 2\nOne two.")).events
    run_id = sent[0]["run_id"]
    replayed = await call(
        "GET", f"/pipeline/runs/{run_id}/stream?after=0", authorization=f"Bearer {await token_of(alice)}"
    )
    assert replayed.events == sent
    cookie = await cookie_of(alice)
    rest = await call("GET", f"/pipeline/runs/{run_id}/stream", last_event_id="3", cookie=cookie)
    assert rest.events == sent[3:]


async def test_an_ended_stream_with_nothing_left_is_204(alice: User, running: EmbeddedRunner) -> None:
    sent = (await ask(alice, "Hi")).events
    path = f"/pipeline/runs/{sent[0]['run_id']}/stream?after={sent[-1]['id']}"
    assert (await call("GET", path, authorization=f"Bearer {await token_of(alice)}")).status == 204


async def test_a_reader_goes_on_from_an_event_that_is_gone(alice: User, running: EmbeddedRunner) -> None:
    token = await token_of(alice)
    body = json.dumps({"request": "Lost.\nwait\nDone."}).encode()
    async with calling("POST", "/pipeline/stream", body=body, authorization=f"Bearer {token}") as caller:
        await caller.receive_output()
        seen = b""
        while b"Lost." not in seen:
            seen += (await caller.receive_output(timeout=5))["body"]
    last = parse_events(seen)[-1]
    assert last["type"] == "token"
    await threads.reading(lambda: RunEvent.objects.filter(run=last["run_id"], seq=last["id"]).delete())
    engine_of(running).go.set()
    path = f"/pipeline/runs/{last['run_id']}/stream"
    rest = (await call("GET", path, last_event_id=str(last["id"]), authorization=f"Bearer {token}")).events
    assert [e["id"] for e in rest] == list(range(last["id"] + 1, rest[-1]["id"] + 1))
    late = (await call("GET", path, authorization=f"Bearer {token}")).events
    assert last["id"] not in [e["id"] for e in late]
    assert (late[-1]["message"], rest[-1]) == ("Lost.\nDone.\n", late[-1])


async def test_a_quiet_stream_beats_and_one_beyond_the_end_ends(
    alice: User, running: EmbeddedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "HEARTBEAT_S", 0.05)
    token = await token_of(alice)
    body = json.dumps({"request": "wait\nDone."}).encode()
    async with calling("POST", "/pipeline/stream", body=body, authorization=f"Bearer {token}") as caller:
        await caller.receive_output()
        first = parse_events((await caller.receive_output(timeout=5))["body"])[0]
    path = f"/pipeline/runs/{first['run_id']}/stream?after=9999"
    async with calling("GET", path, authorization=f"Bearer {token}") as reader:
        assert (await reader.receive_output(timeout=5))["status"] == 200
        assert (await reader.receive_output(timeout=5))["body"] == b": keep-alive\n\n"
        engine_of(running).go.set()
        more = True
        while more:
            message = await reader.receive_output(timeout=5)
            assert message["body"] in (b": keep-alive\n\n", b"")
            more = message.get("more_body", False)


@pytest.mark.parametrize("path", ["/pipeline", "/pipeline/stream"])
async def test_a_session_alone_does_not_post(alice: User, running: EmbeddedRunner, path: str) -> None:
    answer = await call("POST", path, data={"request": "Hi"}, cookie=await cookie_of(alice))
    assert (answer.status, answer.error["code"]) == (401, "not_authenticated")


async def test_expired_revoked_and_inactive_tokens_are_401(alice: User, bob: User, running: EmbeddedRunner) -> None:
    def made() -> list[str]:
        expired, text_1 = tokens.make(user=alice, days=1)
        ApiToken.objects.filter(pk=expired.pk).update(expires_at="2020-01-01T00:00Z")
        revoked, text_2 = tokens.make(user=alice)
        tokens.revoke(token=revoked)
        _, text_3 = tokens.make(user=bob)
        User.objects.filter(pk=bob.pk).update(is_active=False)
        return [text_1, text_2, text_3, "opschat_wrong", ""]

    for text in await threads.reading(made):
        answer = await call("POST", "/pipeline", data={"request": "Hi"}, authorization=f"Bearer {text}")
        assert (answer.status, answer.error["code"]) == (401, "not_authenticated")
    assert await threads.reading(Run.objects.count) == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", None),
        (b"{", None),
        (b'"text"', None),
        (b"\xff\xfe", None),
        (b'{"request": NaN}', None),
        (b'{"request": "Hi", "context": {"a": [1e999]}}', None),
        (b"[" * 30_000, None),
        (b"{}", "request"),
        (b'{"request": 5}', "request"),
        (b'{"request": " \\n"}', "request"),
        (b'{"request": "a\\u0000b"}', "request"),
        (b'{"request": "\\ud800"}', "request"),
        (json.dumps({"request": "x" * 8001}).encode(), "request"),
        (b'{"request": "Hi", "context": []}', "context"),
        (b'{"request": "Hi", "context": {"a": ["\\u0000"]}}', "context"),
        (json.dumps({"request": "Hi", "context": {"a": "x" * 17_000}}).encode(), "context"),
        (b'{"request": "Hi", "context": {"a": ' + b"[" * 60 + b"]" * 60 + b"}}", "context"),
        (b'{"request": "Hi", "a\\u0000b": 1}', "a field's name"),
        (b'{"request": "Hi", "session_id": 5}', "session_id"),
        (json.dumps({"request": "Hi", "session_id": "x" * 129}).encode(), "session_id"),
        (b'{"request": "Hi", "user_id": "\\u0000"}', "user_id"),
    ],
)
async def test_bad_input_is_400_and_names_the_field(
    alice: User, running: EmbeddedRunner, body: bytes, field: str | None
) -> None:
    answer = await post(alice, body=body)
    assert (answer.status, answer.error["code"], answer.error["field"]) == (400, "invalid_request", field)
    assert await threads.reading(Conversation.objects.count) == 0


async def test_8000_characters_are_taken(alice: User, running: EmbeddedRunner) -> None:
    body = json.dumps({"request": "😀" * 8000}, ensure_ascii=False).encode()
    assert (await post(alice, body=body)).status == 200


async def test_a_body_over_64_kib_is_413(alice: User, running: EmbeddedRunner) -> None:
    assert (await post(alice, body=b" " * (64 * 1024 + 1))).status == 413


async def test_a_session_name_leads_to_the_same_conversation_of_the_same_user(
    alice: User, bob: User, running: EmbeddedRunner
) -> None:
    first = (await post(alice, {"request": "Hi", "session_id": "test"})).json()["conversation_id"]
    second = (await post(alice, {"request": "Hi", "session_id": "test"})).json()["conversation_id"]
    others = (await post(bob, {"request": "Hi", "session_id": "test"})).json()["conversation_id"]
    none = (await post(alice, {"request": "Hi"})).json()["conversation_id"]
    assert first == second
    assert len({first, others, none}) == 3
    by_id = (await post(alice, {"request": "Hi", "session_id": first})).json()["conversation_id"]
    assert by_id == first


async def test_a_foreign_or_unknown_conversation_is_404(alice: User, bob: User, running: EmbeddedRunner) -> None:
    his = (await post(bob, {"request": "Hi"})).json()["conversation_id"]
    for session_id in (his, str(uuid.uuid4())):
        answer = await post(alice, {"request": "Hi", "session_id": session_id})
        assert (answer.status, answer.error["code"]) == (404, "not_found")


async def test_an_idempotency_key_gives_the_same_run(alice: User, bob: User, running: EmbeddedRunner) -> None:
    first = (await post(alice, {"request": "Hi"}, idempotency_key="k1")).json()
    again = (await post(alice, {"request": "Other"}, idempotency_key="k1")).json()
    others = (await post(bob, {"request": "Hi"}, idempotency_key="k1")).json()
    assert first == again
    assert others["run_id"] != first["run_id"]


async def test_more_than_20_unfinished_runs_are_429(alice: User, bob: User, running: EmbeddedRunner) -> None:
    token = await token_of(alice)
    body = json.dumps({"request": "wait\nHi"}).encode()
    for _ in range(20):
        async with calling("POST", "/pipeline/stream", body=body, authorization=f"Bearer {token}") as caller:
            await caller.receive_output(timeout=5)
    answer = await post(alice, {"request": "Hi"})
    assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (429, "too_many", "5")
    assert (await post(bob, {"request": "Hi"})).status == 200


async def test_only_the_owner_and_a_reviewer_follow_a_run(
    alice: User, bob: User, erin: User, running: EmbeddedRunner
) -> None:
    run_id = (await post(alice, {"request": "Hi"})).json()["run_id"]
    for path in (f"/pipeline/runs/{run_id}/stream", f"/pipeline/runs/{run_id}"):
        refused = await call("GET", path, authorization=f"Bearer {await token_of(bob)}")
        assert (refused.status, refused.error["code"]) == (404, "not_found")
        assert (await call("GET", path, cookie=await cookie_of(bob))).status == 404
        assert (await call("GET", path, authorization=f"Bearer {await token_of(erin)}")).status == 200
        assert (await call("GET", path)).status == 401
        assert (await call("GET", path, accept="text/html")).headers["location"] == f"/accounts/login/?next={path}"


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "٣"])
async def test_a_cursor_that_is_no_number_is_400(alice: User, running: EmbeddedRunner, after: str) -> None:
    run_id = (await post(alice, {"request": "Hi"})).json()["run_id"]
    token = await token_of(alice)
    answer = await call("GET", f"/pipeline/runs/{run_id}/stream?after={after}", authorization=f"Bearer {token}")
    assert (answer.status, answer.error["field"]) == (400, "after")


async def test_other_methods_and_hosts_are_refused(alice: User, running: EmbeddedRunner) -> None:
    assert (await call("GET", "/pipeline/stream")).status == 405
    assert (await call("POST", "/pipeline", data={"request": "Hi"}, host="evil.example")).status == 400


async def test_nothing_of_a_run_is_stored_twice(alice: User, running: EmbeddedRunner) -> None:
    await ask(alice, "rows 1\nHi")
    kinds = await threads.reading(lambda: list(RunEvent.objects.values_list("seq", flat=True)))
    assert kinds == sorted(set(kinds))


async def test_an_address_that_is_nearly_one_is_404(alice: User, transactional_db: None) -> None:
    answer = await call("GET", f"/pipeline/runs/{'-' * 36}/stream", authorization=f"Bearer {await token_of(alice)}")
    assert (answer.status, answer.error["code"]) == (404, "not_found")


async def test_a_broken_server_says_so_in_the_contracts_form(
    alice: User, transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(runner, "submit", broken)
    answer = await post(alice, {"request": "Hi"})
    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert b"secret" not in answer.body
