"""Locations that persons shared."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _


class UserLocation(models.Model):
    """A location that a person shared."""

    user = models.ForeignKey("djmessenger.FBUserProfile", verbose_name=_("person"), on_delete=models.CASCADE)
    latitude = models.DecimalField(_("latitude"), max_digits=19, decimal_places=16)
    longitude = models.DecimalField(_("longitude"), max_digits=19, decimal_places=16)
    title = models.CharField(_("title"), max_length=255, blank=True)
    url = models.TextField(_("address of the map"), blank=True)
    mid = models.CharField(_("message id"), max_length=255, blank=True)
    seq = models.BigIntegerField(
        _("sequence number"), null=True, blank=True, help_text=_("Meta sent it until 2019 only.")
    )
    timestamp = models.DateTimeField(_("sent"), null=True, blank=True)
    date_created = models.DateTimeField(_("stored"), default=now, editable=False)

    objects: ClassVar[models.Manager[UserLocation]] = models.Manager()

    class Meta:
        verbose_name = _("location")
        verbose_name_plural = _("locations")

    def __str__(self) -> str:
        return self.title or f"{self.latitude}, {self.longitude}"
