"""The files of exports: each stored once under the SHA-256 of its content, and verified chunk by chunk when it is read.

A file is written in the scratch folder and comes into the storage whole: whatever happens in between, the storage holds
all of it or nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from django.conf import settings
from django.core.files import File
from django.core.files.storage import FileSystemStorage, storages

from conversations import statements

#: Bytes that are verified, and handed on, at a time; part of what is stored with a file: never change it.
CHUNK = 256 * 1024
_DIGEST = 32
_ADDRESS = re.compile(r"([0-9a-f]{2})/\1[0-9a-f]{62}")


class Corrupt(Exception):
    """The stored file is not what was written, or can't be read."""


class NotStored(OSError):
    """The message is for people; the log has the reason, which is the cause."""

    def __init__(self) -> None:
        super().__init__(
            "The file could not be stored: the disk may be full, or the storage out of reach. "
            "Nothing of it was kept; tell your administrator."
        )


@contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotStored from error


class Stored(Protocol):
    """What is known of a stored file."""

    path: str
    sha256: str
    n_bytes: int
    #: SHA-256 of each `CHUNK` bytes, one after the other.
    digests: bytes | memoryview


# -- Writing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Content:
    """A written file that is not stored yet."""

    scratch: Path
    sha256: str
    n_bytes: int
    digests: bytes

    @property
    def path(self) -> str:
        """Its name in the storage: identical content has one name."""
        return f"{self.sha256[:2]}/{self.sha256}"


class Scratch:
    """A file to be written; gone when its `with` block ends, unless the storage has taken it.

    Locked while its writer lives, so that `sweep` knows what a killed process left.
    """

    def __init__(self) -> None:
        """Raises NotStored."""
        with _storing():
            self._descriptor, self.path = _locked_file()

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def write(self, parts: Iterator[bytes]) -> Content:
        """Writes the parts, hashing them on the way. Raises NotStored when there is no room."""
        digests = Digests()
        with open(self._descriptor, "wb", buffering=0, closefd=False) as file:
            for part in parts:
                digests.add(part)
                _write_all(file, part)
        return digests.content(self.path)

    def read(self) -> Content:
        """What somebody else has written at `path`."""
        digests = Digests()
        with self.path.open("rb", buffering=0) as file:
            while part := file.read(CHUNK):
                digests.add(part)
        return digests.content(self.path)


def _locked_file() -> tuple[int, Path]:
    """A new file in the scratch folder, open and locked."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix="export-", dir=_folder())
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # A `sweep` that came between the two lines has taken it for somebody's who is dead.
        if os.fstat(descriptor).st_nlink:
            return descriptor, Path(name)
        os.close(descriptor)


@_storing()
def _write_all(file: io.FileIO, part: bytes) -> None:
    rest = memoryview(part)
    while rest:
        rest = rest[file.write(rest) :]


class Digests:
    """The SHA-256 of bytes that come in parts of any size: of all, and of each chunk."""

    def __init__(self) -> None:
        self._all = hashlib.sha256()
        self._chunk = hashlib.sha256()
        self._left = CHUNK
        self._chunks: list[bytes] = []
        self.n_bytes = 0

    def add(self, part: bytes) -> None:
        self._all.update(part)
        self.n_bytes += len(part)
        rest = memoryview(part)
        while len(rest) >= self._left:
            self._chunk.update(rest[: self._left])
            rest = rest[self._left :]
            self._end_chunk()
        self._chunk.update(rest)
        self._left -= len(rest)

    def _end_chunk(self) -> None:
        self._chunks.append(self._chunk.digest())
        self._chunk = hashlib.sha256()
        self._left = CHUNK

    def content(self, scratch: Path) -> Content:
        if self._left < CHUNK:
            self._end_chunk()
        return Content(
            scratch=scratch, sha256=self._all.hexdigest(), n_bytes=self.n_bytes, digests=b"".join(self._chunks)
        )


def _folder() -> Path:
    folder: Path = settings.OPSCHAT_SCRATCH_DIR
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def sweep() -> int:
    """Removes what killed writers left in the scratch folder; how many."""
    n_removed = 0
    for path in _folder().glob("export-*"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            n_removed += 1
    return n_removed


# -- The storage -----------------------------------------------------------------------------------------------------


class _Movable(File):  # type: ignore[type-arg]  # django-stubs: File is generic only for type checkers
    """A file of this machine, which a storage on the same disk takes by renaming it."""

    def __init__(self, file: BinaryIO, scratch: Path) -> None:
        super().__init__(file, name=scratch.name)
        self._scratch = scratch

    def temporary_file_path(self) -> str:
        return str(self._scratch)


@_storing()
def upload(content: Content) -> None:
    """Puts the content into a storage elsewhere, which takes too long for a transaction; `keep` makes it sure.

    Raises NotStored.
    """
    if not _is_local():
        _store(content)


@_storing()
def keep(content: Content) -> None:
    """In the transaction that stores the content's row: its file is there, and stays as long as the row does.

    On this machine's disk it takes the place of what lies there under its name, which a hand may have changed. Raises
    NotStored.
    """
    statements.lock_content(content.sha256)
    if _is_local() or not _is_there(content):
        _store(content)


def _is_local() -> bool:
    return isinstance(storages["exports"], FileSystemStorage)


def discard(*, path: str, sha256: str, is_needed: Callable[[], bool]) -> None:
    """Deletes the file, in the caller's transaction, unless a row needs it: looked at when nobody can add one."""
    statements.lock_content(sha256)
    if not is_needed():
        storages["exports"].delete(path)


def _store(content: Content) -> None:
    """Raises OSError; the storage holds all of it then or what it had before."""
    with content.scratch.open("rb") as file:
        name = storages["exports"].save(content.path, _Movable(file, content.scratch))
    if name != content.path:
        storages["exports"].delete(name)
        raise OSError("The storage does not overwrite files: see allow_overwrite in the settings.")


def _is_there(content: Content) -> bool:
    storage = storages["exports"]
    return storage.exists(content.path) and storage.size(content.path) == content.n_bytes


# -- Reading ---------------------------------------------------------------------------------------------------------


class Verified(io.RawIOBase):
    """The stored bytes [start, end), of which none leaves that isn't what was written.

    A chunk is handed out only after its digest was found right; files that were stored without digests are verified
    whole when they are opened. Raises Corrupt; nothing of the chunk is given then.
    """

    def __init__(self, stored: Stored, *, start: int = 0, end: int | None = None) -> None:
        super().__init__()
        self._digests = bytes(stored.digests)
        self._n_bytes = stored.n_bytes
        self._end = stored.n_bytes if end is None else end
        self._file = _opened(stored)
        self._descriptor = _descriptor_of(self._file)
        self._buffer = bytearray()
        try:
            if len(self._digests) != _DIGEST * -(-stored.n_bytes // CHUNK):
                self._digests = _digests_of_whole(self._file, stored)
            self._number, self._skip = divmod(start, CHUNK)
        except BaseException:
            self._file.close()
            raise
        self._rest = b""

    def readable(self) -> bool:
        return True

    def chunk(self) -> bytes:
        """The next bytes, at most `CHUNK`; empty at the end."""
        first, n_bytes = self._next(1)
        if not n_bytes:
            return b""
        self._file.seek(first)
        return self._verified(first, n_bytes, _read_all(self._file, n_bytes))

    def chunks_at_hand(self, most: int) -> bytes | None:
        """The next bytes, at most `most` times `CHUNK`, if all of them lie in this machine's memory: to read and verify
        them takes no longer than to go to a thread and back. None where they don't, or where that can't be known: files
        elsewhere, systems that don't tell."""
        first, n_bytes = self._next(most)
        if self._descriptor is None or not n_bytes:
            return None
        if len(self._buffer) < n_bytes:
            self._buffer = bytearray(n_bytes)
        with memoryview(self._buffer)[:n_bytes] as place:
            with suppress(OSError):
                if os.preadv(self._descriptor, [place], first, os.RWF_NOWAIT) == n_bytes:
                    return self._verified(first, n_bytes, bytes(place))
            return None

    def _next(self, n_chunks: int) -> tuple[int, int]:
        """Where the next chunks begin, and how many bytes they have; 0 at the end."""
        first = self._number * CHUNK
        if first + self._skip >= self._end:
            return first, 0
        wanted = min(n_chunks, -(-(self._end - first) // CHUNK))
        return first, min(wanted * CHUNK, self._n_bytes - first)

    def _verified(self, first: int, n_bytes: int, content: bytes) -> bytes:
        """What is wanted of the chunks before the first that is wrong or cut off. Raises Corrupt when all are."""
        for at in range(0, n_bytes, CHUNK):
            known = self._digests[self._number * _DIGEST : (self._number + 1) * _DIGEST]
            if hashlib.sha256(memoryview(content)[at : at + CHUNK]).digest() != known:
                if not at:
                    raise Corrupt("The stored file is not what was written.")
                content = content[:at]
                break
            self._number += 1
        wanted = content[self._skip : self._end - first]
        self._skip = 0
        return wanted

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = self.chunk()
        part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _opened(stored: Stored) -> Any:
    try:
        file = storages["exports"].open(stored.path, "rb")
        size = file.size
    except OSError as error:
        raise Corrupt("The stored file can't be read.") from error
    if size != stored.n_bytes:
        file.close()
        raise Corrupt("The stored file is not as long as it was when it was written.")
    return file


def _descriptor_of(file: Any) -> int | None:
    """Of a file on this machine's disk."""
    try:
        return int(file.fileno()) if hasattr(os, "preadv") and hasattr(os, "RWF_NOWAIT") else None
    except (AttributeError, OSError):
        return None


def _digests_of_whole(file: Any, stored: Stored) -> bytes:
    digests = Digests()
    while part := _read(file, CHUNK):
        digests.add(part)
    content = digests.content(Path())
    if content.sha256 != stored.sha256:
        raise Corrupt("The stored file is not what was written.")
    return content.digests


def _read_all(file: Any, n_bytes: int) -> bytes:
    """A storage may give less than it is asked for."""
    content = _read(file, n_bytes)
    while len(content) < n_bytes and (more := _read(file, n_bytes - len(content))):
        content += more
    return content


def _read(file: Any, n_bytes: int) -> bytes:
    try:
        return bytes(file.read(n_bytes))
    except OSError as error:
        raise Corrupt("The stored file can't be read.") from error


def addresses() -> Iterator[str]:
    """The names of all files in the storage; whether a row needs them is not looked at. Raises OSError."""
    storage = storages["exports"]
    if _is_local() and not storage.exists(""):
        return
    for folder in storage.listdir("")[0]:
        for name in storage.listdir(folder)[1]:
            path = f"{folder}/{name}"
            if _ADDRESS.fullmatch(path):
                yield path


def age_s(path: str) -> float:
    """Seconds since the file was stored; 0 when it is gone."""
    try:
        return time.time() - storages["exports"].get_modified_time(path).timestamp()
    except FileNotFoundError:
        return 0.0
