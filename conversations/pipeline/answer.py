"""The answer of a run while it is written."""

from __future__ import annotations

from collections.abc import Sequence

from conversations.pipeline.engine import Executed
from conversations.pipeline.events import Token
from conversations.pipeline.stage import Journal, Json
from conversations.pipeline.tables import markdown_table


class Answer:
    """The answer so far: text, what was sent of it as tokens, and where exports stand in it."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.text = ""
        self.blocks: list[Json] = []

    def take(self, text: str, blocks: Sequence[Json]) -> None:
        """Goes on from an answer that an earlier attempt has written, and sent, to its end."""
        self.text = text
        self.blocks = list(blocks)

    def write(self, piece: str) -> None:
        if piece:
            self.journal.record(Token(text=piece, offset=len(self.text)))
            self.text += piece

    def write_table(self, result: Executed) -> None:
        """The markdown table of a result's first rows, set apart by blank lines."""
        if self.text:
            n_breaks = len(self.text) - len(self.text.rstrip("\n"))
            self.write("\n" * max(0, 2 - n_breaks))
        start = len(self.text)
        for line in markdown_table([c.name for c in result.columns], result.rows):
            self.write(line + "\n")
        if result.export_id:
            self.add_block(start, len(self.text), result.export_id)
        self.write("\n")

    def add_block(self, start: int, end: int, export_id: str) -> None:
        self.blocks.append({"start": start, "end": end, "export_id": export_id})
        self.blocks.sort(key=lambda block: block["start"])
