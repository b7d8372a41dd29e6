"""The page that imports: from a file that was chosen to its assets, and who may."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import openpyxl
import pytest
from asgiref.sync import async_to_sync
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from inventory import upload_work, uploads
from inventory.import_lock import import_lock
from inventory.models import Asset, AssetUpload

# Threads of their own work on the files: they see what is committed.
pytestmark = pytest.mark.django_db(transaction=True)

PAGE = "/admin/inventory/asset/import/"
BROWSER = {"accept": "text/html"}
CSV = "name,ip_address,Colour\nh1,10.0.0.1,red\nh2,bad,=1+1\n"


@pytest.fixture(autouse=True)
def folder(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """Of the uploads of one test."""
    stored = settings.STORAGES["uploads"]
    changed = {**stored, "OPTIONS": {**stored["OPTIONS"], "location": tmp_path / "uploads"}}
    settings.STORAGES = {**settings.STORAGES, "uploads": changed}
    yield tmp_path / "uploads"
    upload_work.finish()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("opschat-import")]


@pytest.fixture
def importer(bob: User, client: Client) -> Client:
    """Staff with the one permission."""
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    bob.user_permissions.add(Permission.objects.get(codename="import_assets"))
    client.force_login(bob)
    return client


def upload(client: Client, content: str | bytes = CSV, *, name: str = "assets.csv", **fields: str) -> str:
    """The address that the form leads to, when the file has been read."""
    data = content if isinstance(content, bytes) else content.encode()
    response = client.post(PAGE, {"file": SimpleUploadedFile(name, data), **fields}, headers=BROWSER)
    assert response.status_code == 302, response.content.decode()
    upload_work.finish()
    return response["Location"]


def act(client: Client, address: str, action: str) -> str:
    """The page after the button's work has ended."""
    assert client.post(address, {"action": action}, headers=BROWSER).status_code == 302
    upload_work.finish()
    return read(client, address)


def read(client: Client, address: str) -> str:
    response = client.get(address, headers=BROWSER)
    assert response.status_code == 200, address
    return response.content.decode()


def problems(client: Client, address: str) -> list[list[str]]:
    response = client.get(f"{address}problems/", headers=BROWSER)
    assert response.status_code == 200
    assert response["Content-Disposition"].startswith("attachment")

    async def whole() -> bytes:
        return b"".join([chunk async for chunk in cast(Any, response).streaming_content])

    return list(csv.reader(io.StringIO(async_to_sync(whole)().decode(), newline="")))


# -- Who may ---------------------------------------------------------------------------------------------------------


def test_the_assets_list_leads_there_who_may_import(importer: Client, erin: User) -> None:
    assert PAGE in read(importer, "/admin/inventory/asset/")
    other = Client()
    other.force_login(erin)
    assert PAGE not in read(other, "/admin/inventory/asset/")
    assert other.get(PAGE, headers=BROWSER).status_code == 403


def test_people_who_are_no_staff_find_no_page(alice: User, client: Client) -> None:
    alice.user_permissions.add(Permission.objects.get(codename="import_assets"))
    client.force_login(alice)
    assert client.get(PAGE, headers=BROWSER).status_code == 404


def test_a_superuser_may_import(admin: User, client: Client) -> None:
    client.force_login(admin)
    assert "Upload and look at it" in read(client, PAGE)


def test_nobody_sees_anothers_file(importer: Client, admin: User) -> None:
    address = upload(importer)
    act(importer, address, "dry run")
    other = Client()
    other.force_login(admin)
    for hidden in (address, f"{address}problems/", f"{PAGE}{uuid.uuid4()}/"):
        assert other.get(hidden, headers=BROWSER).status_code == 404
    assert other.post(address, {"action": "import"}, headers=BROWSER).status_code == 404


# -- The steps -------------------------------------------------------------------------------------------------------


def test_a_file_is_shown_before_anything_is_written(importer: Client) -> None:
    page = read(importer, upload(importer, "Hostname;IP Address;Colour\nh1;10.0.0.1;red\n", source="shop"))
    for text in ("CSV, 1 row", "<bdi>shop</bdi>", "Hostname", "ip_address", "an attribute", "10.0.0.1", "red"):
        assert text in page
    assert not Asset.objects.exists()


def test_a_workbooks_warnings_are_shown(importer: Client) -> None:
    book, content = openpyxl.Workbook(), io.BytesIO()
    book.active.append(["name"])
    book.active.append(["h1"])
    book.create_sheet("Second").append(["name"])
    book.save(content)
    page = read(importer, upload(importer, content.getvalue(), name="book.xlsx"))
    assert "Only the sheet “Sheet” was read. Save the others (“Second”)" in page
    assert "XLSX, 1 row" in page


def test_what_to_know_before_the_import_is_said(importer: Client) -> None:
    page = read(importer, upload(importer, 'name\nh1\n"h"2\n', source="shop", delete_missing="on"))
    assert "There was 1 problem when the file was read." in page
    assert "Assets of the source “shop” that the file does not have will be removed." in page


def test_a_dry_run_counts_and_changes_nothing(importer: Client) -> None:
    Asset.objects.create(name="h1", source="assets", ip_address="10.0.0.1", attributes={"Colour": "red"})
    Asset.objects.create(name="h2", source="assets")
    Asset.objects.create(name="gone", source="assets")
    before = list(Asset.objects.order_by("pk").values())
    page = act(importer, upload(importer, CSV + "h3,,\n", delete_missing="on"), "dry run")
    assert "Dry run: nothing was written" in page
    for row in (
        "Created</th><td>1",
        "Updated</th><td>1",
        "Unchanged</th><td>1",
        "Deleted</th><td>1",
        "Problems</th><td>1",
    ):
        assert row in page, row
    assert list(Asset.objects.order_by("pk").values()) == before
    assert not LogEntry.objects.exists()


def test_an_import_does_what_its_dry_run_said_and_the_file_is_removed(importer: Client, folder: Path) -> None:
    Asset.objects.create(name="h1", source="assets", ip_address="10.0.0.1", attributes={"Colour": "red"})
    Asset.objects.create(name="h2", source="assets")
    Asset.objects.create(name="gone", source="assets")
    address = upload(importer, CSV + "h3,,\n", delete_missing="on")
    tried, done = act(importer, address, "dry run"), act(importer, address, "import")
    for row in ("Created", "Updated", "Unchanged", "Deleted"):
        assert f"{row}</th><td>1" in tried
        assert f"{row}</th><td>1" in done
    assert sorted(Asset.objects.values_list("name", flat=True)) == ["h1", "h2", "h3"]
    assert "Import</button>" not in done
    assert [path.suffix for path in folder.iterdir()] == [".csv"]


def test_every_problem_is_in_the_file_of_errors_and_none_is_a_formula(importer: Client) -> None:
    rows = [f"h{n},=bad{n}" for n in range(700)]
    address = upload(importer, "\n".join(["name,ip_address", *rows, '"x"y,1']))
    assert "Download errors as CSV" in act(importer, address, "dry run")
    header, unread, *rest = problems(importer, address)
    assert header == ["row", "column", "value", "message"]
    assert unread[:2] == ["702", ""]
    assert [line[:3] for line in rest] == [[str(n + 2), "ip_address", f"'=bad{n}"] for n in range(700)]
    assert rest[0][3] == "no IP address; kept as attribute “ip_address (unreadable)”"
    assert len(problems(importer, address)) == 702


def test_the_problems_of_an_import_stay_to_be_downloaded(importer: Client) -> None:
    address = upload(importer)
    act(importer, address, "import")
    assert [line[:3] for line in problems(importer, address)[1:]] == [["3", "ip_address", "bad"]]


def test_without_problems_there_is_nothing_to_download(importer: Client) -> None:
    address = upload(importer, "name\nh1\n")
    assert "Download errors" not in act(importer, address, "dry run")
    assert importer.get(f"{address}problems/", headers=BROWSER).status_code == 404


def test_an_import_is_recorded_with_its_user_file_checksum_and_counts(importer: Client, bob: User, admin: User) -> None:
    act(importer, upload(importer), "import")
    begun, ended = LogEntry.objects.order_by("pk")
    digest = hashlib.sha256(CSV.encode()).hexdigest()
    for entry in (begun, ended):
        said = json.loads(entry.change_message)
        assert (entry.user_id, entry.object_repr, said["sha256"]) == (bob.pk, "assets.csv", digest)
    assert json.loads(ended.change_message)["n_new"] == 2
    other = Client()
    other.force_login(admin)
    assert "2 created, 0 updated, 0 unchanged, 0 deleted; 1 problem<" in read(other, PAGE)


# -- Files that are none, and other requests -------------------------------------------------------------------------


def test_a_file_that_is_no_table_says_why_and_can_not_be_imported(importer: Client) -> None:
    address = upload(importer, b"\x89PNG\r\n\x1a\n", name="assets.csv")
    page = read(importer, address)
    assert "The file is no table but a picture (PNG). Nothing was written." in page
    assert "Dry run" not in page
    assert importer.post(address, {"action": "import"}, headers=BROWSER).status_code == 400


@pytest.mark.parametrize("fields", [{}, {"file": ""}, {"file": SimpleUploadedFile("empty.csv", b"")}])
def test_a_form_without_a_file_is_asked_for_one(importer: Client, fields: dict[str, Any]) -> None:
    response = importer.post(PAGE, fields, headers=BROWSER)
    assert response.status_code == 422
    assert "errorlist" in response.content.decode()


def test_no_other_action_is_taken(importer: Client) -> None:
    address = upload(importer)
    for action in ("", "delete", "Import"):
        assert importer.post(address, {"action": action}, headers=BROWSER).status_code == 400


def test_names_and_cells_are_text_whatever_they_hold(importer: Client) -> None:
    evil = "<script>alert(1)</script>"
    content = io.StringIO()
    csv.writer(content).writerows([["name", evil, "ip_address"], [evil, f"\x1b{evil}", evil]])
    address = upload(importer, content.getvalue(), name=f"..\\..\\{evil}.csv", source=evil)
    for page in (read(importer, address), act(importer, address, "import"), read(importer, PAGE)):
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)" in page
    assert "\x1b" not in read(importer, address)


def test_a_name_is_no_path(importer: Client, folder: Path) -> None:
    address = upload(importer, name="../../../etc/assets.csv")
    stored = AssetUpload.objects.get()
    assert (stored.name, stored.source) == ("assets.csv", "assets")
    assert [path.name for path in folder.iterdir()] == [f"{stored.pk}.upload"]
    assert str(stored.pk) in address


# -- Sizes -----------------------------------------------------------------------------------------------------------


def test_a_file_may_be_longer_than_any_form(importer: Client) -> None:
    row = f"h,{'x' * 1000}\n"
    page = act(importer, upload(importer, "name,notes\n" + row * 3000), "dry run")
    assert "Created</th><td>3,000" in page


def test_a_file_over_the_limit_is_refused_before_it_is_read(importer: Client, settings: Settings) -> None:
    settings.OPSCHAT_MAX_UPLOAD = 1024 * 1024
    for n_bytes, said in ((1_100_000, "errorlist"), (2_000_000, "The file has more than 1 MB.")):
        file = SimpleUploadedFile("x.csv", b"x" * n_bytes)
        response = importer.post(PAGE, {"file": file}, headers=BROWSER)
        assert response.status_code == (422 if said == "errorlist" else 413)
        assert said in response.content.decode()
    assert not AssetUpload.objects.exists()


def test_no_other_address_takes_a_long_body(importer: Client) -> None:
    for address in (upload(importer), "/admin/inventory/asset/", "/theme/", "/nowhere/"):
        file = SimpleUploadedFile("x.csv", b"x" * 300_000)
        response = importer.post(address, {"file": file}, headers=BROWSER)
        assert response.status_code == 413, address


# -- What goes on, and what was interrupted --------------------------------------------------------------------------


def working(importer: Client, **changes: Any) -> tuple[str, AssetUpload]:
    """An upload that another process imports."""
    address = upload(importer)
    changes = {"working_until": timezone.now() + timedelta(minutes=1)} | changes
    AssetUpload.objects.update(work="import", status="working", work_id=uuid.uuid4(), n_done=500, n_all=2000, **changes)
    return address, AssetUpload.objects.get()


def test_a_page_of_work_that_goes_on_looks_again_with_and_without_scripts(importer: Client) -> None:
    address, _ = working(importer)
    page = read(importer, address)
    assert '<noscript><meta http-equiv="refresh" content="2"></noscript>' in page
    assert f'hx-get="{address}" hx-trigger="every 1s"' in page
    assert '<progress max="2000" value="500"' in page


def test_what_is_being_worked_on_is_not_begun_again_nor_removed(importer: Client) -> None:
    address, row = working(importer)
    act(importer, address, "import")
    act_discard = importer.post(address, {"action": "discard"}, headers=BROWSER)
    assert act_discard.status_code == 302
    upload(importer)
    assert AssetUpload.objects.get(pk=row.pk).work_id == row.work_id
    assert not Asset.objects.exists()


def test_an_import_whose_server_is_gone_is_called_interrupted_and_can_be_run_again(importer: Client) -> None:
    address, _ = working(importer, working_until=timezone.now() - timedelta(seconds=1))
    assert "The import was interrupted" in read(importer, address)
    assert "Imported" in act(importer, address, "import")
    assert Asset.objects.count() == 2


def test_a_stopping_server_ends_its_imports_which_can_be_run_again(importer: Client, folder: Path) -> None:
    address = upload(importer, "name\n" + "".join(f"h{n}\n" for n in range(20_000)))
    assert importer.post(address, {"action": "import"}, headers=BROWSER).status_code == 302
    upload_work.stop()
    n_written = Asset.objects.count()
    assert 0 < n_written < 20_000
    assert "The import was interrupted" in read(importer, address)
    assert json.loads(LogEntry.objects.latest("pk").change_message)["failed"] == "interrupted"
    stored = AssetUpload.objects.get()
    uploads.path_of(stored).write_text("name\n" + "".join(f"h{n}\n" for n in range(n_written + 10)))
    page = act(importer, address, "import")
    assert "Created</th><td>10" in page
    assert f"Unchanged</th><td>{n_written:,}" in page


def test_a_second_import_at_once_is_refused(importer: Client) -> None:
    address = upload(importer)
    with import_lock():
        page = act(importer, address, "import")
    assert "Another import is running. Start this one again when it has ended." in page
    assert not Asset.objects.exists()
    assert "Imported" in act(importer, address, "import")


def test_a_file_that_has_gone_is_asked_for_again(importer: Client) -> None:
    address = upload(importer)
    storages["uploads"].delete(AssetUpload.objects.get().path)
    assert "The uploaded file has gone. Upload it again." in act(importer, address, "import")


# -- How long files are kept -----------------------------------------------------------------------------------------


def test_the_next_file_takes_the_place_of_the_one_before(importer: Client, folder: Path) -> None:
    first = upload(importer)
    act(importer, first, "dry run")
    upload(importer)
    assert importer.get(first, headers=BROWSER).status_code == 404
    assert [path.name for path in folder.iterdir()] == [f"{AssetUpload.objects.get().pk}.upload"]


def test_a_file_is_removed_after_a_day_whoever_comes(importer: Client, admin: User, folder: Path) -> None:
    upload(importer)
    AssetUpload.objects.update(created_at=timezone.now() - uploads.KEPT)
    other = Client()
    other.force_login(admin)
    read(other, PAGE)
    assert (list(AssetUpload.objects.all()), list(folder.iterdir())) == ([], [])


def test_a_file_that_no_row_names_is_removed_after_a_day(importer: Client, folder: Path) -> None:
    upload(importer)
    kept = {path.name for path in folder.iterdir()}
    for name, age in (("old.upload", uploads.KEPT), ("new.upload", timedelta(hours=1))):
        storages["uploads"].save(name, ContentFile(b"x"))
        at = (timezone.now() - age).timestamp()
        os.utime(folder / name, (at, at))
    read(importer, PAGE)
    assert {path.name for path in folder.iterdir()} == kept | {"new.upload"}


def test_a_file_can_be_discarded(importer: Client, folder: Path) -> None:
    response = importer.post(upload(importer), {"action": "discard"}, headers=BROWSER)
    assert (response.status_code, response["Location"], list(folder.iterdir())) == (302, PAGE, [])


def test_the_files_are_nobody_elses_to_read(importer: Client, folder: Path) -> None:
    upload(importer)
    (path,) = folder.iterdir()
    assert (folder.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
