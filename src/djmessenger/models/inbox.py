"""What came in: the messagings that callbacks were split into."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, ClassVar

from django.db import models, router
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from djmessenger.models.callbacks import Callback
from djmessenger.models.pages import Page
from djmessenger.models.people import Conversation
from djmessenger.models.queues import Lane, Lease
from djmessenger.sql import dialect, fetch

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

    from djmessenger.models.outbox import Reply


_WAITS = "state = 'new'"
"""In SQL: which events are to be handled."""


class MessagingManager(models.Manager["Messaging"]):
    """What the road does with each event, in plain SQL for it does it often."""

    def hold(self, leases: Mapping[int, Lease]) -> set[int]:
        """Lock lanes, each with the waiting event whose key leads to its lease, to the end of the transaction.

        Gives the keys of the events whose lease is not lost and that are not handled already. In sorted order, so
        that two batches never wait for each other.
        """
        alias = router.db_for_write(Messaging)
        places = ", ".join(["%s"] * len(leases))
        text = (
            "SELECT row_.id, lane_.id, lane_.epoch FROM {lanes} lane_ JOIN {table} row_ "  # noqa: S608 - no input
            f"ON row_.conversation_id = lane_.conversation_id WHERE lane_.id IN ({places}) "
            f"AND row_.id IN ({places}) AND row_.state = 'new' ORDER BY lane_.conversation_id {{for_update}}"
        ).format_map(dialect(Messaging, alias) | {"lanes": dialect(Lane, alias)["table"]})
        found = fetch(alias, text, [*(lease.lane_id for lease in leases.values()), *leases])
        return {
            pk for pk, lane_id, epoch in found if (leases[pk].lane_id, leases[pk].epoch) == (lane_id, epoch)
        }

    def claim_idle(self, conversation_ids: Collection[int], seconds: float) -> list[Lease]:
        """Take, in the caller's transaction, the incoming lanes in which no event waits and that nobody holds."""
        return Lane.objects.claim_idle(
            Lane.Kind.IN, conversation_ids, Messaging, where=_WAITS, seconds=seconds
        )

    def release(self, lane_ids: Collection[int]) -> None:
        """Let go of incoming lanes that are locked: each is due when its first waiting event is."""
        Lane.objects.release_many(lane_ids, Messaging, where=_WAITS, order="timestamp, id")


class Messaging(models.Model):
    """One event: the inbox row until it is done, the record from then on."""

    class State(models.TextChoices):
        NEW = "new", _("waiting")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")
        IGNORED = "ignored", _("ignored")
        PAUSED = "paused", _("paused")

    type = models.CharField(_("type"), max_length=64)
    body = models.JSONField(_("body"), help_text=_("The item as Meta sent it."))
    key = models.CharField(  # noqa: DJ001 - unique where there is one
        _("key"), max_length=128, unique=True, null=True, help_text=_("The same for the same event.")
    )
    mid = models.CharField(_("message id"), max_length=255, blank=True, db_index=True)
    echo_token = models.CharField(  # noqa: DJ001  # null: most rows have none, and none is looked for
        _("token of the echo"),
        max_length=64,
        null=True,
        blank=True,
        db_index=True,
        help_text=_("Names the attempt that this echo proves."),
    )
    callback = models.ForeignKey(
        Callback,
        verbose_name=_("callback"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="messagings",
    )
    page = models.ForeignKey(
        Page,
        verbose_name=_("page"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="messagings",
    )
    conversation = models.ForeignKey(
        Conversation,
        verbose_name=_("conversation"),
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="messagings",
    )
    is_standby = models.BooleanField(
        _("standby"), default=False, help_text=_("Another app has the conversation.")
    )
    timestamp = models.BigIntegerField(_("time of the event"), help_text=_("Milliseconds since 1970, UTC."))
    state = models.CharField(_("state"), max_length=8, choices=State, default=State.NEW)
    reason = models.CharField(_("reason"), max_length=255, blank=True)
    outcome = models.JSONField(_("outcome"), null=True, blank=True)
    error = models.TextField(_("traceback"), blank=True)
    tries = models.PositiveSmallIntegerField(_("failed tries"), default=0)
    not_before = models.DateTimeField(_("not before"), null=True, blank=True)
    is_kept = models.BooleanField(_("kept"), default=False, help_text=_("Not removed when old rows are."))
    date_received = models.DateTimeField(_("received"), default=timezone.now)
    date_handled = models.DateTimeField(_("handled"), null=True, blank=True)

    is_at_hand = False
    """Whether whoever handles it now writes down afterwards what was changed of it."""

    if TYPE_CHECKING:
        replies: RelatedManager[Reply]

    objects: ClassVar[MessagingManager] = MessagingManager()

    class Meta:
        verbose_name = _("messaging")
        verbose_name_plural = _("messagings")
        permissions = [  # noqa: RUF012 - as Django declares it
            ("replay_messaging", "Can have messagings handled again")
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["conversation", "timestamp", "id"], name="djm_messaging_dialogue"),
            models.Index(
                fields=["conversation", "timestamp", "id"],
                name="djm_messaging_waiting",
                condition=models.Q(state="new"),
            ),
            models.Index(fields=["date_received"], name="djm_messaging_received"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.date_event:%Y-%m-%d %H:%M:%S}"

    @property
    def date_event(self) -> datetime.datetime:
        """The time of the event; the time of arrival where Meta's cannot be one."""
        try:
            return datetime.datetime.fromtimestamp(self.timestamp / 1000, tz=datetime.UTC)
        except (OverflowError, OSError, ValueError):
            return self.date_received
