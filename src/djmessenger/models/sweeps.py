"""Whose turn it is to look for forgotten work."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from djmessenger.models.lanes import in_seconds


class SweepManager(models.Manager["Sweep"]):
    """Gives the turn to one process at a time, by the clock of the database."""

    def claim(self, seconds: float) -> bool:
        """Take the turn for so many seconds; false when another has it.

        It is not given back: when its holder dies, the others wait no longer than they do anyway.
        """
        if self.filter(pk=Sweep.ONLY, date_free__lte=Now()).update(date_free=in_seconds(seconds)):
            return True
        return self.get_or_create(pk=Sweep.ONLY, defaults={"date_free": in_seconds(seconds)})[1]


class Sweep(models.Model):
    """The one row that says until when nobody else needs to sweep: many processes do, and once is enough."""

    ONLY = 1

    date_free = models.DateTimeField(_("free from"))

    objects: ClassVar[SweepManager] = SweepManager()

    class Meta:
        verbose_name = _("sweep")
        verbose_name_plural = _("sweeps")

    def __str__(self) -> str:
        return f"{self.date_free:%Y-%m-%d %H:%M:%S}"
