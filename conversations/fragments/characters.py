"""Control characters made visible: two filters that every template has. Data, copies and files keep the originals."""

from __future__ import annotations

import re
from collections.abc import Iterator

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

register = template.Library()

#: All but tab and newline, and but the carriage return of a line's end.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)")
_DELETE, _C1, _PICTURES = 0x7F, 0x80, 0x2400


def _symbol(char: str) -> str:
    """Unicode has pictures for C0 and DEL (U+2400 to U+2421) and none for C1."""
    code = ord(char)
    if code >= _C1:
        return f"\\x{code:02x}"
    return chr(_PICTURES + (0x21 if code == _DELETE else code))


@register.filter
def plain(value: object) -> str:
    """For attributes and the document's title, which hold no elements."""
    return _CONTROL.sub(lambda match: _symbol(match[0]), str(value))


@register.filter
def shown(value: object) -> str | SafeString:
    """The text with an element for each control character, from which the page's script gets the original back."""
    text = str(value)
    return format_html_join("", "{}", ((part,) for part in _parts(text))) if _CONTROL.search(text) else text


def _parts(text: str) -> Iterator[str | SafeString]:
    position = 0
    for match in _CONTROL.finditer(text):
        yield text[position : match.start()]
        yield _element(match[0])
        position = match.end()
    yield text[position:]


def _element(char: str) -> SafeString:
    code = ord(char)
    return format_html(
        '<span class="char" title="Control character U+{}" data-code="{}">{}</span>', f"{code:04X}", code, _symbol(char)
    )
