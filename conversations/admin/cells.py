"""How values look in lists and details: with their units, instants in UTC, long texts cut in lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import Model
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from conversations.fragments.quantities import duration, size

#: What a row shows in one place; for `list_display`, `fields` and sections alike.
Column = Callable[[Any], Any]

#: Characters of a text in a list.
_CUT = 200


def column(label: str, read: Column, *, order: str | None = None) -> Column:
    """A column; lists can be sorted by it when `order` names an indexed field."""

    @admin.display(description=label, ordering=order)
    def shown(row: Any) -> Any:
        value = read(row)
        return "-" if value is None or value == "" else value

    # Names the cell's CSS class.
    shown.__name__ = label.partition(" (")[0].replace(" ", "_")
    return shown


def moment(label: str, name: str, *, order: bool = False) -> Column:
    """An instant; the label says that it is in UTC."""

    def read(row: Any) -> SafeString | None:
        at: datetime | None = getattr(row, name)
        return instant(at) if at else None

    return column(f"{label} (UTC)", read, order=name if order else None)


def instant(at: datetime) -> SafeString:
    return format_html('<time datetime="{}">{}</time>', at.isoformat(), f"{at:%Y-%m-%d %H:%M:%S}")


def milliseconds(label: str, name: str) -> Column:
    def read(row: Any) -> str | None:
        ms = getattr(row, name)
        return None if ms is None else "0 ms" if ms == 0 else duration(ms)

    return column(label, read)


def n_bytes(label: str, name: str) -> Column:
    return column(label, lambda row: f"{size(getattr(row, name))} ({getattr(row, name):,} bytes)")


def number(label: str, name: str) -> Column:
    return column(label, lambda row: f"{getattr(row, name):,}")


def structure(label: str, name: str) -> Column:
    """A JSON value, whole."""
    return column(label, lambda row: pretty(getattr(row, name)))


def pretty(value: Any) -> SafeString | str:
    if value in (None, {}, []):
        return "-"
    return _scrolling("Data", json.dumps(value, indent=2, ensure_ascii=False))


def rows(value: list[Any]) -> SafeString | str:
    """A list of rows, one a line."""
    return whole("\n".join(json.dumps(row, ensure_ascii=False) for row in value))


def whole(text: str) -> SafeString | str:
    """A text as it was written, with its lines."""
    return _scrolling("Text", text) if text else "-"


def _scrolling(label: str, text: str) -> SafeString:
    """With a height of its own; the keyboard scrolls what it can focus."""
    return format_html('<pre class="whole" tabindex="0" role="group" aria-label="{}">{}</pre>', label, text)


def cut(text: str) -> SafeString:
    """The beginning of a text on one line. Isolated: what it holds must not turn the rest of the row around."""
    line = " ".join(text[: 2 * _CUT].split())
    return format_html("<bdi>{}</bdi>", line if len(line) <= _CUT and len(text) <= 2 * _CUT else f"{line[:_CUT]}…")


def breaking(text: str) -> SafeString:
    """A long word that may be broken anywhere."""
    return format_html('<span class="breaking">{}</span>', text)


def compact(value: Any) -> SafeString:
    """A JSON value, cut."""
    return cut(json.dumps(value, ensure_ascii=False))


def link(row: Model | None, text: object = None) -> SafeString | str:
    """To the row's page in the review."""
    if row is None:
        return "-"
    address = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    return format_html('<a href="{}"><bdi>{}</bdi></a>', address, row if text is None else text)


def address_of_list(model: type[Model], **filters: object) -> str:
    """Of the model's list, filtered."""
    base = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{base}?{urlencode(filters)}"


def same_user(read: Callable[[Any], str], label: str = "user") -> Column:
    """A user's name that leads to the rows of this user alone."""
    return column(
        label,
        lambda row: (
            format_html('<a href="?{}">{}</a>', urlencode({"user": read(row)}), read(row)) if read(row) else None
        ),
    )
