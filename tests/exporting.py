"""What tests of exports do: make one, ask for it, look at its file and its entries in the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from conversations import threads
from conversations.models import AuditEntry, Export, ExportFile
from tests.calls import Answer, ask, call, cookie_of


async def exported(user: User, n_rows: int = 12) -> Export:
    """The export of a request for so many rows of the toy tool."""
    await ask(user, f"rows {n_rows}\nHere:")
    return await threads.reading(
        lambda: Export.objects.select_related("run__conversation", "run__user").latest("created_at")
    )


async def got(export: Export, user: User, query: str = "", method: str = "GET", **headers: str) -> Answer:
    """What the address of the export's file answers."""
    named: dict[str, Any] = {"cookie": await cookie_of(user), **headers}
    return await call(method, f"/exports/{export.pk}/{query}", **named)


async def browse(user: User, method: str, path: str, **data: str) -> Any:
    """What a browser of the user gets; a post carries no token, which is tested elsewhere."""

    def browsing() -> Any:
        client = Client()
        client.force_login(user)
        return client.generic(
            method, path, "&".join(f"{k}={v}" for k, v in data.items()), "application/x-www-form-urlencoded",
            headers={"accept": "text/html"},
        )  # fmt: skip

    return await threads.reading(browsing)


async def entries(action: str, **conditions: Any) -> list[AuditEntry]:
    """The ledger's entries of an action, oldest first."""
    return await threads.reading(lambda: list(AuditEntry.objects.filter(action=action, **conditions).order_by("seq")))


def path_of(export: Export, key: str = "csv") -> Path:
    """The export's file on this disk."""
    return Path(settings.DATA_DIR / "exports" / ExportFile.objects.get(export=export, format=key).path)


async def file_of(export: Export, key: str = "csv") -> Path:
    """As `path_of`, for coroutines."""
    return await threads.reading(path_of, export, key)
