"""Makes an empty opschat ready to be tried."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from inventory import demo


class Command(BaseCommand):
    help = (
        "Loads about 500 sample assets into an empty inventory and makes the accounts alice, bob, erin and admin with "
        "one password, which is printed once. What is there already is left as it is."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            demo.check_allowed()
        except demo.Refused as error:
            raise CommandError(str(error)) from error
        n_assets = demo.load_sample(today=timezone.now().date())
        self.stdout.write(
            f"{n_assets} sample assets loaded." if n_assets else "There are assets already: no sample loaded."
        )
        password = demo.make_accounts().password
        if password is None:
            self.stdout.write("The demo accounts exist already; their password is not stored and can't be shown again.")
            return
        self.stdout.write("\n".join(_block(password)))


def _block(password: str) -> list[str]:
    lines = ["", "  Sign in as"]
    lines += [f"    {username:<6} {what}" for username, what in demo.ACCOUNTS.items()]
    return [*lines, f"  Password (all four): {password}", "  It is shown only now: keep it.", ""]
