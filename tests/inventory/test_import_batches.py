"""An import is many short transactions: what others see meanwhile, and what is left when it ends before its time."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from inventory.import_lock import ImportRunning, import_lock
from inventory.importing import BATCH_ROWS, Summary, Unfinished, import_file
from inventory.models import Asset, AttributeName, InventoryRevision
from inventory.sheets import NotATable, Problem

T = TypeVar("T")


class Killed(Exception):
    """Stands for whatever ends a process."""


def kill(problem: Problem) -> None:
    raise Killed


def elsewhere(ask: Callable[[], T]) -> T:
    """Asks on a connection of its own, as another process would."""

    def work() -> T:
        try:
            return ask()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def write(folder: Path, *rows: str) -> Path:
    path = folder / "assets.csv"
    path.write_text("\n".join([*rows, ""]))
    return path


@pytest.mark.django_db(transaction=True)
def test_others_see_the_first_batch_and_can_write_while_the_next_one_is_read(tmp_path: Path) -> None:
    seen: list[tuple[int, uuid.UUID | None]] = []

    def look(problem: Problem) -> None:
        def ask() -> tuple[int, uuid.UUID | None]:
            AttributeName.objects.create(name=f"written beside row {problem.row}")
            return Asset.objects.count(), InventoryRevision.current()

        seen.append(elsewhere(ask))

    names = [f"host-{n}," for n in range(BATCH_ROWS * 2)]
    path = write(tmp_path, "name,ip_address", "a,bad", *names, "b,bad", *names, "c,bad")
    import_file(path, on_problem=look)
    assert [count for count, _ in seen] == [0, BATCH_ROWS * 2, BATCH_ROWS * 4]
    assert len({revision for _, revision in seen}) == 3
    assert InventoryRevision.current() not in {revision for _, revision in seen}


@pytest.mark.django_db(transaction=True)
def test_an_import_that_died_is_completed_by_the_next_one_without_doubles(tmp_path: Path) -> None:
    names = ["switch,,red"] * (BATCH_ROWS + 200) + [f"host-{n},,red" for n in range(BATCH_ROWS)]
    path = write(tmp_path, "name,ip_address,Colour", *names, "last,bad,red")
    with pytest.raises(Killed):
        import_file(path, on_problem=kill)
    assert Asset.objects.count() == BATCH_ROWS * 2
    known = set(Asset.objects.values_list("pk", flat=True))
    summary = import_file(path)
    assert (summary.n_rows, summary.n_new) == (len(names) + 1, len(names) + 1 - BATCH_ROWS * 2)
    assert Asset.objects.count() == len(names) + 1
    assert known < set(Asset.objects.values_list("pk", flat=True))
    assert import_file(path).n_new == 0


@pytest.mark.django_db(transaction=True)
def test_an_import_that_died_has_deleted_nothing_and_the_next_one_deletes_and_tidies(tmp_path: Path) -> None:
    import_file(write(tmp_path, "name,Colour", *(f"host-{n},red" for n in range(BATCH_ROWS)), "gone,red"))
    rows = ["name,Colour,ip_address", *(f"host-{n},," for n in range(BATCH_ROWS))]
    with pytest.raises(Killed):
        import_file(write(tmp_path, *rows, "last,,bad"), delete_missing=True, on_problem=kill)
    assert Asset.objects.filter(name="gone").exists()
    assert import_file(write(tmp_path, *rows, "last,,"), delete_missing=True).n_deleted == 1
    assert not AttributeName.objects.exists()


@pytest.mark.django_db
def test_more_assets_than_one_batch_holds_are_deleted_as_missing(tmp_path: Path) -> None:
    import_file(write(tmp_path, "name", *(f"host-{n}" for n in range(BATCH_ROWS * 2 + 1))))
    path = write(tmp_path, "name", "host-0")
    assert import_file(path, delete_missing=True, dry_run=True).n_deleted == BATCH_ROWS * 2
    assert import_file(path, delete_missing=True).n_deleted == BATCH_ROWS * 2
    assert Asset.objects.get().name == "host-0"


@pytest.mark.django_db
def test_a_file_that_changes_while_it_is_imported_is_reported_and_nothing_is_deleted(tmp_path: Path) -> None:
    names = [f"host-{n}," for n in range(BATCH_ROWS * 4)]
    import_file(write(tmp_path, "name,ip_address", *names))
    path = write(tmp_path, "name,ip_address", "a,bad", *names)
    with pytest.raises(Unfinished):
        import_file(path, delete_missing=True, on_problem=lambda problem: os.truncate(path, 100))
    assert Asset.objects.count() == len(names) + 1
    path = write(tmp_path, "name,ip_address", "b,bad", *names)
    with pytest.raises(CommandError, match="Import it again") as caught:
        call_command("import_assets", path, stderr=Overwriter(path))
    assert caught.value.returncode == 1


@pytest.mark.django_db
def test_an_import_that_can_not_report_says_what_it_has_written(tmp_path: Path) -> None:
    def full(problem: Problem) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = write(tmp_path, "name,ip_address", *(f"host-{n}," for n in range(BATCH_ROWS)), "a,bad")
    with pytest.raises(Unfinished, match=rf"No space left on device.* after {BATCH_ROWS} rows had been written"):
        import_file(path, on_problem=full)
    assert Asset.objects.count() == BATCH_ROWS


class Overwriter:
    """A stream that replaces the file by no text as soon as something is written to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, text: str) -> None:
        self.path.write_bytes(b"\xff" * self.path.stat().st_size)


@pytest.mark.django_db
def test_a_pipe_is_imported_and_one_that_is_no_text_writes_nothing() -> None:
    assert import_piped(b"name\na\nb\n").n_new == 2
    with pytest.raises(NotATable):
        import_piped(b"name\nc\nZ\xfcrich\n")
    assert Asset.objects.count() == 2


def import_piped(content: bytes) -> Summary:
    reading, writing = os.pipe()
    try:
        os.write(writing, content)
        os.close(writing)
        return import_file(Path(f"/dev/fd/{reading}"))
    finally:
        os.close(reading)


# Two at once


@pytest.mark.django_db
def test_a_second_import_is_refused_with_exit_status_2_and_a_dry_run_is_not(tmp_path: Path) -> None:
    path = write(tmp_path, "name", "a")
    with import_lock():
        with pytest.raises(CommandError, match=r"Another import is running\. .*Nothing was written") as caught:
            call_command("import_assets", path)
        assert import_file(path, dry_run=True).n_new == 1
    assert caught.value.returncode == 2
    assert not Asset.objects.exists()


@pytest.mark.django_db
def test_an_import_that_failed_lets_the_next_one_in(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        import_file(write(tmp_path, "name,ip_address", "a,bad"), on_problem=kill)
    with import_lock(), pytest.raises(ImportRunning):
        import_file(write(tmp_path, "name", "a"))
    assert import_file(write(tmp_path, "name", "a")).n_new == 1


# Recognition from batch to batch, and in a dry run


def _same_names(known: list[Asset]) -> list[str]:
    return ["name,site", *["switch,S"] * (BATCH_ROWS * 2 + 100)]


def _an_id_after_its_name(known: list[Asset]) -> list[str]:
    fillers = [f",host-{n},S" for n in range(BATCH_ROWS)]
    return ["id,name,site", ",switch,S", *fillers, f"{known[0].pk},switch,S"]


def _one_source_id_far_apart(known: list[Asset]) -> list[str]:
    return ["ID,name", "x,a", *(f"{n},b" for n in range(BATCH_ROWS)), "x,c"]


def _one_of_our_ids_far_apart(known: list[Asset]) -> list[str]:
    own = uuid.uuid4()
    return ["id,name", f"{own},a", *(f"{uuid.uuid4()},b" for _ in range(BATCH_ROWS)), f"{own},c"]


def _serial_numbers_and_names(known: list[Asset]) -> list[str]:
    """The first row takes the asset whose name the last one has; case is told apart."""
    return ["name,site,serial_number", "x,S,1", *(f"SWITCH,S,N{n}" for n in range(BATCH_ROWS)), "first,S,", "First,S,"]


def _rows_alone(known: list[Asset]) -> list[str]:
    return ["notes,site", *["n,S"] * (BATCH_ROWS + 1), "m,S"]


_FILES = [
    (_same_names, BATCH_ROWS - 200, BATCH_ROWS * 2 + 100),
    (_an_id_after_its_name, BATCH_ROWS, BATCH_ROWS + 2),
    (_one_source_id_far_apart, BATCH_ROWS + 1, BATCH_ROWS + 1),
    (_one_of_our_ids_far_apart, BATCH_ROWS + 1, BATCH_ROWS + 1),
    (_serial_numbers_and_names, BATCH_ROWS + 2, BATCH_ROWS + 2),
    (_rows_alone, BATCH_ROWS + 2, BATCH_ROWS + 2),
]


@pytest.mark.parametrize(("rows", "n_new", "n_assets"), _FILES)
@pytest.mark.django_db
def test_batches_recognise_as_one_would_and_a_dry_run_foretells_it(
    tmp_path: Path, rows: Callable[[list[Asset]], list[str]], n_new: int, n_assets: int
) -> None:
    known = [Asset(name="switch", site="S", source="assets") for _ in range(BATCH_ROWS + 300)]
    Asset.objects.bulk_create([*known, Asset(name="first", site="S", serial_number="1", source="elsewhere")])
    before = InventoryRevision.current()
    path = write(tmp_path, *rows(known))
    foretold = import_file(path, dry_run=True, delete_missing=True)
    assert (Asset.objects.count(), InventoryRevision.current()) == (len(known) + 1, before)
    done = import_file(path, delete_missing=True)
    assert (foretold.n_rows, foretold.n_new, foretold.n_known, foretold.n_deleted) == (
        done.n_rows,
        done.n_new,
        done.n_known,
        done.n_deleted,
    )
    assert done.n_new == n_new
    assert Asset.objects.filter(source="assets").count() == n_assets
    assert import_file(path, dry_run=True).n_new == import_file(path).n_new == 0
