from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from conversations import audit, tokens


class Command(BaseCommand):
    help = "Makes an API token for a user and prints it, alone and this once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--days", type=_days, help="the token expires after so many days; default: never")
        parser.add_argument("--label", default="", help="what it is for, shown on the account page")

    @transaction.atomic
    def handle(self, *args: Any, username: str, days: int | None, label: str, **options: Any) -> None:
        user = get_user_model().objects.filter(username=username, is_active=True).first()
        if user is None:
            raise CommandError(f"There is no active user named {username!r}.")
        try:
            token, text = tokens.make(user=user, days=days, label=label)
        except (tokens.InvalidLabel, tokens.TooManyTokens) as error:
            raise CommandError(str(error)) from error
        audit.record(
            actor=user,
            action="token.create",
            object_type="token",
            object_id=token.pk,
            detail={"by": "create_token", "label": token.label, "days": days},
        )
        self.stdout.write(text)


#: A century: longer is meant as "never", which is the default.
_MOST_DAYS = 36500


def _days(text: str) -> int:
    days = int(text)
    if not 1 <= days <= _MOST_DAYS:
        raise ValueError
    return days
