"""What a Page's Messenger Profile was before a command changed it."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class ProfileSnapshot(models.Model):
    """The properties that one change touches, as they were before; what ``profile rollback`` restores.

    A row, and no file: who takes a change back may sit at another machine, and a container keeps no files.
    """

    KEPT = 20
    """Changes of a Page that can be taken back."""

    page_id = models.CharField(_("page id"), max_length=64)
    platform = models.CharField(_("platform"), max_length=16)
    before = models.JSONField(_("before"), help_text=_("Property to its value; null where it was not set."))
    is_complete = models.BooleanField(
        _("complete"),
        default=False,
        help_text=_("Not when the change was interrupted; the next one goes on."),
    )
    date_created = models.DateTimeField(_("begun"), default=timezone.now)

    objects: ClassVar[models.Manager[ProfileSnapshot]] = models.Manager()

    class Meta:
        verbose_name = _("former profile")
        verbose_name_plural = _("former profiles")
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["page_id", "platform", "id"], name="djm_profile_page")
        ]

    def __str__(self) -> str:
        return f"{self.page_id} {self.date_created:%Y-%m-%d %H:%M:%S}"
