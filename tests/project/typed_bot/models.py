"""Orders of the typed bot."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """An order of a person."""

    person = models.ForeignKey("djmessenger.FBUserProfile", on_delete=models.CASCADE)

    objects = models.Manager()

    def __str__(self) -> str:
        return f"order {self.pk}"
