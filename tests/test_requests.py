"""Bad input at every entry: the documented error, naming the field, and nothing half-written. And the streaming half of
the walk: its addresses and the socket, which are not Django's."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connections
from django.test import Client

from conversations import routing, runner, runs, threads, tokens
from conversations.models import ApiToken, Conversation, Message, Run, RunEvent
from conversations.runner import EmbeddedRunner
from tests.calls import Answer, ask, call, cookie_of, socket, token_of

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore:No directory at:UserWarning"),
]

FORM = "application/x-www-form-urlencoded"
HTMX = {"HX-Request": "true"}
AS_PAGE = {"Accept": "text/html"}


def rows() -> tuple[int, ...]:
    return tuple(model.objects.count() for model in (Conversation, Message, Run, RunEvent))


@pytest.fixture
def client(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def address(alice: User) -> str:
    return f"/conversations/{runs.open_conversation(owner=alice).pk}/messages/"


# -- Forms -----------------------------------------------------------------------------------------------------------


def test_a_form_is_taken(client: Client, address: str) -> None:
    assert client.post(address, f"text={quote('Zürich 😀')}", FORM).status_code == 302
    assert Run.objects.get().ask.text == "Zürich 😀"


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        ("", FORM, "The request is empty"),
        ("text=", FORM, "The request is empty"),
        ("text=" + quote(" \t\r\n\u00a0\u2003\u3000\u2028"), FORM, "The request is empty"),
        ("other=x", FORM, "The request is empty"),
        ("text=" + "x" * 8001, FORM, "8,001 characters"),
        ("text=a%00b", FORM, "“text” has a NUL character"),
        ("text=a%ffb", FORM, "not UTF-8"),
        (b"text=a\xffb", FORM, "not UTF-8"),
        ("text=%ED%A0%80", FORM, "not UTF-8"),
        ("text=Hi&client_id=5", FORM, "“client_id”"),
        ("text=Hi&client_id=%00", FORM, "“client_id”"),
        ('{"text": "Hi"}', "application/json", f"Send the form as {FORM}"),
        ("text=Hi", "text/plain", f"Send the form as {FORM}"),
    ],
)
def test_a_bad_form_is_refused_in_words_and_stores_nothing(
    client: Client, address: str, body: Any, content_type: str, words: str
) -> None:
    before = rows()
    for headers in (HTMX, AS_PAGE):
        response = client.post(address, body, content_type, headers=headers)
        assert response.status_code == 422
        assert words in response.text
    assert rows() == before


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"text": SimpleUploadedFile("x.txt", b"Hi")}, "“text” is a file"),
        ({"text": "Hi", "more": SimpleUploadedFile("x.txt", b"Hi")}, "“more” is a file"),
        ({"text": "a\x00b"}, "“text” has a NUL character"),
    ],
)
def test_a_multipart_form_takes_text_alone(client: Client, address: str, data: Any, words: str) -> None:
    before = rows()
    response = client.post(address, data, headers=HTMX)
    assert (response.status_code, words in response.text) == (422, True), response.text
    assert rows() == before


def test_a_multipart_form_is_utf_8(client: Client, address: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\nZ\xc3\xbcrich\r\n--x--\r\n'
    kind = "multipart/form-data; boundary=x"
    refused = client.post(address, body.replace(b"\xbc", b""), kind, headers=HTMX)
    assert (refused.status_code, "“text” is not UTF-8" in refused.text) == (422, True)
    assert client.post(address, body, kind).status_code == 302
    assert Run.objects.get().ask.text == "Zürich"


def test_8000_characters_of_four_bytes_are_taken(client: Client, address: str) -> None:
    assert client.post(address, "text=" + quote("😀" * 8000), FORM).status_code == 302


@pytest.mark.parametrize("path", ["/conversations/", "/theme/", "/accounts/login/"])
@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (("x" * (256 * 1024 + 1), {}), 413, "too large to be sent"),
        (("a=1", {"Transfer-Encoding": "chunked"}), 411, "does not know how long"),
        (("&".join(f"f{n}=1" for n in range(10_000)), {}), 400, "The form has more than 1,000 fields."),
    ],
)
def test_a_form_that_is_too_much_is_refused_on_a_page(
    client: Client, path: str, sent: tuple[str, dict[str, str]], status: int, words: str
) -> None:
    before, (body, headers) = rows(), sent
    response = client.post(path, body, FORM, headers={**AS_PAGE, **headers})
    assert (response.status_code, words in response.text) == (status, True)
    assert rows() == before


@pytest.mark.parametrize("text", ["", "  ", "x" * 8001, "a\x00b"])
def test_a_conversation_is_not_opened_for_a_message_that_cannot_be_taken(client: Client, text: str) -> None:
    response = client.post("/conversations/", {"text": text})
    assert (response.status_code, response.json()["error"]["field"]) == (400, "text")
    assert rows() == (0, 0, 0, 0)


def test_a_conversation_is_not_opened_for_one_run_too_many(client: Client, alice: User) -> None:
    full = runs.open_conversation(owner=alice)
    for _ in range(runs.MAX_UNFINISHED):
        runner.submit(user=alice, text="again", conversation=full)
    before = rows()
    response = client.post("/conversations/", {"text": "one more"}, headers=AS_PAGE)
    assert (response.status_code, response.headers["Retry-After"]) == (429, "5")
    assert "20 requests that are not finished" in response.text
    assert rows() == before


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", "٣", "1e9", "9" * 10, "%00", "%ff"])
def test_a_number_of_messages_that_is_none_is_said(client: Client, address: str, value: str) -> None:
    response = client.get(f"{address.removesuffix('messages/')}?runs={value}", headers=AS_PAGE)
    assert response.status_code == 400
    assert "“runs” must be a number" in response.text


@pytest.mark.parametrize("body", ["", "theme=", "theme=pink", "theme=dark%00", "theme=%ff"])
def test_a_theme_that_is_none_is_400_and_names_the_field(client: Client, body: str) -> None:
    response = client.post("/theme/", body, FORM)
    assert (response.status_code, response.json()["error"]["field"]) == (400, "theme")
    assert "theme" not in response.cookies


@pytest.mark.parametrize(
    "body",
    [
        "", "username=&password=", "username=a%00b&password=x", "username=%ff&password=x",
        "username=alice&password=%00", "username=" + "x" * 10_000 + "&password=x",
        "username=alice&password=" + "x" * 10_000,
    ],
)  # fmt: skip
def test_a_sign_in_that_makes_no_sense_is_answered_by_the_sign_in_page(alice: User, body: str) -> None:
    response = Client().post("/accounts/login/", body, FORM, headers=AS_PAGE)
    assert response.status_code == 200
    assert 'name="password"' in response.text
    assert "sessionid" not in response.cookies


def test_a_host_that_is_not_ours_is_refused(client: Client) -> None:
    assert client.get("/accounts/login/", headers={"Host": "evil.example", **AS_PAGE}).status_code == 400


# -- The API ---------------------------------------------------------------------------------------------------------


async def post(user: User, data: Any = None, **more: Any) -> Answer:
    return await call("POST", "/pipeline", data=data, authorization=f"Bearer {await token_of(user)}", **more)


TEXTS = [
    "",
    " \n\t",
    "\u3000\u2028\u00a0",
    "\x1c\x85",
    "\u200b",
    "x" * 8000,
    "x" * 8001,
    "a\x00b",
    "\ufeffHi",
    "\x01\x7f\x9f",
]


@pytest.mark.parametrize("text", TEXTS)
async def test_the_same_text_gets_the_same_verdict_by_form_and_by_api(
    alice: User, bob: User, running: EmbeddedRunner, text: str
) -> None:
    def by_form() -> tuple[bool, list[str]]:
        client = Client()
        client.force_login(bob)
        there = runs.open_conversation(owner=bob)
        response = client.post(f"/conversations/{there.pk}/messages/", {"text": text})
        return response.status_code == 302, list(
            Message.objects.filter(conversation=there, role="ask").values_list("text", flat=True)
        )

    answer = await post(alice, {"request": text})
    taken, stored = await threads.reading(by_form)
    assert (answer.status == 200) == taken
    assert stored == ([text] if taken else [])
    if taken:
        assert answer.json()["request"] == text
    else:
        assert (answer.status, answer.error["field"]) == (400, "request")


async def test_a_body_that_never_says_its_length_is_cut_off(alice: User, running: EmbeddedRunner) -> None:
    assert (await post(alice, body=b" " * (64 * 1024) + b'{"request": "Hi"}')).status == 413
    declared = await post(alice, body=b"{}", content_length=str(64 * 1024 + 1))
    assert (declared.status, declared.error["code"]) == (413, "too_large")
    assert await threads.reading(rows) == (0, 0, 0, 0)


@pytest.mark.parametrize("key", ["x" * 201, "a\tb", "\x7f", "é\x85"])
async def test_an_idempotency_key_that_is_none_is_400(alice: User, running: EmbeddedRunner, key: str) -> None:
    answer = await post(alice, {"request": "Hi"}, idempotency_key=key)
    assert (answer.status, answer.error["field"]) == (400, "Idempotency-Key")
    assert await threads.reading(rows) == (0, 0, 0, 0)


@pytest.mark.parametrize("after", ["", "-1", "x", "1" * 10, "0x1", "٣", "1 ", "%00", "%ff"])
async def test_a_last_event_that_is_none_is_400(alice: User, running: EmbeddedRunner, after: str) -> None:
    run_id = (await post(alice, {"request": "Hi"})).json()["run_id"]
    token = f"Bearer {await token_of(alice)}"
    path = f"/pipeline/runs/{run_id}/stream"
    if after:
        answer = await call("GET", f"{path}?after={after}", authorization=token)
        assert (answer.status, answer.error["field"]) == (400, "after")
    if after.isascii() and after and "%" not in after:
        answer = await call("GET", path, authorization=token, last_event_id=after)
        assert (answer.status, answer.error["field"]) == (400, "after")


@pytest.mark.parametrize("value", ["", "CSV", "exe", "csv%00", "%ff", "../etc", "x" * 3000])
async def test_a_format_that_is_none_is_400(alice: User, running: EmbeddedRunner, value: str) -> None:
    await ask(alice, "rows 1\nHere:")
    export_id = await threads.reading(lambda: Run.objects.get().exports.get().pk)
    path = f"/exports/{export_id}/?format={value}"
    answer = await call("GET", path, authorization=f"Bearer {await token_of(alice)}")
    assert (answer.status, answer.error["code"], answer.error["field"]) == (400, "unknown_format", "format")


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer  ", "Bearer é", "Bearer \x00", "Basic YTpi", "Token x", "Bearer " + "x" * 9000]
)
async def test_a_header_that_is_no_token_is_401(running: EmbeddedRunner, header: str) -> None:
    for method, path in (
        ("POST", "/pipeline"),
        ("GET", f"/pipeline/runs/{uuid.uuid4()}"),
        ("GET", f"/pipeline/runs/{uuid.uuid4()}/stream"),
    ):
        answer = await call(method, path, data={"request": "Hi"}, authorization=header)
        assert (answer.status, answer.error["code"]) == (401, "not_authenticated")


# -- The walk of what is not Django's --------------------------------------------------------------------------------

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


async def test_the_streaming_addresses_let_in_whom_they_should(
    alice: User, bob: User, erin: User, running: EmbeddedRunner
) -> None:
    hers = (await post(alice, {"request": "Secret."})).json()
    bad = await threads.reading(bad_tokens, alice)
    callers: dict[str, Any] = {
        user.username: {"authorization": f"Bearer {await token_of(user)}"} for user in (alice, bob, erin)
    }
    callers |= {f"{user.username} with a session": {"cookie": await cookie_of(user)} for user in (alice, bob, erin)}
    callers |= {f"bad token {n}": {"authorization": f"Bearer {text}"} for n, text in enumerate(bad)} | {"nobody": {}}
    before = await threads.reading(rows)
    for who, headers in callers.items():
        for path in ("/pipeline", "/pipeline/stream", f"/pipeline/runs/{hers['run_id']}/stream"):
            for method in METHODS:
                data = {"request": "Hi", "session_id": hers["conversation_id"]}
                if who == "alice" and method == "POST" and not path.startswith("/pipeline/runs"):
                    continue
                answer = await call(method, path, data=data, origin="https://evil.example", **headers)
                assert answer.status == expected(who, method, path), f"{who}: {method} {path}"
                check_headers(answer)
                assert b"Secret" not in answer.body or who.startswith(("alice", "erin"))
    assert await threads.reading(rows) == before


def bad_tokens(user: User) -> list[str]:
    expired, text = tokens.make(user=user, days=1)
    ApiToken.objects.filter(pk=expired.pk).update(expires_at="2020-01-01T00:00Z")
    revoked, other = tokens.make(user=user)
    tokens.revoke(token=revoked)
    return [text, other, "opschat_made-up"]


def expected(who: str, method: str, path: str) -> int:
    follows = path.startswith("/pipeline/runs")
    if method != ("GET" if follows else "POST"):
        return 405
    if who.startswith(("bad", "nobody")) or (not follows and "session" in who):
        return 401
    # Reading is the reviewer's, writing the owner's alone.
    return 200 if who.startswith("alice") or (follows and who.startswith("erin")) else 404


def check_headers(answer: Answer) -> None:
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not any(name.startswith("access-control-") for name in answer.headers)


async def opened(viewer: WebsocketCommunicator) -> bool:
    connected, _ = await viewer.connect(timeout=5)
    return bool(connected)


async def test_the_socket_lets_in_whom_it_should(alice: User, bob: User, erin: User, running: EmbeddedRunner) -> None:
    *sockets, refusal = routing.websocket_urlpatterns
    assert len(sockets) == 1, "A new socket: walk it here, too."
    assert str(refusal.pattern) == ""
    hers = (await post(alice, {"request": "Secret."})).json()
    path = f"/ws/conversations/{hers['conversation_id']}/"
    for user, is_in in ((alice, True), (erin, True), (bob, False)):
        viewer = socket(path, cookie=await cookie_of(user))
        assert await opened(viewer) is is_in, user
        await viewer.disconnect()
    unknown = socket(f"/ws/conversations/{uuid.uuid4()}/", cookie=await cookie_of(alice))
    assert not await opened(unknown)
    closed = await cookie_of(bob)
    await threads.reading(lambda: User.objects.filter(pk=bob.pk).update(is_active=False))
    for cookie in ("", "sessionid=made-up", closed):
        viewer = socket(path, cookie=cookie)
        assert await opened(viewer)
        assert await viewer.receive_output(timeout=5) == {"type": "websocket.close", "code": 4401}


async def test_the_cursor_of_anothers_run_shows_nothing_of_it(alice: User, bob: User, running: EmbeddedRunner) -> None:
    hers = (await post(alice, {"request": "Secret."})).json()
    his = await threads.reading(lambda: runs.open_conversation(owner=bob))
    viewer = socket(f"/ws/conversations/{his.pk}/?cursor={hers['run_id']}:0", cookie=await cookie_of(bob))
    assert await opened(viewer)
    assert await viewer.receive_nothing(timeout=0.5)
    await viewer.disconnect()


async def test_what_a_browser_sends_over_the_socket_is_passed_over(alice: User, running: EmbeddedRunner) -> None:
    there = await threads.reading(lambda: runs.open_conversation(owner=alice))
    viewer = socket(f"/ws/conversations/{there.pk}/", cookie=await cookie_of(alice))
    assert await opened(viewer)
    before = await threads.reading(rows)
    for text in ("{", '{"request": "all servers"}', "\x00", "x" * 100_000):
        await viewer.send_to(text_data=text)
    await viewer.send_to(bytes_data=b"\xff")
    assert await viewer.receive_nothing(timeout=0.3)
    assert await threads.reading(rows) == before
    await threads.reading(lambda: runner.submit(user=alice, text="Hi", conversation=there))
    assert "beforeend:#content" in await viewer.receive_from(timeout=5)
    await viewer.disconnect()


# -- Idempotency -----------------------------------------------------------------------------------------------------


def test_two_posts_at_once_with_one_id_make_one_run(alice: User, address: str) -> None:
    sent = {"text": "all servers", "client_id": str(uuid.uuid4())}

    def post_it(_: int) -> int:
        client = Client()
        client.force_login(alice)
        status = client.post(address, sent, headers=HTMX).status_code
        connections.close_all()
        return status

    with ThreadPoolExecutor(max_workers=4) as pool:
        assert list(pool.map(post_it, range(8))) == [200] * 8
    assert Run.objects.count() == 1
