"""What the bot says: one row for each Graph call that carries a reply."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models, transaction
from django.dispatch import Signal
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from djmessenger.models.inbox import Messaging
from djmessenger.models.people import Conversation, FBUserProfile

reply_queued = Signal()
"""Sent after the commit that queued replies of a conversation: ``conversation_id``."""


class ReplyManager(models.Manager["Reply"]):
    def queue(
        self,
        conversation: Conversation,
        data: dict[str, Any],
        *,
        type: str,  # noqa: A002 - the documented name of the column
        messaging: Messaging | None = None,
        rule: str = "",
    ) -> Reply:
        """Queue one request of the Send API, without its recipient, inside the caller's transaction.

        ``data`` is the body of the call: ``message`` and what stands beside it. The road is told on commit.
        """
        reply = self.create(
            recipient_id=conversation.person_id,
            conversation=conversation,
            messaging=messaging,
            rule=rule,
            type=type,
            data=data,
        )
        transaction.on_commit(
            lambda: reply_queued.send(Reply, conversation_id=conversation.pk), using=reply._state.db
        )
        return reply


class Reply(models.Model):
    """One message to a person: the outbox row until it has its fate, the record from then on."""

    class State(models.TextChoices):
        QUEUED = "queued", _("queued")
        SENDING = "sending", _("being sent")
        SENT = "sent", _("sent")
        FAILED = "failed", _("failed")
        UNKNOWN = "unknown", _("Meta may have it")

    recipient = models.ForeignKey(FBUserProfile, verbose_name=_("person"), on_delete=models.CASCADE)
    conversation = models.ForeignKey(
        Conversation,
        verbose_name=_("conversation"),
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="replies",
    )
    messaging = models.ForeignKey(
        Messaging,
        verbose_name=_("answers"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="replies",
    )
    rule = models.CharField(_("rule"), max_length=255, blank=True)
    type = models.CharField(_("type"), max_length=32)
    data = models.JSONField(_("data"), help_text=_("The body of the call, without the recipient."))
    state = models.CharField(_("fate"), max_length=8, choices=State, default=State.QUEUED)
    mid = models.CharField(_("message id"), max_length=255, blank=True, db_index=True)
    response = models.JSONField(_("Graph's answer"), null=True, blank=True)
    status_code = models.PositiveIntegerField(_("HTTP status"), null=True, blank=True)
    error = models.TextField(_("error"), blank=True)
    date_sent = models.DateTimeField(
        _("sent"), default=timezone.now, help_text=_("Time of queueing until it is sent.")
    )
    date_delivered = models.DateTimeField(_("delivered"), null=True, blank=True)
    date_read = models.DateTimeField(_("read"), null=True, blank=True)

    objects: ClassVar[ReplyManager] = ReplyManager()

    class Meta:
        verbose_name = _("reply")
        verbose_name_plural = _("replies")
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["conversation", "id"], name="djm_reply_dialogue"),
            models.Index(
                fields=["conversation", "id"],
                name="djm_reply_open",
                condition=models.Q(state__in=["queued", "sending"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} ({self.get_state_display()})"
