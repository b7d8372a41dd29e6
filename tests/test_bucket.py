"""Exports in a bucket, of a real S3 server: what holds for a disk holds there, and what it adds."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import boto3
import openpyxl
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.http.response import HttpResponseBase
from django.test import RequestFactory
from django.utils import timezone
from moto.server import ThreadedMotoServer
from pytest_django.fixtures import Settings

from conversations import audit, checks, downloads, exports, files, threads
from conversations.bucket import BucketStorage
from conversations.formats import kinds
from conversations.models import Export, ExportFile
from conversations.runner import EmbeddedRunner
from tests.calls import ask
from tests.environment import without_settings
from tests.exporting import entries, exported, got
from tests.ports import free_port
from tests.server import ROOT

pytestmark = pytest.mark.django_db(transaction=True)

#: Sets what the settings make of variables.
Configure = Callable[..., None]
SECRET = "a secret that nobody is told"


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """The address of an S3 server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an administrator gives them, and nobody else's."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "opschat", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)


@pytest.fixture
def configure(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    """Sets what the settings make of these variables."""
    clients: list[Any] = []

    def configure(**variables: str) -> None:
        with monkeypatch.context() as patch:
            for name, value in {**variables, "OPSCHAT_DATA_DIR": str(tmp_path)}.items():
                patch.setenv(name, value)
            read = runpy.run_path(str(ROOT / "opschat/settings.py"))
        settings.STORAGES = {**settings.STORAGES, "exports": read["STORAGES"]["exports"]}
        settings.OPSCHAT_EXPORT_BUCKET = read["OPSCHAT_EXPORT_BUCKET"]
        clients.append(cast("BucketStorage", storages["exports"]).client)

    yield configure
    for client in clients:
        client.close()


@pytest.fixture
def bucket(provider: str, keys: None, configure: Configure) -> Iterator[Any]:
    """The exports' own, empty."""
    found = boto3.Session().resource("s3", endpoint_url=provider, region_name="us-east-1").Bucket("exports")
    found.create()
    configure(OPSCHAT_EXPORT_BUCKET="exports", OPSCHAT_S3_ENDPOINT=provider)
    yield found
    found.objects.all().delete()
    found.delete()
    found.meta.client.close()


async def names(bucket: Any) -> list[str]:
    return await threads.reading(lambda: sorted(each.key for each in bucket.objects.all()))


async def changed(bucket: Any, export: Export, at: int) -> None:
    def change() -> None:
        stored = bucket.Object(ExportFile.objects.get(export=export, format="csv").path)
        content = bytearray(stored.get()["Body"].read())
        content[at] ^= 1
        stored.put(Body=bytes(content))

    await threads.reading(change)


# -- Stored, read, deleted -------------------------------------------------------------------------------------------


async def test_an_export_is_stored_in_the_bucket_and_nowhere_else(
    alice: User, running: EmbeddedRunner, bucket: Any
) -> None:
    # Rows that no other test has: those store theirs on this disk.
    export = await exported(alice, 19)
    answer = await got(export, alice)
    sha256 = hashlib.sha256(answer.body).hexdigest()
    assert (answer.status, answer.body.count(b"\r\n")) == (200, 20)
    assert await names(bucket) == [f"{sha256[:2]}/{sha256}"]
    assert not (settings.DATA_DIR / "exports" / sha256[:2] / sha256).exists()
    assert list(settings.OPSCHAT_SCRATCH_DIR.iterdir()) == []


async def test_nothing_in_the_bucket_is_public(alice: User, running: EmbeddedRunner, bucket: Any) -> None:
    await exported(alice)
    (name,) = await names(bucket)
    grants = await threads.reading(lambda: bucket.Object(name).Acl().grants)
    assert [(grant["Grantee"]["Type"], grant["Permission"]) for grant in grants] == [("CanonicalUser", "FULL_CONTROL")]


async def test_identical_content_is_stored_once_and_goes_with_its_last_export(
    alice: User, running: EmbeddedRunner, bucket: Any
) -> None:
    one, other = await exported(alice), await exported(alice)
    assert len(await names(bucket)) == 1
    for export, n_left in ((one, 1), (other, 0)):
        await threads.reading(lambda export=export: exports.delete(export=export, actor=alice, origin=None))
        assert len(await names(bucket)) == n_left


async def test_a_workbook_is_made_of_what_the_bucket_holds(alice: User, running: EmbeddedRunner, bucket: Any) -> None:
    export = await exported(alice, 1200)
    answer = await got(export, alice, "?format=xlsx")
    sheet = openpyxl.load_workbook(io.BytesIO(answer.body)).active
    assert sheet is not None
    assert (answer.status, sheet.max_row, len(await names(bucket))) == (200, 1201, 2)


async def test_a_part_of_a_file_is_what_the_file_has_there(alice: User, running: EmbeddedRunner, bucket: Any) -> None:
    export = await exported(alice, 120_000)
    whole = (await got(export, alice)).body
    assert len(whole) > 2**20 + 2 * files.CHUNK
    for start, end in ((0, 9), (2**20 - 6, 2**20 + 4), (2**20, len(whole) - 1)):
        answer = await got(export, alice, range=f"bytes={start}-{end}")
        assert (answer.status, answer.body) == (206, whole[start : end + 1])


async def test_a_file_is_read_block_by_block_and_at_any_place(bucket: Any) -> None:
    content = bytes(range(256)) * 12_000

    def look() -> None:
        storage = storages["exports"]
        storage.save("aa/file", ContentFile(content))
        with storage.open("aa/file", "rb") as file:
            assert (file.size, file.read(10), file.read(10)) == (len(content), content[:10], content[10:20])
            file.seek(2_000_000)
            assert file.read(2_000_000) == content[2_000_000:]
            assert file.read(1) == b""
            file.seek(5)
            assert file.read(1) == content[5:6]

    await threads.reading(look)


async def test_several_threads_share_one_client(bucket: Any) -> None:
    storage = storages["exports"]
    await threads.reading(lambda: storage.save("aa/file", ContentFile(b"some")))
    sizes = await asyncio.gather(*(threads.working(storage.size, "aa/file") for _ in range(20)))
    assert set(sizes) == {4}


async def test_a_file_in_the_bucket_that_no_export_needs_goes_after_a_day(
    alice: User, running: EmbeddedRunner, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = await exported(alice)
    (needed,) = await names(bucket)
    orphan = "ab/ab" + "0" * 62
    await threads.reading(lambda: bucket.put_object(Key=orphan, Body=b"left by a process that was killed"))
    await threads.reading(lambda: bucket.put_object(Key="somebody/elses", Body=b"not ours"))
    assert (await threads.reading(exports.expire)).n_orphans == 0
    # Its age is the provider's own word, so the rule is what changes.
    monkeypatch.setattr(exports, "_ORPHAN_S", 0.0)
    assert (await threads.reading(exports.expire)).n_orphans == 1
    assert await names(bucket) == sorted([needed, "somebody/elses"])
    due = timezone.now() - timedelta(seconds=1)
    await threads.reading(lambda: Export.objects.filter(pk=export.pk).update(expires_at=due))
    assert (await threads.reading(exports.expire)).n_exports == 1
    assert await names(bucket) == ["somebody/elses"]


# -- Tampering and loss ----------------------------------------------------------------------------------------------


async def test_a_file_that_was_changed_in_the_bucket_is_not_sent(
    alice: User, running: EmbeddedRunner, bucket: Any
) -> None:
    export = await exported(alice)
    await changed(bucket, export, 3)
    answer = await got(export, alice)
    assert (answer.status, answer.error["code"]) == (500, "corrupt_export")
    # The next export of the same rows puts the right file in its place.
    await exported(alice)
    assert (await got(export, alice)).status == 200


async def test_a_bucket_that_is_lost_in_the_middle_breaks_the_download_off(
    alice: User, running: EmbeddedRunner, bucket: Any
) -> None:
    export = await exported(alice, 240_000)
    stored = await threads.reading(lambda: ExportFile.objects.defer(None).get(export=export))
    response: Any = await threads.reading(begun, export, stored, alice)
    received: list[bytes] = []
    with pytest.raises(files.Corrupt, match="can't be read"):
        await lose_in_the_middle(bucket, response, received)
    (end,) = await entries("export.download_end")
    assert (end.outcome, end.detail["why"]) == ("failed", "The stored file can't be read.")
    assert 0 < end.detail["bytes_sent"] == len(b"".join(received)) < stored.n_bytes


async def lose_in_the_middle(bucket: Any, response: Any, received: list[bytes]) -> None:
    """Adds the pieces of an answer until it breaks off: the bucket is emptied when the first is there."""
    async for piece in response.streaming_content:
        if not received:
            await threads.reading(lambda: bucket.objects.all().delete())
        received.append(piece)


def begun(export: Export, stored: ExportFile, user: User) -> HttpResponseBase:
    """A download of which nothing was taken yet."""
    return downloads.answer(
        RequestFactory().get("/"), export=export, stored=stored, kind=kinds.CSV, actor=user,
        began=lambda **_: audit.record(
            actor=user, action="export.download", object_type="export", object_id=export.pk
        ),
    )  # fmt: skip


@pytest.mark.usefixtures("running", "keys")
@pytest.mark.parametrize("reason", ["NoSuchBucket", "EndpointConnectionError"])
async def test_without_its_bucket_an_export_fails_in_words_and_leaves_nothing(
    alice: User, provider: str, configure: Configure, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    endpoint = provider if reason == "NoSuchBucket" else f"http://127.0.0.1:{free_port()}"
    configure(OPSCHAT_EXPORT_BUCKET="missing", OPSCHAT_S3_ENDPOINT=endpoint)
    answer = await ask(alice, "rows 5\nHere:")
    failed = answer.events[-1]
    assert (failed["type"], failed["error"]["code"]) == ("error", "storage_failed")
    assert "storage out of reach" in failed["error"]["message"]
    assert await threads.reading(Export.objects.count) == 0
    assert list(settings.OPSCHAT_SCRATCH_DIR.iterdir()) == []
    assert f"The bucket missing can't be used: {reason}." in caplog.text
    assert SECRET not in caplog.text
    assert "missing" in str(await threads.reading(checks.trouble_with_bucket))


async def test_what_a_bucket_holds_waits_for_it_while_it_is_away(
    alice: User, running: EmbeddedRunner, bucket: Any, provider: str, configure: Configure
) -> None:
    export = await exported(alice)
    configure(OPSCHAT_EXPORT_BUCKET="exports", OPSCHAT_S3_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    assert (await got(export, alice)).error["code"] == "corrupt_export"
    with pytest.raises(CommandError, match="can't be used"):
        await threads.reading(lambda: call_command("expire_exports"))
    configure(OPSCHAT_EXPORT_BUCKET="exports", OPSCHAT_S3_ENDPOINT=provider)
    assert (await got(export, alice)).status == 200


# -- Set-ups ---------------------------------------------------------------------------------------------------------


def checked(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**without_settings(os.environ), "OPSCHAT_DATA_DIR": str(folder), **variables}
    return subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_without_the_extra_a_disk_works_and_a_bucket_is_refused_with_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    # Python finds nothing of these names any more.
    hide = "import sys; sys.modules.update(boto3=None, storages=None)\n"
    (tmp_path / "hidden/sitecustomize.py").write_text(hide, encoding="utf-8")
    hidden = {"PYTHONPATH": str(tmp_path / "hidden")}
    assert checked(tmp_path, **hidden).returncode == 0
    refused = checked(tmp_path, **hidden, OPSCHAT_EXPORT_BUCKET="exports")
    assert refused.returncode == 1
    assert "opschat.E009" in refused.stderr
    assert "pip install '.[s3]'" in refused.stderr


@pytest.mark.parametrize("endpoint", ["s3.example.org", "https://me:pw@s3.example.org", "https://s3.example.org/path"])
def test_an_endpoint_that_is_no_address_is_refused(settings: Settings, endpoint: str) -> None:
    settings.OPSCHAT_S3_ENDPOINT = endpoint
    (error,) = checks.endpoint_is_an_address()
    assert "me:pw" not in error.msg


def test_by_default_exports_are_on_the_disk() -> None:
    assert settings.OPSCHAT_EXPORT_BUCKET == ""
    assert not isinstance(storages["exports"], BucketStorage)


@pytest.mark.one_database
async def test_a_backup_copies_what_the_bucket_holds(
    alice: User, running: EmbeddedRunner, bucket: Any, tmp_path: Path
) -> None:
    export = await exported(alice)
    content = (await got(export, alice)).body
    folder, said = tmp_path / "backup", io.StringIO()
    await threads.reading(lambda: call_command("backup", str(folder), stdout=said))
    sha256 = hashlib.sha256(content).hexdigest()
    assert (folder / "exports" / sha256[:2] / sha256).read_bytes() == content
    assert "copied from the bucket exports" in said.getvalue()
    assert json.loads((folder / "backup.json").read_text())["exports"] == 1
