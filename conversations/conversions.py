"""Other formats of an export, made from its verified CSV when they are first asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db import IntegrityError, transaction

from conversations import audit, files, threads
from conversations.exports import Gone, keep_file, left_clean, table_of, unavailable
from conversations.formats.errors import CannotHold
from conversations.formats.kinds import Format
from conversations.models import Export, ExportFile
from conversations.prepared import Prepared

#: Requests that convert, run again or wait for it at once; they hold threads that answer pages.
_MOST_PLACES = 6
#: Conversions that really run at once.
_MOST_TURNS = 3
#: Seconds that a request waits for its turn, or for another that makes the same file.
_TURN_S = 20.0

_places = threading.BoundedSemaphore(_MOST_PLACES)
_turns = threading.BoundedSemaphore(_MOST_TURNS)
_guard = threading.Lock()


class _Making:
    """A file that is being made: its lock, and how many hold it or wait."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.n = 0


_making: dict[tuple[UUID, str], _Making] = {}


class Busy(Exception):
    """So much is being made at the moment that this has to wait."""

    def __init__(self) -> None:
        super().__init__("Several files are being made at the moment; try again in a minute.")


@contextmanager
def place() -> Iterator[None]:
    """Around what takes long in a thread that answers pages. Raises Busy: some threads are left to the others."""
    if not _places.acquire(blocking=False):
        raise Busy
    try:
        yield
    finally:
        _places.release()


def file_of(export: Export, wanted: Format) -> ExportFile:
    """The export's file in the format, which is made, once for all who ask, and kept.

    Raises CannotHold, Gone, Busy, files.Corrupt when the CSV isn't what was written, OSError of a full disk.
    """
    if reason := unavailable(export, wanted.key):
        raise CannotHold(reason)
    found = _stored(export, wanted)
    if found is not None:
        return found
    with place(), _alone(export, wanted):
        # Another request may have made it, or found that it can't be made.
        export.refresh_from_db(fields=["unavailable"])
        if reason := unavailable(export, wanted.key):
            raise CannotHold(reason)
        return _stored(export, wanted) or _make_in_turn(export, wanted)


def _stored(export: Export, wanted: Format) -> ExportFile | None:
    return _of_export.first(export.pk, wanted.key)


_of_export: Prepared[ExportFile] = Prepared(
    lambda export_id, key: ExportFile.objects.defer(None).filter(export=export_id, format=key),
    lambda: [Export._meta.pk, ExportFile._meta.get_field("format")],
)


@contextmanager
def _alone(export: Export, wanted: Format) -> Iterator[None]:
    """One request of this process at a time for the same file."""
    key = export.pk, wanted.key
    with _guard:
        entry = _making.setdefault(key, _Making())
        entry.n += 1
    try:
        if not entry.lock.acquire(timeout=_TURN_S):
            raise Busy
        try:
            yield
        finally:
            entry.lock.release()
    finally:
        with _guard:
            entry.n -= 1
            if not entry.n:
                del _making[key]


def _make_in_turn(export: Export, wanted: Format) -> ExportFile:
    if not _turns.acquire(timeout=_TURN_S):
        raise Busy
    try:
        return _make(export, wanted)
    except CannotHold as error:
        Export.objects.filter(pk=export.pk).update(unavailable={**export.unavailable, wanted.key: str(error)})
        raise
    finally:
        _turns.release()


def _make(export: Export, wanted: Format) -> ExportFile:
    table = table_of(export)
    with files.Scratch() as scratch:
        if wanted.parts is not None:
            content = scratch.write(wanted.parts(table))
        else:
            assert wanted.write is not None  # noqa: S101  a format has one of the two
            wanted.write(table, scratch.path)
            content = scratch.read()
        files.upload(content)
        try:
            with left_clean(content):
                return _save_format(export, wanted, content)
        except IntegrityError:
            # Another process made it meanwhile.
            other: ExportFile = ExportFile.objects.defer(None).get(export=export, format=wanted.key)
            return other


@threads.write_turn()
@transaction.atomic
def _save_format(export: Export, wanted: Format, content: files.Content) -> ExportFile:
    row = Export.objects.select_for_update(no_key=True).get(pk=export.pk)
    if row.deleted_at is not None:
        raise Gone("The export was deleted meanwhile.")
    stored = keep_file(export, wanted.key, content)
    audit.record(
        actor=None, action="export.convert", object_type="export", object_id=export.pk,
        detail={"format": wanted.key, "bytes": content.n_bytes, "sha256": content.sha256},
    )  # fmt: skip
    return stored
