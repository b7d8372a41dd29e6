"""Addresses that open an export in another program: for whom, how long, and where they must not stand."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from conversations import exports, links, threads
from conversations.audit import Origin
from conversations.formats import kinds
from conversations.models import AuditEntry, Export, ExportLink
from conversations.runner import EmbeddedRunner
from tests.calls import call
from tests.exporting import browse, entries, exported

pytestmark = pytest.mark.django_db(transaction=True)


# -- Addresses for other programs ------------------------------------------------------------------------------------


async def linked(user: User, export: Export) -> tuple[str, ExportLink]:
    def make() -> tuple[str, ExportLink]:
        link = links.make(export=export, kind=kinds.XLSX, user=user, origin=Origin())
        return links.path_of(link, kinds.XLSX), link

    return await threads.reading(make)


async def test_open_in_excel_gives_an_address_that_opens_without_a_session(
    alice: User, running: EmbeddedRunner
) -> None:
    export = await exported(alice)
    made = await browse(alice, "POST", f"/exports/{export.pk}/link")
    assert "ms-excel:ofv|u|http://testserver/exports/open/" in made.text
    token = made.text.partition("/exports/open/")[2].partition('"')[0]
    assert token.endswith(f"/{export.name}.xlsx")
    answer = await call("GET", f"/exports/open/{token}")
    assert (answer.status, answer.body[:2]) == (200, b"PK")
    (entry,) = await entries("export.download")
    assert (entry.actor_name, entry.detail["format"]) == ("alice", "xlsx")
    assert [entry.action for entry in await threads.reading(lambda: list(AuditEntry.objects.order_by("seq")))][-4:] == [
        "export.link", "export.link_use", "export.download", "export.download_end",
    ]  # fmt: skip


async def test_an_address_opens_ten_times(alice: User, running: EmbeddedRunner) -> None:
    path, _ = await linked(alice, await exported(alice))
    statuses = [(await call("HEAD" if n % 2 else "GET", path)).status for n in range(12)]
    assert statuses == [200] * 10 + [404] * 2
    assert len(await entries("export.link_use", outcome="denied")) == 2


async def test_an_address_opens_for_five_minutes(alice: User, running: EmbeddedRunner) -> None:
    path, link = await linked(alice, await exported(alice))
    assert link.expires_at - link.created_at < timedelta(minutes=5, seconds=1)
    await threads.reading(lambda: ExportLink.objects.update(expires_at=timezone.now()))
    assert (await call("GET", path)).status == 404


FORGERIES: dict[str, Callable[[str], str]] = {
    "another signature": lambda path: path.replace("~", "~x"),
    "another link": lambda path: path[:15] + ("1" if path[15] != "1" else "2") + path[16:],
    "another file": lambda path: path.rpartition("/")[0] + "/export_1.xlsx",
    "no name": lambda path: path.rpartition("/")[0] + "/..xlsx",
    "nothing": lambda _: "/exports/open/~/export_1.xlsx",
    "a way up": lambda _: "/exports/open/..%2f..%2fx/export_1.xlsx",
    "NUL": lambda path: path.replace("~", "%00~"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_address_opens_nothing(alice: User, running: EmbeddedRunner, forgery: str) -> None:
    path, _ = await linked(alice, await exported(alice))
    assert (await call("GET", FORGERIES[forgery](path))).status == 404
    assert (await call("GET", path)).status == 200


async def test_an_address_ends_with_its_makers_rights(alice: User, running: EmbeddedRunner) -> None:
    path, _ = await linked(alice, await exported(alice))
    await threads.reading(lambda: User.objects.filter(pk=alice.pk).update(is_active=False))
    assert (await call("GET", path)).status == 404


async def test_an_address_opens_no_deleted_export(alice: User, running: EmbeddedRunner) -> None:
    export = await exported(alice)
    path, _ = await linked(alice, export)
    await threads.reading(lambda: exports.delete(export=export, actor=alice, origin=None))
    assert (await call("GET", path)).status == 410


async def test_no_log_has_an_address(alice: User, running: EmbeddedRunner, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = await linked(alice, await exported(alice))
    # The handler of the settings writes to the stream that was there when Django started.
    record = logging.LogRecord("django.request", logging.WARNING, "", 0, "%s: %s", ("Not Found", path), None)
    (handler,) = [each for each in logging.getLogger().handlers if type(each) is logging.StreamHandler]
    stream = io.StringIO()
    before = handler.setStream(stream)
    try:
        handler.handle(record)
    finally:
        handler.setStream(before)
    assert "Not Found: /exports/open/…/export_" in stream.getvalue()
    token = path.split("/")[3]
    assert token not in stream.getvalue()
    entry = await threads.reading(lambda: str(list(AuditEntry.objects.values())))
    assert token not in entry
