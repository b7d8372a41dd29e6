"""A channel layer that loses messages."""

from __future__ import annotations

import random
from typing import Any

from channels_redis.pubsub import RedisPubSubChannelLayer


class DroppingLayer(RedisPubSubChannelLayer):  # type: ignore[misc]  # channels_redis has no types
    """Loses this part of what is sent to a group, the same messages in each run of the tests."""

    def __init__(self, *args: Any, dropped: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._dropped = dropped
        self._random = random.Random(4)  # noqa: S311  for tests

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if self._random.random() >= self._dropped:
            await self._get_layer().group_send(group, message)
