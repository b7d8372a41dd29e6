from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from conversations import holds
from conversations.models import Conversation


class Command(BaseCommand):
    help = (
        "Places a legal hold on a conversation: its exports neither expire nor can they be deleted until it is lifted."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("conversation", type=UUID, help="the id in the conversation's address")
        parser.add_argument("--lift", action="store_true", help="lift the hold")
        parser.add_argument("--why", default="", help="for the ledger")

    def handle(self, *args: Any, conversation: UUID, lift: bool, why: str, **options: Any) -> None:
        found = Conversation.objects.filter(pk=conversation).first()
        if found is None:
            raise CommandError(f"There is no conversation {conversation}.")
        change = holds.lift if lift else holds.place
        if not change(conversation=found, user=None, origin=None, why=why):
            raise CommandError("There is no hold on it." if lift else "There is a hold on it already.")
        self.stdout.write(f"The hold on {conversation} is lifted." if lift else f"A hold lies on {conversation}.")
