"""Slow rules: their jobs, and the pool of threads in which a worker runs them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from django.db import Error

from djmessenger.clock import Deadline
from djmessenger.pipeline import claims
from djmessenger.pipeline.claims import Lease, LeaseLost, give_back, log_lost
from djmessenger.pipeline.connections import no_connection
from djmessenger.pipeline.threads import AHEAD, THREAD_NAME_PREFIX, Threads, started
from djmessenger.settings import app_settings

logger = logging.getLogger(__name__)

_CHECK_INTERVAL = 0.5
"""Seconds between two checks for overdue slow rules."""
_RENEWALS = 3
"""Renewals within the duration of a lease: one may fail, and the next still comes before the lease ends."""


Finish = Callable[[], Any]
"""Function that does the rest of the work on an event: it runs the other handlers, and saves or returns the results."""


@dataclass(frozen=True, kw_only=True)
class SlowJob:
    """Slow handlers of one event; run by a ``SlowPool``."""

    work: Callable[[], Finish]
    """Runs the slow handlers, and returns the rest of the work on the event."""
    prepare: Callable[[], None] = lambda: None
    """Reads the rows that ``work`` needs, directly before it."""
    only_calls_graph: bool = False
    """True if ``work`` waits for Graph only and makes no query."""
    timeout: float | None = None
    """Seconds after which ``give_up`` is called."""
    give_up: Callable[[], None] = lambda: None
    """Counts a failed try and ends the lease. A result of ``work`` after that is discarded."""


class NoRoom(Exception):
    """Refusal of a slow job: no slow thread is free, or other queues have waited for one longer."""


class SlowPool(Protocol):
    """Runner of slow handlers; the queue stays leased meanwhile."""

    def free_slots(self) -> int:
        """Return how many more queues that wait for a slow thread may be claimed now."""

    def reserve(self, leases: Sequence[Lease], *, more: bool) -> None:
        """Reserve a thread for each lease. ``more`` is True if further queues may wait for a slow thread."""

    def drop_reservation(self, lease: Lease) -> None:
        """Cancel the reservation of a lease, if there is one."""

    def run(self, lease: Lease, job: SlowJob) -> Finish | None:
        """Run the job now and return the rest of the work, or start the job in a thread and return None.

        After None the rest runs later, without the caller. Raises ``NoRoom`` if no thread is free, or if other queues
        have waited for one longer.
        """


class RunHere:
    """Runner of slow handlers in the caller's thread, for drivers without slow threads.

    ``job.timeout`` has no effect here.
    """

    def free_slots(self) -> int:
        return 1

    def reserve(self, leases: Sequence[Lease], *, more: bool) -> None:
        """Do nothing: the caller's thread takes one queue after another."""

    def drop_reservation(self, lease: Lease) -> None:
        """Do nothing, because nothing is reserved."""

    def run(self, lease: Lease, job: SlowJob) -> Finish:
        job.prepare()
        return job.work()


class SlowThreads:
    """Pool for slow rules. It renews the leases of their queues while the rules run.

    A queue that finds no free thread is released with ``is_slow``, and any process may claim it for its own pool. Such
    queues come before new slow work. ``done`` is called when a thread becomes free. ``finish`` receives the
    rest of the work on each event, and runs it in the same thread or in another one.

    A job with ``only_calls_graph`` runs in a thread of ``senders`` while more than half of them are free. These threads
    have no database connection either.
    """

    def __init__(
        self,
        threads: int,
        done: Callable[[], None],
        finish: Callable[[Lease, Finish], object],
        senders: Threads | None = None,
    ) -> None:
        self._done = done
        self._finish = finish
        self._senders = senders
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
        """Return how many more queues may be claimed for slow threads.

        Threads that are expected to be free within ``AHEAD`` seconds count as free.
        """
        with self._lock:
            return max(0, self._pool.free(ahead=AHEAD) - len(self._reserved))

    def reserve(self, leases: Sequence[Lease], *, more: bool) -> None:
        """Reserve a thread for each lease. ``more`` is True if further queues may wait for a slow thread."""
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

    def run(self, lease: Lease, job: SlowJob) -> None:
        """Submit a slow job. Its thread passes the rest of the work to ``finish``.

        Raises ``NoRoom`` if no thread is free, or if other queues have waited for one longer. The caller then
        releases the queue.
        """
        with self._lock:
            reserved = lease in self._reserved
            self._reserved.discard(lease)
            others_first = not reserved and self._is_behind
            pool = self._pool
            # Guard: if Graph answers no profile, the calls of many new persons would take all senders, and no reply
            # would be sent until they time out. Half of the senders are left to replies.
            # Test: tests/test_worker.py, test_profiles_leave_half_of_the_senders_to_replies.
            senders = self._senders
            if job.only_calls_graph and senders is not None and 2 * senders.free() > senders.count:
                pool = senders
            elif others_first or pool.free(ahead=AHEAD) <= len(self._reserved):
                self._is_behind = True
                raise NoRoom
            self._leases.add(lease)
            if self._renewer is None:
                renewer = threading.Thread(
                    target=self._renew, name=f"{THREAD_NAME_PREFIX}-renewals", daemon=True
                )
                self._renewer = renewer if started(renewer) else None
            begun = pool.submit(partial(self._run, lease, job))
        if not begun and not pool.closed:
            self._run(lease, job)
        elif not begun:
            # Guard: the pool may close between the check and the submit. The lease would be renewed until the end
            # of the process, and no thread would have the job.
            # Test: tests/test_worker.py, test_a_slow_job_that_the_pool_refuses_releases_its_queue.
            self._forget(lease)
            give_back(lease)

    def _run(self, lease: Lease, job: SlowJob) -> None:
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
                self._finish(lease, job.work())
        except LeaseLost as lost:
            log_lost(lost)
        except Exception:
            logger.exception(
                "Slow rule for queue %s failed; the queue is due again when released or when its lease ends",
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
        while not self._ended.wait(min(_CHECK_INTERVAL, max(0.0, due.remaining()))):
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
            try:
                give_up()
            except LeaseLost as lost:
                log_lost(lost)
            except Error:
                # Guard: the lease would run out while the rule hangs, and the next holder would count a crash.
                # Test: tests/test_worker.py, test_a_time_limit_is_recorded_after_an_outage.
                logger.exception(
                    "Time limit of a slow rule for queue %s not recorded: database error; it is tried again",
                    lease.queue_id,
                    extra={"action": "database_away"},
                )
                continue
            self._forget(lease)
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
                claims.renew(lease, app_settings.DJM_LEASE)
            except LeaseLost as lost:
                logger.warning(
                    "Lease of a slow rule not renewed (%s); the result of the rule will be discarded",
                    lost,
                    extra={"action": "lease_lost"},
                )
                self._forget(lease)
            except Error:
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
