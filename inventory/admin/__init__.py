"""The review's pages of assets, and the one that imports them."""

from __future__ import annotations

from inventory.admin import assets

__all__ = ["assets"]
