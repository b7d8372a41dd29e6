"""One measured piece of work in a fresh process: `python -m bench.exports.cases NAME FOLDER` prints JSON.

In the product's environment, whose database holds the assets. Seconds are of the work alone; `extra_mib` is how much
the process grew at its largest over what it was with Django set up and its database opened.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections.abc import Callable
from io import BufferedReader
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import django

django.setup()

import xlsxwriter  # noqa: E402
from django.db import connection, transaction  # noqa: E402

from bench import procstat  # noqa: E402
from bench.exports.assets import COLUMNS  # noqa: E402
from conversations import files  # noqa: E402
from conversations.formats import csv_file, xlsx  # noqa: E402
from conversations.formats.table import Table  # noqa: E402
from conversations.pipeline.tools import Column, Query, TableResult  # noqa: E402
from inventory import query as asset_query  # noqa: E402
from inventory.cells import column_of  # noqa: E402
from inventory.fields import ASSETS, BY_NAME  # noqa: E402
from inventory.grouping import CHUNK_ROWS  # noqa: E402
from inventory.models import Asset  # noqa: E402

_MIB = 1024 * 1024
#: Rows for a library that would take minutes for all; speeds are compared.
SLOW_ROWS = 100_000
_STORED = "stored.json"


def asked() -> TableResult:
    """The assets as a request for these columns gives them."""
    result = asset_query.run(Query(table=ASSETS.name, columns=COLUMNS), ASSETS)
    assert isinstance(result, TableResult)  # noqa: S101  neither grouped nor counted
    return result


def _rows() -> Any:
    """The same rows in the same order, as Django gives them."""
    ordered = asset_query.ordered(Query(table=ASSETS.name), ASSETS)
    return ordered.values_list(*(column_of(BY_NAME[name]) for name in COLUMNS))


# -- CSV -------------------------------------------------------------------------------------------------------------


def bare_loop(folder: Path) -> int:
    """What everybody writes: no guard, no count, no hash."""
    with (folder / "bare.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(_rows().iterator(chunk_size=CHUNK_ROWS))
    return Asset.objects.count()


def guarded_csv(folder: Path) -> int:
    """The product's writer on the very rows of the bare loop: guard, count, preview, hash of all and of each chunk."""
    file = csv_file.CsvFile(COLUMNS, _rows().iterator(chunk_size=CHUNK_ROWS), lambda _: None)
    with files.Scratch() as scratch:
        scratch.write(file.chunks())
    return file.n_rows


def export(folder: Path) -> int:
    """All that an export does until its file is stored: the tool's query, its cells, the file."""
    file = csv_file.of(asked(), lambda _: None)
    with files.Scratch() as scratch:
        content = scratch.write(file.chunks())
        with transaction.atomic():
            files.keep(content)
    known = {"path": content.path, "sha256": content.sha256, "n_bytes": content.n_bytes, "n_rows": file.n_rows}
    (folder / _STORED).write_text(json.dumps({**known, "digests": content.digests.hex()}), encoding="ascii")
    return file.n_rows


def bare_copy(folder: Path) -> int:
    """The same query by PostgreSQL alone, values as it writes them."""
    sql, params = _rows().query.sql_with_params()
    with connection.cursor() as cursor, (folder / "bare.csv").open("wb") as file:
        with cursor.cursor.copy(f"COPY ({sql}) TO STDOUT (FORMAT csv, HEADER true)", params) as copy:
            for part in copy:
                file.write(part)
        return int(cursor.rowcount)


# -- Workbooks -------------------------------------------------------------------------------------------------------


def _stored(folder: Path) -> Table:
    """What `export` has stored, as other formats read it: each chunk verified."""
    known = json.loads((folder / _STORED).read_text(encoding="ascii"))
    file: Any = SimpleNamespace(**{**known, "digests": bytes.fromhex(known["digests"])})
    columns = [Column(name=name, type=BY_NAME[name].type) for name in COLUMNS]
    return Table(columns=columns, open_csv=lambda: BufferedReader(files.Verified(file), files.CHUNK))


def workbook(folder: Path) -> int:
    xlsx.write(_stored(folder), folder / "ours.xlsx")
    return int(json.loads((folder / _STORED).read_text(encoding="ascii"))["n_rows"])


def xlsxwriter_workbook(folder: Path) -> int:
    """Of the first rows. They are read from the CSV by us, a small part of its time."""
    table = _stored(folder)
    # As ours: text is text, instants without their zone.
    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "remove_timezone": True}
    book = xlsxwriter.Workbook(folder / "theirs.xlsx", options)
    sheet = book.add_worksheet()
    sheet.write_row(0, 0, table.keys)
    n_rows = 0
    for n_rows, row in enumerate(islice(table.rows(), SLOW_ROWS), 1):
        sheet.write_row(n_rows, 0, row)
    book.close()
    return n_rows


# -- The process -----------------------------------------------------------------------------------------------------

CASES: dict[str, Callable[[Path], int]] = {
    case.__name__: case for case in (bare_loop, guarded_csv, export, bare_copy, workbook, xlsxwriter_workbook)
}


def main(name: str, folder: Path) -> dict[str, float]:
    Asset.objects.first()
    before = procstat.rss([os.getpid()])
    began = time.perf_counter()
    n_rows = CASES[name](folder)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "rows": n_rows, "extra_mib": (procstat.peak(os.getpid()) - before) / _MIB}


if __name__ == "__main__":
    json.dump(main(sys.argv[1], Path(sys.argv[2])), sys.stdout)
