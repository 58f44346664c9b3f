"""What the calls to Graph leave behind: ids of uploaded files, and the request log of Pages that want one."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from djmessenger import rulebook, settings
from djmessenger.models.people import Page

_EARLY = datetime.timedelta(days=1)
"""How long before Meta drops an attachment we stop to use it: a message may wait a while."""
_TRIM_EVERY = 50
_LOG_AGE = datetime.timedelta(days=7)


class UploadedFileManager(models.Manager["UploadedFile"]):
    def find(self, page: Page, sha256: str, kind: str) -> UploadedFile | None:
        """Give the row of a file that this Page can still send without uploading it."""
        return self.filter(page=page, sha256=sha256, kind=kind, date_expires__gt=timezone.now()).first()

    def keep(self, page: Page, sha256: str, kind: str, attachment_id: str) -> UploadedFile:
        """Write down what an upload gave; rows of this Page that have expired go."""
        now = timezone.now()
        self.filter(page=page, date_expires__lte=now).delete()
        expires = now + datetime.timedelta(days=rulebook.limit("attachment.days")) - _EARLY
        row, _made = self.update_or_create(
            page=page,
            sha256=sha256,
            kind=kind,
            defaults={"attachment_id": attachment_id, "date_created": now, "date_expires": expires},
        )
        return row


class UploadedFile(models.Model):
    """A file that Meta has: it is sent again by its id until that expires, and by this Page alone."""

    page = models.ForeignKey(
        Page, verbose_name=_("page"), on_delete=models.CASCADE, related_name="uploaded_files"
    )
    sha256 = models.CharField(_("hash of the content"), max_length=64)
    kind = models.CharField(
        _("kind"), max_length=16, help_text=_("As Meta calls it: image, audio, video or file.")
    )
    attachment_id = models.CharField(_("attachment id"), max_length=64)
    date_created = models.DateTimeField(_("uploaded"), default=timezone.now)
    date_expires = models.DateTimeField(_("expires"), db_index=True)

    objects: ClassVar[UploadedFileManager] = UploadedFileManager()

    class Meta:
        verbose_name = _("uploaded file")
        verbose_name_plural = _("uploaded files")
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["page", "sha256", "kind"], name="djm_uploaded_page_hash_kind")
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.sha256[:12]}"


class GraphCallManager(models.Manager["GraphCall"]):
    def note(self, page_pk: int, **facts: Any) -> None:
        """Write one call down, and now and then drop what is too much."""
        row = self.create(page_id=page_pk, **facts)
        if row.pk % _TRIM_EVERY == 0:
            self.trim()

    def old(self) -> models.QuerySet[GraphCall]:
        """Give the lines that have been there for a week, also of Pages whose log is off by now."""
        return self.filter(date__lt=timezone.now() - _LOG_AGE)

    def trim(self) -> int:
        """Drop, of each Page, the lines over ``DJM_REQUEST_LOG`` and those older than a week; give how many."""
        dropped = self.old().delete()[0]
        for page_pk in list(self.order_by().values_list("page_id", flat=True).distinct()):
            lines = self.filter(page_id=page_pk)
            newest_over = lines.order_by("-id").values_list("id", flat=True)[settings.DJM_REQUEST_LOG :][:1]
            for pk in list(newest_over):
                dropped += lines.filter(id__lte=pk).delete()[0]
        return dropped


class GraphCall(models.Model):
    """One line of a Page's request log: no secret, no text, ids as short hashes."""

    page = models.ForeignKey(
        Page, verbose_name=_("page"), on_delete=models.CASCADE, related_name="graph_calls"
    )
    date = models.DateTimeField(_("time"), default=timezone.now)
    method = models.CharField(_("method"), max_length=8)
    path = models.CharField(_("path"), max_length=255, help_text=_("Ids are hashed."))
    status = models.PositiveIntegerField(_("HTTP status"), null=True, blank=True)
    outcome = models.CharField(_("outcome"), max_length=64, help_text=_("ok, or the kind of error."))
    code = models.BigIntegerField(_("code"), null=True, blank=True)
    subcode = models.BigIntegerField(_("subcode"), null=True, blank=True)
    ms = models.FloatField(_("duration"), help_text=_("Milliseconds."))
    fbtrace_id = models.CharField(_("trace id"), max_length=64, blank=True)

    objects: ClassVar[GraphCallManager] = GraphCallManager()

    class Meta:
        verbose_name = _("Graph call")
        verbose_name_plural = _("Graph calls")
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["page", "id"], name="djm_graphcall_page")
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.path}: {self.outcome}"
