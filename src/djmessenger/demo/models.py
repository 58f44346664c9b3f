"""Orders of the coffee shop."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Order(models.Model):
    """One drink that a person ordered in a conversation."""

    person = models.ForeignKey("djmessenger.FBUserProfile", on_delete=models.CASCADE, related_name="orders")
    drink = models.CharField(max_length=40)
    created = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[models.Manager[Order]] = models.Manager()

    def __str__(self) -> str:
        return f"{self.drink} for {self.person}"
