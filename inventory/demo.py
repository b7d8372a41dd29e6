"""What a first start can be tried with: the sample assets, and four people to sign in as."""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass
from datetime import date

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Permission, User
from django.db import transaction

from inventory.models import Asset
from inventory.sample import sample_assets

#: User name -> what the account can do, for people.
ACCOUNTS = {
    "alice": "a user",
    "bob": "another user",
    "erin": "may review everybody's conversations",
    "admin": "administers opschat",
}
_REVIEW = ("conversations", "review")


class Refused(Exception):
    """Demo accounts must not be made here; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """`password` is that of all of them; None when they were there already. It is nowhere else."""

    password: str | None


def check_allowed() -> None:
    """Raises Refused where others could reach accounts with a printed password."""
    if settings.PRODUCTION:
        raise Refused("Demo accounts are not made in production. Start with DEMO=0 and use createsuperuser.")
    if settings.DEMO_FORCE:
        return
    if not _is_loopback(settings.HOST):
        raise Refused(
            f"HOST={settings.HOST} can be reached by others: no demo accounts are made. Start with DEMO=0 and use "
            "createsuperuser, or set OPSCHAT_DEMO_FORCE=1."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def make_accounts() -> Accounts:
    """All four or, when one of the names is taken, none."""
    with transaction.atomic():
        if User.objects.filter(username__in=ACCOUNTS).exists():
            return Accounts(password=None)
        password = settings.DEMO_PASSWORD or secrets.token_urlsafe(12)
        hashed = make_password(password)  # once, because it is slow by design
        for username in ("alice", "bob"):
            User.objects.create(username=username, first_name=username.capitalize(), password=hashed)
        erin = User.objects.create(username="erin", first_name="Erin", password=hashed, is_staff=True)
        app, codename = _REVIEW
        erin.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
        User.objects.create(username="admin", first_name="Admin", password=hashed, is_staff=True, is_superuser=True)
    return Accounts(password=password)


def load_sample(*, today: date) -> int:
    """Loads the sample into an empty inventory; how many assets it loaded."""
    with transaction.atomic():
        if Asset.objects.exists():
            return 0
        return len(Asset.objects.bulk_create(sample_assets(today=today)))
