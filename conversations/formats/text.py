"""Formats that are text: TSV, JSON, NDJSON, XML. Each is a generator of bytes with flat memory."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from conversations.formats.table import Table, Value, as_text

#: Bytes that are handed on together.
_CHUNK = 256 * 1024
BOM = b"\xef\xbb\xbf"

#: What no XML 1.0 document may hold, not even as a reference.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: A reader of XML turns these into others, unless they are written as references.
_REFERENCES = {"\r": "&#13;"}
_IN_ATTRIBUTES = {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def csv_for_excel(table: Table) -> Iterator[bytes]:
    """The stored CSV behind a byte order mark, by which Excel knows that it is UTF-8."""
    yield BOM
    with table.open_csv() as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def tsv(table: Table) -> Iterator[bytes]:
    """As the CSV, guards included, but for the separator: a cell with a tab, a line break or a quote is quoted."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, dialect="excel-tab")
    writer.writerow(_header(table))
    for row in table.texts():
        # One empty cell alone would be an empty line, which readers leave out.
        writer.writerow(row)
        if text.tell() >= _CHUNK:
            yield _taken(text)
    yield _taken(text)


def _header(table: Table) -> list[str]:
    csv_text = io.TextIOWrapper(table.open_csv(), encoding="utf-8", newline="")
    with csv_text:
        return next(csv.reader(csv_text), [])


def _taken(text: io.StringIO) -> bytes:
    chunk = text.getvalue().encode()
    text.seek(0)
    text.truncate()
    return chunk


def json_array(table: Table) -> Iterator[bytes]:
    """One array of objects, a line each; null for empty cells."""
    yield from _collected(_joined(_objects(table)))


def ndjson(table: Table) -> Iterator[bytes]:
    """One object a line."""
    yield from _collected(f"{line}\n" for line in _objects(table))


def _objects(table: Table) -> Iterator[str]:
    # The keys are encoded once: they are the better part of a line.
    heads = [("{" if n == 0 else ",") + _encode(key) + ":" for n, key in enumerate(table.keys)]
    for row in table.rows():
        cells = (head + _encode(_plain(value)) for head, value in zip(heads, row, strict=True))
        yield "".join(cells) + "}" if heads else "{}"


def _plain(value: Value) -> Any:
    return value if value is None or isinstance(value, str | int | float) else as_text(value)


def _joined(lines: Iterable[str]) -> Iterator[str]:
    before = "[\n"
    for line in lines:
        yield before + line
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def xml(table: Table) -> Iterator[bytes]:
    """`<export><columns>…</columns><rows><row><field name="…">…</field>…</row>…</rows></export>`.

    A null has no field. Text that XML can't hold stands in Base64 of its UTF-8, and its field says so.
    """
    yield from _collected(_lines_of_xml(table))


def _lines_of_xml(table: Table) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<export>\n<columns>\n'
    for key, column in zip(table.keys, table.columns, strict=True):
        yield f"<column {_name(key)} type={quoteattr(column.type)}/>\n"
    yield "</columns>\n<rows>\n"
    heads = [f"<field {_name(key)}" for key in table.keys]
    for row in table.rows():
        cells = (_field(head, value) for head, value in zip(heads, row, strict=True) if value is not None)
        yield f"<row>{''.join(cells)}</row>\n"
    yield "</rows>\n</export>\n"


def _name(key: str) -> str:
    if _NOT_XML.search(key):
        return f'name="{_base64(key)}" name-encoding="base64"'
    return f"name={quoteattr(key, _IN_ATTRIBUTES)}"


def _field(head: str, value: Value) -> str:
    text = as_text(value)
    if _NOT_XML.search(text):
        return f'{head} encoding="base64">{_base64(text)}</field>'
    return f"{head}>{escape(text, _REFERENCES)}</field>"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _collected(parts: Iterable[str]) -> Iterator[bytes]:
    waiting: list[str] = []
    length = 0
    for part in parts:
        waiting.append(part)
        length += len(part)
        if length >= _CHUNK:
            yield "".join(waiting).encode()
            waiting.clear()
            length = 0
    yield "".join(waiting).encode()
