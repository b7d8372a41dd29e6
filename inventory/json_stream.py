"""JSON read piece by piece: only one object of a file is in memory at a time.

ijson's C parser is not safe with everything that a file may hold, so the bytes are looked at first (`Checked`):

* half a surrogate pair (`\\ud800`) ends the parser or becomes "?": it is made NUL, which is reported and replaced;
* an integer of more digits than Python converts (4,300) crashes the process;
* a text without an end would be gathered in memory, and so would the path of every level of lists within lists.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import accumulate
from typing import Any, BinaryIO

import ijson

from inventory.sheets import MAX_CELL_CHARS, NotATable

_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
#: Whole pairs, single halves, and any other escape, so that `\\ud800`, a backslash and some letters, is left alone.
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL)
#: After which byte the buffer may be cut without cutting an escape.
_CUT = re.compile(rb"[^\\u0-9a-fA-F](?=[\\u0-9a-fA-F]*\Z)")
_LONGEST_ESCAPE = 12
_ANY_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_DEEPER = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NEITHER_DEEPER_NOR_QUOTE = bytes(set(range(256)) - _DEEPER.keys() - {ord('"')})
_MAX_DEPTH = 1000
_MAX_DIGITS = 4300
_DIGITS = re.compile(rb"[0-9]{%d}" % (_MAX_DIGITS + 1))
#: Any run of too many digits fills one of the blocks of this size.
_BLOCK = 2048


class Object(dict[str, Any]):
    """A JSON object. A second value of a name is kept as `name (2)`."""

    #: Names that occurred more than once.
    repeated: tuple[str, ...] = ()
    #: Names that people gave (custom fields, tags): what a column of the tool itself writes, they don't.
    late: tuple[str, ...] = ()

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self:
            self.repeated = (*self.repeated, name)
            name = free(name, self)
        dict.__setitem__(self, name, value)

    @classmethod
    def of(cls, pairs: Collection[tuple[str, Any]]) -> Object:
        made = cls(pairs)
        if len(made) < len(pairs):
            made.clear()
            for name, value in pairs:
                made[name] = value
        return made

    def without(self, *names: str) -> Object:
        made = Object((name, value) for name, value in self.items() if name not in names)
        made.repeated, made.late = self.repeated, self.late
        return made

    def with_values_of(self, other: Object, *, prefix: str, are_late: bool = False) -> Object:
        """Both in one; where this one has a name already, the other's value has it behind the prefix."""
        made = self.without()
        names = {name: f"{prefix}.{name}" if name in self else name for name in other}
        for name, value in other.items():
            made[names[name]] = value
        made.repeated += other.repeated
        made.late += tuple(names.values()) if are_late else other.late
        return made


def free(name: str, taken: Any) -> str:
    """The name, or with the first number that makes it another than those taken: `name (2)`."""
    again, candidate = 2, name
    while candidate in taken:
        candidate, again = f"{name} ({again})", again + 1
    return candidate


class Checked:
    """The bytes of a JSON file, from the start, for ijson."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        self._file = file
        self._kept = file.read(len(codecs.BOM_UTF8)).removeprefix(codecs.BOM_UTF8)
        self._digits = b""
        self._n_without_quote = 0
        self._depth = 0
        self._is_in_string = False

    def read(self, n_bytes: int) -> bytes:
        if n_bytes == 0:  # ijson asks so whether it gets bytes
            return b""
        text = without_halves(self._read(n_bytes))
        self._check_depth(text)
        return text

    def _read(self, n_bytes: int) -> bytes:
        """At least one byte, unless the file has ended, and no part of an escape."""
        chunk, end = b"", 0
        while not end:
            more = self._file.read(n_bytes)
            self._check(more)
            chunk = self._kept + more
            if not more:
                self._kept = b""
                return chunk
            end = _cut(chunk)
            self._kept = chunk
        self._kept = chunk[end:]
        return chunk[:end]

    def _check(self, chunk: bytes) -> None:
        blocks = (chunk[start : start + _BLOCK] for start in range(0, len(chunk), _BLOCK))
        if any(block.isdigit() for block in blocks) and _DIGITS.search(self._digits + chunk):
            raise NotATable(f"It holds a number of more than {_MAX_DIGITS:,} digits, which can't be read.")
        self._digits = chunk[-_MAX_DIGITS:]
        found = chunk.rfind(b'"')
        self._n_without_quote = len(chunk) - found if found >= 0 else self._n_without_quote + len(chunk)
        if self._n_without_quote > MAX_CELL_CHARS:
            raise NotATable(f"It holds a value of more than {MAX_CELL_CHARS:,} characters, or is no JSON.")

    def _check_depth(self, text: bytes) -> None:
        """Of the quotes and brackets, those outside of strings count: most strings hold none and vanish at once."""
        if b"\\" in text:
            text = _ANY_ESCAPE.sub(b"", text)
        marks = (b'"' if self._is_in_string else b"") + text.translate(None, _NEITHER_DEEPER_NOR_QUOTE)
        parts = marks.replace(b'""', b"").split(b'"')
        self._is_in_string = len(parts) % 2 == 0
        steps = map(_DEEPER.__getitem__, b"".join(parts[::2]))
        levels = list(accumulate(steps, initial=self._depth))
        self._depth = levels[-1]
        if max(levels) > _MAX_DEPTH:
            raise NotATable(f"Its lists and objects are nested more than {_MAX_DEPTH:,} levels deep.")


def _cut(chunk: bytes) -> int:
    """After how many bytes no escape is cut; 0 when there may be no such place."""
    if b"\\" not in chunk[-_LONGEST_ESCAPE:]:
        return len(chunk)
    found = _CUT.search(chunk)
    return found.end() if found else 0


def without_halves(text: bytes) -> bytes:
    if not _HALF.search(text):
        return text
    return _ESCAPE.sub(lambda found: rb"\u0000" if found[1] else found[0], text)


def events(file: BinaryIO) -> Iterator[tuple[str, str, Any]]:
    """(prefix, event, value) of all values of the file, as ijson gives them."""
    with _readable():
        yield from ijson.parse(Checked(file), multiple_values=True)


def items(file: BinaryIO, prefix: str) -> Iterator[Any]:
    """The values at the prefix; with a blank one, all values of the file, which may be many."""
    with _readable():
        yield from ijson.items(Checked(file), prefix, map_type=Object, multiple_values=not prefix)


def named_items(file: BinaryIO, prefix: str) -> Iterator[tuple[str, Any]]:
    """The names and values of the object at the prefix."""
    with _readable():
        yield from ijson.kvitems(Checked(file), prefix, map_type=Object)


def line_value(line: bytes) -> Any:
    """The one value of a line. Raises ValueError or RecursionError."""
    return _decoder(without_halves(line).decode())


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


_decoder: Callable[[str], Any] = json.JSONDecoder(
    object_pairs_hook=Object.of, parse_float=Decimal, parse_constant=_no_constant
).decode


@contextmanager
def _readable() -> Iterator[None]:
    """Says what is wrong with JSON in one line of plain words."""
    try:
        yield
    except (ijson.JSONError, ValueError, ArithmeticError) as error:
        raise NotATable(_why(error)) from error


def _why(error: Exception) -> str:
    text = str(error)
    if isinstance(error, UnicodeDecodeError) or "UTF8" in text or "utf-8" in text:
        return "The file is not text in UTF-8. Save it as UTF-8 and import that."
    if "remature" in text or "ncomplete" in text:
        return "The JSON breaks off before its end: the file is not complete. Export it again."
    if "trailing" in text or "dditional" in text:
        return "After the end of the JSON something follows: one file holds one answer, or objects one after another."
    what = "a number with too large an exponent" if isinstance(error, ArithmeticError) else text.split("\n", 1)[0]
    return f"The file begins as JSON does, and is none: {what}. Export it again."
