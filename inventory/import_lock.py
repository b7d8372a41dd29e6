"""One import at a time, in whichever process."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings


class ImportRunning(Exception):
    """Another import is running: nothing was written."""


@contextmanager
def import_lock() -> Iterator[None]:
    """Raises ImportRunning at once while another has it. The system lets go of it when its process dies.

    An import is many transactions, and each asset belongs to the import that wrote it last: one beside another would
    take assets that the other's rows have taken already, and delete as missing what the other has just written.
    """
    settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
    with (settings.DATA_DIR / "import.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ImportRunning("Another import is running. Start this one again when it has ended.") from error
        yield
