"""Accounts that are signed in already: made once, so that no server of the fault tests has to hash a password."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.server import ROOT

N_PEOPLE = 40

_SCRIPT = """
import json
from django.contrib.auth.models import User
from django.test import Client
from conversations import tokens

made = []
for number in range({n}):
    user = User.objects.create(username=f"user{{number}}", password="!")
    client = Client()
    client.force_login(user)
    made.append({{"token": tokens.make(user=user)[1], "session": client.cookies["sessionid"].value}})
print(json.dumps(made))
"""


@dataclass(frozen=True, kw_only=True)
class Person:
    token: str
    #: The value of the session's cookie.
    session: str


def prepare(environment: Mapping[str, str]) -> None:
    """Makes the database's tables and the people, whose keys are then in the data folder."""
    _manage(environment, "migrate", "-v0")
    printed = _manage(environment, "shell", "-v0", "-c", _SCRIPT.format(n=N_PEOPLE))
    (Path(environment["OPSCHAT_DATA_DIR"]) / "people").write_text(printed, encoding="utf-8")


def people(data: Path) -> list[Person]:
    return [Person(**keys) for keys in json.loads((data / "people").read_text(encoding="utf-8"))]


def _manage(environment: Mapping[str, str], *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
