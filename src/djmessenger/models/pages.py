"""Pages, and the records of the calls to Graph for a Page: uploaded files, request log, former profiles."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar, cast

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from djmessenger import channels, rulebook
from djmessenger.settings import app_settings

_EXPIRY_MARGIN = datetime.timedelta(days=1)
"""Margin before Meta's expiry of an attachment id.

Within the margin the id is not used, because the message may wait in its queue beyond the expiry.
"""
_TRIM_EVERY = 50
"""Number of lines of the request log between two trims.

A trim costs several queries. The insert of a line costs one.
"""
TOKEN_WARNING = datetime.timedelta(days=14)
"""Time before the end of a token from which staff are warned."""
_LOG_AGE = datetime.timedelta(days=7)
"""Age after which a line of the request log is deleted: long enough to look into the problem of last week."""


class Page(models.Model):
    """A Facebook Page or Instagram account that the bot serves."""

    class Channel(models.TextChoices):
        MESSENGER = channels.MESSENGER, _("Messenger")
        INSTAGRAM = channels.INSTAGRAM, _("Instagram")

    class Login(models.TextChoices):
        FACEBOOK = "facebook", _("Facebook Login")
        INSTAGRAM = "instagram", _("Instagram Login")

    page_id: str = cast("Any", models.CharField(_("page id"), max_length=64, unique=True))
    name = models.CharField(_("name"), max_length=255, blank=True)
    channel = models.CharField(_("channel"), max_length=16, choices=Channel, default=Channel.MESSENGER)
    login = models.CharField(
        _("login"),
        max_length=16,
        choices=Login,
        default=Login.FACEBOOK,
        help_text=_(
            "Login with which the token of an Instagram account was made. It decides the host of the API."
        ),
    )
    token_ciphertext = models.TextField(
        _("access token"),
        blank=True,
        editable=False,
        help_text=_("Encrypted with the newest key of DJM_TOKEN_KEYS."),
    )
    app_id = models.CharField(
        _("app id"),
        max_length=64,
        blank=True,
        help_text=_(
            "The Meta app of the Page. Its secret must be in DJM_APP_SECRET. Callbacks of other apps are ignored."
        ),
    )
    version = models.CharField(
        _("Graph version"),
        max_length=16,
        blank=True,
        help_text=_("Such as v26.0. Empty: the version in the settings."),
    )
    policy = models.CharField(
        _("policy"),
        max_length=255,
        blank=True,
        help_text=_(
            "Dotted path of a module of rules or of a dict, or a JSON file. Empty: the project's policy."
        ),
    )
    language = models.CharField(
        _("language"),
        max_length=16,
        blank=True,
        help_text=_(
            "Language for persons whose language is unknown, such as de. Empty: the project's language."
        ),
    )
    is_logged = models.BooleanField(
        _("request log"), default=False, help_text=_("Store a line for each call to Graph, without texts.")
    )
    date_created = models.DateTimeField(_("first seen"), default=timezone.now, editable=False)
    paused_until = models.DateTimeField(
        _("paused until"),
        null=True,
        blank=True,
        help_text=_("No reply is sent for this Page before this time."),
    )
    pause_reason = models.TextField(_("reason of the pause"), blank=True)
    paused_token = models.CharField(
        _("refused token"),
        max_length=16,
        blank=True,
        editable=False,
        help_text=_("Hash of the token that Graph refused. A new token ends the pause."),
    )
    date_last_echo = models.DateTimeField(_("last echo of the bot"), null=True, blank=True, editable=False)
    echo_lag = models.FloatField(
        _("echo lag"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("Seconds between a send and its echo: a maximum that decreases slowly."),
    )
    date_last_callback = models.DateTimeField(_("last callback"), null=True, blank=True, editable=False)

    date_token_expires = models.DateTimeField(
        _("end of the token"),
        null=True,
        blank=True,
        editable=False,
        help_text=_(
            "End of the stored token of Instagram Login. Empty: unknown until Meta has renewed it once."
        ),
    )
    date_token_renewal = models.DateTimeField(
        _("next renewal of the token"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("The stored token of Instagram Login is renewed after this time. Empty: now."),
    )
    token_claimed_until = models.DateTimeField(
        _("renewal claimed until"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("Until then one process renews the token."),
    )

    TOKEN_COLUMNS: ClassVar[tuple[str, ...]] = (
        "token_ciphertext",
        "date_token_expires",
        "date_token_renewal",
        "token_claimed_until",
    )
    """Columns that a new token changes."""

    objects: ClassVar[models.Manager[Page]] = models.Manager()

    class Meta:
        verbose_name = _("page")
        verbose_name_plural = _("pages")

    def __str__(self) -> str:
        return self.name or self.page_id

    def configured(self, name: str) -> str:
        """Return a value of the Page's entry in ``DJM_PAGES``, otherwise of this row, otherwise the empty text.

        ``name`` is channel, login, app_id, version, policy or language.
        """
        return str(app_settings.page_setting(self.page_id, name) or getattr(self, name))

    def has_instagram_login(self) -> bool:
        return (
            self.configured("channel") == self.Channel.INSTAGRAM
            and self.configured("login") == self.Login.INSTAGRAM
        )

    def is_token_ending(self) -> bool:
        """Return whether the stored token is in use and ends within ``TOKEN_WARNING``, or has ended."""
        is_used = self.has_instagram_login() and not app_settings.page_setting(self.page_id, "token")
        end = self.date_token_expires
        return is_used and end is not None and end < timezone.now() + TOKEN_WARNING

    def get_app_id(self) -> str:
        """Return the id of the Page's Meta app, or the empty text if it is unknown.

        With Instagram Login an app has a second id and secret, so ``DJM_APP_ID`` does not apply.
        """
        return self.configured("app_id") or ("" if self.has_instagram_login() else app_settings.DJM_APP_ID)


class UploadedFileManager(models.Manager["UploadedFile"]):
    def find(self, page: Page, sha256: str, kind: str) -> UploadedFile | None:
        """Return the row of a file that this Page can still send by its id, or None."""
        return self.filter(page=page, sha256=sha256, kind=kind, date_expires__gt=timezone.now()).first()

    def keep(self, page: Page, sha256: str, kind: str, attachment_id: str) -> UploadedFile:
        """Insert or update the row of an upload and return it. Expired rows of this Page are deleted."""
        now = timezone.now()
        self.filter(page=page, date_expires__lte=now).delete()
        expires = now + datetime.timedelta(days=rulebook.limit("attachment.days")) - _EXPIRY_MARGIN
        row, _made = self.update_or_create(
            page=page,
            sha256=sha256,
            kind=kind,
            defaults={"attachment_id": attachment_id, "date_created": now, "date_expires": expires},
        )
        return row


class UploadedFile(models.Model):
    """A file at Meta. Its Page, and no other, can send it by its id until the id expires."""

    page = models.ForeignKey(
        "djmessenger.Page",
        verbose_name=_("page"),
        on_delete=models.CASCADE,
        related_name="uploaded_files",
        db_index=False,  # ``djm_uploaded_page_hash_kind`` begins with it.
    )
    sha256 = models.CharField(_("hash of the content"), max_length=64)
    kind = models.CharField(
        _("kind"), max_length=16, help_text=_("Meta's word: image, audio, video or file.")
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
        """Insert a line for one call. Every ``_TRIM_EVERY`` lines, ``trim`` the log."""
        row = self.create(page_id=page_pk, **facts)
        if row.pk % _TRIM_EVERY == 0:
            self.trim()

    def old(self) -> models.QuerySet[GraphCall]:
        """Return the lines older than a week, including those of Pages whose log is switched off."""
        return self.filter(date__lt=timezone.now() - _LOG_AGE)

    def trim(self) -> int:
        """Delete lines older than a week and all but the newest ``DJM_REQUEST_LOG`` of each Page. Return the number."""
        dropped = self.old().delete()[0]
        for page_pk in list(self.order_by().values_list("page_id", flat=True).distinct()):
            lines = self.filter(page_id=page_pk)
            newest_over = lines.order_by("-id").values_list("id", flat=True)[app_settings.DJM_REQUEST_LOG :][
                :1
            ]
            for pk in list(newest_over):
                dropped += lines.filter(id__lte=pk).delete()[0]
        return dropped


class GraphCall(models.Model):
    """One line of a Page's request log: no secret, no text, ids as short hashes."""

    page = models.ForeignKey(
        "djmessenger.Page",
        verbose_name=_("page"),
        on_delete=models.CASCADE,
        related_name="graph_calls",
        db_index=False,  # ``djm_graphcall_page`` begins with it.
    )
    date = models.DateTimeField(_("time"), default=timezone.now)
    method = models.CharField(_("method"), max_length=8)
    path = models.CharField(_("path"), max_length=255, help_text=_("Ids are hashed."))
    status = models.PositiveIntegerField(_("HTTP status"), null=True, blank=True)
    outcome = models.CharField(_("outcome"), max_length=64, help_text=_("ok, or the class of the error."))
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


class ProfileSnapshot(models.Model):
    """Values of Messenger Profile properties before one change. ``profile rollback`` restores them.

    They are stored in the database, because a container keeps no files and a rollback may run on another machine.
    """

    KEPT = 20
    """Number of changes of a Page that can be rolled back; older snapshots are deleted."""

    page_id = models.CharField(_("page id"), max_length=64)
    platform = models.CharField(_("platform"), max_length=16)
    before = models.JSONField(_("before"), help_text=_("Value of each property; null if it was not set."))
    is_complete = models.BooleanField(
        _("complete"),
        default=False,
        help_text=_("Unset if the change was interrupted. The next change completes it."),
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
