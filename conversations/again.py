"""A stored query once more, without any engine: a new export, and what has changed against the old one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Max
from django.utils import timezone

from conversations import audit, conversions, exports, files, threads
from conversations.audit import Origin
from conversations.formats import comparing
from conversations.models import Export, Run
from conversations.pipeline.tools import TableResult, ToolContext, ToolError, registry


class NotRepeatable(Exception):
    """The export can't be run again; the message says why."""


def reason_against(export: Export) -> str:
    """Why the export can't be run again; else empty."""
    if export.run.status in Run.UNFINISHED:
        return "Its run is still going: wait for its end."
    if export.source != Export.Source.TOOL:
        return "Its rows were typed in the answer: there is no query to run again."
    try:
        tool = registry.tool(export.tool)
    except ToolError as error:
        return str(error)
    return "" if tool.read_only else f"{export.tool} changes something: ask for it again in the conversation."


def run_again(*, export: Export, user: AbstractBaseUser, origin: Origin) -> Export:
    """The new export, of the same run, with its `comparison`; that is null when the old file is gone or was changed.

    Raises NotRepeatable, ToolError, conversions.Busy, OSError of a full disk.
    """
    if reason := reason_against(export):
        raise NotRepeatable(reason)
    with conversions.place():
        return _run_again(export, user, origin)


def _run_again(export: Export, user: AbstractBaseUser, origin: Origin) -> Export:
    result = _result(export)
    new = exports.new_export(
        run=export.run, position=0, source=export.source, tool=export.tool, query=export.query, title=export.title,
        result=result, again_of=export,
    )  # fmt: skip
    exports.write_export(new, result, on_step=lambda _: None, beside=lambda: _place(new))
    if not export.is_gone():
        # The new file is there and right, whatever has become of the old one.
        with suppress(files.Corrupt, exports.Gone, OSError, sqlite3.Error):
            exports.set_comparison(export=new, comparison=_comparison(export, new))
    counts = {k: v for k, v in (new.comparison or {}).items() if k.startswith("n_")}
    audit.record(
        actor=user, action="export.again", object_type="export", object_id=export.pk, origin=origin,
        detail={"new": str(new.pk), "rows": new.n_rows, **counts},
    )  # fmt: skip
    return new


def _result(export: Export) -> TableResult:
    context = ToolContext(
        user_id=export.owner_id, now=timezone.now(), progress=lambda *_: None, in_thread=threads.working
    )
    result = asyncio.run(registry.tool(export.tool).run(export.query, context))
    if not isinstance(result, TableResult):
        raise NotRepeatable("The query gives no rows any more.")
    return result


def _place(new: Export) -> None:
    """The next position of the run, which is locked: two may run again at once."""
    run = Run.objects.select_for_update(no_key=True).get(pk=new.run_id)
    if run.status in Run.UNFINISHED:
        raise NotRepeatable("Its run is still going: wait for its end.")
    last = Export.objects.filter(run=run).aggregate(last=Max("position"))["last"]
    new.position = last + 1


def _comparison(old: Export, new: Export) -> comparing.Comparison:
    with files.Scratch() as scratch:
        return comparing.compare(exports.table_of(old), exports.table_of(new), scratch.path, keys=list(_keys(old)))


def _keys(export: Export) -> Iterator[Sequence[str]]:
    """What may tell the rows apart, best first: what was grouped by, columns of ids, the first column."""
    names = [column["name"] for column in export.columns]
    yield export.query.get("group_by") or ()
    yield from ([column["name"]] for column in export.columns if column["type"] == "id")
    yield names[:1]
