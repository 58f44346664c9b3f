"""Parts of the worker: the pool for slow rules, the poll budget and the batch writer."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Generic, TypeVar

from django.db import DatabaseError, connections

from djmessenger import clock, models
from djmessenger.clock import Deadline
from djmessenger.models.queues import Lease, LeaseLost
from djmessenger.pipeline.connections import no_connection, reusable_connections
from djmessenger.pipeline.inbox import NoRoom, Slow
from djmessenger.pipeline.leases import give_back
from djmessenger.pipeline.threads import NAME, Threads
from djmessenger.settings import app_settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SHARE, _BURST = 0.2, 0.2
"""Poll budget: the share of a thread's time that polls may take, and the most seconds of unused budget that are kept.

Rules and polls share the processor, so polls get a fifth. With 0.2 s kept, an idle worker polls a few times at once.
"""
AHEAD = 0.5
"""Seconds of work that is claimed ahead, so that no thread waits for the next poll.

A claimed queue waits at most about that long for a thread of this process, although another process may have one free.
"""
MOST_QUEUES = 100
"""Queues or items in one batch.

A larger batch would hold its row locks longer. It would save little time, because one commit costs less than 100 rows.
"""
_LONGEST_PAUSE = 0.2
"""Longest pause after a poll, in seconds, even if the poll was slow. Each pause delays the replies behind it."""
_LOOK = 0.5
"""Seconds between two checks for overdue slow rules, and before a failed batch is written again."""
_RENEWALS = 3
"""Renewals within the duration of a lease: two may fail, and the lease still holds."""


class SlowThreads:
    """Pool for slow rules. It renews the leases of their queues while the rules run.

    A queue that finds no free thread is released with ``is_slow``, and any process may claim it for its own pool. Such
    queues come before new slow work. ``done`` is called when a thread becomes free.
    """

    def __init__(self, threads: int, done: Callable[[], None]) -> None:
        self._done = done
        # Twice AHEAD as a first estimate: no queue is claimed for a busy thread before a duration was measured.
        self._pool = Threads(threads, "slow", usual=2 * AHEAD, freed=done)
        self._lock = threading.Lock()
        self._leases: set[Lease] = set()
        self._reserved: set[Lease] = set()
        self._is_behind = False
        self._limits: dict[Lease, tuple[Deadline, Callable[[], None]]] = {}
        self._ended = threading.Event()
        self._renewer: threading.Thread | None = None

    def free_slots(self) -> int:
        """Return how many more queues may be claimed for slow threads, now or within ``AHEAD`` seconds."""
        with self._lock:
            return max(0, self._pool.free(ahead=AHEAD) - len(self._reserved))

    def reserve(self, leases: Sequence[Lease], *, more: bool) -> None:
        """Reserve a thread for each lease. ``more`` says whether further queues may wait for a slow thread."""
        # Guard: while a claimed queue is on its way through the handlers, a new event could take its thread. The
        # queue would be released again and never come to its turn.
        # Test: tests/test_worker.py, test_queues_that_waited_for_a_slow_thread_come_before_new_ones.
        with self._lock:
            self._reserved.update(leases)
            self._is_behind = more

    def drop_reservation(self, lease: Lease) -> None:
        """Cancel the reservation of a lease, if there is one. A job that was already submitted keeps its thread."""
        with self._lock:
            self._reserved.discard(lease)

    def run(self, lease: Lease, job: Slow) -> bool:
        """Submit a slow job; its thread releases the queue at the end. Return False: the job is not done yet.

        Raises ``NoRoom`` if no thread is free, or if other queues have waited for one longer. The caller then
        releases the queue.
        """
        with self._lock:
            reserved = lease in self._reserved
            self._reserved.discard(lease)
            others_first = not reserved and self._is_behind
            if others_first or self._pool.free(ahead=AHEAD) <= len(self._reserved):
                self._is_behind = True
                raise NoRoom
            self._leases.add(lease)
            if self._renewer is None:
                self._renewer = threading.Thread(target=self._renew, name=f"{NAME}-renewals", daemon=True)
                self._renewer.start()
            begun = self._pool.submit(partial(self._run, lease, job))
        if not begun:
            # Guard: the pool may close between the check and the submit. The lease would be renewed until the end
            # of the process, and no thread would have the job.
            # Test: tests/test_worker.py, test_a_slow_job_that_the_pool_refuses_releases_its_queue.
            self._forget(lease)
            give_back(lease)
        return False

    def _run(self, lease: Lease, job: Slow) -> None:
        if job.timeout is not None:
            with self._lock:
                self._limits[lease] = Deadline(job.timeout), job.give_up
        try:
            # Guard: a slow rule waits for another service for minutes. A connection kept meanwhile would be one
            # for each thread, and PostgreSQL has about 100.
            # Test: tests/test_worker.py, test_slow_work_begins_without_a_database_connection.
            with no_connection():
                job.prepare()
            with no_connection():
                job.work()
                job.release()
        except LeaseLost as lost:
            _log_lost(lost)
        except Exception:
            logger.exception(
                "Slow rule for queue %s failed; the queue was released and is due again",
                lease.queue_id,
                extra={"action": "work_interrupted"},
            )
            give_back(lease)
        finally:
            self._forget(lease)

    def _forget(self, lease: Lease) -> None:
        with self._lock:
            self._leases.discard(lease)
            self._limits.pop(lease, None)

    def _renew(self) -> None:
        due = Deadline(app_settings.DJM_LEASE / _RENEWALS)
        while not self._ended.wait(min(_LOOK, max(0.0, due.remaining()))):
            with no_connection():
                self._give_up_overdue()
                self._release_withdrawn()
                if due.remaining() <= 0:
                    due = Deadline(app_settings.DJM_LEASE / _RENEWALS)
                    self.renew()

    def _release_withdrawn(self) -> None:
        """Release the queues of jobs that have not started, if no thread became free for ``AHEAD`` seconds."""
        # Guard: jobs are accepted ahead by the average duration. When all threads hang longer than that, a queue
        # in this pool would wait although another process has a free thread.
        # Test: tests/test_worker.py, test_no_lease_is_kept_for_a_slow_thread_with_a_long_job.
        for job in self._pool.withdraw(AHEAD):
            lease: Lease = job.args[0]  # type: ignore[attr-defined]
            self._forget(lease)
            give_back(lease, is_slow=True)

    def _give_up_overdue(self) -> None:
        """Abandon the jobs that exceed their time limit. Their threads stay busy until the rules return.

        ``give_up`` of each job is called. A result that comes later is discarded, because its lease is lost.
        """
        with self._lock:
            late = [(lease, end) for lease, (limit, end) in self._limits.items() if limit.remaining() <= 0]
        for lease, give_up in late:
            self._forget(lease)
            try:
                give_up()
            except LeaseLost as lost:
                _log_lost(lost)
            except DatabaseError:
                logger.exception(
                    "Time limit of a slow rule for queue %s not recorded: database error; the queue is due again "
                    "when its lease ends",
                    lease.queue_id,
                    extra={"action": "database_away"},
                )
            self._done()

    def renew(self) -> None:
        """Renew the leases of all jobs in the pool. A job whose lease is lost fails at its own commit."""
        # Guard: a rule that runs longer than DJM_LEASE would lose its queue to another worker, which would run the
        # rule again.
        # Test: tests/test_worker.py, test_leases_of_slow_work_are_renewed.
        with self._lock:
            leases = list(self._leases)
        for lease in leases:
            try:
                models.ConversationQueue.objects.renew(lease, app_settings.DJM_LEASE)
            except LeaseLost as lost:
                logger.warning(
                    "Lease of a slow rule not renewed (%s); the result of the rule will be discarded",
                    lost,
                    extra={"action": "lease_lost"},
                )
                self._forget(lease)
            except DatabaseError:
                logger.exception(
                    "Lease of queue %s not renewed: database error; it is tried again before the lease ends",
                    lease.queue_id,
                    extra={"action": "database_away"},
                )

    def stop(self, timeout: float) -> None:
        """Close the pool, wait up to ``timeout`` seconds for running jobs, and release all queues that are left."""
        if self._pool.close():
            running = self._pool.count
            logger.info(
                "Slow jobs that had not started were given up; another process may claim their queues",
                extra={"threads": running},
            )
        self._pool.join(timeout)
        self._ended.set()
        with self._lock:
            left = list(self._leases)
        for lease in left:
            give_back(lease)


def _log_lost(lost: LeaseLost) -> None:
    logger.warning(
        "Slow rule finished after its lease was lost (%s); its result was discarded",
        lost,
        extra={"action": "lease_lost"},
    )


class PollBudget:
    """Limit of the time that polls take: a token bucket in seconds, filled at ``_SHARE`` up to ``_BURST``.

    Under load a worker polls seldom and claims many queues at once. An idle worker has credit and polls at once. The
    cost of a poll is measured each time, because it grows with the load of the machine.
    """

    def __init__(self) -> None:
        self._credit = _BURST
        self._at = clock.seconds()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def measure(self) -> Iterator[None]:
        """Charge the duration of the block to the budget."""
        began = clock.seconds()
        try:
            yield
        finally:
            with self._lock:
                cost = clock.seconds() - began
                self._credit = max(self._now() - cost, -_LONGEST_PAUSE * _SHARE)

    def pause(self) -> float:
        """Return the seconds to wait before the next poll; 0 while there is credit."""
        with self._lock:
            return max(0.0, -self._now() / _SHARE)

    def _now(self) -> float:
        at = clock.seconds()
        self._credit = min(_BURST, self._credit + (at - self._at) * _SHARE)
        self._at = at
        return self._credit


class BatchWriter(Generic[T]):
    """Thread that writes items in batches of up to ``MOST_QUEUES``.

    Items that arrive during a write or a pause form the next batch. ``write`` writes a batch and returns the items to
    try again. ``done`` is called after each batch of the thread, not after ``write_here``.
    """

    def __init__(self, name: str, write: Callable[[list[T]], list[T]], done: Callable[[], None]) -> None:
        self._write_down = write
        self._done = done
        self._work: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._budget = PollBudget()
        self._thread = threading.Thread(target=self._run, name=f"{NAME}-{name}", daemon=True)
        self._thread.start()

    def put(self, work: T) -> None:
        self._work.put(work)

    def waiting(self) -> int:
        """Return the number of items that are not in a batch yet."""
        return self._work.qsize()

    def write_here(self, work: T) -> None:
        """Write one item in the caller's thread if no item waits and the budget has credit; otherwise ``put`` it."""
        if self._work.empty() and not self._budget.pause():
            self._write([work])
        else:
            self.put(work)

    def stop(self, timeout: float) -> None:
        """Write the items that have arrived and end the thread. Waits up to ``timeout`` seconds."""
        self._work.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            last = False
            while not last:
                found = [self._work.get()]
                if self._work.qsize() < MOST_QUEUES:
                    # Over the budget the thread pauses, and the batch grows meanwhile.
                    time.sleep(self._budget.pause())
                with contextlib.suppress(queue.Empty):
                    while len(found) < MOST_QUEUES:
                        found.append(self._work.get_nowait())
                last = None in found
                with reusable_connections():
                    left = self._write([work for work in found if work is not None])
                self._done()
                if left and not last:
                    time.sleep(_LOOK)
                    for work in left:
                        self.put(work)
        finally:
            connections.close_all()

    def _write(self, work: list[T]) -> list[T]:
        try:
            with self._budget.measure():
                return self._write_down(work)
        except Exception:
            # Guard: an exception would end the thread, and all later items would stay in memory. The items of this
            # batch are lost; their rows are unchanged, and the next claim of their queues finds them.
            # Test: tests/test_worker.py, test_a_batch_writer_survives_a_batch_that_fails.
            logger.exception(
                "Batch of %s items not written; their queues are due again when the leases end",
                len(work),
                extra={"action": "work_waits"},
            )
            return []
