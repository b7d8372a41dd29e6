"""opschat's settings with the engine of the fault tests, and a bus that loses as many messages as it is told to."""

from __future__ import annotations

import os
from typing import Any

from opschat.settings import *  # noqa: F403  settings are laid over settings
from opschat.settings import CHANNEL_LAYERS as _LAYERS

OPSCHAT_ENGINES = {"long": "tests.long.engine.LongEngine"}
OPSCHAT_ENGINE = "long"
if "OPSCHAT_TEST_DROPPED" in os.environ and _LAYERS:
    _BUS: Any = _LAYERS["bus"]
    _DROPPED = float(os.environ["OPSCHAT_TEST_DROPPED"])
    CHANNEL_LAYERS = {
        "bus": {"BACKEND": "tests.long.layers.DroppingLayer", "CONFIG": {**_BUS["CONFIG"], "dropped": _DROPPED}}
    }
