"""Two tables to understand requests with: a library, and an inventory that has the fields of the real one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from conversations.pipeline.embedded import EmbeddedEngine
from conversations.pipeline.engine import Classification, Ending, Executed, KnownTable, Request, TablePiece, TextPiece
from conversations.pipeline.tools import FieldSpec, Match, Query, TableSpec

T = TypeVar("T")

#: A Wednesday.
NOW = datetime(2025, 11, 19, 12, tzinfo=UTC)

_BOOKS = TableSpec(
    name="books",
    noun=("book", "books"),
    noun_aliases=("volume", "volumes"),
    fields=(
        FieldSpec(name="title", type="text", aliases=("titles",), is_identifier=True),
        FieldSpec(name="isbn", type="text", label="ISBN", is_identifier=True),
        FieldSpec(name="author", type="text", aliases=("writer", "written by"), is_category=True),
        FieldSpec(
            name="genre", type="text", aliases=("kind",), value_aliases={"sf": "science fiction"}, is_category=True
        ),
        FieldSpec(name="shelf", type="text", aliases=("shelves", "where"), is_category=True),
        FieldSpec(name="binding", type="text", is_category=True, matches_part=True),
        FieldSpec(name="reader", type="text", aliases=("borrower", "who"), is_category=True),
        FieldSpec(name="pages", type="number", unit="pages"),
        FieldSpec(name="price", type="number", unit="EUR"),
        FieldSpec(name="published_on", type="date", aliases=("published",)),
        FieldSpec(name="borrowed_at", type="datetime", aliases=("borrowed",)),
        FieldSpec(name="Shop address", type="address"),
    ),
    preview_fields=("title", "author", "genre", "shelf"),
    query_tool="library.query",
    examples=("novels by Ursula Le Guin", "how many comics?", "books per shelf", "export all books"),
)
_BOOK_WORDS = {
    "author": ("Ursula Le Guin", "Frank Herbert", "Jane Austen"),
    "genre": ("novel", "comic", "science fiction", "cookery"),
    "shelf": ("A-North", "B-South", "Cellar"),
    "binding": ("Leather hardcover", "Cloth hardcover", "Paperback"),
    "reader": ("Ann", "Jane Austen"),
}
_BOOK_ROWS = {"dune": ("title", "Dune"), "the old man and the sea": ("title", "The Old Man and the Sea")}


def _category(name: str, *aliases: str, **words: str) -> FieldSpec:
    values = {alias.replace("_", " "): value for alias, value in words.items()}
    return FieldSpec(name=name, type="text", aliases=aliases, value_aliases=values, is_category=True)


def _identifier(name: str, *aliases: str) -> FieldSpec:
    return FieldSpec(name=name, type="text", aliases=aliases, is_identifier=True)


_INVENTORY = TableSpec(
    name="assets",
    noun=("asset", "assets"),
    noun_aliases=("host", "hosts", "machine", "machines", "device", "devices", "box", "boxes"),
    fields=(
        _identifier("name", "hostname"),
        _identifier("serial_number", "serial"),
        _identifier("asset_tag"),
        FieldSpec(
            name="ip_address", type="address", label="IP address", aliases=("ip", "ips", "address"), is_identifier=True
        ),
        _category("asset_type", "type", vm="virtual machine", vms="virtual machine", servers="server"),
        _category("status", "state", up="active", running="active", live="active", down="offline"),
        _category("environment", "env", prod="production", dev="development"),
        _category("criticality"),
        FieldSpec(
            name="os",
            type="text",
            label="OS",
            aliases=("operating system", "platform"),
            is_category=True,
            matches_part=True,
        ),
        _category("os_version"),
        _category("manufacturer", "vendor", "make"),
        _category("model"),
        _category("site", "data centre", london="LON1", new_york="NYC1"),
        _category("rack"),
        _category("role"),
        _category("owner", "team"),
        FieldSpec(name="tags", type="list", aliases=("tag",), is_category=True),
        FieldSpec(name="cpu_cores", type="number", label="CPU cores", aliases=("cores",), unit="cores"),
        FieldSpec(name="memory_gb", type="number", label="memory", aliases=("ram",), unit="GB"),
        FieldSpec(name="disk_gb", type="number", label="disk", unit="GB"),
        FieldSpec(name="purchased_on", type="date", aliases=("bought",)),
        FieldSpec(name="warranty_expires_on", type="date", aliases=("warranty",)),
        FieldSpec(name="certificate_expires_on", type="date", aliases=("certificate", "cert")),
        FieldSpec(name="last_seen_at", type="datetime", aliases=("seen",)),
        FieldSpec(name="notes", type="text"),
        FieldSpec(name="Slot (U)", type="text"),
    ),
    preview_fields=("name", "asset_type", "status", "ip_address", "site", "environment", "os", "manufacturer", "model"),
    query_tool="assets.query",
    examples=("how many routers?", "assets per site"),
)
_ASSET_WORDS = {
    "asset_type": ("server", "virtual machine", "router", "switch", "printer", "patch panel"),
    "status": ("active", "offline", "maintenance", "retired"),
    "environment": ("production", "staging", "development"),
    "criticality": ("critical", "high", "low"),
    "os": ("Ubuntu Linux", "Debian Linux", "Windows Server", "Cisco IOS"),
    "os_version": ("22.04", "12", "2019"),
    "manufacturer": ("Cisco", "HPE", "Palo Alto Networks"),
    "model": ("C9200-48P", "PowerEdge R760", "48-Port Patch Panel"),
    "site": ("DM-Akron", "LON1", "NYC1"),
    "rack": ("R1", "R3", "R4", "R10", "2"),
    "role": ("Access Switch", "Core Switch", "Router", "web", "database", "Internal Firewall", "build", "test"),
    "owner": ("Dunder-Mifflin, Inc.", "platform", "Database Team"),
    "tags": ("ring-A", "critical", "legacy"),
    "Slot (U)": ("39.0", "7.0"),
}
_ASSET_ROWS = {
    "web-01": ("name", "web-01"),
    "db-02": ("name", "db-02"),
    "10.0.0.5": ("ip_address", "10.0.0.5"),
    "00012": ("asset_tag", "00012"),
}


def _known(spec: TableSpec, vocabulary: Mapping[str, Sequence[str]], rows: Mapping[str, tuple[str, str]]) -> KnownTable:
    def find(terms: Sequence[str]) -> Sequence[Match]:
        found = ((term, rows.get(term.lower())) for term in terms)
        return [Match(term=term, field=row[0], value=row[1]) for term, row in found if row]

    return KnownTable(spec=spec, vocabulary=vocabulary, find=find)


BOOKS = _known(_BOOKS, _BOOK_WORDS, _BOOK_ROWS)
INVENTORY = _known(_INVENTORY, _ASSET_WORDS, _ASSET_ROWS)


class _Directly:
    """Calls the function at once: tests need no threads."""

    def __call__(self, function: Callable[..., T], /, *args: Any) -> Awaitable[T]:
        async def call() -> T:
            return function(*args)

        return call()


def request(text: str, *tables: KnownTable) -> Request:
    return Request(text=text, now=NOW, tables=tables, in_thread=_Directly())


async def understand(text: str, *tables: KnownTable) -> Classification:
    return await EmbeddedEngine().classify(request(text, *tables))


def said(classification: Classification) -> str:
    """The query in one line: "genre eq novel | columns title, author | sort price desc"; "" asks for all rows."""
    if "query" not in classification.parsed:
        return "declined"
    query = Query.from_dict(classification.parsed["query"])
    parts = ["; ".join(f"{f.field} {f.op} {_shown(f.value)}".strip() for f in query.filters)]
    parts += [f"columns {', '.join(query.columns)}"] * bool(query.columns)
    parts += [f"per {', '.join(query.group_by)}"] * bool(query.group_by)
    parts += ["sort " + ", ".join(f"{s.field} {'desc' if s.descending else 'asc'}" for s in query.sort)] * bool(
        query.sort
    )
    parts += [f"limit {query.limit}"] * (query.limit is not None)
    parts += ["count"] * query.count_only
    parts += [f"unused {', '.join(classification.unused_words)}"] * bool(classification.unused_words)
    return " | ".join(part for part in parts if part)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(str(v) for v in value)
    return "" if value is None else str(value)


async def answer(text: str, *tables: KnownTable, n: int = 26, refusal: str = "") -> str:
    """What is said when the tool finds `n` rows or groups; "[table]" is the table, the kind of answer ends it."""
    engine, asked = EmbeddedEngine(), request(text, *tables)
    classification = await engine.classify(asked)
    selection = await engine.select(asked, classification)
    plan = await engine.plan(asked, classification, selection)
    executed = [_executed(call.tool, call.arguments, n, refusal) for call in plan.calls]
    spoken = ""
    async for piece in engine.respond(asked, classification, executed):
        match piece:
            case TextPiece():
                spoken += piece.text
            case TablePiece():
                spoken += "[table]"
            case Ending():
                spoken += f" <{piece.response_type}>"
    return spoken


def _executed(tool: str, arguments: Mapping[str, Any], n: int, refusal: str) -> Executed:
    query = Query.from_dict(arguments)
    total = min(n, query.limit or n)
    if query.count_only:
        return Executed(tool=tool, arguments=arguments, kind="count", total=n, matched=n)
    return Executed(
        tool=tool,
        arguments=arguments,
        kind="groups" if query.group_by else "rows",
        total=total,
        matched=n,
        refusal=refusal,
    )
