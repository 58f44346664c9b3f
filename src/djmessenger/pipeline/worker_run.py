"""One run of a worker (internal): its pools of threads, and its poll, from the start to the stop."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from django.db import DatabaseError

from djmessenger import models
from djmessenger.clock import Deadline
from djmessenger.pipeline import claims
from djmessenger.pipeline.claims import Lease
from djmessenger.pipeline.connections import no_connection, reusable_connections
from djmessenger.pipeline.engine import Engine
from djmessenger.pipeline.event_results import Handled
from djmessenger.pipeline.held import HeldWait
from djmessenger.pipeline.notifications import CALLBACK, QUEUES, Listener
from djmessenger.pipeline.pools import MOST_QUEUES, BatchWriter, PollBudget
from djmessenger.pipeline.sending import Outbox
from djmessenger.pipeline.settling import PendingSend, SendResult
from djmessenger.pipeline.slow import SlowThreads
from djmessenger.pipeline.threads import AHEAD, Threads
from djmessenger.settings import app_settings

logger = logging.getLogger(__name__)

Kind = models.ConversationQueue.Kind

_SWEEP_TURN_SHARE = 0.5
"""Length of the turn to sweep, as a share of ``DJM_SWEEP``. During the turn no process may sweep again.

Below 1, because the timers of processes drift. A process whose timer ends slightly early must not miss its sweep.
"""


class WorkerRun:
    """Pools of threads of a worker, and the loop of polls that claims queues for them.

    Call ``poll`` once, and then ``finish``. ``engine`` returns the engine; it is called for each job. ``stopping`` ends
    the loop, and ``wakeup`` starts the next poll. With ``listen`` the run also receives the wake-ups that other
    processes send.
    """

    def __init__(
        self,
        engine: Callable[[], Engine],
        stopping: threading.Event,
        wakeup: threading.Event,
        *,
        threads: int,
        slow_threads: int,
        senders: int,
        listen: bool = False,
    ) -> None:
        self._engine = engine
        self._stopping, self._wakeup = stopping, wakeup
        self._listen = listen
        self._listener: Listener | None = None
        self._lock = threading.Lock()
        self._deadlines: weakref.WeakSet[Deadline] = weakref.WeakSet()
        # True if the last claim returned as many queues as it asked for: more may be due.
        self._is_behind = False
        # `will_wake_poll` is true in a thread that will wake the poll when its job ends. Wake-ups from inside the
        # job are redundant and are dropped.
        self._job_state = threading.local()
        self._held = HeldWait()
        self.splitter = Threads(1, "split")
        self.split_budget, self.send_budget = PollBudget(), PollBudget()
        self.handlers = Threads(threads, "in")
        self.senders = Threads(senders, "out")
        self.renewals = Threads(1, "tokens")
        self.slow = SlowThreads(
            slow_threads,
            wakeup.set,
            lambda lease, finish: _submit(self.handlers, partial(self._work, lease, finish)),
            self.senders,
        )
        self.events: BatchWriter[Handled] = BatchWriter("events", self._commit_events, wakeup.set)
        self.answers: BatchWriter[SendResult] = BatchWriter("answers", self._settle_answers, wakeup.set)

    def will_be_polled(self) -> bool:
        """Return whether the caller is a job of this run that wakes the poll at its end."""
        return bool(getattr(self._job_state, "will_wake_poll", False))

    def poll(self) -> None:
        """Claim due work after each wake-up, and at least every ``DJM_POLL`` seconds, until ``stopping`` is set."""

        def on_wake_up(what: str) -> None:
            if what == CALLBACK:
                self.submit_split()
            else:
                self._wakeup.set()

        if self._listen:
            self._listener = Listener(on_wake_up)
        sweep_at = Deadline(0)
        budget = PollBudget()
        while not self._stopping.is_set():
            # Guard: cleared before the poll. If it were cleared after, work committed between the claim and
            # the clear would lose its wake-up and wait for the next sweep or poll.
            # Test: tests/test_worker.py, test_a_wake_up_during_a_poll_leads_to_another_poll.
            self._wakeup.clear()
            busy = False
            try:
                with reusable_connections(), budget.measure():
                    if sweep_at.remaining() <= 0:
                        sweep_at = Deadline(app_settings.DJM_SWEEP)
                        # Guard: without the turn each of many processes would scan the same rows at once.
                        # Test: tests/test_worker.py, test_one_of_many_processes_sweeps.
                        if models.Sweep.objects.claim(app_settings.DJM_SWEEP * _SWEEP_TURN_SHARE):
                            # Guard: Graph may not answer for seconds, and no queue would be claimed meanwhile.
                            # Test: tests/test_worker.py, test_a_renewal_that_hangs_delays_no_reply.
                            self._engine().sweep(self._submit_renewal)
                    if not self.submit_split():
                        self._split()
                    busy = self._poll()
            # Guard: an outage or a bug in one poll would end the poll thread, and no queue would be claimed
            # again.
            # Test: tests/test_worker.py, test_the_poll_survives_a_database_outage_and_a_bug.
            except DatabaseError:
                logger.exception(
                    "Worker poll failed: database error; polling again in %s s at the latest",
                    app_settings.DJM_POLL,
                    extra={"action": "database_away"},
                )
            except Exception:
                logger.exception(
                    "Worker poll failed; polling again in %s s at the latest",
                    app_settings.DJM_POLL,
                    extra={"action": "look_failed"},
                )
            if not busy:
                self._wakeup.wait(self._held.seconds_to_wait(app_settings.DJM_POLL))
            if (pause := budget.seconds_to_wait()) > 0:
                self._stopping.wait(pause)

    def finish(self) -> None:
        """Expire the deadlines of all leases and stop all threads. Running jobs end after their current event or call.

        Jobs that have not begun run in this thread, and only release their queues. The batch writers stop after the
        threads that fill them.
        """
        with self._lock:
            deadlines = list(self._deadlines)
        for deadline in deadlines:
            # Each thread reads its deadline before the next event or call, so it ends after the current one.
            # Test: tests/test_worker.py, test_stopping_finishes_the_current_event_and_leaves_the_rest.
            deadline.expire()
        with reusable_connections():
            self.splitter.close()
            self.renewals.close()
            for pool in (self.handlers, self.senders):
                for job in pool.close():
                    try:
                        # Guard: a job that is dropped here would keep its queue leased for DJM_LEASE seconds after
                        # the stop. Its deadline has expired, so the job only releases the queue.
                        # Test: tests/test_worker.py, test_a_job_that_has_not_begun_releases_its_queue_at_the_stop.
                        job()
                    except Exception:
                        logger.exception(
                            "Job failed while the worker stops; its queue is due again when the lease ends",
                            extra={"action": "work_interrupted"},
                        )
        for pool in (self.splitter, self.handlers, self.senders, self.renewals):
            pool.join(app_settings.DJM_GRAPH_TIMEOUT + 5.0)
        # Guard: a slow rule that ends now passes its answer to a batch writer. A writer that has stopped would drop it.
        # Test: tests/test_worker.py, test_the_answer_of_a_slow_rule_that_ends_during_the_stop_is_committed.
        self.slow.stop(app_settings.DJM_GRAPH_TIMEOUT)
        for writer in (self.events, self.answers):
            writer.stop(app_settings.DJM_GRAPH_TIMEOUT)
        # No claim follows, which would release them.
        with reusable_connections():
            claims.release_remembered()
        if self._listener is not None:
            self._listener.stop()

    def _poll(self) -> bool:
        """Claim as many due queues of each kind as there are free threads for it. Return whether any was due."""
        return self._poll_outgoing() | bool(self._poll_incoming()) | self._poll_slow()

    def submit_split(self) -> bool:
        """Wake the splitter thread. Does nothing if a split runs and another one waits behind it.

        Returns False after waking the poll instead, if there is no splitter thread.
        """
        # Guard: a callback can be committed after the running split has read the table. One more split may wait
        # behind it (`free() >= 0`), otherwise that callback would wait for the next poll.
        # Test: tests/test_worker.py, test_a_callback_stored_after_the_read_of_a_running_split_is_split_next.
        if self.splitter.free() < 0 or self.splitter.submit(self._split):
            return True
        self._wakeup.set()
        return False

    def _split(self) -> None:
        """Split callbacks until none is left that is still ``new``.

        Runs in the splitter thread, so that a large number of callbacks does not delay the queues.
        """
        with reusable_connections():
            while not self._stopping.is_set():
                with self.split_budget.measure():
                    # Guard: a new event claimed here would get a thread before queues that have been due longer.
                    # Test: tests/test_worker.py,
                    # test_a_worker_that_is_behind_claims_waiting_queues_before_new_ones.
                    claim_limit = 0 if self._is_behind else self.handlers.free()
                    # Guard: the deadline is made before the leases, otherwise it would end after them.
                    deadline = Deadline(app_settings.DJM_LEASE)
                    todo = self._engine().split(claim=max(0, claim_limit), held=self._held.begin_split())
                    if self._held.end_split():
                        # The poll waits for the end of the pause.
                        self._wakeup.set()
                    if todo.leases:
                        self._register_deadline(deadline)
                        self._submit_leases(deadline, todo.leases, todo.next_rows)
                    if todo.queues and self._poll_incoming() < len(todo.queues) and self._listen:
                        # This process claims the rest when a thread is free. Another process may have one now.
                        self._engine().notify(QUEUES)
                if not todo:
                    return
                if not todo.more:
                    pause = self.split_budget.seconds_to_wait()
                    if not pause:
                        # The next stored callback brings a wake-up of its own.
                        return
                    self._stopping.wait(pause)

    def _poll_incoming(self) -> int:
        """Claim as many due incoming queues as there are free threads, submit them and return their number."""
        # Guard: when the database is slower than the rules, handled events that wait for the batch writer would
        # grow without bound in memory. They count as work in progress.
        # Test: tests/test_worker.py, test_a_worker_with_full_writers_claims_nothing.
        limit = self.handlers.free(ahead=AHEAD) - self.events.waiting()
        deadline, leases = self._claim(Kind.IN, limit)
        self._is_behind = len(leases) >= limit
        if leases:
            self._submit_leases(deadline, leases, {})
        return len(leases)

    def _poll_slow(self) -> bool:
        """Claim queues that wait for a slow thread, one for each free thread. Return whether there were any."""
        free_slots = self.slow.free_slots()
        deadline, leases = self._claim(Kind.IN, free_slots, is_slow=True)
        self.slow.reserve(leases, more=len(leases) >= free_slots)
        if leases:
            try:
                self._submit_leases(deadline, leases, {})
            # Guard: a reservation whose queue was released would block a slow thread until the restart.
            # Test: tests/test_worker.py, test_slots_stay_reserved_for_claimed_slow_queues.
            except Exception:
                for lease in leases:
                    self.slow.drop_reservation(lease)
                raise
        return bool(leases)

    def _submit_leases(
        self,
        deadline: Deadline,
        leases: list[Lease],
        known: Mapping[int, models.Messaging],
    ) -> None:
        """Submit leased queues to the handler threads.

        ``known`` maps queue ids to next rows that the split has in memory. The other next rows are read here. If the
        read fails, the leases are released.
        """
        # Guard: an error between claim and submit would leave the queues leased without a job, for DJM_LEASE seconds.
        # Test: tests/test_worker.py, test_leases_are_released_if_their_next_rows_cannot_be_read.
        with claims.released_on_error(leases):
            unknown = [lease for lease in leases if lease.queue_id not in known]
            next_rows = {**known, **(self._engine().inbox.next_rows(unknown) if unknown else {})}
        inbox = self._engine().inbox
        for lease in leases:
            handle = partial(inbox.handle, lease, deadline, self.slow, next_rows.get(lease.queue_id))
            _submit(self.handlers, partial(self._work, lease, handle))

    def _poll_outgoing(self) -> bool:
        deadline, leases = self._claim(Kind.OUT, self._free_senders())
        if not leases:
            return False
        outbox = self._engine().outbox
        with claims.released_on_error(leases):
            pending_sends, others = outbox.begin(leases, deadline)
        self._submit_sends(pending_sends)
        for lease in others:
            _submit(self.handlers, partial(self._process_next, lease, deadline))
        return True

    def _free_senders(self) -> int:
        """Return how many calls may begin now: 0 while too many answers wait for the batch writer.

        An answer that is not committed is lost in a crash, and its reply then is of unknown fate.
        """
        return max(0, min(self.senders.free(), MOST_QUEUES, 2 * MOST_QUEUES - self.answers.waiting()))

    def _submit_sends(self, pending_sends: list[PendingSend]) -> None:
        outbox = self._engine().outbox
        for pending in pending_sends:
            _submit(self.senders, partial(self._call, outbox, pending))

    def _claim(self, kind: Kind, limit: int, *, is_slow: bool = False) -> tuple[Deadline, list[Lease]]:
        # Guard: made after a slow claim, the deadline would end after the lease. A call could then begin while
        # another worker holds the queue.
        # Test: tests/test_worker.py, test_a_deadline_never_ends_after_its_lease.
        deadline = Deadline(app_settings.DJM_LEASE)
        if limit <= 0 or self._stopping.is_set():
            return deadline, []
        leases = claims.claim(kind, seconds=app_settings.DJM_LEASE, limit=limit, is_slow=is_slow)
        if leases:
            self._register_deadline(deadline)
        return deadline, leases

    def _register_deadline(self, deadline: Deadline) -> None:
        """Register a deadline, so that ``finish`` expires it."""
        with self._lock:
            self._deadlines.add(deadline)
        if self._stopping.is_set():
            # Guard: `finish` may have copied the set between the claim and the add. The worker would go on with the
            # queue until the lease ends.
            # Test: tests/test_worker.py, test_a_lease_claimed_during_the_stop_ends_at_once.
            deadline.expire()

    def _work(self, lease: Lease, handle: Callable[[], Handled | None]) -> None:
        """Call ``handle`` for a leased queue, and pass its result to the batch writer ``events``."""
        self._job_state.will_wake_poll = True
        try:
            with reusable_connections():
                done = None
                with claims.released_on_error([lease]):
                    done = handle()
                # At low load this thread commits the event and claims the outbox itself, which saves two thread
                # switches before the answer leaves.
                if done is not None:
                    self.events.write_here(done)
                elif not self._stopping.is_set() and not self.send_budget.seconds_to_wait():
                    with self.send_budget.measure():
                        self._poll_outgoing()
        finally:
            # Guard: a queue claimed for a slow thread may contain a quick event only. Its reservation would
            # block that thread.
            # Test: tests/test_worker.py, test_a_slow_slot_is_not_kept_for_an_event_that_is_quick.
            self.slow.drop_reservation(lease)
            # Guard: wake-ups from inside the job were dropped, and the queue may be due again. Without this one the
            # work would wait for the next poll.
            # Test: tests/test_worker.py, test_events_behind_the_first_are_handled_without_another_wake_up.
            self._job_state.will_wake_poll = False
            self._wakeup.set()

    def _commit_events(self, handled: list[Handled]) -> list[Handled]:
        """Commit handled events and begin the send of their replies, as far as senders are free."""
        deadline = Deadline(app_settings.DJM_LEASE)
        self._register_deadline(deadline)
        outbox = self._engine().outbox
        limit = 0 if self._stopping.is_set() else self._free_senders()

        def insert(replies: Sequence[models.Reply]) -> Callable[[], None]:
            pending_sends = outbox.insert_and_begin(replies, deadline, limit)
            return lambda: self._submit_sends(pending_sends)

        self._engine().inbox.commit_handled(handled, insert)
        return []

    def _settle_answers(self, answers: list[SendResult]) -> list[SendResult]:
        # Guard: an answer that is dropped after a database error makes its reply one of unknown fate.
        # Test: tests/test_worker.py, test_an_accepted_call_is_settled_after_a_database_outage.
        return self._engine().outbox.end(answers)

    def _call(self, outbox: Outbox, pending: PendingSend) -> None:
        with no_connection():
            self.answers.put(outbox.call(pending))

    def _submit_renewal(self, job: Callable[[], None]) -> None:
        if self.renewals.free() > 0:
            self.renewals.submit(partial(self._renew, job))

    @staticmethod
    def _renew(job: Callable[[], None]) -> None:
        with reusable_connections():
            job()

    def _process_next(self, lease: Lease, deadline: Deadline) -> None:
        try:
            with reusable_connections(), claims.released_on_error([lease]):
                self._engine().outbox.process_next(lease, deadline)
        finally:
            self._wakeup.set()


def _submit(pool: Threads, job: Callable[[], None]) -> None:
    """Submit a job that holds a lease. If the pool is closed or has no thread, run the job in this thread."""
    # Guard: the pool may close between the claim and the submit. A dropped job would keep its queue leased.
    # Test: tests/test_worker.py, test_queues_claimed_while_the_threads_end_are_released.
    if not pool.submit(job):
        job()
