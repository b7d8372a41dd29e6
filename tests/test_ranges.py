"""Parts of files, and files that the client has already (RFC 9110)."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from conversations import files
from conversations.models import Export
from conversations.runner import EmbeddedRunner
from tests.exporting import entries, exported, got

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def long_export(alice: User, running: EmbeddedRunner) -> Export:
    """A file of several chunks."""
    return await exported(alice, 60_000)


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1), ("bytes=0-9", 0, 10), ("bytes=10-", 10, None), ("bytes=-7", -7, None),
        ("bytes=262140-262150", 262_140, 262_151), ("bytes=262144-524287", 262_144, 524_288),
        ("bytes=100-99999999999", 100, None), ("bytes=-99999999999", 0, None), ("bytes = 5 - 6", 5, 7),
    ],
)  # fmt: skip
async def test_a_part_of_a_file_is_what_the_file_has_there(
    alice: User, long_export: Export, asked: str, start: int, end: int | None
) -> None:
    whole = (await got(long_export, alice)).body
    assert len(whole) > 2 * files.CHUNK
    answer = await got(long_export, alice, range=asked)
    assert answer.body == whole[start:end]
    if len(answer.body) < len(whole):
        first = whole.index(answer.body) if start >= 0 else len(whole) + start
        assert answer.status == 206
        assert answer.headers["content-range"].endswith(f"/{len(whole)}")
        assert answer.headers["content-range"].startswith(f"bytes {start if start >= 0 else first}-")


@pytest.mark.parametrize("asked", ["bytes=5-4", "bytes=0-1,4-5", "lines=1-2", "bytes=", "bytes=-", "bytes=a-b"])
async def test_what_is_no_single_range_is_answered_with_the_whole_file(
    alice: User, running: EmbeddedRunner, asked: str
) -> None:
    export = await exported(alice)
    assert (await got(export, alice, range=asked)).status == 200


async def test_a_range_behind_the_end_is_416(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    size = len((await got(export, alice)).body)
    for asked in (f"bytes={size}-", "bytes=-0"):
        answer = await got(export, alice, range=asked)
        assert (answer.status, answer.headers["content-range"], answer.body) == (416, f"bytes */{size}", b"")


async def test_a_range_of_another_file_is_the_whole_file(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    tag = (await got(export, alice)).headers["etag"]
    assert (await got(export, alice, range="bytes=0-1", if_range=tag)).status == 206
    assert (await got(export, alice, range="bytes=0-1", if_range='"older"')).status == 200


async def test_an_unchanged_file_is_not_sent_again(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    tag = (await got(export, alice)).headers["etag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        answer = await got(export, alice, if_none_match=known)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
    assert (await got(export, alice, if_none_match='"other"')).status == 200
    # Looks, which are no downloads, are in the ledger too.
    assert len(await entries("export.check")) == 3


async def test_head_tells_of_the_file_and_sends_nothing(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    whole = await got(export, alice)
    answer = await got(export, alice, method="HEAD")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", str(len(whole.body)))
    assert (len(await entries("export.download")), len(await entries("export.check"))) == (1, 1)
