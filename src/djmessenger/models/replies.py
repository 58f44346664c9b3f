"""Models of messages to persons: replies and attempts."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from django.db import models
from django.db.models.signals import post_save, pre_save
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _

from djmessenger.models.queues import ConversationQueue
from djmessenger.models.recording import limit_reply, record_reply, rule_that_runs
from djmessenger.outgoing.attachments import refuse_strange_file
from djmessenger.project_code import announce
from djmessenger.signals import reply_queued
from djmessenger.sql import alias, atomic, insert_each, on_commit


@dataclass(kw_only=True)
class ReplyBuffer:
    """Replies that wait to be inserted in one batch.

    While ``is_open`` is true, ``ReplyManager.queue`` appends replies here. Afterwards it inserts each reply itself.
    """

    replies: list[Reply] = field(default_factory=list)
    is_open: bool = True


class ReplyManager(models.Manager["Reply"]):
    def queue(
        self,
        conversation: Any,
        data: dict[str, Any],
        *,
        type: str,  # noqa: A002 - the documented name of the column
        messaging: Any = None,
        rule: str = "",
        buffer: ReplyBuffer | None = None,
    ) -> Reply:
        """Insert one reply and return it. An open transaction of the caller is used, otherwise the insert commits.

        ``data`` is the body of the Send API call without the recipient. ``rule`` defaults to the name of the rule that
        runs. With an open ``buffer`` the reply is appended to the buffer instead, and the caller inserts it later. The
        buffer is not used if Django's save signals have a receiver for ``Reply``. Raises as
        ``refuse_strange_file`` does.
        """
        refuse_strange_file(data)
        reply = Reply(
            recipient_id=conversation.person_id,
            conversation=conversation,
            messaging=messaging,
            rule=(rule or rule_that_runs())[:255],
            type=type,
            data=data,
        )
        # A limit may make a query, which closes the buffer. So it comes first.
        limit_reply(reply)
        if buffer is not None and buffer.is_open and not _has_save_receivers():
            buffer.replies.append(reply)
        else:
            self.insert([reply])
        record_reply(reply)
        return reply

    def insert(self, replies: Sequence[Reply], leased: Collection[int | None] = ()) -> None:
        """Insert replies in their order and make their queues due, in one transaction.

        The signal ``reply_queued`` is sent on commit, once for each of these queues. ``leased`` contains the ids of
        conversations whose outgoing queue the caller has leased. Their queues are not made due, and no signal is sent,
        because the caller reads the waiting replies again before the release.
        """
        if not replies:
            return
        for reply in replies:
            # Guard: after a rollback the same object may be inserted again. Its old key could by then be the key of
            # another row.
            reply.pk = None
        with atomic(savepoint=False):
            if _has_save_receivers():
                for reply in replies:
                    reply.save(using=alias(), force_insert=True)
            else:
                insert_each(replies, "uuid")
            conversation_ids = {pk for reply in replies if (pk := reply.conversation_id) is not None}
            conversations = sorted(conversation_ids.difference(leased))
            # Guard: the wake-up is in the transaction of the rows. A crash between two transactions would leave the
            # replies without a due queue until the sweep.
            # Test: tests/test_dispatch.py, test_a_reply_and_its_wake_up_are_one_transaction.
            if conversations:
                ConversationQueue.objects.wake(conversations, ConversationQueue.Kind.OUT)
            for conversation_id in conversations:
                # Guard: an exception of a receiver, such as an unreachable broker, would reach the caller after its
                # commit. The sweep finds the rows.
                # Test: tests/test_dispatch.py, test_a_dispatcher_that_fails_breaks_no_caller.
                on_commit(
                    partial(announce, reply_queued, Reply, conversation_id=conversation_id),
                    robust=True,
                )


def _has_save_receivers() -> bool:
    """Return whether Django's save signals have a receiver for ``Reply``. A batch insert does not send them."""
    return pre_save.has_listeners(Reply) or post_save.has_listeners(Reply)


class Reply(models.Model):
    """One message to a person: an outbox row until its fate is final, a record afterwards."""

    class State(models.TextChoices):
        QUEUED = "queued", _("queued")
        SENDING = "sending", _("being sent")
        SENT = "sent", _("sent")
        FAILED = "failed", _("failed")
        UNKNOWN = "unknown", _("fate unknown")
        PARKED = "parked", _("parked")
        EXPIRED = "expired", _("expired")

    OPEN = (State.QUEUED, State.SENDING, State.UNKNOWN)
    """States in which a reply is still in its queue, and later replies of the conversation wait behind it."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    recipient = models.ForeignKey(
        "djmessenger.FBUserProfile", verbose_name=_("person"), on_delete=models.CASCADE
    )
    conversation = models.ForeignKey(
        "djmessenger.Conversation",
        verbose_name=_("conversation"),
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="replies",
        db_index=False,  # ``djm_reply_dialogue`` begins with it.
    )
    messaging = models.ForeignKey(
        "djmessenger.Messaging",
        verbose_name=_("answers"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="replies",
    )
    rule = models.CharField(_("rule"), max_length=255, blank=True)
    type = models.CharField(_("type"), max_length=32)
    data = models.JSONField(_("data"), help_text=_("Body of the call to Meta, without the recipient."))
    state = models.CharField(_("state"), max_length=8, choices=State, default=State.QUEUED)
    is_parked_when_unsure = models.BooleanField(
        _("park if fate unknown"),
        null=True,
        help_text=_(
            "If unknown whether Meta has the reply: park it (yes) or resend it (no). Unset: DJM_WHEN_UNSURE."
        ),
    )
    is_over_limit = models.BooleanField(
        _("over the limit"),
        default=False,
        # During a rolling update processes of the previous version insert replies without this column.
        db_default=False,
        editable=False,
        help_text=_(
            "Rules sent DJM_MAX_UNASKED messages since the last event of the person, so it is not sent."
        ),
    )
    not_before = models.DateTimeField(_("not before"), null=True, blank=True)
    observed_wait = models.FloatField(
        _("observed wait"),
        default=0.0,
        help_text=_("Seconds of waiting in which an echo would have been noticed."),
    )
    mid = models.CharField(_("message id"), max_length=255, null=True, blank=True, unique=True)
    response = models.JSONField(_("Graph's answer"), null=True, blank=True)
    status_code = models.PositiveIntegerField(_("HTTP status"), null=True, blank=True)
    error = models.TextField(_("error"), blank=True)
    date_sent = models.DateTimeField(
        _("sent"), default=now, help_text=_("Until the reply is sent: the time when it was queued.")
    )
    date_delivered = models.DateTimeField(_("delivered"), null=True, blank=True)
    date_read = models.DateTimeField(_("read"), null=True, blank=True)

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
    """One call of the Send API for a reply. The row is committed before the call begins."""

    class Outcome(models.TextChoices):
        OPEN = "", _("no result yet")
        ACCEPTED = "accepted", _("accepted")
        UNSENT = "unsent", _("not sent")
        REFUSED = "refused", _("refused")
        UNKNOWN = "unknown", _("fate unknown")

    reply = models.ForeignKey(
        "djmessenger.Reply",
        verbose_name=_("reply"),
        on_delete=models.CASCADE,
        related_name="attempts",
        db_index=False,  # ``djm_attempt_reply_number`` begins with it.
    )
    number = models.PositiveSmallIntegerField(_("number"))
    token = models.CharField(
        _("token"),
        max_length=64,
        unique=True,
        help_text=_("Sent with the message. The echo of the message returns it."),
    )
    fencing_token = models.BigIntegerField(_("fencing token"))
    outcome = models.CharField(_("outcome"), max_length=8, choices=Outcome, default=Outcome.OPEN, blank=True)
    status_code = models.PositiveIntegerField(_("HTTP status"), null=True, blank=True)
    code = models.BigIntegerField(_("code"), null=True, blank=True)
    subcode = models.BigIntegerField(_("subcode"), null=True, blank=True)
    fbtrace_id = models.CharField(_("trace id"), max_length=64, blank=True)
    mid = models.CharField(_("message id"), max_length=255, blank=True)
    date_started = models.DateTimeField(_("started"), default=now)
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
