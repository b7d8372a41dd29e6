"""Run in the product's environment: `python -m bench.exports.stored N_BYTES` fills an empty data folder.

Prints JSON: a token, the path of a stored export of so many bytes and of a small one, and the large one's file.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import django

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.core.files.storage import storages  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402
from django.urls import reverse  # noqa: E402

from conversations import exports, runs, tokens  # noqa: E402
from conversations.models import Export, Run  # noqa: E402
from conversations.pipeline.tools import Column, TableResult  # noqa: E402

#: Bytes of a row, its line end included.
_ROW = 1000
_SMALL_ROWS = 12


def make(n_bytes: int) -> dict[str, Any]:
    call_command("migrate", verbosity=0)
    user = get_user_model().objects.create(username="bench", password="!")  # noqa: S106  nobody can sign in
    run = _ended_run(user)
    large, small = (_export(run, at, n) for at, n in enumerate((n_bytes // _ROW, _SMALL_ROWS)))
    stored = large.files.get()
    return {
        "token": tokens.make(user=user)[1],
        "large": reverse("export", args=[large.pk]),
        "small": reverse("export", args=[small.pk]),
        "file": storages["exports"].path(stored.path),
        "n_bytes": stored.n_bytes,
    }


def _ended_run(user: Any) -> Run:
    with transaction.atomic():
        run = runs.post_message(conversation=runs.open_conversation(owner=user), user=user, text="list assets")
    Run.objects.filter(pk=run.pk).update(status=Run.Status.SUCCEEDED)
    return run


def _export(run: Run, position: int, n_rows: int) -> Export:
    rows = [[f"{number:0{_ROW - 2}}"] for number in range(100)]
    result = TableResult(
        kind="rows",
        columns=(Column(name="text", type="text"),),
        open_rows=lambda: (rows[number % len(rows)] for number in range(n_rows)),
        matched=n_rows,
    )
    export = exports.new_export(
        run=run, position=position, source="tool", tool="bench", query={}, title="", result=result
    )
    exports.write_export(export, result, on_step=lambda _: None, beside=lambda: None)
    return export


if __name__ == "__main__":
    json.dump(make(int(sys.argv[1])), sys.stdout)
