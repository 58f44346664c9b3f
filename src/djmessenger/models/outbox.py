"""What the bot says: one row for each Graph call that carries a reply."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import models, transaction
from django.db.models.signals import post_save, pre_save
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from djmessenger.models import speaking
from djmessenger.models.inbox import Messaging
from djmessenger.models.people import Conversation, FBUserProfile
from djmessenger.models.queues import Lane
from djmessenger.signals import reply_queued
from djmessenger.sql import insert_each

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager


@dataclass(kw_only=True)
class Held:
    """Replies that wait to be inserted together with others'; once it is closed, each is inserted as it comes."""

    replies: list[Reply] = field(default_factory=list)
    is_open: bool = True


class ReplyManager(models.Manager["Reply"]):
    def queue(
        self,
        conversation: Conversation,
        data: dict[str, Any],
        *,
        type: str,  # noqa: A002 - the documented name of the column
        messaging: Messaging | None = None,
        rule: str = "",
        held: Held | None = None,
    ) -> Reply:
        """Queue one request of the Send API, without its recipient, inside the caller's transaction, if there is one.

        ``data`` is the body of the call: ``message`` and what stands beside it. The lane is woken in the same
        transaction, so that the reply cannot be forgotten; the dispatcher is told on commit. Without ``rule``
        it bears the name of the rule that runs. Given ``held``, the row is left there for ``insert``.
        """
        reply = Reply(
            recipient_id=conversation.person_id,
            conversation=conversation,
            messaging=messaging,
            rule=(rule or speaking.rule_that_runs())[:255],
            type=type,
            data=data,
        )
        if held is not None and held.is_open and not _is_listened_to():
            held.replies.append(reply)
        else:
            self.insert([reply])
        speaking.note(reply)
        return reply

    def insert(self, replies: Sequence[Reply], held: Collection[int] = ()) -> None:
        """Insert replies in their order, and wake their lanes in the same transaction.

        ``held`` are conversations whose lanes the caller holds, and looks at again before letting go.
        """
        if not replies:
            return
        for reply in replies:
            # A transaction that was rolled back may have given it one.
            reply.pk = None
        with transaction.atomic(using=self.db, savepoint=False):
            if _is_listened_to():
                for reply in replies:
                    reply.save(using=self.db, force_insert=True)
            else:
                insert_each(replies, "uuid")
            known = {pk for reply in replies if (pk := reply.conversation_id) is not None}
            conversations = sorted(known.difference(held))
            if conversations:
                Lane.objects.wake(conversations, Lane.Kind.OUT)
            for conversation_id in conversations:
                # A broker that is away is no reason to break the caller: the sweep finds the row.
                transaction.on_commit(
                    partial(reply_queued.send_robust, Reply, conversation_id=conversation_id),
                    using=self.db,
                    robust=True,
                )


def _is_listened_to() -> bool:
    """Whether somebody expects Django's signals of each row, which many at once do not send."""
    return pre_save.has_listeners(Reply) or post_save.has_listeners(Reply)


class Reply(models.Model):
    """One message to a person: the outbox row until it has its fate, the record from then on."""

    class State(models.TextChoices):
        QUEUED = "queued", _("queued")
        SENDING = "sending", _("being sent")
        SENT = "sent", _("sent")
        FAILED = "failed", _("failed")
        UNKNOWN = "unknown", _("Meta may have it")
        PARKED = "parked", _("set aside")
        EXPIRED = "expired", _("too late")

    OPEN = (State.QUEUED, State.SENDING, State.UNKNOWN)
    """States that still have a future."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
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
    is_parked_when_unsure = models.BooleanField(
        _("set aside when unsure"),
        null=True,
        help_text=_("Rather than sent again. Unset: as DJM_WHEN_UNSURE says."),
    )
    not_before = models.DateTimeField(_("not before"), null=True, blank=True)
    vouched_wait = models.FloatField(
        _("waited for the echo"), default=0.0, help_text=_("In seconds that were watched, not by the clock.")
    )
    mid = models.CharField(_("message id"), max_length=255, null=True, blank=True, unique=True)
    response = models.JSONField(_("Graph's answer"), null=True, blank=True)
    status_code = models.PositiveIntegerField(_("HTTP status"), null=True, blank=True)
    error = models.TextField(_("error"), blank=True)
    date_sent = models.DateTimeField(
        _("sent"), default=timezone.now, help_text=_("Time of queueing until it is sent.")
    )
    date_delivered = models.DateTimeField(_("delivered"), null=True, blank=True)
    date_read = models.DateTimeField(_("read"), null=True, blank=True)

    if TYPE_CHECKING:
        attempts: RelatedManager[Attempt]

    objects: ClassVar[ReplyManager] = ReplyManager()

    class Meta:
        verbose_name = _("reply")
        verbose_name_plural = _("replies")
        permissions = [("resend_reply", "Can send replies again")]  # noqa: RUF012 - as Django declares it
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["conversation", "id"], name="djm_reply_dialogue"),
            models.Index(
                fields=["conversation", "id"],
                name="djm_reply_open",
                condition=models.Q(state__in=["queued", "sending", "unknown"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} ({self.get_state_display()})"


class Attempt(models.Model):
    """One try to send a reply, written down before the first byte leaves."""

    class Outcome(models.TextChoices):
        OPEN = "", _("not known")
        ACCEPTED = "accepted", _("accepted")
        UNSENT = "unsent", _("not sent")
        REFUSED = "refused", _("refused")
        UNKNOWN = "unknown", _("Meta may have it")

    reply = models.ForeignKey(
        Reply, verbose_name=_("reply"), on_delete=models.CASCADE, related_name="attempts"
    )
    number = models.PositiveSmallIntegerField(_("number"))
    token = models.CharField(
        _("token"), max_length=64, unique=True, help_text=_("Comes back in the echo of the message.")
    )
    epoch = models.BigIntegerField(_("claim of the lane"))
    outcome = models.CharField(_("outcome"), max_length=8, choices=Outcome, default=Outcome.OPEN, blank=True)
    status_code = models.PositiveIntegerField(_("HTTP status"), null=True, blank=True)
    code = models.BigIntegerField(_("code"), null=True, blank=True)
    subcode = models.BigIntegerField(_("subcode"), null=True, blank=True)
    fbtrace_id = models.CharField(_("trace id"), max_length=64, blank=True)
    mid = models.CharField(_("message id"), max_length=255, blank=True)
    date_started = models.DateTimeField(_("started"), default=timezone.now)
    date_ended = models.DateTimeField(_("ended"), null=True, blank=True)

    objects: ClassVar[models.Manager[Attempt]] = models.Manager()

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["reply", "number"], name="djm_attempt_reply_number")
        ]

    def __str__(self) -> str:
        return f"{self.number}: {self.get_outcome_display()}"
