"""The rows that PostgreSQL draws: the same file, byte by byte, as of the values. On SQLite both are of the values."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conversations.formats import csv_file
from conversations.formats.csv_file import CsvFile
from conversations.pipeline.tools import FORMULA_STARTS, Filter, Query, Sort, TableResult
from inventory.lines import MAX_COLUMNS
from inventory.models import Asset
from inventory.tools import AssetTable
from tests.environment import is_postgres

ALL = Query(table="assets")

#: What a column of text may hold, on PostgreSQL.
letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts = st.one_of(
    st.text(letters, max_size=20),
    st.builds(str.__add__, st.sampled_from(sorted(FORMULA_STARTS)), st.text(letters, max_size=9)),
    st.sampled_from(["", '"', ",", "\n", "\r\n", "\\.", "\\N", "NULL", "-1", "-1.5", "-٣", "'", "''=", "0042", " x "]),
)
words = st.text(letters, min_size=1, max_size=9).filter(lambda text: not set(text) & set("\n\r"))
numbers = st.one_of(
    st.none(), st.floats(), st.integers(-(2**53), 2**53).map(float),
    st.sampled_from([-0.0, 1e15, 999999999999999.0, 1e16, 1e22, 1e23, 2.5, 1e-5, 5e-324, math.inf, math.nan]),
)  # fmt: skip
instants = st.none() | st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
assets = st.fixed_dictionaries(
    {
        "name": texts, "os": texts, "notes": texts, "tags": st.lists(words, max_size=3, unique=True),
        "cpu_cores": numbers, "disk_gb": numbers, "purchased_on": st.none() | st.dates(), "last_seen_at": instants,
        "attributes": st.dictionaries(st.sampled_from(["Size \"", "100 %", "2024"]), texts.filter(bool)),
    }
)  # fmt: skip


def asked(query: Query = ALL) -> TableResult:
    result = AssetTable().query(query)
    assert isinstance(result, TableResult)
    return result


def read(file: CsvFile) -> tuple[bytes, int, int, list[Any]]:
    content = b"".join(file.chunks())
    return content, file.n_rows, file.n_guarded, [[str(cell) for cell in row] for row in file.first_rows]


def check(result: TableResult) -> bytes:
    """That the file is the one which is made of the values."""
    header = [column.name for column in result.columns]
    made = read(csv_file.of(result, lambda _: None))
    assert made == read(CsvFile(header, result.open_rows(), lambda _: None))
    if result.open_lines is not None:
        # Also when none of the rows is asked for as cells.
        assert made[:3] == read(CsvFile(header, result.open_lines(0), lambda _: None))[:3]
    return made[0]


@pytest.mark.django_db
@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(assets, max_size=14))
@example(
    [
        {"name": text}
        for text in ("a", "=1", "'=1", "+1", "@a", "\ta", "\ra", "-1", "-a", "-٣", "", "\\.", 'x"y', "a\nb")
    ]
)
@example(
    [{"cpu_cores": n} for n in (-0.0, 1e15, -1e15, 1e16, 1e22, 1e23, 2.0**53, 4503599627370497.5, 0.1, 1e-5, math.inf)]
)
@example([{"tags": ["=a", "b"]}, {"tags": ["b;c", "=d"]}, {"attributes": {"2024": "=x"}}])
@example([{"last_seen_at": datetime(999, 1, 2, 3, 4, 5, microsecond, tzinfo=UTC)} for microsecond in (0, 1, 500_000)])
def test_any_assets_are_written_as_their_values_are(rows: list[dict[str, Any]]) -> None:
    if not is_postgres():
        # SQLite stores no NaN.
        rows = [{name: None if str(value) == "nan" else value for name, value in row.items()} for row in rows]
    Asset.objects.all().delete()
    Asset.objects.bulk_create([Asset(**row) for row in rows])
    check(asked())


@pytest.mark.django_db
@pytest.mark.parametrize(
    "query",
    [
        Query(table="assets", columns=("name", "Colour %s", "name")),
        Query(table="assets", columns=("name",)),
        Query(table="assets", columns=("os", "tags")),
        Query(table="assets", filters=(Filter(field="name", op="contains", value="50%"),)),
        Query(table="assets", filters=(Filter(field="Colour %s", op="eq", value="Red"),), columns=("id", "Colour %s")),
        Query(table="assets", filters=(Filter(field="id", op="eq", value="none"),)),
        Query(table="assets", sort=(Sort(field="cpu_cores", descending=True),), limit=12),
        Query(table="assets", limit=0),
    ],
    ids=lambda query: " ".join([*query.columns, *(item.op for item in query.filters), str(query.limit)]),
)
def test_filters_columns_order_and_limit_are_kept(query: Query) -> None:
    colours = ["Red", "=Red", ""]
    Asset.objects.bulk_create(
        Asset(
            name=f"n{n:02d} 50%" if n % 3 else "", cpu_cores=n % 7, tags=["x", "+y"][: n % 3],
            attributes={"Colour %s": colours[n % 3]} if n % 3 != 2 else {},
        )
        for n in range(40)
    )  # fmt: skip
    check(asked(query))


@pytest.mark.django_db
def test_a_wide_table_is_written() -> None:
    names = [f"a{n:04d}" for n in range(MAX_COLUMNS)]
    Asset.objects.bulk_create([Asset(name="wide", attributes={name: f"={name}" for name in names})])
    assert check(asked()).count(b"'=a0") == MAX_COLUMNS


@pytest.mark.django_db
def test_the_database_draws_where_it_can() -> None:
    Asset.objects.bulk_create([Asset(name=f"n{n}", purchased_on=date(2026, 1, 2)) for n in range(3)])
    result = asked()
    assert (result.open_lines is not None) == (connection.vendor == "postgresql") == is_postgres()
    if result.open_lines is not None:
        first, *rest = result.open_lines(1)
        assert not isinstance(first, str)
        assert all(isinstance(row, str) and ",2026-01-02," in row for row in rest)


@pytest.mark.django_db
def test_it_is_written_where_queries_are_logged() -> None:
    Asset.objects.bulk_create([Asset(name=f"n{n}") for n in range(20)])
    # As DEBUG does it.
    with CaptureQueriesContext(connection):
        check(asked())


@pytest.mark.django_db(transaction=True)
def test_who_stops_in_the_middle_leaves_a_connection_that_works() -> None:
    Asset.objects.bulk_create([Asset(name=f"n{n}", notes="x" * 1000) for n in range(3000)])
    chunks = csv_file.of(asked(), lambda _: None).chunks()
    next(chunks)
    chunks.close()
    assert Asset.objects.count() == 3000

    def stop(_: int) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        read(csv_file.of(asked(), stop))
    assert Asset.objects.count() == 3000
