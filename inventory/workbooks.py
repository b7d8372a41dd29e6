"""What an XLSX workbook would take to read, found out before it is read: a small file may unpack to more than there is.

The reader holds a sheet as a full rectangle of cells, so two cells in opposite corners cost as much as all between.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from inventory.sheets import NotATable

#: Bytes of all parts, unpacked. A million rows of twelve columns are about 420 MB.
MAX_UNPACKED = 512 * 1024 * 1024
#: Cells of the rectangle around a sheet's values, the empty ones included: about 32 bytes each.
MAX_CELLS = 20_000_000
#: Bytes of the shared texts, each as often as a cell has it: the reader copies them.
MAX_TEXT = 2 * 1024**3
_MAX_PARTS = 10_000
_CHUNK = 1024 * 1024
_LAST_COLUMN = 16_384

_WORKBOOK = "xl/workbook.xml"
#: A part that only such files have -> what to do.
_OTHERS = {
    "xl/workbook.bin": "a binary Excel file (XLSB). Save it as XLSX",
    "content.xml": "an OpenDocument file. Save the sheet as XLSX or as “CSV UTF-8”",
    "word/document.xml": "a Word document. Put the table into a sheet and save that as XLSX",
    "ppt/presentation.xml": "a PowerPoint presentation. Put the table into a sheet and save that as XLSX",
}
_ENCRYPTED = 0x1


class _Tags:
    """What is searched in a part's XML; without prefixes, which few programs write, it is found three times as fast."""

    def __init__(self, prefix: bytes) -> None:
        #: A cell with something in it; its column if it names it.
        self.cell = re.compile(rb"<" + prefix + rb"c(?=[ >])[^>]*(?<!/)>")
        self.placed = re.compile(rb"<" + prefix + rb"""c [^>]*?\br=["']([A-Z]{1,3})\d{1,7}["'][^>]*(?<!/)>""")
        #: A row, and its number if it names it.
        self.row = re.compile(rb"<" + prefix + rb"""row(?=[ >/])(?:[^>]*?\sr=["'](\d{1,7})["'])?""")
        self.shared = re.compile(
            rb"<" + prefix + rb"""c [^>]*?\bt=["']s["'][^>]*>\s*<""" + prefix + rb"""v>\s*(\d{1,9})"""
        )
        self.error = re.compile(rb"<" + prefix + rb"""c [^>]*?\bt=["']e["']""")
        self.text = re.compile(rb"<" + prefix + rb"si[ >]")


_PLAIN, _PREFIXED = _Tags(rb""), _Tags(rb"(?:\w+:)?")
_PREFIXES = (b":c ", b":c>", b":row", b":si")


def _tags(xml: bytes) -> _Tags:
    return _PREFIXED if any(prefix in xml for prefix in _PREFIXES) else _PLAIN


@dataclass(kw_only=True)
class Part:
    """What is in one part of the archive, whatever its name: at least as much as the reader will hold of it."""

    n_rows: int = 0
    last_row: int = 0
    last_column: int = 0
    n_unplaced: int = 0
    #: Cells with an error (#N/A, #REF!) in place of a value.
    n_errors: int = 0
    #: Cells that name a shared text; bytes of each shared text that is in this part.
    n_shared: int = 0
    texts: array[int] = field(default_factory=lambda: array("I"))
    _n_bytes: int = 0
    _text_at: int | None = None
    _rest: bytes = b""

    @property
    def n_cells(self) -> int:
        return max(self.n_rows, self.last_row) * max(self.last_column, min(self.n_unplaced, _LAST_COLUMN))

    def add(self, chunk: bytes) -> bytes:
        """Of the part's XML, in order; what can be looked at: whole tags, so that none is counted twice or missed."""
        xml = self._rest + chunk
        end = xml.rfind(b">") + 1
        self._rest = xml[end:] if len(xml) - end <= _CHUNK else b""
        self._count_cells(xml[:end])
        self._measure_texts(xml[:end])
        return xml[:end]

    def _count_cells(self, xml: bytes) -> None:
        tags = _tags(xml)
        rows = tags.row.findall(xml)
        self.n_rows += len(rows)
        self.last_row = max(self.last_row, max((int(row) for row in rows if row), default=0))
        # Lists of a million are fast, a loop over them is not: so only what differs is looked at in Python.
        columns = tags.placed.findall(xml)
        self.n_unplaced += max(0, len(tags.cell.findall(xml)) - len(columns))
        self.last_column = max(self.last_column, max((_number(letters) for letters in set(columns)), default=0))
        if b't="e"' in xml or b"t='e'" in xml:
            self.n_errors += len(tags.error.findall(xml))
        self.n_shared += len(_shared(xml))

    def _measure_texts(self, xml: bytes) -> None:
        """A text is as long as it is to the next one's tag."""
        for found in _tags(xml).text.finditer(xml):
            at = self._n_bytes + found.start()
            if self._text_at is not None:
                self.texts.append(at - self._text_at)
            self._text_at = at
        self._n_bytes += len(xml)
        if xml.endswith(b"</sst>") and self._text_at is not None:
            self.texts.append(self._n_bytes - self._text_at)


def _shared(xml: bytes) -> list[bytes]:
    """The number of each shared text that a cell names."""
    return _tags(xml).shared.findall(xml) if b't="s"' in xml or b"t='s'" in xml else []


def check_workbook(file: BinaryIO) -> int:
    """How many cells hold an error. Raises NotATable for what is no XLSX workbook or would fill the memory."""
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            _check_kind({part.filename for part in parts})
            if any(part.flag_bits & _ENCRYPTED for part in parts):
                raise NotATable("The workbook is protected by a password. Save it without one.")
            if len(parts) > _MAX_PARTS or sum(part.file_size for part in parts) > MAX_UNPACKED:
                raise _too_large()
            return _checked_parts(archive, parts)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as error:
        raise NotATable(f"The workbook is damaged: {error}. Save it again as XLSX.") from error


def _check_kind(names: set[str]) -> None:
    if _WORKBOOK in names:
        return
    for name, what in _OTHERS.items():
        if name in names:
            raise NotATable(f"The file is no table but {what}.")
    raise NotATable("The file is no table but a ZIP archive. Unpack it and import the file that is in it.")


def _checked_parts(archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo]) -> int:
    """Reads every part: the sizes that an archive tells may be wrong."""
    left, parts = MAX_UNPACKED, []
    for info in infos:
        part = Part()
        for chunk in _unpacked(archive, info):
            left -= len(chunk)
            if left < 0:
                raise _too_large()
            part.add(chunk)
            _check_extent(part)
        parts.append(part)
    texts = max((part.texts for part in parts), key=len, default=array("I"))
    if sum(part.n_shared for part in parts) * max(texts, default=0) > MAX_TEXT:
        _check_shared(archive, infos, texts)
    return sum(part.n_errors for part in parts)


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    # Beyond the limit: the archive would else end the part there, and call its checksum wrong.
    info.file_size = MAX_UNPACKED + 2 * _CHUNK
    with archive.open(info) as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _check_shared(archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo], texts: Sequence[int]) -> None:
    """Exactly: a second pass, for workbooks with a long text and many cells."""
    left = MAX_TEXT
    for info in infos:
        part = Part()
        for chunk in _unpacked(archive, info):
            numbers = map(int, _shared(part.add(chunk)))
            left -= sum(texts[number] for number in numbers if number < len(texts))
            if left < 0:
                raise NotATable(
                    f"The cells of the workbook share long texts, more than {MAX_TEXT // 1024**3} GB when each has its "
                    "own. Save the sheet as “CSV UTF-8”, which may be of any length."
                )


def _check_extent(part: Part) -> None:
    if part.n_cells > MAX_CELLS:
        raise NotATable(
            f"A sheet of the workbook reaches over more than {MAX_CELLS:,} cells, maybe because of a value far away "
            "from the table. Copy the table into a new workbook, or save it as “CSV UTF-8”, which may be of any length."
        )


def _too_large() -> NotATable:
    return NotATable(
        f"The workbook unpacks to more than {MAX_UNPACKED // 1024**2} MB. Save the sheet as “CSV UTF-8”, which may be "
        "of any length."
    )


def _number(letters: bytes) -> int:
    """A -> 1, XFD -> 16384."""
    number = 0
    for letter in letters:
        number = number * 26 + letter - ord("A") + 1
    return number
