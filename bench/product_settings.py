"""opschat's settings with the floor beside the product: what a request costs that does the least a run's must."""

from __future__ import annotations

from opschat.settings import *  # noqa: F403  settings are laid over settings

ASGI_APPLICATION = "bench.product_asgi.application"
