"""A person imports a file in the browser: chooses it, looks, tries it, imports it, takes the errors away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PageOf
from tests.browser.examination import check_accessible
from tests.server import Server

#: The page; that databases hold what it writes is shown by tests/inventory.
pytestmark = pytest.mark.one_database

SOURCE = "browser-import"
#: Their import takes a few seconds, so that there is something to watch.
MANY = 8_000


@pytest.fixture
def inventory(server: Server) -> Iterator[Server]:
    """The other tests' sample is left as it was."""
    yield server
    code = f"from inventory.models import Asset; Asset.objects.filter(source='{SOURCE}').delete()"
    server.manage("shell", "-v0", "-c", code)


def choose(page: Page, path: Path) -> None:
    page.goto("/admin/inventory/asset/")
    page.get_by_role("link", name="Import…").click()
    page.get_by_label("File").set_input_files(path)
    page.get_by_label("Source").fill(SOURCE)
    page.get_by_role("button", name="Upload and look at it").click()


def test_a_file_is_imported_step_by_step(page_of: PageOf, inventory: Server, tmp_path: Path) -> None:
    path = tmp_path / "hosts <b>.csv"
    path.write_text("Hostname,IP Address,<i>Colour</i>\n" + "".join(f"host-{n},x{n},red\n" for n in range(MANY)))
    page = page_of("admin")
    choose(page, path)
    expect(page.get_by_text(f"CSV, {MANY:,} rows, as source")).to_be_visible()
    expect(page.get_by_role("rowheader", name="<i>Colour</i>")).to_be_visible()
    expect(page.get_by_role("cell", name="ip_address")).to_be_visible()
    check_accessible(page)
    page.get_by_role("button", name="Dry run").click()
    expect(page.get_by_role("heading", name="Dry run: nothing was written")).to_be_visible(timeout=20_000)
    page.get_by_role("button", name="Import", exact=True).click()
    # It goes on, and the page follows without being loaded again.
    expect(page.get_by_role("status")).to_contain_text("Importing")
    check_accessible(page)
    page.evaluate("window.isSame = true")
    expect(page.get_by_role("heading", name="Imported")).to_be_visible(timeout=30_000)
    assert page.evaluate("window.isSame")
    expect(page.get_by_role("row", name="Created")).to_contain_text(f"{MANY:,}")
    check_accessible(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download errors as CSV").click()
    errors = download.value.path().read_text(encoding="utf-8").splitlines()
    assert (len(errors), errors[1].split(",")[:3]) == (MANY + 1, ["2", "IP Address", "x0"])
    page.get_by_role("button", name="Import another file").click()
    expect(page.get_by_role("table")).to_contain_text(f"{MANY:,} created, 0 updated")
    check_accessible(page)


@pytest.mark.whole
def test_an_import_needs_no_scripts(page_of: PageOf, inventory: Server, tmp_path: Path) -> None:
    signed_in = page_of("admin")
    browser = signed_in.context.browser
    assert browser is not None
    context = browser.new_context(
        java_script_enabled=False, base_url=inventory.url, storage_state=signed_in.context.storage_state()
    )
    page = context.new_page()
    path = tmp_path / "hosts.tsv"
    path.write_text("name\tsite\n" + "".join(f"bare-{n}\tAMS1\n" for n in range(MANY)))
    choose(page, path)
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("Importing")
    expect(page.get_by_role("heading", name="Imported")).to_be_visible(timeout=30_000)
    context.close()
