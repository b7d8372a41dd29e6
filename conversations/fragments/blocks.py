"""The parts of a finished answer: prose, code with a download, tables with a stored file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, ClassVar

from django.utils.dateparse import parse_date, parse_datetime
from markdown_it.token import Token

from conversations import copying
from conversations.exports import address_of, unavailable
from conversations.formats import kinds
from conversations.formats.kinds import Format
from conversations.fragments import markdown
from conversations.fragments.quantities import size
from conversations.models import Export, Message

#: Language of a fence -> its file's extension.
EXTENSIONS: Mapping[str, str] = {
    "bash": "sh", "c": "c", "cpp": "cpp", "csharp": "cs", "cs": "cs", "css": "css", "csv": "csv", "diff": "diff",
    "dockerfile": "dockerfile", "go": "go", "hcl": "tf", "html": "html", "ini": "ini", "java": "java",
    "javascript": "js", "js": "js", "json": "json", "jsonl": "jsonl", "kotlin": "kt", "lua": "lua", "markdown": "md",
    "md": "md", "perl": "pl", "php": "php", "powershell": "ps1", "ps1": "ps1", "py": "py", "python": "py", "r": "r",
    "rb": "rb", "ruby": "rb", "rs": "rs", "rust": "rs", "sh": "sh", "shell": "sh", "sql": "sql", "terraform": "tf",
    "tf": "tf", "toml": "toml", "ts": "ts", "tsv": "tsv", "typescript": "ts", "xml": "xml", "yaml": "yml",
    "yml": "yml", "zsh": "sh",
}  # fmt: skip

#: Extension -> what its file is (IANA's names where there are any); any other is plain text.
MIME_TYPES: Mapping[str, str] = {
    "css": "text/css", "csv": "text/csv", "diff": "text/x-diff", "html": "text/html", "js": "text/javascript",
    "json": "application/json", "jsonl": "application/jsonl", "md": "text/markdown", "py": "text/x-python",
    "sh": "application/x-sh", "sql": "application/sql", "toml": "application/toml",
    "tsv": "text/tab-separated-values", "xml": "application/xml", "yml": "application/yaml",
}  # fmt: skip

#: Shown of a table whose file has more columns and whose query chose none.
MAX_COLUMNS = 8

_TYPE_LABELS = {"datetime": "date-time, UTC"}


@dataclass(frozen=True, kw_only=True)
class Prose:
    kind: ClassVar[str] = "prose"
    #: Sanitized.
    html: str


@dataclass(frozen=True, kw_only=True)
class CodeBlock:
    kind: ClassVar[str] = "code"
    message_id: str
    #: 1, 2, 3 … in the message.
    number: int
    language: str
    code: str

    @property
    def label(self) -> str:
        return self.language or "text"

    @property
    def extension(self) -> str:
        return EXTENSIONS.get(self.language.lower(), "txt")

    @property
    def mime(self) -> str:
        return f"{MIME_TYPES.get(self.extension, 'text/plain')}; charset=utf-8"


@dataclass(frozen=True, kw_only=True)
class Cell:
    #: Draws as: text mono number date datetime empty.
    kind: str
    text: str
    at: date | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A line in the menu of formats."""

    label: str
    #: Empty when the format can't hold the rows.
    address: str
    #: The file's size, "on demand", or why there can be none.
    note: str


@dataclass(frozen=True, kw_only=True)
class TableBlock:
    kind: ClassVar[str] = "table"
    export: Export
    columns: Sequence[Mapping[str, str]]
    rows: Sequence[Sequence[Cell]]
    n_bytes: int | None
    title: str

    @property
    def is_gone(self) -> bool:
        return self.export.is_gone()

    @property
    def ended_at(self) -> datetime | None:
        return self.export.deleted_at or self.export.expires_at

    @property
    def n_rows(self) -> str:
        return f"{self.export.n_rows:,} row{'' if self.export.n_rows == 1 else 's'}"

    @property
    def copied(self) -> str:
        """What the menu of copies says of them."""
        n_rows = copying.n_rows(self.export)
        rows = f"{n_rows:,} row{'' if n_rows == 1 else 's'}"
        return f"All {rows}, every field" if n_rows == self.export.n_rows else f"The first {rows}, every field"

    @property
    def choices(self) -> list[Choice]:
        return choices(self.export)

    @property
    def can_be_opened(self) -> bool:
        """As a workbook."""
        return not unavailable(self.export, kinds.XLSX.key)

    @property
    def is_typed(self) -> bool:
        """The rows were written in the answer, not read from a tool."""
        return self.export.source == Export.Source.TEXT

    @property
    def shown(self) -> str:
        return f"{len(self.rows):,} of {self.export.n_rows:,} row{'' if self.export.n_rows == 1 else 's'}"

    @property
    def size(self) -> str:
        return "" if self.n_bytes is None else size(self.n_bytes)


Block = Prose | CodeBlock | TableBlock


def blocks_of(message: Message, exports: Mapping[str, Export]) -> list[Block]:
    """The answer's parts in order; exports that stand nowhere in the text come last."""
    blocks: list[Block] = []
    placed: set[str] = set()
    position = 0
    for span in sorted(message.blocks, key=lambda span: span["start"]):
        export = exports.get(span["export_id"])
        if export is None or not position <= span["start"] < span["end"] <= len(message.text):
            continue
        blocks += _written(message, position, span["start"], _n_code(blocks))
        blocks.append(table_block(export))
        placed.add(span["export_id"])
        position = span["end"]
    blocks += _written(message, position, len(message.text), _n_code(blocks))
    blocks += [table_block(export) for key, export in exports.items() if key not in placed]
    return blocks


def code_block(message: Message, exports: Mapping[str, Export], number: int) -> CodeBlock | None:
    return next((b for b in blocks_of(message, exports) if isinstance(b, CodeBlock) and b.number == number), None)


def _n_code(blocks: Sequence[Block]) -> int:
    return sum(isinstance(block, CodeBlock) for block in blocks)


def _written(message: Message, start: int, end: int, n_code: int) -> Iterator[Block]:
    """Prose and code of text[start:end]; `n_code` code blocks came before."""
    prose: list[Token] = []
    for token in markdown.parse(message.text[start:end], is_start=start == 0):
        if token.type != "fence" or token.level:
            prose.append(token)
            continue
        yield from _prose(prose)
        prose = []
        n_code += 1
        language = (token.info.split() or [""])[0]
        yield CodeBlock(message_id=str(message.pk), number=n_code, language=language, code=token.content)
    yield from _prose(prose)


def _prose(tokens: Sequence[Token]) -> Iterator[Prose]:
    html = markdown.html_of(tokens)
    if html.strip():
        yield Prose(html=html)


def table_block(export: Export) -> TableBlock:
    indexes = _shown_columns(export)
    columns = [_heading(export.columns[i], is_typed=export.source == Export.Source.TEXT) for i in indexes]
    types = [export.columns[i]["type"] for i in indexes]
    rows = [[_cell(row[i], kind) for i, kind in zip(indexes, types, strict=True)] for row in export.preview]
    n_bytes = next((file.n_bytes for file in export.files.all() if file.format == "csv"), None)
    return TableBlock(export=export, columns=columns, rows=rows, n_bytes=n_bytes, title=title_of(export))


def choices(export: Export) -> list[Choice]:
    """The formats beside CSV, with sizes where they are known."""
    sizes = {file.format: size(file.n_bytes) for file in export.files.all()}
    return [_choice(export, kind, sizes.get(kind.key, "on demand")) for kind in kinds.ALL if kind is not kinds.CSV]


def _choice(export: Export, kind: Format, note: str) -> Choice:
    if reason := unavailable(export, kind.key):
        return Choice(label=kind.label, address="", note=reason)
    return Choice(label=kind.label, address=address_of(export.pk, kind.key), note=note)


def _shown_columns(export: Export) -> list[int]:
    """Indexes of the columns on the page: those of the answer, else those asked for, else the first few."""
    place = {column["name"]: i for i, column in enumerate(export.columns)}
    indexes = [place[name] for name in export.preview_columns if name in place]
    is_chosen = bool(export.query.get("columns")) or export.source == Export.Source.TEXT
    return indexes or list(range(len(export.columns) if is_chosen else min(len(export.columns), MAX_COLUMNS)))


def title_of(export: Export) -> str:
    """The export's own title, else what was asked: "Assets", "Assets by site"."""
    table, groups = export.query.get("table", ""), export.query.get("group_by") or ()
    words = f"{table} by {', '.join(groups)}" if groups else table
    return export.title or words[:1].upper() + words[1:] or "Table"


def _heading(column: Mapping[str, str], *, is_typed: bool) -> dict[str, str]:
    kind = column["type"]
    label = "" if is_typed else _TYPE_LABELS.get(kind, kind)
    return {"name": column["name"], "label": label, "kind": kind}


def _cell(value: Any, kind: str) -> Cell:
    if value is None or value == "":
        return Cell(kind="empty", text="")
    text = str(value)
    if kind in ("date", "datetime"):
        at = _time(text, kind)
        return Cell(kind=kind, text=text, at=at) if at else Cell(kind="text", text=text)
    return Cell(kind={"address": "mono", "id": "mono", "number": "number"}.get(kind, "text"), text=text)


def _time(text: str, kind: str) -> date | None:
    """None for what is no time: neither in form nor in the calendar."""
    try:
        return parse_datetime(text) if kind == "datetime" else parse_date(text)
    except ValueError:
        return None
