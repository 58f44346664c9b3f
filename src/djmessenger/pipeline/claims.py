"""Claims of conversation queues: lease a due queue, verify the lease at each commit, renew it and release it.

States of a queue: not due (``ready_at`` empty or later), due (``ready_at`` reached), leased (``leased_until`` set).
Every statement uses the database's clock. Each claim increments the fencing token. A commit under an older token is
refused, so a holder that was frozen longer than its lease has no effect.

During an outage a lease cannot be released. Its process remembers it, and releases it before its next claim. If another
process has taken it over by then, the crash that was counted is taken back, because the process is alive.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import Error
from django.db.models import F, Q, QuerySet

from djmessenger import models
from djmessenger.exceptions import DJMException
from djmessenger.models.queues import seconds_from_now
from djmessenger.pipeline import reads
from djmessenger.sql import atomic, dialect, execute, fetch

logger = logging.getLogger(__name__)

_RETRY_DELAY = 1.0
"""Seconds before a queue whose work raised an exception is due again."""
_MOST_REMEMBERED: Final = 1000
"""Most leases that a process remembers, so that many outages cannot fill its memory."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to work on a conversation queue until a time. Every commit of its holder checks ``fencing_token``."""

    queue_id: int
    conversation_id: int | None
    """Id of the conversation of the queue, or None for the queue of a subject."""
    kind: str
    fencing_token: int
    is_taken_over: bool = field(default=False, compare=False)
    """True if the holder before did not release the queue: it died, was frozen, or had no database."""
    was_alone: bool = field(default=False, compare=False)
    """True if the holder before handled an event alone after a crash."""


_remembered: deque[tuple[Lease, bool]] = deque(maxlen=_MOST_REMEMBERED)
"""Leases that this process could not release or has lost, with ``is_slow`` of ``give_back``. The oldest ones drop."""


class LeaseLost(DJMException):
    """Error: another worker has claimed the queue, or it was released. The transaction must be rolled back."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(
            f"queue {lease.queue_id}: lease {lease.fencing_token} was released, or another worker has the queue"
        )
        self.lease = lease


# Guard: a holder that was frozen longer than its lease would commit beside the new holder. The token grows with each
# claim, so the commit finds another number and is refused.
# Test: tests/test_queues.py, test_a_worker_whose_lease_expired_can_commit_nothing.
_LEASE_CHOSEN = (
    "UPDATE {queues} SET fencing_token = fencing_token + 1, owner = %s, leased_until = {later}, ready_at = {later}, "
    "is_slow = false, is_taken_over = (leased_until IS NOT NULL) "
    "WHERE id IN (SELECT id FROM chosen) "
    "RETURNING id, conversation_id, fencing_token, is_taken_over, COALESCE(alone_under = fencing_token - 1, false)"
)
"""Last part of the SQL of each claim: it leases the queues in ``chosen`` and returns them.

Parameters: the name of the process, the duration of the lease in seconds, and the same duration again.
"""


def _leases(kind: str, rows: Iterable[tuple[Any, ...]]) -> list[Lease]:
    return [
        Lease(
            queue_id=pk,
            conversation_id=conversation_id,
            kind=kind,
            fencing_token=fencing_token,
            is_taken_over=bool(is_taken_over),
            was_alone=bool(was_alone),
        )
        for pk, conversation_id, fencing_token, is_taken_over, was_alone in rows
    ]


def process_name() -> str:
    """Return the host name and process id: the owner that the admin shows for a lease."""
    return f"{socket.gethostname()[:40]}:{os.getpid()}"


def claim(
    kind: str,
    *,
    seconds: float,
    limit: int = 1,
    conversation_id: int | None = None,
    queue_id: int | None = None,
    is_slow: bool = False,
) -> list[Lease]:
    """Lease up to ``limit`` due queues, oldest first, for ``seconds``. Return the leases.

    With ``conversation_id`` or ``queue_id`` only this queue is claimed, whatever its mark ``is_slow`` is. Otherwise
    only queues whose mark equals the parameter ``is_slow`` are claimed. Each claim increments the fencing token.
    Commits at once if no transaction is open. Before that, leases that this process could not release are released.
    """
    # Guard: this claim would take over a lease of the same process and count a crash.
    # Test: tests/faults/test_crashes.py, test_an_outage_is_no_crash_of_a_living_process.
    release_remembered()
    waiting = "FROM {queues} WHERE kind = %s AND ready_at <= {now}"
    if conversation_id is not None:
        column, value = "conversation_id", conversation_id
    elif queue_id is not None:
        column, value = "id", queue_id
    else:
        column, value = "is_slow", is_slow
    waiting += f" AND {column} = %s"
    values = [kind, value]
    if not dialect(models.ConversationQueue)["skip_locked"]:
        # SQLite has one writer at a time. A poll that finds nothing must not wait for the write lock.
        text = f"SELECT 1 {waiting} LIMIT 1"
        if not fetch(reads.statement(text), values):
            return []
    # `skip_locked`: a poll leaves queues to the claim of another worker instead of waiting for its commit.
    # Guard: a holder that dies never releases the queue. The claim moves `ready_at` to the end of the lease, so
    # the queue is due again by itself.
    # Test: tests/test_queues.py, test_an_abandoned_queue_comes_back_with_a_higher_fencing_token.
    text = (
        f"WITH chosen AS (SELECT id {waiting} ORDER BY ready_at, id LIMIT %s {{skip_locked}}) {_LEASE_CHOSEN}"
    )
    rows = fetch(reads.statement(text), [*values, limit, process_name(), seconds, seconds])
    return _leases(kind, rows)


def claim_idle(kind: str, conversation_ids: Collection[int], *, seconds: float) -> list[Lease]:
    """Lease, in the caller's transaction, those of the given queues that are idle. Return the leases.

    An idle queue has no lease and no waiting row. Queues that another transaction has locked are skipped.
    """
    # Guard: a row can wait in a queue that is not leased. The claimed new event would be handled before the older one,
    # so such a queue is not idle. `ready_at` does not show it, because the wake-up of the row can be lost.
    # Test: tests/test_intake_taking.py, test_an_event_that_waits_without_a_wake_up_is_handled_before_a_new_one.
    # Guard: without the condition on the lease the split would claim a queue on which another worker works.
    # Test: tests/test_intake_taking.py, test_a_split_does_not_claim_a_leased_conversation.
    text = (
        "WITH chosen AS (SELECT id FROM {queues} queue WHERE kind = %s AND leased_until IS NULL "  # noqa: S608 - no input
        f"AND conversation_id IN ({', '.join(['%s'] * len(conversation_ids))}) "
        f"AND {reads.first_waiting(kind, 'waiting.id')} IS NULL ORDER BY conversation_id {{skip_locked}}) "
        f"{_LEASE_CHOSEN}"
    )
    values = [kind, *conversation_ids, process_name(), seconds, seconds]
    return _leases(kind, fetch(reads.statement(text), values))


def fence(lease: Lease) -> models.ConversationQueue:
    """Lock the queue of a lease until the end of the caller's transaction, and return its row.

    Raises ``LeaseLost`` if the queue was claimed again; the transaction must then be rolled back.
    """
    # Guard: a worker that was frozen longer than its lease would settle a reply that another worker sends.
    # Test: tests/faults/test_guards.py,
    # test_without_the_fence_a_late_result_settles_the_reply_of_another_worker.
    queue = _queue_of(lease).select_for_update().first()
    if queue is None:
        raise LeaseLost(lease)
    return queue


def fence_many(leases: Iterable[Lease]) -> set[int]:
    """Lock the queues of leases until the end of the caller's transaction, in conversation order.

    Returns the ids of the queues whose lease is still valid. A lost lease raises nothing.
    """
    fencing_tokens = {lease.queue_id: lease.fencing_token for lease in leases}
    return {
        pk for pk, fencing_token in reads.fenced_queues(fencing_tokens) if fencing_tokens[pk] == fencing_token
    }


def lock_and_verify(leases: Mapping[int, Lease]) -> set[int]:
    """Lock the given queues and events until the end of the caller's transaction.

    ``leases`` maps event id to lease. Returns the ids of events that are still unprocessed and whose lease is
    still valid.
    """
    # Guard: a worker that was frozen longer than its lease would answer an event that another worker has handled.
    # Test: tests/faults/test_guards.py, test_without_the_fence_a_worker_whose_lease_expired_answers_too.
    # Guard: two batches that lock the same rows in different order would deadlock; hence the ORDER BY.
    # The state is compared in Python. A condition in the statement could lead SQLite, with stale statistics, to scan
    # the index of all waiting events. Test: tests/test_reads.py, test_a_query_scans_no_table.
    pairs = ", ".join(["(CAST(%s AS bigint), CAST(%s AS bigint))"] * len(leases))
    places = ", ".join(["%s"] * len(leases))
    text = (
        f"WITH pair (event_id, queue_id) AS (VALUES {pairs}) "  # noqa: S608 - no input
        "SELECT event.id, queue.fencing_token, event.state "
        "FROM pair CROSS JOIN {queues} queue CROSS JOIN {events} event "
        f"WHERE queue.id = pair.queue_id AND event.id = pair.event_id AND event.id IN ({places}) "
        "ORDER BY queue.conversation_id, queue.id {for_update}"
    )
    values = [*(value for pk, lease in leases.items() for value in (pk, lease.queue_id)), *leases]
    found = fetch(reads.statement(text), values) if leases else []
    new = models.Messaging.State.NEW
    return {pk for pk, token, state in found if (token, state) == (leases[pk].fencing_token, new)}


def renew(lease: Lease, seconds: float) -> None:
    """Extend a lease to ``seconds`` from now. Raise ``LeaseLost`` if the queue was released or claimed again."""
    # Guard: a renewal may run after the release by another thread of this process. Without the check for a
    # lease it would lease the queue again, and no thread would work on it.
    # Test: tests/test_worker.py, test_a_renewal_after_the_release_takes_no_lease.
    until = seconds_from_now(seconds)
    mine = _queue_of(lease).filter(leased_until__isnull=False)
    if not mine.update(leased_until=until, ready_at=until):
        raise LeaseLost(lease)


def give_back(lease: Lease, *, after: float = _RETRY_DELAY, is_slow: bool = False) -> None:
    """Release a queue whose work was interrupted; it is due in ``after`` seconds. Never raises ``django.db.Error``.

    If the lease is lost, the crash that was counted for it is taken back. With ``is_slow`` the queue is due at once,
    for a free slow thread of any process. If the database fails, the lease is released before the next claim.
    """
    mine = _queue_of(lease).filter(leased_until__isnull=False)
    ready_at = seconds_from_now(0.0 if is_slow else after)
    try:
        if mine.update(ready_at=ready_at, leased_until=None, owner="", is_slow=is_slow):
            return
    except Error:
        logger.warning(
            "Queue %s could not be released; it is released when the database works again, or when its lease ends",
            lease.queue_id,
            extra={"action": "lane_waits"},
        )
    _remembered.append((lease, is_slow))
    release_remembered()


def release_remembered() -> None:
    """Release the leases that this process could not release, and take back the crashes of those that it has lost.

    Never raises ``django.db.Error``: what fails is done at the next call.
    """
    taken: list[tuple[Lease, bool]] = []
    # Another thread may take some of them.
    with suppress(IndexError):
        while _remembered:
            taken.append(_remembered.popleft())
    if not taken:
        return
    left = taken
    try:
        with suppress(Error):
            with atomic():
                locked = _release_or_take_back(taken)
            left = locked
    finally:
        _remembered.extend(left)


def _release_or_take_back(remembered: Sequence[tuple[Lease, bool]]) -> list[tuple[Lease, bool]]:
    """Do the work of ``release_remembered``. Return what is left, because another transaction has locked the queue."""
    queues = models.ConversationQueue.objects.filter(pk__in={lease.queue_id for lease, _ in remembered})
    # A claim must not wait for a transaction that handles an event of one of these queues.
    unlocked = {queue.pk: queue for queue in queues.order_by("pk").select_for_update(skip_locked=True)}
    # Deleted queues are forgotten.
    locked = set(queues.exclude(pk__in=unlocked).values_list("pk", flat=True))
    for lease, is_slow in remembered:
        queue = unlocked.get(lease.queue_id)
        if queue is None:
            continue
        if queue.fencing_token != lease.fencing_token:
            _take_back_crash(queue, lease)
        elif queue.leased_until is not None:
            queues.filter(pk=queue.pk).update(
                ready_at=seconds_from_now(0.0), leased_until=None, owner="", is_slow=is_slow
            )
    return [(lease, is_slow) for lease, is_slow in remembered if lease.queue_id in locked]


def _take_back_crash(queue: models.ConversationQueue, lease: Lease) -> None:
    """Take back the crash that was counted when another claim took over a lease. The caller has locked the queue.

    An event that has failed by its last crash stays failed.
    """
    if queue.fencing_token == lease.fencing_token + 1:
        if not queue.is_taken_over:
            return
        # Guard: the other holder may count after this. It counts nothing without the mark.
        # Test: tests/faults/test_crashes.py, test_a_crash_that_is_taken_back_first_is_not_counted.
        models.ConversationQueue.objects.filter(pk=queue.pk).update(is_taken_over=False)
        queue.is_taken_over = False
    crashed = models.Messaging.objects.filter(
        in_queue_of(lease), state=models.Messaging.State.NEW, crashes__gt=0
    )
    first = crashed.order_by(*models.Messaging.ORDER).values("pk")[:1]
    models.Messaging.objects.filter(pk__in=first).update(crashes=F("crashes") - 1)


@contextmanager
def released_on_error(leases: Iterable[Lease]) -> Iterator[None]:
    """Run the block. If it raises, release the queues, which are then due again in a second, and raise again.

    A ``LeaseLost`` is logged and not raised again, and the queues are not released.
    """
    # Guard: without this, queues whose work raised would stay leased, without a worker, until the end of the lease.
    # Test: tests/test_inbox.py, test_work_that_breaks_off_releases_the_queue.
    try:
        yield
    except LeaseLost as lost:
        log_lost(lost)
    except Exception:
        for lease in leases:
            give_back(lease)
        raise


def release(queue: models.ConversationQueue, *, after: float | None) -> None:
    """Release a queue that ``fence`` has locked. It is due in ``after`` seconds, or not due if ``after`` is None."""
    ready = None if after is None else seconds_from_now(after)
    models.ConversationQueue.objects.filter(pk=queue.pk).update(ready_at=ready, leased_until=None, owner="")


def release_many(kind: str, queue_ids: Collection[int]) -> None:
    """Release queues that the caller has locked. Each is due when its next row is due, and not due if no row waits."""
    # Guard: an event can be committed while its queue is leased. The statement reads the waiting rows under the
    # lock that a wake-up needs, so the event is either seen here or wakes the queue after the release.
    # Test: tests/test_worker.py, test_an_event_that_arrives_during_the_release_of_its_queue_is_handled.
    if not queue_ids:
        return
    due = "{greatest}({now}, COALESCE(waiting.not_before, {now}))"
    text = (
        "UPDATE {queues} AS queue SET leased_until = NULL, owner = '', "  # noqa: S608 - no input
        f"ready_at = {reads.first_waiting(kind, due)} WHERE id IN ({', '.join(['%s'] * len(queue_ids))})"
    )
    execute(reads.statement(text), list(queue_ids))


def _queue_of(lease: Lease) -> QuerySet[models.ConversationQueue]:
    """Return a query of the queue of a lease; empty if the queue was claimed again."""
    return models.ConversationQueue.objects.filter(pk=lease.queue_id, fencing_token=lease.fencing_token)


def in_queue_of(lease: Lease) -> Q:
    """Return the condition for the events of the queue of a lease."""
    if lease.conversation_id is None:
        return Q(queue_id=lease.queue_id)
    return Q(conversation_id=lease.conversation_id)


def log_lost(lost: LeaseLost) -> None:
    """Log that another worker has the queue, and take back the crash that it has counted. Never raises.

    Uncommitted results have no effect.
    """
    logger.warning(
        "Uncommitted results for queue %s are discarded: %s",
        lost.lease.queue_id,
        lost,
        extra={"action": "lease_lost", "queue": lost.lease.queue_id},
    )
    # The database cannot tell a frozen process from a dead one. This one is alive.
    # Test: tests/faults/test_crashes.py, test_a_frozen_holder_takes_its_crash_back.
    if lost.lease.kind == models.ConversationQueue.Kind.IN:
        _remembered.append((lost.lease, False))
        release_remembered()
