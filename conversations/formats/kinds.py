"""The formats of an export, in the order of the page's menu."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from conversations.formats import text
from conversations.formats.table import Table

#: Excel's own limits.
_EXCEL_ROWS = 1_048_576 - 1
_EXCEL_COLUMNS = 16_384


@dataclass(frozen=True, kw_only=True)
class Format:
    #: As in `?format=`; also the name of the stored file's row.
    key: str
    extension: str
    mime: str
    #: In the page's menu.
    label: str
    #: Its bytes, for formats that are written from front to back …
    parts: Callable[[Table], Iterator[bytes]] | None = None
    #: … else a function that writes it to a path.
    write: Callable[[Table, Path], None] | None = None


def _xlsx(table: Table, path: Path) -> None:
    from conversations.formats import xlsx  # noqa: PLC0415  its library is loaded when it is needed

    xlsx.write(table, path)


def _parquet(table: Table, path: Path) -> None:
    from conversations.formats import parquet  # noqa: PLC0415  its library is loaded when it is needed

    parquet.write(table, path)


#: The one that is always stored.
CSV = Format(key="csv", extension="csv", mime="text/csv; charset=utf-8", label="CSV")
CSV_FOR_EXCEL = Format(
    key="csv-bom", extension="csv", mime="text/csv; charset=utf-8", label="CSV for Excel, with BOM",
    parts=text.csv_for_excel,
)  # fmt: skip
XLSX = Format(
    key="xlsx", extension="xlsx", mime="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    label="Excel workbook (XLSX)", write=_xlsx,
)  # fmt: skip

ALL = (
    CSV,
    CSV_FOR_EXCEL,
    Format(
        key="tsv",
        extension="tsv",
        mime="text/tab-separated-values; charset=utf-8",
        label="TSV",
        parts=text.tsv,
    ),
    XLSX,
    Format(key="json", extension="json", mime="application/json", label="JSON", parts=text.json_array),
    Format(
        key="ndjson",
        extension="ndjson",
        mime="application/x-ndjson",
        label="NDJSON, one row a line",
        parts=text.ndjson,
    ),
    Format(key="xml", extension="xml", mime="application/xml", label="XML", parts=text.xml),
    Format(
        key="parquet",
        extension="parquet",
        mime="application/vnd.apache.parquet",
        label="Parquet, typed columns",
        write=_parquet,
    ),
)
BY_KEY = {each.key: each for each in ALL}
#: What `?format=` takes: the byte order mark is a choice within CSV (`?bom=1`).
KEYS = tuple(each.key for each in ALL if each is not CSV_FOR_EXCEL)


def find(key: str, *, bom: bool = False) -> Format | None:
    """The format asked for. With `bom`, which CSV alone has, the CSV for Excel."""
    if bom:
        return CSV_FOR_EXCEL if key == CSV.key else None
    return BY_KEY[key] if key in KEYS else None


def cannot_hold(key: str, *, n_rows: int, n_columns: int) -> str:
    """Why a table of this size can't be had in the format, as far as its size tells; else empty."""
    if key != XLSX.key:
        return ""
    if n_rows > _EXCEL_ROWS:
        return f"An Excel sheet has {_EXCEL_ROWS:,} rows at most; this table has {n_rows:,}. Choose CSV or Parquet."
    if n_columns > _EXCEL_COLUMNS:
        return (
            f"An Excel sheet has {_EXCEL_COLUMNS:,} columns at most; this table has {n_columns:,}. Choose CSV or JSON."
        )
    return ""
