"""The documentation is true: its tables, its commands, its links, its map of the tree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from django.urls import resolve
from django.urls.exceptions import Resolver404

from conversations import api, stream
from conversations.pipeline import events
from conversations.urls import urlpatterns
from conversations.views import downloads
from tests.process.clients import api_of, ask
from tests.server import ROOT, Server, running

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def table_rows(text: str, head: str) -> list[list[str]]:
    """The cells of the table with this head line, without its rule."""
    lines = text.split(f"\n{head}\n", 1)[1].splitlines()[1:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


# -- Events, layers and words of the architecture --------------------------------------------------------------------


def test_the_api_lists_every_event_with_every_field() -> None:
    rows = table_rows(text_of("docs/api.md"), "| type | fields |")
    documented = {name.strip("`"): re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", cell)) for name, cell in rows}
    assert documented == {name: [field.name for field in fields(kind)] for name, kind in events.KINDS.items()}


def test_the_architecture_lists_every_event() -> None:
    rows = table_rows(text_of("docs/architecture.md"), "| event | when | rows that change with it |")
    assert [row[0].strip("`") for row in rows] == list(events.KINDS)


def test_the_architecture_names_the_stages_in_their_order() -> None:
    assert ", ".join(f"{letter} {name}" for letter, name in events.STAGES.items()) in text_of("docs/architecture.md")


def test_the_layers_are_those_that_the_linter_holds() -> None:
    rooms, pipeline = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]["contracts"][:2]
    text = text_of("docs/architecture.md")
    *lines, last = blocks(text.split("## Layers")[1], "text")[0].splitlines()
    assert [*lines, last.split()[0]] == rooms["layers"]
    assert " > ".join(pipeline["layers"]) in last


def test_every_word_of_the_glossary_is_a_word_of_the_code() -> None:
    glossary = text_of("docs/architecture.md").split("## Words")[1].split("##")[0]
    words = re.findall(r"\*\*([a-z ]+)\*\*", glossary)
    code = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "conversations").rglob("*.py"))
    assert len(words) > 8
    assert [word for word in words if f"class {camel(singular(word))}" not in code] == []


def singular(word: str) -> str:
    return word.removesuffix("s")


def camel(words: str) -> str:
    """The name of the class; what can be asked of a run is a tool's protocol, and what happens a stored event."""
    names = {"event": "RunEvent"}
    return names.get(words, "".join(word.capitalize() for word in words.split()))


# -- The commands of the API -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Command:
    script: str
    #: Lines of its answer, in order; "…" is anything.
    shown: tuple[str, ...]


def commands() -> list[Command]:
    """Every sh block of docs/api.md with the text block that follows it."""
    pattern = r"^```sh\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?"
    found = re.findall(pattern, text_of("docs/api.md"), re.MULTILINE | re.DOTALL)
    return [Command(script=script, shown=tuple(answer.splitlines())) for script, answer in found]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def variables(server: Server) -> dict[str, str]:
    """TOKEN, RUN and EXPORT, as somebody who has asked once has them; RUNNING and STOPPED are other runs."""
    with api_of(server) as api:
        run = ask(api, "Export all assets as CSV")
        others = [ask(api, "How many routers are there?")["run_id"] for _ in range(2)]
        token = api.headers["Authorization"].removeprefix("Bearer ")
    server.manage("shell", "-v", "0", "-c", LEFT.format(*others))
    known = {"TOKEN": token, "RUN": run["run_id"], "EXPORT": run["response"]["results"][0]["export_id"]}
    return {**known, "RUNNING": others[0], "STOPPED": others[1]}


#: One that another process executes, for as long as the tests take, and one that was stopped.
LEFT = """
from datetime import timedelta
from django.utils import timezone
from conversations.models import Run
later = timezone.now() + timedelta(hours=1)
Run.objects.filter(pk="{}").update(status="running", owner="another", lease_until=later)
Run.objects.filter(pk="{}").update(status="cancelled")
"""


def runnable(script: str, server: Server) -> str:
    """The command for this server: its address, and this Python in the place of make, which may install."""
    manage = f"{sys.executable} {ROOT / 'manage.py'}"
    script = script.replace("http://localhost:8000", server.url)
    return re.sub(r'make manage ARGS="([^"]*)"', rf"{manage} \1", script)


@pytest.mark.one_database
@pytest.mark.parametrize("command", commands(), ids=[f"command-{n}" for n, _ in enumerate(commands(), start=1)])
def test_a_command_of_the_api_answers_as_it_says(
    command: Command, server: Server, variables: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", runnable(command.script, server)],
        cwd=tmp_path, env={**server.environment, **variables, "PATH": os.environ["PATH"]},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert missing(command.shown, done.stdout) == []


def missing(shown: tuple[str, ...], answer: str) -> list[str]:
    """The lines that don't come, or not in their order among the headers or in the body."""
    head, _, body = answer.replace("\r\n", "\n").partition("\n\n")
    return [line for line in shown if not re.search(pattern_of(line), f"{head}\n{body}", re.MULTILINE | re.IGNORECASE)]


def pattern_of(line: str) -> str:
    return rf"^{'.*'.join(re.escape(part) for part in line.split('…'))}$"


def test_a_line_that_does_not_come_is_missed() -> None:
    answer = 'HTTP/1.1 200 OK\r\nserver: opschat\r\n\r\n{"a": [1, 2]}\n'
    assert missing(("HTTP/1.1 200 OK", "Server: opschat", '{"a": […]}'), answer) == []
    assert missing(("HTTP/1.1 404 Not Found", '{"a": 1}'), answer) == ["HTTP/1.1 404 Not Found", '{"a": 1}']


@pytest.mark.one_database
def test_every_route_of_the_api_has_a_command(variables: dict[str, str]) -> None:
    text = " ".join(command.script for command in commands())
    paths = {path.split("?")[0] for path in re.findall(r"http://localhost:8000([^\s\"]+)", text)}
    asked = {route_of(re.sub(r"\$(\w+)", lambda found: variables[found[1]], path)) for path in paths}
    ours = {p.name for p in urlpatterns if p.callback.__module__ in (api.__name__, downloads.__name__)}
    # Its addresses are in the answer of another.
    assert asked == {"/pipeline", "/pipeline/stream", "stream of a run", *ours} - {"export-open"}


def route_of(path: str) -> str | None:
    if stream.handles(path):
        return "stream of a run" if path.startswith("/pipeline/runs/") else path
    try:
        return resolve(path).url_name
    except Resolver404:
        return f"{path} leads nowhere"


def test_every_error_is_listed_with_its_status() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "conversations").rglob("*.py"))
    raised = set(re.findall(r"\b([345]\d\d),\s*\"([a-z]+(?:_[a-z]+)*)\",\s*[f\"s]", code))
    listed = {(row[0], row[1].strip("`")) for row in table_rows(text_of("docs/api.md"), "| status | code | when |")}
    assert raised - listed == set()
    assert listed - raised <= {("500", "internal_error")}
    assert '"internal_error"' in code


# -- Links, settings, goals, and the map -----------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    local = [link.split("#")[0] for link in links if not link.startswith(("http://", "https://", "#"))]
    assert [link for link in local if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_goal_of_make_and_every_command_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    goals = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    named = {goal for line in re.findall(r"`?make((?: [a-z]+)+)(?=[\s`]|$)", code_of(text)) for goal in line.split()}
    assert named <= goals
    programs = {path.stem for app in ("conversations", "inventory") for path in commands_of(app)}
    asked = set(re.findall(r"make manage ARGS=\"([a-z_]+)", code_of(text)))
    assert asked <= programs | {"createsuperuser", "makemigrations"}


def code_of(text: str) -> str:
    """What stands in backticks or in blocks of sh."""
    return "\n".join([*re.findall(r"`([^`\n]+)`", text), *blocks(text, "sh")])


def commands_of(app: str) -> list[Path]:
    return list((ROOT / app / "management" / "commands").glob("[a-z]*.py"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_named_is_one(document: Path) -> None:
    settings = set(re.findall(r"^#?([A-Z_]+)=", text_of(".env.example"), re.MULTILINE))
    named = set(re.findall(r"\b(OPSCHAT_[A-Z_]+)\b", document.read_text(encoding="utf-8")))
    assert {name for name in named if not name.startswith("OPSCHAT_TEST_")} <= settings


def test_the_readmes_map_has_a_line_for_every_folder_and_no_other() -> None:
    mapped = [row[0].strip("`") for row in table_rows(text_of("README.md"), "| where | what |")]
    assert [path for path in mapped if not (ROOT / path).is_dir()] == []
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {line.split("/")[0] for line in tracked.splitlines() if "/" in line}
    assert {path.split("/")[0] for path in mapped} == {name for name in folders if not name.startswith(".")}


def test_every_path_named_in_the_documents_exists() -> None:
    for document in DOCUMENTS:
        paths = re.findall(r"`([a-z_.]+/[\w/.]*)`", document.read_text(encoding="utf-8"))
        bases = (ROOT, document.parent, ROOT / "conversations", ROOT / "conversations" / "pipeline")
        gone = [path for path in paths if not any((base / path).exists() for base in bases)]
        assert gone == [], document.name


@pytest.mark.one_database
def test_the_readmes_curl_answers_with_a_finished_run(server: Server, variables: dict[str, str]) -> None:
    (curl,) = [block for block in blocks(text_of("README.md"), "sh") if "curl" in block]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", runnable(curl, server)],
        env={**server.environment, **variables}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert '"type":"complete"' in done.stdout
