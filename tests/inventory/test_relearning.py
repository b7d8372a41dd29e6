"""A server that runs beside an import: its words are a few seconds old meanwhile, its rows never."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from conversations.pipeline.tools import CountResult, Query
from inventory import tools
from inventory.importing import BATCH_ROWS, Unfinished, import_file
from inventory.models import Asset, InventoryRevision
from inventory.sheets import Problem
from inventory.tools import AssetTable

pytestmark = pytest.mark.django_db


def write(folder: Path) -> Path:
    """Two batches; while the second one is read, the last row is reported."""
    rows = [f"h{n},red,10.0.0.1" for n in range(BATCH_ROWS)]
    path = folder / "assets.csv"
    path.write_text("\n".join(["name,Colour,ip_address", *rows, "last,red,bad"]))
    return path


class Looker:
    """Asks the table at each problem."""

    def __init__(self) -> None:
        self.table = AssetTable()
        self.knows_colour: list[bool] = []
        self.n_assets: list[int] = []
        self.look()

    def look(self) -> None:
        self.knows_colour.append(self.table.spec.field("Colour") is not None)
        found = self.table.query(Query(table="assets", count_only=True))
        assert isinstance(found, CountResult)
        self.n_assets.append(found.total)

    def __call__(self, problem: Problem) -> None:
        self.look()


def test_while_an_import_runs_words_wait_and_rows_do_not_and_after_it_both_are_there(tmp_path: Path) -> None:
    Asset.objects.create(name="a")
    looker = Looker()
    import_file(write(tmp_path), on_problem=looker)
    looker.look()
    assert looker.knows_colour == [False, False, True]
    assert looker.n_assets == [1, BATCH_ROWS + 1, BATCH_ROWS + 2]


def test_words_wait_no_longer_than_they_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "RELEARN_S", 0.0)
    Asset.objects.create(name="a")
    looker = Looker()
    import_file(write(tmp_path), on_problem=looker)
    assert looker.knows_colour == [False, True]


def test_an_import_that_failed_leaves_no_waiting(tmp_path: Path) -> None:
    looker = Looker()

    def fail(problem: Problem) -> None:
        raise OSError("full")

    with pytest.raises(Unfinished):
        import_file(write(tmp_path), on_problem=fail)
    assert InventoryRevision.state() == (InventoryRevision.current(), False)
    looker.look()
    assert looker.knows_colour == [False, True]


def test_an_import_that_was_killed_is_waited_for_no_longer_than_it_pauses() -> None:
    Asset.objects.create(name="a")
    InventoryRevision.renew_for_import()
    assert InventoryRevision.state()[1]
    looker = Looker()
    Asset.objects.create(name="b", attributes={"Colour": "red"})
    looker.look()
    InventoryRevision.objects.update(importing_until=timezone.now() - timedelta(seconds=1))
    looker.look()
    assert looker.knows_colour == [False, False, True]


def test_a_dry_run_does_not_renew_the_revision(tmp_path: Path) -> None:
    Asset.objects.create(name="a")
    before = InventoryRevision.state()
    path = tmp_path / "x.csv"
    path.write_text("name\na\n")
    import_file(path, dry_run=True)
    assert InventoryRevision.state() == before
