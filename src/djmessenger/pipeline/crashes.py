"""Crashes: events whose handling ends the process, and callbacks whose split does.

A dead process cannot count its tries, so the next holder of the queue counts. A claim that takes over a lease which
was not released adds a crash to the first event of the queue. The first handling of an event costs no statement. The
event may be an innocent one, because a process claims many queues ahead and handles several at once.

After its first crash an event is handled alone: one such event at a time in each process. Before that, the holder
writes its fencing token into the queue. From then on only a lease with this mark counts. So the event that ends its
process reaches ``DJM_CRASHES``, and its neighbours do not.

A lease that was released or renewed counts nothing. The database cannot tell a dead holder from one that was frozen, or
that could not release its lease in an outage. So the living holder takes its crash back: ``release_remembered`` in
``claims.py``.

A callback has no lease. One that has waited for ``LATE`` seconds is read once before its split, as the split reads it.
It gets a crash before that, which is taken back directly after. A process that dies later in the split counts nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice

from django.db import Error
from django.db.models import F
from django.utils import timezone

from djmessenger import models
from djmessenger.clock import Deadline
from djmessenger.pipeline import claims, event_results
from djmessenger.pipeline.claims import Lease
from djmessenger.pipeline.connections import statement_timeout
from djmessenger.pipeline.split import VALUES_PER_ITEM, quarantine
from djmessenger.receiving.decoding import decode, has_more_values
from djmessenger.receiving.keys import dedup_key
from djmessenger.receiving.parsing import split as split_document
from djmessenger.settings import app_settings
from djmessenger.sql import atomic

logger = logging.getLogger(__name__)

State = models.Messaging.State


def count(leases: Sequence[Lease], firsts: Mapping[int, models.Messaging]) -> list[int]:
    """Count a crash of the first event of each queue that was taken over. Return the queues whose event failed by that.

    ``firsts`` contains the first due events by queue id.
    """
    suspects = {
        firsts[lease.queue_id].pk: (lease, firsts[lease.queue_id])
        for lease in leases
        if lease.is_taken_over
        and lease.queue_id in firsts
        # The holder before has begun nothing that had a crash, unless it left its mark.
        and (lease.was_alone or not firsts[lease.queue_id].crashes)
    }
    if not suspects:
        return []
    failed = []
    with atomic():
        waiting = claims.lock_and_verify({pk: lease for pk, (lease, _) in suspects.items()})
        # Guard: the holder before may live, and have removed the mark between the claim and this lock.
        # Test: tests/faults/test_crashes.py, test_a_crash_that_is_taken_back_first_is_not_counted.
        marked = models.ConversationQueue.objects.filter(
            pk__in=[suspects[pk][0].queue_id for pk in waiting], is_taken_over=True
        )
        taken_over = set(marked.values_list("pk", flat=True))
        for pk in waiting:
            lease, row = suspects[pk]
            if lease.queue_id not in taken_over:
                continue
            event = models.Messaging.objects.filter(pk=pk)
            event.update(crashes=F("crashes") + 1)
            row.refresh_from_db(fields=["crashes"])
            logger.error(
                "Process died while it handled event %s, or it was frozen; crash %s of %s",
                pk,
                row.crashes,
                app_settings.DJM_CRASHES,
                extra={"action": "event_crashed", "crashes": row.crashes, **event_results.log_fields(row)},
            )
            if row.crashes >= app_settings.DJM_CRASHES:
                row.state = State.FAILED
                row.error = f"{row.crashes} processes died while they handled this event (DJM_CRASHES)"
                event.update(state=row.state, error=row.error, date_handled=timezone.now())
                event_results.signal_failed(row)
                failed.append(lease.queue_id)
    return failed


class _Turn:
    """Turn of this process to handle an event after a crash: one event at a time.

    It ends with the work on the event, or after ``DJM_LEASE`` seconds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._limit = Deadline(0)

    def begin(self, lease: Lease) -> bool:
        """Take the turn; return False if another event has it."""
        with self._lock:
            if self._lease is not None and self._limit.remaining() > 0:
                return False
            self._lease, self._limit = lease, Deadline(app_settings.DJM_LEASE)
            return True

    def end(self, lease: Lease) -> None:
        with self._lock:
            if self._lease == lease:
                self._lease = None


_turn = _Turn()


def begin_alone(row: models.Messaging, lease: Lease) -> bool:
    """Mark that this process handles the event under this lease. Return False if it must wait.

    It waits while the process handles another event that had a crash. Raises ``LeaseLost``.
    """
    # Guard: two events that had a crash would crash together again, and the innocent one would fail too.
    # Test: tests/faults/test_crashes.py, test_only_the_event_that_ends_its_process_fails.
    if not _turn.begin(lease):
        return False
    is_begun = False
    try:
        with atomic():
            is_begun = event_results.lock_and_verify(row, lease)
            if is_begun:
                queue = models.ConversationQueue.objects.filter(pk=lease.queue_id)
                queue.update(alone_under=lease.fencing_token)
    finally:
        if not is_begun:
            _turn.end(lease)
    return is_begun


def end_alone(lease: Lease) -> None:
    """End the turn of a lease, if it has it."""
    _turn.end(lease)


LATE = 2.0
"""Seconds after which a callback that waits may have ended the process that was to split it."""
_LOCK_TIMEOUT = 2.0
_counted: set[int] = set()
"""Callbacks whose crash this process has counted and not taken back yet. It is alive, so it counts none twice."""


@dataclass(kw_only=True)
class Batch:
    """Callbacks to split together. A callback that had a crash is alone in its batch."""

    callback_ids: list[int] = field(default_factory=list)
    crashes: int = 0
    is_late: bool = False
    """True if one of them has waited for ``LATE`` seconds."""


@contextmanager
def counted_split(batch: Batch) -> Iterator[list[int]]:
    """Read late callbacks once, with a crash counted that is taken back directly after; then run the block.

    If the process dies while it reads, the crash stays. Gives the callbacks to split: none after ``DJM_CRASHES``
    crashes, because the callback is quarantined then. Callbacks that are not late cost no statement.
    """
    callback_ids = batch.callback_ids
    if not batch.is_late:
        yield callback_ids
        return
    if batch.crashes - len(_counted.intersection(callback_ids)) >= app_settings.DJM_CRASHES:
        quarantine(callback_ids[0], f"{batch.crashes} processes died while they split it (DJM_CRASHES)")
        yield []
        return
    waiting = models.Callback.objects.filter(pk__in=callback_ids, state=models.Callback.State.NEW)
    # Guard: several processes may find a callback that one of them splits. Its row is locked, or has a crash more.
    # Test: tests/faults/test_crashes.py, test_a_callback_that_another_process_splits_counts_no_crash.
    uncounted = waiting.filter(crashes=batch.crashes).exclude(pk__in=_counted.intersection(callback_ids))
    with statement_timeout(_LOCK_TIMEOUT), atomic():
        counted = list(uncounted.select_for_update(skip_locked=True).values_list("pk", flat=True))
        models.Callback.objects.filter(pk__in=counted).update(crashes=F("crashes") + 1)
    _counted.update(counted)
    try:
        _read_once(callback_ids)
    finally:
        # Guard: only what reads a body can end the process by that body. A process that is killed later in the split
        # would count a crash of an innocent callback, and three deploys in an outage would quarantine it.
        # Test: tests/faults/test_crashes.py, test_a_process_that_dies_after_it_has_read_a_callback_counts_no_crash.
        # After an outage the crash stays until the next split of this process, which counts none then.
        with suppress(Error):
            waiting.filter(pk__in=_counted.intersection(callback_ids)).update(crashes=F("crashes") - 1)
            _counted.difference_update(callback_ids)
    yield callback_ids


def _read_once(callback_ids: Sequence[int]) -> None:
    """Read the bodies of waiting callbacks as their split does, with the types and keys of their events. Store nothing.

    An exception is ignored, because the split meets it again.
    """
    limit = app_settings.DJM_MAX_ITEMS
    callbacks = models.Callback.objects.filter(pk__in=callback_ids, state=models.Callback.State.NEW)
    for body in callbacks.order_by("pk").values_list("body", flat=True):
        with suppress(Exception):
            if has_more_values(bytes(body), limit * VALUES_PER_ITEM):
                continue
            for item in islice(split_document(decode(bytes(body))), limit + 1):
                if item.messaging is not None:
                    dedup_key(item.messaging)
                    item.messaging.get_receiving_type()
