"""Exports that are too large to be asked for in a test: written into a server's data beside it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tests.long.houses import House
from tests.server import ROOT

_SCRIPT = """
from django.contrib.auth.models import User
from conversations import exports, runs
from conversations.models import Conversation, ExportFile, Run
from conversations.pipeline.tools import Column, TableResult

user = User.objects.get(username="user0")
conversation = Conversation(owner_id=user.pk)
run = runs.post_message(conversation=conversation, user=user, text="a large file", context=None, idempotency_key=None)
Run.objects.filter(pk=run.pk).update(status=Run.Status.SUCCEEDED)
columns = (Column(name="n", type="number"), Column(name="text", type="text"))
rows = lambda: ((n, f"{{n}} " * {width}) for n in range({n_rows}))
result = TableResult(kind="rows", columns=columns, open_rows=rows, matched={n_rows})
export = exports.new_export(run=run, position=0, source="tool", tool="t", query={{}}, title="", result=result)
exports.write_export(export, result, on_step=lambda _: None, beside=lambda: None)
stored = ExportFile.objects.get(export=export)
print(export.pk, stored.sha256, stored.n_bytes)
"""


@dataclass(frozen=True, kw_only=True)
class LargeFile:
    """The CSV of an export of the house's first person."""

    export_id: str
    sha256: str
    n_bytes: int

    @property
    def path(self) -> str:
        return f"/exports/{self.export_id}/"


def written(house: House, *, n_rows: int, width: int) -> LargeFile:
    """Stores `n_rows` rows, each of a number and `width` times the number as text."""
    (web,) = house.webs
    printed = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v0", "-c", _SCRIPT.format(n_rows=n_rows, width=width)],
        cwd=ROOT, env=web.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, text=True,
    ).stdout  # fmt: skip
    export_id, sha256, n_bytes = printed.split()
    return LargeFile(export_id=export_id, sha256=sha256, n_bytes=int(n_bytes))


def entries(house: House, action: str) -> list[tuple[str, dict[str, Any]]]:
    """Outcome and detail of the audit entries of this action, in their order."""
    with closing(sqlite3.connect(house.data / "opschat.sqlite3")) as database:
        query = "SELECT outcome, detail FROM conversations_auditentry WHERE action = ? ORDER BY seq"
        return [(outcome, json.loads(detail)) for outcome, detail in database.execute(query, [action])]
