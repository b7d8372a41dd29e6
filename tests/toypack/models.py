from __future__ import annotations

from typing import ClassVar

from django.db import models


class Window(models.Model):
    """A stretch of planned maintenance of one asset."""

    title = models.TextField(unique=True)
    asset = models.TextField()
    team = models.TextField()
    starts_at = models.DateTimeField()
    minutes = models.PositiveIntegerField()

    objects: ClassVar[models.Manager[Window]] = models.Manager()

    def __str__(self) -> str:
        return self.title
