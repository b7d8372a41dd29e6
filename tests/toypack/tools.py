"""Maintenance windows as a table, and a tool of their own: who works on an asset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any

from django.db.models import Count, Q, QuerySet
from django.utils.dateparse import parse_datetime

from conversations.pipeline.tools import (
    Cell,
    Column,
    CountResult,
    FieldSpec,
    Filter,
    Match,
    Query,
    Refusal,
    Sort,
    TableResult,
    TableSpec,
    ToolContext,
    ToolError,
    ToolResult,
    registry,
)
from tests.toypack.models import Window

WINDOWS = TableSpec(
    name="windows",
    noun=("maintenance window", "maintenance windows"),
    noun_aliases=("window", "windows", "outage", "outages"),
    fields=(
        FieldSpec(name="title", type="text", aliases=("titles",), is_identifier=True),
        FieldSpec(name="asset", type="text", is_category=True),
        FieldSpec(name="team", type="text", aliases=("teams", "who"), is_category=True),
        FieldSpec(name="starts_at", type="datetime", label="start", aliases=("starts", "starting", "begins")),
        FieldSpec(name="minutes", type="number", aliases=("duration", "length"), unit="minutes"),
    ),
    preview_fields=("title", "asset", "team", "starts_at"),
    default_sort=(Sort(field="starts_at"),),
    query_tool="windows.query",
    examples=("maintenance windows per team", "how many maintenance windows?"),
)

_LOOKUPS = {
    "eq": "iexact", "ne": "iexact", "contains": "icontains", "not_contains": "icontains", "starts_with": "istartswith",
    "lt": "lt", "lte": "lte", "gt": "gt", "gte": "gte",
}  # fmt: skip


class WindowTable:
    spec = WINDOWS

    def vocabulary(self) -> Mapping[str, Sequence[str]]:
        return {
            field.name: list(Window.objects.order_by(field.name).values_list(field.name, flat=True).distinct())
            for field in WINDOWS.fields
            if field.is_category
        }

    def find(self, terms: Iterable[str]) -> Sequence[Match]:
        titles = {title.lower(): title for title in Window.objects.values_list("title", flat=True)}
        return [Match(term=t, field="title", value=titles[t.lower()]) for t in terms if t.lower() in titles]

    def query(self, query: Query) -> TableResult | CountResult:
        windows = Window.objects.all()
        for condition in query.filters:
            windows = windows.filter(_condition(condition))
        if query.group_by:
            return _groups(windows, query)
        if query.count_only:
            return CountResult(total=windows.count())
        fields = [_field(name) for name in query.columns] or list(WINDOWS.fields)
        order = [f"{'-' if s.descending else ''}{_field(s.field).name}" for s in query.sort or WINDOWS.default_sort]
        rows = windows.order_by(*order, "pk")[: query.limit]
        return TableResult(
            kind="rows",
            columns=tuple(Column(name=field.name, type=field.type) for field in fields),
            open_rows=lambda: _cells(rows.values_list(*(field.name for field in fields))),
            matched=windows.count(),
        )


def _field(name: str) -> FieldSpec:
    field = WINDOWS.field(name)
    if field is None:
        raise ToolError(f"Maintenance windows have no field “{name}”.", code="bad_query")
    return field


def _condition(condition: Filter) -> Q:
    name = _field(condition.field).name
    values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
    lookup = _LOOKUPS.get(condition.op.removeprefix("not_") if condition.op.endswith("in") else condition.op, "iexact")
    wanted = Q()
    for value in values:
        wanted |= Q(**{f"{name}__{lookup}": _stored(name, value)})
    return ~wanted if condition.op in ("ne", "not_in", "not_contains") else wanted


def _stored(name: str, value: Cell) -> Any:
    moment = parse_datetime(str(value)) if _field(name).type == "datetime" else None
    return moment or value


def _groups(windows: QuerySet[Window], query: Query) -> TableResult:
    names = [_field(name).name for name in query.group_by]
    groups = windows.order_by().values_list(*names).annotate(count=Count("pk")).order_by("-count", *names)
    columns = (*(Column(name=n, type=_field(n).type) for n in names), Column(name="count", type="number"))
    return TableResult(
        kind="groups", columns=columns, open_rows=lambda: _cells(groups[: query.limit]), matched=groups.count()
    )


def _cells(rows: Iterable[tuple[Any, ...]]) -> Iterator[Sequence[Cell]]:
    for row in rows:
        yield [f"{c.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if hasattr(c, "astimezone") else c for c in row]


class WhoWorksOn:
    """A tool of the pack's own, with an argument."""

    name = "windows.who"
    description = "Says who works on an asset and when."
    read_only = True
    idempotent = True

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        return await context.in_thread(_planned, str(arguments["asset"]))


def _planned(asset: str) -> ToolResult:
    windows = Window.objects.filter(asset__iexact=asset).order_by("starts_at")
    if not windows.exists():
        return Refusal(message=f"Nothing is planned for {asset}.")
    columns = (Column(name="team", type="text"), Column(name="starts_at", type="datetime"))
    rows = windows.values_list("team", "starts_at")
    return TableResult(kind="rows", columns=columns, open_rows=lambda: _cells(rows), matched=windows.count())


registry.add_table(WindowTable(), description="Lists, counts and groups the planned maintenance windows.")
registry.add_tool(WhoWorksOn(), phrasings=("who works on {asset}", "when is maintenance of {asset}"))
