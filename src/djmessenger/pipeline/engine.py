"""The engine: split, handle and send, callable from any thread of any process.

Each step may run again at any time: after a crash, after a lost lease, or at the same time in another process. Drivers
(worker, request, Celery task, test kit) decide when a step runs. The engine starts no threads.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import DatabaseError, connection, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Length, Now

from djmessenger import models
from djmessenger.clock import Deadline
from djmessenger.pipeline import claims, split
from djmessenger.pipeline.claims import Lease, LeaseLost, give_back, log_lost
from djmessenger.pipeline.connections import statement_timeout
from djmessenger.pipeline.handling import Handled, Inbox
from djmessenger.pipeline.notifications import CHANNEL
from djmessenger.pipeline.sending import Outbox
from djmessenger.pipeline.slow import RunHere, SlowPool
from djmessenger.settings import app_settings
from djmessenger.sql import Prepared

logger = logging.getLogger(__name__)

Kind = models.ConversationQueue.Kind

_PATIENCE = 2.0
"""Seconds for each statement of a split inside a request. Meta waits five seconds for the whole answer."""
MOST_CALLBACKS, _MOST_BYTES = 100, 256 * 1024
"""Limits of one split: number of callbacks, and bytes of all bodies together. One callback may be larger."""


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
    """Steps of a message, over the ``inbox`` that handles events and the ``outbox`` that sends replies."""

    inbox: Inbox
    outbox: Outbox

    def callback(self, callback_id: int) -> None:
        """Split a stored callback, handle its events and send the replies, in this thread.

        Raises ``DatabaseError`` if a statement of the split waits longer than ``_PATIENCE``; a sweep splits it later.
        """
        # The request of Meta waits for the answer. A lock that another process holds must not delay it.
        # test_a_callback_of_a_leased_queue_is_answered_and_left_to_the_sweep
        todo = split.Split()
        with statement_timeout(_PATIENCE):
            # Callbacks that were stored before come first, even if the process that was to split them is gone.
            done: list[int] = []
            while (batch := self._callbacks_waiting(callback_id)[0]) and batch != done:
                todo.add(self._split_batch(batch, raises=True))
                done = batch
        self.handle_without_conversation(todo)
        for conversation_id in todo.conversations:
            self.conversation(conversation_id)

    def conversation(self, conversation_id: int) -> None:
        """Handle the waiting events of a conversation, then send its replies; skip a queue that is leased."""
        for kind in (Kind.IN, Kind.OUT):
            self.work_on(kind, conversation_id)

    def send(self, conversation_id: int) -> None:
        """Send the waiting replies of a conversation, unless its outgoing queue is leased."""
        self.work_on(Kind.OUT, conversation_id)

    def work_on(self, kind: str, conversation_id: int) -> None:
        """Claim one queue of a conversation and empty it in this thread, unless the queue is leased or not due."""
        deadline = Deadline(app_settings.DJM_LEASE)
        leases = claims.claim(kind, seconds=app_settings.DJM_LEASE, conversation_id=conversation_id)
        for lease in leases:
            self.work(lease, deadline, RunHere())

    def work(self, lease: Lease, deadline: Deadline, slow: SlowPool) -> None:
        """Handle or send everything that is due in a claimed queue, and release it.

        Logs a lost lease. After any other exception the queue is due again in a second, and the exception propagates.
        """
        with _releasing_on_error(lease):
            if lease.kind == Kind.IN:
                self.inbox.work(lease, deadline, slow)
            else:
                self.outbox.work(lease, deadline)

    def handle(
        self, lease: Lease, deadline: Deadline, slow: SlowPool, next_row: models.Messaging | None
    ) -> Handled | None:
        """Handle the first event of a claimed queue and release the queue.

        Returns a ``Handled`` if the event is not committed yet. ``Inbox.write_down`` then commits it, alone or with
        others, and releases the queue.
        """
        with _releasing_on_error(lease):
            return self.inbox.handle(lease, deadline, slow, next_row)
        return None

    def process_next(self, lease: Lease, deadline: Deadline) -> None:
        """Do one step for the first reply of a claimed outgoing queue, and release the queue."""
        with _releasing_on_error(lease):
            self.outbox.process_next(lease, deadline)

    def handle_without_conversation(self, todo: split.Split) -> None:
        """Handle the events of a split that belong to no conversation."""
        for row_id in todo.events_without_conversation:
            self.inbox.handle_event_without_conversation(row_id)

    def split_waiting(self, take: int = 0) -> split.Split:
        """Split one batch of stored callbacks; return the work that now waits.

        Claims up to ``take`` idle queues of those that get work; the caller must handle or release them.
        """
        batch, more = self._callbacks_waiting()
        if not batch:
            return split.Split()
        todo = self._split_batch(batch, take)
        todo.more = more
        return todo

    def _split_batch(
        self, callback_ids: Sequence[int], take: int = 0, *, raises: bool = False
    ) -> split.Split:
        """Split callbacks together, or one by one if that fails. With ``raises`` a ``DatabaseError`` propagates."""
        try:
            return split.split_many(callback_ids, take)
        except Exception as error:
            if raises and isinstance(error, DatabaseError):
                raise
            # One callback that breaks its split would make the batch fail at each try, and delay all later callbacks.
            # test_a_callback_that_breaks_its_split_is_quarantined_and_later_ones_are_split
            logger.exception(
                "Split of %s callbacks failed; they are split one by one",
                len(callback_ids),
                extra={"action": "callbacks_singly"},
            )
            return self._split_singly(callback_ids)

    def _split_singly(self, callback_ids: Sequence[int]) -> split.Split:
        """Split callbacks one by one, up to the first that the database does not take."""
        todo = split.Split()
        for callback_id in callback_ids:
            part = self.split(callback_id)
            if part is None:
                # If a later callback were split now, its events would be handled before those of this one.
                # test_a_callback_whose_split_fails_in_the_database_stays_new_and_later_ones_wait
                break
            todo.add(part)
        return todo

    @staticmethod
    def _callbacks_waiting(until: int | None = None) -> tuple[list[int], bool]:
        """Return the oldest stored callbacks of one signer within the limits, and whether more callbacks wait.

        ``until`` is the id of the last callback to return.
        """
        batch: list[int] = []
        total = 0
        signer = None
        for callback_id, size, app_id in _WAITING.rows():
            if until is not None and callback_id > until:
                return batch, False
            total += size
            if batch and (total > _MOST_BYTES or app_id != signer):
                return batch, True
            signer = app_id
            batch.append(callback_id)
        return batch, len(batch) == MOST_CALLBACKS

    def split(self, callback_id: int) -> split.Split | None:
        """Split one stored callback. Never raises an ``Exception``.

        After a ``DatabaseError`` the callback stays new and None is returned, ``DJM_TRIES`` times at most. After that,
        and after any other exception, it is quarantined.
        """
        try:
            return split.split(callback_id)
        except DatabaseError:
            # A deadlock or an outage is no fault of the callback.
            # test_a_callback_whose_split_fails_in_the_database_stays_new_and_later_ones_wait
            logger.exception(
                "Split of callback %s failed in the database; the next poll tries again",
                callback_id,
                extra={"action": "callback_waits"},
            )
            if not self._fails_always(callback_id):
                return None
            split.quarantine(callback_id, traceback.format_exc())
        except Exception:
            logger.exception(
                "Split of callback %s failed; the callback is quarantined",
                callback_id,
                extra={"action": "callback_broken"},
            )
            split.quarantine(callback_id, traceback.format_exc())
        return split.Split(callbacks=1)

    @staticmethod
    def _fails_always(callback_id: int) -> bool:
        """Count a split that failed in the database; return whether the limit of ``DJM_TRIES`` is reached."""
        callbacks = models.Callback.objects.filter(pk=callback_id)
        try:
            callbacks.update(tries=F("tries") + 1)
            # Later callbacks wait for this one. A callback that fails each time would stop the bot.
            # test_a_callback_whose_split_always_fails_in_the_database_is_quarantined
            return callbacks.filter(tries__gte=app_settings.DJM_TRIES).exists()
        except DatabaseError:
            return False

    def waiting_without_conversation(self) -> list[int]:
        """Return the ids of due events that belong to no conversation."""
        events = models.Messaging.objects.filter(state=models.Messaging.State.NEW, conversation=None)
        due = events.filter(Q(not_before=None) | Q(not_before__lte=Now()))
        return list(due.order_by("id").values_list("id", flat=True)[:1000])

    def sweep(self) -> None:
        """Wake up to 1000 queues of each direction in which rows wait without a wake-up; end pauses of replaced tokens.

        Finds the work of a lost wake-up, of an older version, or of rows that staff changed by SQL.
        """
        # test_the_sweep_finds_work_without_a_wake_up
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
        """Send a notification to worker processes at the commit of the transaction; does nothing without PostgreSQL.

        A lost notification is harmless: the next poll finds the work.
        """
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, what])


@contextmanager
def _releasing_on_error(lease: Lease) -> Iterator[None]:
    # Without this, a queue whose work raised would stay leased until the end of the lease.
    # test_work_that_breaks_off_releases_the_queue
    try:
        yield
    except LeaseLost as lost:
        log_lost(lost)
    except Exception:
        give_back(lease)
        raise
