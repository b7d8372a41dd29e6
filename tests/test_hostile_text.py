"""The big list of naughty strings (tests/data) as messages, titles, answers, cells and errors: stored and shown as they
are, never run. Control characters are shown as symbols, from which the page's script gets the originals back."""

from __future__ import annotations

import asyncio
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.template.loader import render_to_string
from django.test import Client

from conversations import fragments, runs, threads
from conversations.fragments import RunState, markdown
from conversations.fragments.characters import plain, shown
from conversations.fragments.page import Group
from conversations.models import Conversation, Message, Run
from conversations.runner import EmbeddedRunner
from tests.answers import answered, exported
from tests.calls import call, token_of

pytestmark = [pytest.mark.django_db, pytest.mark.filterwarnings("ignore:No directory at:UserWarning")]

STRINGS: list[str] = json.loads((Path(__file__).parent / "data" / "blns.json").read_text(encoding="utf-8"))
SENT = [text for text in STRINGS if text.strip()]
EXTRA = [
    "\x01\x1b[31m\x7f\x85\x9f",
    "a\rb",
    "\u202etxt.exe",
    "\u2067\u2066x",
    "\tx\ny",
    "Z" + "\u0334" * 400,
    "x" * 3000,
]
ALL = [*SENT, *EXTRA]
#: Characters; longer ones are messages by themselves.
LONG = 250

#: Of an answer's text; the page's own elements are not in it.
PROSE_TAGS = {
    *("p", "strong", "em", "code", "pre", "ul", "ol", "li", "a", "h3", "h4", "h5", "h6", "blockquote", "hr", "br"),
    *("div", "table", "thead", "tbody", "tr", "th", "td", "span"),
}  # fmt: skip


class Reader(HTMLParser):
    """The text of every element by its tag, classes and id, with the control characters that its symbols stand for."""

    VOID = ("br", "hr", "input", "link", "meta", "use", "img")

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[tuple[str, set[str], list[str]]] = []
        self.found: list[tuple[set[str], str]] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)", html), (
            "A control character is not shown"
        )
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in given.items()]
        if tag in self.VOID:
            return
        names = {tag, *(f".{name}" for name in given.get("class", "").split()), f"#{given.get('id', '')}"}
        text = [chr(int(given["data-code"]))] if "data-code" in given else []
        self._open.append((tag, names, text))

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        opened, names, text = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"
        whole = text[0] if ".char" in names else "".join(text)
        self.found.append((names, whole))
        if self._open:
            self._open[-1][2].append(whole)

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1][2].append(data)

    def texts(self, name: str) -> list[str]:
        return [text for names, text in self.found if name in names]


def check_harmless(reader: Reader) -> None:
    for tag, name, value in reader.attributes:
        assert not name.startswith("on"), (tag, name, value)
        assert name != "style", (tag, value)
        if name in ("href", "src", "action"):
            assert not re.match(r"(?!https?:|mailto:)[a-z][a-z0-9+.-]*:", value, re.IGNORECASE), (tag, value)


def drawn(run: Run) -> Reader:
    (state,) = RunState.of_runs([Run.objects.get(pk=run.pk)])
    reader = Reader(fragments.article(state))
    check_harmless(reader)
    assert "script" not in reader.tags
    return reader


def test_the_list_is_whole() -> None:
    assert (len(STRINGS), len(SENT)) == (515, 513)


# -- As messages -----------------------------------------------------------------------------------------------------


def messages(texts: Sequence[str]) -> list[str]:
    """All of them: what is invisible, at an end or anywhere, alone; the others some in each message."""
    alone = [t for t in texts if t != t.strip() or any(unicodedata.category(c)[0] == "C" for c in t) or len(t) > LONG]
    others = [text for text in texts if text not in alone]
    return [*alone, *("\n".join(others[n : n + 20]) for n in range(0, len(others), 20))]


def test_each_is_in_a_message() -> None:
    made = messages(ALL)
    assert all(any(text in message for message in made) for text in ALL)
    assert max(map(len, made)) <= runs.MAX_REQUEST
    assert len(made) < 70


@pytest.mark.django_db(transaction=True)
async def test_each_is_taken_by_the_api_and_given_back_as_it_came(alice: User, running: EmbeddedRunner) -> None:
    token = f"Bearer {await token_of(alice)}"

    async def send(text: str) -> tuple[int, str, str]:
        answer = await call("POST", "/pipeline", data={"request": text}, authorization=token)
        return answer.status, text, answer.json().get("request") if answer.status == 200 else answer.error["field"]

    sent = messages(STRINGS)
    for start in range(0, len(sent), 5):
        for status, text, got in await asyncio.gather(*map(send, sent[start : start + 5])):
            assert (status, got) == ((200, text) if text.strip() else (400, "request")), repr(text)
    stored = await threads.reading(lambda: sorted(Message.objects.filter(role="ask").values_list("text", flat=True)))
    assert stored == sorted(text for text in sent if text.strip())


def test_each_is_taken_by_the_form_and_shown_as_it_came(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "MAX_UNFINISHED", 2000)
    there = runs.open_conversation(owner=alice)
    client = Client()
    client.force_login(alice)
    sent = messages([*STRINGS, *EXTRA])
    for text in sent:
        response = client.post(f"/conversations/{there.pk}/messages/", {"text": text}, headers={"HX-Request": "true"})
        assert response.status_code == (200 if text.strip() else 422), repr(text)
    kept = [text for text in sent if text.strip()]
    assert list(Message.objects.filter(conversation=there, role="ask").values_list("text", flat=True)) == kept
    page = Reader(client.get(f"/conversations/{there.pk}/?runs=2000").text)
    check_harmless(page)
    assert page.texts(".said") == kept


# -- As titles -------------------------------------------------------------------------------------------------------


def test_it_is_a_conversations_title(alice: User, client: Client) -> None:
    made = []
    for text in some(ALL):
        there = runs.open_conversation(owner=alice)
        runs.post_message(conversation=there, user=alice, text=text)
        made.append(there)
    for start in range(0, len(made), 50):
        shown_here = made[start : start + 50]
        context = {"history": [Group(title="Today", conversations=shown_here)]}
        sidebar = Reader(render_to_string("conversations/_history.html", context))
        check_harmless(sidebar)
        assert sidebar.texts(".label") == [str(row) for row in shown_here]
    client.force_login(alice)
    for there in [row for row in made if re.search(r"script|[\x00-\x1f\x7f-\x9f\u202e]", row.title)][::2]:
        page = Reader(client.get(f"/conversations/{there.pk}/").text)
        assert page.texts("#title") == [there.title]
        assert page.texts("title") == [f"{plain(there.title)} · opschat"]


# -- In answers ------------------------------------------------------------------------------------------------------


def test_each_is_text_in_an_answer() -> None:
    for text in ALL:
        reader = Reader(f"<div>{markdown.render(text)}</div>")
        assert reader.tags <= PROSE_TAGS, repr(text)
        check_harmless(reader)


def test_each_is_code_as_it_came(alice: User) -> None:
    fence = "~" * 12
    kept = [text for text in ALL if "\r" not in text]
    reader = drawn(answered(alice, "\n\n".join(f"{fence}\n{text}\n{fence}" for text in kept)))
    assert reader.texts(".code") == [f"{text}\n" for text in kept]


def test_each_is_a_cell_a_heading_and_a_tables_title(alice: User) -> None:
    columns = [{"name": "name", "type": "text"}, {"name": "note", "type": "text"}]
    run = answered(alice, "")
    exported(run, columns=columns, preview=[[text, text] for text in ALL], title=ALL[-3])
    reader = drawn(run)
    assert reader.texts("td") == ALL
    assert reader.texts("th")[2:] == ALL
    assert ALL[-3] in reader.texts("h3")
    run = answered(alice, "")
    exported(run, columns=[{"name": text, "type": "text"} for text in ALL], preview=[], preview_columns=ALL)
    names = [text.removesuffix("text") for text in drawn(run).texts("th")]
    assert names == list(dict.fromkeys(ALL)) or names == ALL


@pytest.mark.parametrize(("kind", "value"), [("date", "2026-02-30"), ("datetime", "2026-02-30T25:00:00Z")])
def test_a_day_that_is_none_is_text(alice: User, kind: str, value: str) -> None:
    run = answered(alice, "")
    exported(run, columns=[{"name": "name", "type": "text"}, {"name": "x", "type": kind}], preview=[["a", value]])
    assert drawn(run).texts("td") == [value]


@pytest.mark.parametrize("kind", ["date", "datetime", "number", "address", "id"])
def test_each_is_shown_where_another_type_was_expected(alice: User, kind: str) -> None:
    run = answered(alice, "")
    exported(
        run, columns=[{"name": "name", "type": "text"}, {"name": "x", "type": kind}], preview=[["a", t] for t in ALL]
    )
    assert drawn(run).texts("td") == ALL


def test_each_is_a_chip_and_an_unused_word(alice: User) -> None:
    filters = [{"field": "name", "op": "eq", "value": text} for text in ALL]
    response = {"understood": {"filters": filters}, "unused_words": ALL}
    reader = drawn(answered(alice, "Done.", response=response))
    assert reader.texts("q") == [text for text in ALL if text not in "Done."]
    assert reader.texts(".chip") == [f"name = {text}" for text in ALL]


def test_it_is_an_error(alice: User) -> None:
    run = answered(alice, "", status=Run.Status.FAILED)
    for text in some(ALL):
        Run.objects.filter(pk=run.pk).update(error_code="x", error_message=text)
        assert text in drawn(run).texts("h3")


def some(texts: Sequence[str]) -> Iterator[str]:
    """Those that could do harm in HTML or are of another script, and every tenth of the others."""
    return (text for n, text in enumerate(texts) if n % 10 == 0 or re.search(r"[<&\x00-\x1f]|[^\x00-\x7e]", text))


# -- Control characters ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("\x00\x01\x1f", "␀␁␟"), ("\x7f", "␡"), ("\x85\x9f", "\\x85\\x9f"), ("a\tb\nc", "a\tb\nc"),
        ("a\r\nb", "a\r\nb"), ("a\rb", "a␍b"), ("\x1b[31m", "␛[31m"),
        ("Zürich 😀 \u200b\u202e", "Zürich 😀 \u200b\u202e"), ("<b>", "<b>"),
    ],
)  # fmt: skip
def test_control_characters_are_shown_as_symbols(text: str, symbols: str) -> None:
    assert plain(text) == symbols


def test_a_symbol_says_what_it_stands_for() -> None:
    assert shown("<\x1b") == '&lt;<span class="char" title="Control character U+001B" data-code="27">␛</span>'


def test_control_characters_are_kept_in_a_code_file(alice: User, client: Client) -> None:
    run = answered(alice, "```\na\x1b\x85\n```\n")
    client.force_login(alice)
    assert client.get(f"/messages/{run.answer_id}/blocks/1/code.txt").content == "a\x1b\x85\n".encode()


def test_control_characters_are_shown_while_the_answer_is_written() -> None:
    html = markdown.render("so\x1bfar `\x02`")
    assert "\x1b" not in html
    assert Reader(html).texts("p") == ["so\x1bfar \x02"]


def test_a_word_without_an_end_is_a_title_that_ends(alice: User) -> None:
    there: Any = runs.open_conversation(owner=alice)
    runs.post_message(conversation=there, user=alice, text="x" * 8000)
    assert len(Conversation.objects.get(pk=there.pk).title) == 80
