"""What the pipeline can call and what comes back: tables, queries, tools, results, and their registry.

A *table* is something that can be asked (the asset inventory is one). Its `TableSpec` is all the engines know of it:
field names, types, words people use. A *query* is the one structured form of a question to a table. A *tool* does one
thing for a run and returns a typed result; rows always come from tools, never from text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")

FieldType = Literal["id", "text", "address", "number", "date", "datetime", "list"]

#: The operators of a filter, as in the HTTP contract.
Op = Literal[
    "eq", "ne", "in", "not_in", "contains", "not_contains", "starts_with", "lt", "lte", "gt", "gte",
    "is_null", "not_null", "within",
]  # fmt: skip

#: A cell as tools give it and exports write it: null, text, number, or ISO 8601 text of a date or an instant.
Cell = str | int | float | None

#: What a text begins with that an export may have to guard, because a spreadsheet would run it as a formula; and the
#: guard itself, which is doubled.
FORMULA_STARTS = frozenset("=+-@\t\r'")


class ToolError(Exception):
    """The tool could not do its work."""

    def __init__(self, message: str | None = None, *, code: str = "tool_failed") -> None:
        """`message` is shown to the user: no paths, no secrets."""
        super().__init__(message or self.__doc__)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class FieldSpec:
    """One field of a table, and the words people use for it."""

    name: str
    type: FieldType
    #: How the field is called in a sentence; default: the name with spaces.
    label: str = ""
    #: Other words for the field ("ip", "address"), lower case.
    aliases: tuple[str, ...] = ()
    #: Other words for a value: lower-case word or phrase -> the value as stored ("prod" -> "production").
    value_aliases: Mapping[str, str] = field(default_factory=dict)
    #: The distinct values are few and may be learnt: "in Akron", "cisco devices".
    is_category: bool = False
    #: Finds one row: names, serial numbers, addresses.
    is_identifier: bool = False
    #: A word matches the value when it is part of it ("linux" -> "Ubuntu Linux 20.04"); the filter is then `contains`.
    matches_part: bool = False
    #: Of a field that matches by part: a family that values belong to -> the parts that mark its members. So "contains
    #: Linux" is also true of "Ubuntu".
    families: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Found in the data, not declared by the table: its values give way to what the declared fields make of the words.
    is_found: bool = False
    #: What "biggest", "most", "oldest" without a field may sort by; no meaning otherwise.
    unit: str = ""

    @property
    def title(self) -> str:
        return self.label or self.name.replace("_", " ")

    def family(self, word: str) -> tuple[str, ...]:
        """The parts one of which a value contains that contains the word: the family's marks, else the word."""
        return self.families.get(word.casefold(), (word,))


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """All an engine knows of a table. Nothing here or in an engine names a particular table."""

    name: str
    #: What one row is, in the singular and plural: ("asset", "assets").
    noun: tuple[str, str]
    #: Other nouns that mean all rows ("hosts", "machines", "boxes"), lower case, singular and plural.
    noun_aliases: tuple[str, ...]
    fields: tuple[FieldSpec, ...]
    #: Fields an answer's table shows when none were asked for, most telling first.
    preview_fields: tuple[str, ...]
    #: Order of rows when none was asked for.
    default_sort: tuple[Sort, ...] = ()
    #: The tool that answers a `Query` on this table.
    query_tool: str = ""
    #: Phrasings that work on this table, for help and for declining: "how many routers?".
    examples: tuple[str, ...] = ()
    #: One sentence that people must see beside the data: "This is sample data."
    notice: str = ""
    #: The same in two or three words, beside every conversation: "Sample data".
    label: str = ""

    def field(self, name: str) -> FieldSpec | None:
        return next((f for f in self.fields if f.name == name), None)


@dataclass(frozen=True, kw_only=True)
class Filter:
    """One condition. `value` is null for is_null / not_null, a list for in / not_in, else a scalar."""

    field: str
    op: Op
    value: Cell | tuple[Cell, ...] = None

    def to_dict(self) -> dict[str, Any]:
        value = list(self.value) if isinstance(self.value, tuple) else self.value
        return {"field": self.field, "op": self.op, "value": value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Filter:
        value = tuple(data["value"]) if isinstance(data["value"], list) else data["value"]
        return cls(field=data["field"], op=data["op"], value=value)


@dataclass(frozen=True, kw_only=True)
class Sort:
    field: str
    descending: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {"field": self.field, "direction": "desc" if self.descending else "asc"}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Sort:
        return cls(field=data["field"], descending=data["direction"] == "desc")


@dataclass(frozen=True, kw_only=True)
class Query:
    """One question to one table; filters are joined by AND.

    With `group_by` the answer is one row a group: its values, then `count`; `sort` may then name `count`. With
    `count_only` (and no `group_by`) it is one number. Otherwise rows: `columns` exactly as given, or, when empty, every
    field of the table and then all attributes.
    """

    table: str
    filters: tuple[Filter, ...] = ()
    columns: tuple[str, ...] = ()
    sort: tuple[Sort, ...] = ()
    limit: int | None = None
    group_by: tuple[str, ...] = ()
    count_only: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {
            "table": self.table,
            "filters": [f.to_dict() for f in self.filters],
            "columns": list(self.columns),
            "sort": [s.to_dict() for s in self.sort],
            "limit": self.limit,
            "group_by": list(self.group_by),
            "count_only": self.count_only,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Query:
        return cls(
            table=data["table"],
            filters=tuple(Filter.from_dict(f) for f in data["filters"]),
            columns=tuple(data["columns"]),
            sort=tuple(Sort.from_dict(s) for s in data["sort"]),
            limit=data["limit"],
            group_by=tuple(data["group_by"]),
            count_only=data["count_only"],
        )


@dataclass(frozen=True, kw_only=True)
class Column:
    name: str
    type: FieldType


@dataclass(frozen=True, kw_only=True)
class TableResult:
    """Rows or groups, not yet read. Either `open_rows` or `open_lines` is called, once, in a worker thread, and may
    touch a database."""

    kind: Literal["rows", "groups"]
    columns: tuple[Column, ...]
    open_rows: Callable[[], Iterator[Sequence[Cell]]]
    #: Rows that meet the filters, before any limit; groups before the limit.
    matched: int
    #: Rows that are expected: `matched` or the limit. For progress only.
    expected: int | None = None
    #: The columns an answer shows; empty: the first eight.
    preview_columns: tuple[str, ...] = ()
    #: The same rows, for exports, where they can be had faster than cell by cell. A text is the row's line of the CSV
    #: (RFC 4180, CRLF, null is empty); a row with a text that begins with one of FORMULA_STARTS is given as its cells,
    #: and so are the first rows, as many as it is called with. Called instead of `open_rows`; closed when it isn't read
    #: to its end.
    open_lines: Callable[[int], Iterator[str | Sequence[Cell]]] | None = None


@dataclass(frozen=True, kw_only=True)
class CountResult:
    total: int


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """The tool worked, and the answer is no: an unknown host, no route. A result, not a failure."""

    message: str


ToolResult = TableResult | CountResult | Refusal


@dataclass(frozen=True, kw_only=True)
class Match:
    """A term that is the exact value (case-blind) of an identifier field."""

    term: str
    field: str
    value: str


class Table(Protocol):
    """A queryable table. Every method is synchronous, may touch a database, and is called in a worker thread."""

    @property
    def spec(self) -> TableSpec:
        """May change when data change: attributes (columns beyond the declared fields) are appended as fields."""
        ...

    def vocabulary(self) -> Mapping[str, Sequence[str]]:
        """Field name -> its distinct values as stored, for `is_category` fields; as of the last committed change."""
        ...

    def find(self, terms: Iterable[str]) -> Sequence[Match]:
        """The terms that are, case-blind and whole, the value of an identifier field."""
        ...

    def query(self, query: Query) -> TableResult | CountResult:
        """Raises ToolError (code `bad_query`) for an unknown field or an operator that its type has not."""
        ...


#: Tells how far a tool is: percent 0-100 and a short sentence.
Progress = Callable[[float, str], None]


@dataclass(frozen=True, kw_only=True)
class ToolContext:
    """What a tool is given beside its arguments."""

    user_id: int
    now: datetime
    progress: Progress
    in_thread: InThread


class InThread(Protocol):
    """Runs a synchronous function in a worker thread with a clean database connection."""

    def __call__(self, function: Callable[..., T], /, *args: Any) -> Awaitable[T]: ...


@runtime_checkable
class Tool(Protocol):
    """One thing that can be done. `run` raises ToolError when it can't; cancelling its task stops it."""

    #: `pack.verb`, shown on the page: "from assets.query at 12:04".
    name: str
    #: One sentence, for people and for models.
    description: str
    read_only: bool
    #: May be repeated after a crash without doing harm.
    idempotent: bool

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult: ...


@dataclass(frozen=True, kw_only=True)
class SpokenTool:
    """A tool that can be asked for in words of its own."""

    name: str
    #: Whole requests: "who works on {asset}" calls the tool with the argument `asset`, one word or several in quotes.
    phrasings: tuple[str, ...]


class QueryTool:
    """The tool that every table has: arguments are `Query.to_dict()`."""

    read_only = True
    idempotent = True

    def __init__(self, table: Table, *, name: str, description: str) -> None:
        self.table = table
        self.name = name
        self.description = description

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        return await context.in_thread(self._query, Query.from_dict(arguments))

    def _query(self, query: Query) -> ToolResult:
        result = self.table.query(query)
        if not isinstance(result, TableResult) or result.kind == "groups" or query.columns:
            return result
        return replace(result, preview_columns=self.table.spec.preview_fields)


class Registry:
    """The tools and tables of this process. Tool packs add theirs when their `tools` module is imported."""

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {}
        self._tables: list[Table] = []
        self._spoken: list[SpokenTool] = []

    def add_tool(self, tool: Tool, *, phrasings: Sequence[str] = ()) -> None:
        """With `phrasings` (see SpokenTool) people can ask for the tool itself.

        Raises ValueError for a name that is taken, and for phrasings of a tool that changes something: nobody would be
        asked before.
        """
        if tool.name in self._tools:
            raise ValueError(f"A tool named {tool.name} is registered already.")
        if phrasings and not tool.read_only:
            raise ValueError(f"{tool.name} changes something: it can't be called by words alone.")
        self._tools[tool.name] = tool
        if phrasings:
            self._spoken.append(SpokenTool(name=tool.name, phrasings=tuple(phrasings)))

    def add_table(self, table: Table, *, description: str) -> None:
        """Adds the table and its query tool, named by the spec's `query_tool`."""
        self.add_tool(QueryTool(table, name=table.spec.query_tool, description=description))
        self._tables.append(table)

    def tool(self, name: str) -> Tool:
        """Raises ToolError (code `unknown_tool`)."""
        try:
            return self._tools[name]
        except KeyError:
            raise ToolError(f"There is no tool named {name}.", code="unknown_tool") from None

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(self._tools.values())

    @property
    def tables(self) -> tuple[Table, ...]:
        return tuple(self._tables)

    @property
    def spoken(self) -> tuple[SpokenTool, ...]:
        return tuple(self._spoken)


#: The registry that tool packs add to.
registry = Registry()
