"""The stations of a message in the order it passes them; each may be run again at any time."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from django.db import connection
from django.db.models import Exists, OuterRef

from djmessenger import models, settings
from djmessenger.pipeline import intake
from djmessenger.pipeline.clock import Deadline
from djmessenger.pipeline.failpoints import failpoint
from djmessenger.pipeline.inbox import Inbox, RunHere, SlowPool
from djmessenger.pipeline.outbox import Outbox

logger = logging.getLogger(__name__)

CHANNEL = "djmessenger"
"""PostgreSQL channel on which work is announced."""

Kind = models.Lane.Kind


@dataclass(frozen=True, kw_only=True)
class Road:
    """What there is to do, without a word on who does it and when."""

    inbox: Inbox
    outbox: Outbox

    def callback(self, callback_id: int) -> None:
        """Split a stored callback, and do all that follows from it here and now."""
        self.loose(todo := intake.split(callback_id))
        for conversation_id in todo.conversations:
            self.conversation(conversation_id)

    def conversation(self, conversation_id: int) -> None:
        """Handle the waiting events of a conversation, then send its replies, unless somebody else is at it."""
        for kind in (Kind.IN, Kind.OUT):
            self._claim_and_work(kind, conversation_id)

    def send(self, conversation_id: int) -> None:
        """Send the waiting replies of a conversation, unless somebody else is at it."""
        self._claim_and_work(Kind.OUT, conversation_id)

    def _claim_and_work(self, kind: str, conversation_id: int) -> None:
        deadline = Deadline(settings.DJM_LEASE)
        leases = models.Lane.objects.claim(kind, seconds=settings.DJM_LEASE, conversation_id=conversation_id)
        for lease in leases:
            self.work(lease, deadline, RunHere())

    def work(self, lease: models.Lease, deadline: Deadline, slow: SlowPool) -> None:
        """Do what waits in a claimed lane and let go of it."""
        failpoint(f"{lease.kind}_claimed")
        try:
            if lease.kind == Kind.IN:
                self.inbox.work(lease, deadline, slow)
            else:
                self.outbox.work(lease, deadline)
        except models.LeaseLost as lost:
            logger.warning(
                "Work was given up: %s", lost, extra={"action": "lease_lost", "lane": lease.lane_id}
            )

    def loose(self, todo: intake.Split) -> None:
        """Handle events that belong to no conversation."""
        for row_id in todo.loose:
            self.inbox.handle_loose(row_id)

    def split_waiting(self) -> int:
        """Split the callbacks that nobody has split yet; give how many."""
        waiting = models.Callback.objects.filter(state=models.Callback.State.NEW).order_by("id")
        found = list(waiting.values_list("id", flat=True)[:100])
        for callback_id in found:
            self.loose(intake.split(callback_id))
        return len(found)

    def sweep(self) -> None:
        """Wake what waits although nobody is told: after a restart, a lost wake-up or a hand on the rows."""
        while self.split_waiting():
            pass
        events = models.Messaging.objects.filter(state=models.Messaging.State.NEW)
        for row_id in list(events.filter(conversation=None).order_by("id").values_list("id", flat=True)):
            self.inbox.handle_loose(row_id)
        replies = models.Reply.objects.filter(state__in=models.Reply.OPEN)
        asleep = models.Lane.objects.filter(ready_at=None)
        for kind, rows in ((Kind.IN, events), (Kind.OUT, replies)):
            forgotten = asleep.filter(kind=kind).filter(
                Exists(rows.filter(conversation_id=OuterRef("conversation_id")))
            )
            if found := list(forgotten.values_list("conversation_id", flat=True)):
                models.Lane.objects.wake(found, kind)

    def notify(self) -> None:
        """Tell worker processes, on commit, that something waits; they would find it by polling too."""
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])
