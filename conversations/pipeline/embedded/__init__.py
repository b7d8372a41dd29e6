"""The deterministic engine: lexicon, grammar, query, answers; it knows tables only by their specs."""

from __future__ import annotations

from conversations.pipeline.embedded.engine import EmbeddedEngine

__all__ = ["EmbeddedEngine"]
