"""What every page shows around its content, and the start page's facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.db.models import Exists, OuterRef, Q
from django.http import HttpRequest
from django.utils import timezone

from conversations import runner
from conversations.models import Conversation, Run
from conversations.pipeline.tools import CountResult, Query, Table, registry

if TYPE_CHECKING:
    from conversations.models import Caller

THEMES = {"system": "Same as the system", "light": "Light", "dark": "Dark"}

#: Conversations in the sidebar.
MAX_HISTORY = 50


@dataclass(frozen=True, kw_only=True)
class Group:
    """Conversations last used within the same stretch of days."""

    title: str
    conversations: Sequence[Conversation]


@dataclass(frozen=True, kw_only=True)
class StartTable:
    """What the start page says of one table."""

    noun: str
    n_rows: int
    notice: str
    #: Example request and icon.
    starters: Sequence[tuple[str, str]]

    @property
    def amount(self) -> str:
        return f"{self.n_rows:,} {self.noun}"


def page_context(request: HttpRequest) -> dict[str, Any]:
    """Context processor. `history` is called, and queries, only where the sidebar is drawn."""
    theme = request.COOKIES.get("theme", "system")
    lazy_history: Callable[[], list[Group]] = lambda: history(request.user, None)  # noqa: E731  a value, named by its key
    return {
        "version": settings.VERSION,
        "theme": theme if theme in THEMES else "system",
        "themes": THEMES,
        "history": lazy_history,
        "engine_name": runner.engine().name,
        "uses_no_model": settings.OPSCHAT_ENGINE == "embedded",
        "is_demo": settings.DEMO,
    }


def history(user: Caller, current_id: UUID | None) -> list[Group]:
    """The user's own newest conversations by day, in one query. `is_running` tells of an unfinished run."""
    unfinished = Run.objects.unfinished().filter(conversation=OuterRef("pk"))
    rows = (
        Conversation.objects.owned_by(user)
        .filter(Q(n_messages__gt=0) | Q(pk=current_id))
        .annotate(is_running=Exists(unfinished))[:MAX_HISTORY]
    )
    groups: dict[str, list[Conversation]] = {}
    today = timezone.now().date()
    for row in rows:
        groups.setdefault(_day(row.updated_at.date(), today), []).append(row)
    return [Group(title=title, conversations=rows) for title, rows in groups.items()]


def _day(day: date, today: date) -> str:
    if day >= today:
        return "Today"
    if day == today - timedelta(days=1):
        return "Yesterday"
    if day > today - timedelta(days=7):
        return "Last 7 days"
    return "Last 30 days" if day > today - timedelta(days=30) else "Older"


def labels() -> list[tuple[str, str]]:
    """What must be known of the tables' data on every page: label and the sentence behind it."""
    specs = [table.spec for table in registry.tables]
    return [(spec.label, spec.notice) for spec in specs if spec.label]


def start_tables() -> list[StartTable]:
    """One entry a table of the registry; counts its rows, one query each."""
    return [_start_table(table) for table in registry.tables]


def _start_table(table: Table) -> StartTable:
    spec = table.spec
    counted = table.query(Query(table=spec.name, count_only=True))
    n_rows = counted.total if isinstance(counted, CountResult) else counted.matched
    return StartTable(
        noun=spec.noun[0 if n_rows == 1 else 1],
        n_rows=n_rows,
        notice=spec.notice,
        starters=[(example, _starter_icon(example)) for example in spec.examples],
    )


def _starter_icon(example: str) -> str:
    words = example.lower()
    if "csv" in words or "export" in words:
        return "download"
    return "chart" if any(w in words for w in ("how many", "number of", " per ", "count")) else "search"
