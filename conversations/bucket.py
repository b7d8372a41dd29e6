"""Exports in an S3 bucket (OPSCHAT_EXPORT_BUCKET): read as a stream, and every failure is an OSError.

Needs the extra `s3`; the settings name this storage only when a bucket is set.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from functools import cached_property
from http import HTTPStatus
from typing import Any

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files import File
from django.utils.deconstruct import deconstructible
from storages.backends.s3 import S3Storage
from urllib3.exceptions import HTTPError

#: Bytes of one GET, held in memory for each file that is read. No connection stays open between two: a client that
#: stops reading for minutes would have it cut.
_BLOCK = 1024 * 1024
#: GETs of a block until the file counts as not readable, each with botocore's own tries before the first byte.
_TRIES = 2
#: A transaction may wait for a file, and on SQLite every other writer for the transaction.
_CONNECT_S, _READ_S = 5, 20
#: Threads that may use the bucket at once (`threads`); further ones would connect anew each time.
_CONNECTIONS = 40
#: Parts of a large file that are sent at once, each read from the disk.
_PARTS = 4


@deconstructible
class BucketStorage(S3Storage):  # type: ignore[misc]  # django-storages ships no types
    """One client for all threads: django-storages makes one for each, which takes 0.1 s and megabytes."""

    _making = threading.Lock()

    def get_default_settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = super().get_default_settings()
        # None of Django's settings is meant for this storage: the names of ours are in .env.example.
        return {**settings, "transfer_config": TransferConfig(max_concurrency=_PARTS)}

    @property
    def client(self) -> Any:
        with self._making:
            return self._client

    @cached_property
    def _client(self) -> Any:
        # Checksums of the newer kind, which other providers may refuse, where S3 demands them alone: what is read is
        # verified by digests of ours.
        lenient: dict[str, Any] = (
            {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
            if self.endpoint_url
            else {}
        )
        config = Config(
            connect_timeout=_CONNECT_S, read_timeout=_READ_S, max_pool_connections=_CONNECTIONS,
            retries={"mode": "standard", "total_max_attempts": 3}, **lenient,
        )  # fmt: skip
        return self._create_session().client(
            "s3", region_name=self.region_name, endpoint_url=self.endpoint_url, config=config
        )

    # -- What Django's storages do -----------------------------------------------------------------------------------

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        """Raises FileNotFoundError, OSError."""
        if mode != "rb":
            raise ValueError("Files in the bucket are opened to be read; `save` writes them.")
        raw = _Blocks(self._ranges(name), size=self.size(name))
        return File(io.BufferedReader(raw, _BLOCK), name=name)

    def _save(self, name: str, content: File[bytes]) -> str:
        """Raises OSError; the bucket holds all of the file then or what it had before."""
        extra = {"ContentType": self.default_content_type}
        with self._failures():
            if hasattr(content, "temporary_file_path"):
                # Parts of an open file are held in memory, those of a path are not.
                path = content.temporary_file_path()
                self.client.upload_file(path, self.bucket_name, name, ExtraArgs=extra, Config=self.transfer_config)
            else:
                body = content.read()
                self.client.put_object(Bucket=self.bucket_name, Key=name, Body=body, **extra)
        return name

    def delete(self, name: str) -> None:
        with self._failures():
            self.client.delete_object(Bucket=self.bucket_name, Key=name)

    def exists(self, name: str) -> bool:
        try:
            self._head(name)
        except FileNotFoundError:
            return False
        return True

    def size(self, name: str) -> int:
        return int(self._head(name)["ContentLength"])

    def get_modified_time(self, name: str) -> datetime:
        modified: datetime = self._head(name)["LastModified"]
        return modified

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        prefix = f"{path.strip('/')}/" if path.strip("/") else ""
        folders: list[str] = []
        names: list[str] = []
        with self._failures():
            pages = self.client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket_name, Prefix=prefix, Delimiter="/"):
                folders += [each["Prefix"].removeprefix(prefix).rstrip("/") for each in page.get("CommonPrefixes", ())]
                names += [each["Key"].removeprefix(prefix) for each in page.get("Contents", ())]
        return folders, names

    # -- S3 ----------------------------------------------------------------------------------------------------------

    def trouble(self) -> str | None:
        """Why the bucket can't be used now, in words without secrets; None: it can be read."""
        try:
            with self._failures():
                self.client.head_bucket(Bucket=self.bucket_name)
        except FileNotFoundError:
            return f"There is no bucket {self.bucket_name}: make it, or set OPSCHAT_EXPORT_BUCKET to another."
        except OSError as error:
            return str(error)
        return None

    def _head(self, name: str) -> dict[str, Any]:
        with self._failures():
            head: dict[str, Any] = self.client.head_object(Bucket=self.bucket_name, Key=name)
        return head

    def _ranges(self, name: str) -> Callable[[int, int], bytes]:
        """Reads the bytes [start, end) of the file."""

        def read(start: int, end: int) -> bytes:
            with self._failures():
                answer = self.client.get_object(Bucket=self.bucket_name, Key=name, Range=f"bytes={start}-{end - 1}")
                with closing(answer["Body"]) as body:
                    content: bytes = body.read()
            if len(content) != end - start:
                raise OSError(f"The bucket {self.bucket_name} gave {len(content)} bytes of {end - start}.")
            return content

        return read

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """OSError with what S3 calls the failure: whole messages may hold addresses and keys, so may their causes."""
        try:
            yield
        except ClientError as error:
            code, status = error.response["Error"].get("Code"), error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == HTTPStatus.NOT_FOUND and code != "NoSuchBucket":
                raise FileNotFoundError(f"The file is not in the bucket {self.bucket_name}.") from None
            raise OSError(self._said(str(code))) from None
        except Boto3Error as error:
            # Of an upload, whose own reason stands in its text alone: the name in brackets, when it has one.
            code = str(error).partition("(")[2].partition(")")[0]
            raise OSError(self._said(code if code.isalnum() else type(error).__name__)) from None
        except (BotoCoreError, HTTPError) as error:
            raise OSError(self._said(type(error).__name__)) from None

    def _said(self, reason: str) -> str:
        return f"The bucket {self.bucket_name} can't be used: {reason}."


class _Blocks(io.RawIOBase):
    """The bytes of a file that are read by their place; a BufferedReader around it asks for a block at a time."""

    def __init__(self, read: Callable[[int, int], bytes], *, size: int) -> None:
        super().__init__()
        self._read = read
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        content = self._tried(self._at, end)
        buffer[: len(content)] = content
        self._at = end
        return len(content)

    def _tried(self, start: int, end: int) -> bytes:
        """A connection may break in the middle of a block, which botocore doesn't mend."""
        for _ in range(_TRIES - 1):
            try:
                return self._read(start, end)
            except FileNotFoundError:
                raise
            except OSError:
                continue
        return self._read(start, end)
