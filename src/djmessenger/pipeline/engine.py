"""The stations of a message in the order it passes them; each may be run again at any time."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import DatabaseError, connection, transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Length, Now

from djmessenger import models
from djmessenger.clock import Deadline
from djmessenger.pipeline import intake
from djmessenger.pipeline.connections import statement_timeout
from djmessenger.pipeline.inbox import Handled, Inbox, RunHere, SlowPool
from djmessenger.pipeline.leases import give_back, log_lost
from djmessenger.pipeline.notifications import CHANNEL
from djmessenger.pipeline.outbox import Outbox
from djmessenger.settings import app_settings
from djmessenger.sql import Prepared

logger = logging.getLogger(__name__)

Kind = models.ConversationQueue.Kind

_PATIENCE = 2.0
"""Seconds for each statement of a split inside a request; Meta gives five for all of it."""
MOST_CALLBACKS, _MOST_BYTES = 100, 256 * 1024
"""What is split in one transaction: as many callbacks as together have no more bytes."""


_WAITING = Prepared(
    models.Callback,
    lambda: (
        models.Callback.objects.filter(state=models.Callback.State.NEW)
        .order_by("id")
        .values_list("id", Length("body"), "app_id")[:MOST_CALLBACKS]
    ),
)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What there is to do, without a word on who does it and when."""

    inbox: Inbox
    outbox: Outbox

    def callback(self, callback_id: int) -> None:
        """Split a stored callback, and do all that follows from it here and now.

        Somebody waits for the answer: a split that meets a busy database is left to a sweep.
        """
        with statement_timeout(_PATIENCE):
            todo = intake.split(callback_id)
        self.handle_without_conversation(todo)
        for conversation_id in todo.conversations:
            self.conversation(conversation_id)

    def conversation(self, conversation_id: int) -> None:
        """Handle the waiting events of a conversation, then send its replies, unless somebody else is at it."""
        for kind in (Kind.IN, Kind.OUT):
            self.work_on(kind, conversation_id)

    def send(self, conversation_id: int) -> None:
        """Send the waiting replies of a conversation, unless somebody else is at it."""
        self.work_on(Kind.OUT, conversation_id)

    def work_on(self, kind: str, conversation_id: int) -> None:
        """Work on one direction of a conversation here and now, unless somebody else is at it."""
        deadline = Deadline(app_settings.DJM_LEASE)
        leases = models.ConversationQueue.objects.claim(
            kind, seconds=app_settings.DJM_LEASE, conversation_id=conversation_id
        )
        for lease in leases:
            self.work(lease, deadline, RunHere())

    def work(self, lease: models.Lease, deadline: Deadline, slow: SlowPool) -> None:
        """Do what waits in a claimed queue and let go of it; what breaks off is begun again soon."""
        with _giving_back(lease):
            if lease.kind == Kind.IN:
                self.inbox.work(lease, deadline, slow)
            else:
                self.outbox.work(lease, deadline)

    def handle(
        self, lease: models.Lease, deadline: Deadline, slow: SlowPool, next_row: models.Messaging | None
    ) -> Handled | None:
        """Handle the first event of a claimed queue and let go of it.

        Gives what is to be written down, maybe with others, by the inbox, which then lets go of the queue.
        """
        with _giving_back(lease):
            return self.inbox.handle(lease, deadline, slow, next_row)
        return None

    def process_next(self, lease: models.Lease, deadline: Deadline) -> None:
        """Do one step in a claimed outbox and let go of it."""
        with _giving_back(lease):
            self.outbox.process_next(lease, deadline)

    def handle_without_conversation(self, todo: intake.Split) -> None:
        """Handle events that belong to no conversation."""
        for row_id in todo.events_without_conversation:
            self.inbox.handle_event_without_conversation(row_id)

    def split_waiting(self, take: int = 0) -> intake.Split:
        """Split callbacks that nobody has split yet, some at a time; give what that left to do.

        Of the queues that get work, up to ``take`` that are idle are claimed for the caller, from now on.
        They go together, and singly when that breaks: one that breaks alone is set aside, so that those behind it
        are not kept waiting.
        """
        batch, more = self._callbacks_waiting()
        if not batch:
            return intake.Split()
        try:
            todo = intake.split_many(batch, take)
        except Exception:
            logger.exception("Callbacks are split one by one", extra={"action": "callbacks_singly"})
            todo = intake.Split()
            for callback_id in batch:
                todo.add(self.split(callback_id))
        todo.more = more
        return todo

    @staticmethod
    def _callbacks_waiting() -> tuple[list[int], bool]:
        """Give the oldest callbacks to split, no more than fit a transaction, all signed by one app.

        Also whether there are more.
        """
        batch: list[int] = []
        total = 0
        signer = None
        for callback_id, size, app_id in _WAITING.rows():
            total += size
            if batch and (total > _MOST_BYTES or app_id != signer):
                return batch, True
            signer = app_id
            batch.append(callback_id)
        return batch, len(batch) == MOST_CALLBACKS

    def split(self, callback_id: int) -> intake.Split:
        """Split one stored callback; one that breaks is set aside, one that meets a sick database waits."""
        try:
            return intake.split(callback_id)
        except DatabaseError:
            # Perhaps a deadlock or an outage; it is tried again with the next look.
            logger.exception("A callback could not be split", extra={"action": "callback_waits"})
        except Exception:
            logger.exception("A callback breaks its split", extra={"action": "callback_broken"})
            intake.quarantine(callback_id, traceback.format_exc())
        return intake.Split()

    def waiting_without_conversation(self) -> list[int]:
        """Give the events of nobody's that are due."""
        events = models.Messaging.objects.filter(state=models.Messaging.State.NEW, conversation=None)
        due = events.filter(Q(not_before=None) | Q(not_before__lte=Now()))
        return list(due.order_by("id").values_list("id", flat=True)[:1000])

    def sweep(self) -> None:
        """Wake what waits although nobody is told: after a restart, a lost wake-up or a hand on the rows."""
        events = models.Messaging.objects.filter(state=models.Messaging.State.NEW).exclude(conversation=None)
        replies = models.Reply.objects.filter(state__in=models.Reply.OPEN).exclude(conversation=None)
        for kind, rows in ((Kind.IN, events), (Kind.OUT, replies)):
            awake = models.ConversationQueue.objects.filter(
                kind=kind, conversation=OuterRef("conversation"), ready_at__isnull=False
            )
            without_wake_up = rows.filter(~Exists(awake)).order_by().values_list("conversation_id", flat=True)
            if conversation_ids := [pk for pk in without_wake_up.distinct()[:1000] if pk is not None]:
                with transaction.atomic():
                    models.ConversationQueue.objects.wake(conversation_ids, kind)
        self.outbox.resume()

    def notify(self, what: str) -> None:
        """Tell worker processes, on commit, what waits; they would find it by polling too."""
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, what])


@contextmanager
def _giving_back(lease: models.Lease) -> Iterator[None]:
    try:
        yield
    except models.LeaseLost as lost:
        log_lost(lost)
    except Exception:
        give_back(lease)
        raise
