"""The worker: threads that claim due conversation queues and work on them, in a web process or a worker process."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from django.db import DatabaseError, connections
from django.db.backends.signals import connection_created

from djmessenger import models
from djmessenger.clock import Deadline
from djmessenger.pipeline import claims
from djmessenger.pipeline.claims import Lease
from djmessenger.pipeline.connections import limit_idle_transactions, no_connection, reusable_connections
from djmessenger.pipeline.engine import Engine
from djmessenger.pipeline.handling import Handled
from djmessenger.pipeline.notifications import CALLBACK, QUEUES, Listener
from djmessenger.pipeline.pools import MOST_QUEUES, BatchWriter, PollBudget
from djmessenger.pipeline.sending import Outbox
from djmessenger.pipeline.settling import PendingSend, SendResult
from djmessenger.pipeline.slow import SlowThreads
from djmessenger.pipeline.threads import AHEAD, THREAD_NAME_PREFIX, Threads
from djmessenger.settings import app_settings

logger = logging.getLogger(__name__)

Kind = models.ConversationQueue.Kind

_SWEEP_TURN_SHARE = 0.5
"""Length of the turn to sweep, as a share of ``DJM_SWEEP``. During the turn no process may sweep again.

Below 1, because the timers of processes drift. A process whose timer ends slightly early must not miss its sweep.
"""

_REST = 300.0
"""Seconds after ``Worker.end`` in which no wake-up starts threads.

If the process still runs after that time, wake-ups start threads again.
"""


def connections_needed(threads: int) -> int:
    """Return how many database connections a worker uses at once: handlers, poll, splitter and two batch writers.

    Slow rules that use the database need more. A worker with ``listen`` has one more, which is never from a pool.
    """
    return threads + 4


class Worker:
    """Threads that claim conversation queues and work on them until ``stop``.

    The poll thread claims due queues and submits them to the pools. It polls after each wake-up and at least every
    ``DJM_POLL`` seconds. Every ``DJM_SWEEP`` seconds one process sweeps.

    ``threads`` threads handle events. ``senders`` threads wait for Graph, without a database connection. One thread
    splits callbacks. Two batch writers commit handled events and answers of Graph, many in one transaction. Slow
    rules have ``slow_threads`` threads of their own.

    With ``listen`` the worker also receives the wake-ups that other processes send through PostgreSQL. ``engine``
    returns the engine; it is called for each job. ``on_start`` is called each time the threads start.
    """

    def __init__(
        self,
        engine: Callable[[], Engine],
        *,
        threads: int,
        slow_threads: int,
        senders: int = 32,
        listen: bool = False,
        on_start: Callable[[], object] = lambda: None,
    ) -> None:
        self._engine = engine
        self._on_start = on_start
        self._counts = threads, slow_threads, senders
        self._listen = listen
        self._reset()
        reset = weakref.WeakMethod(self._reset)
        # Guard: a child forked while a thread holds `_lock` would wait for that lock forever, and its `_thread`
        # would name a thread that exists only in the parent. The child starts with new locks and no threads.
        # Test: tests/test_worker.py, test_a_forked_child_starts_threads_of_its_own.
        if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
            os.register_at_fork(after_in_child=lambda: (method := reset()) and method())

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._wakeup = threading.Event()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._deadlines: weakref.WeakSet[Deadline] = weakref.WeakSet()
        self._rest = Deadline(0)
        self._thread: threading.Thread | None = None
        self._pools: _WorkerPools | None = None
        # True if the last claim returned as many queues as it asked for: more may be due.
        self._is_behind = False
        # `will_wake_poll` is true in a thread that will wake the poll when its job ends. Wake-ups from inside the
        # job are redundant and are dropped.
        self._job_state = threading.local()

    def wake(self) -> None:
        """Wake the poll. Start the threads if they do not run, for example at the first call or after a fork.

        Does nothing inside a job that wakes the poll at its end, and nothing after ``end``.
        """
        if getattr(self._job_state, "will_wake_poll", False):
            return
        with self._lock:
            if self._rest.remaining() > 0:
                return
            if self._thread is None or not self._thread.is_alive():
                self._start()
        self._wakeup.set()

    def wake_to_split(self) -> None:
        """Wake the splitter thread directly. If the worker is not running yet, start it."""
        pools = self._pools
        if pools is None:
            self.wake()
        else:
            self._submit_split(pools)

    def start(self) -> None:
        """Start the threads unless they run already."""
        self.wake()

    def _start(self) -> None:
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._wakeup = threading.Event()
        self._pools = None
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME_PREFIX, daemon=True)
        self._thread.start()
        self._on_start()

    def stop_soon(self) -> None:
        """Stop all claims. The worker then ends after the jobs that run.

        Does not wait and takes no lock, so a signal handler may call it.
        """
        self._stopping.set()
        self._wakeup.set()

    def stop(self, timeout: float = 25.0) -> bool:
        """Stop all claims, finish the jobs that run and join the poll thread.

        Returns False if the poll thread did not end within ``timeout`` seconds.
        """
        self.stop_soon()
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def end(self) -> bool:
        """Stop as ``stop`` does, because the process ends. For the next ``_REST`` seconds no wake-up starts threads."""
        # Guard: a request that the server finishes after the stop would start threads, and the end of the process
        # would tear their work.
        # Test: tests/test_worker.py, test_a_wake_up_after_the_end_starts_no_threads.
        with self._lock:
            self._rest = Deadline(_REST)
        return self.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the worker has ended, at most ``timeout`` seconds. Return whether it has ended."""
        return self._ended.wait(timeout)

    def _run(self) -> None:
        connection_created.connect(limit_idle_transactions, dispatch_uid="djmessenger.worker")
        threads, slow_threads, senders = self._counts
        stopping, wakeup = self._stopping, self._wakeup
        pool_of_senders = Threads(senders, "out")
        pools = _WorkerPools(
            splitter=Threads(1, "split"),
            split_budget=PollBudget(),
            send_budget=PollBudget(),
            handlers=Threads(threads, "in"),
            senders=pool_of_senders,
            slow=SlowThreads(
                slow_threads,
                wakeup.set,
                lambda lease, finish: _submit(pools.handlers, partial(self._work, lease, pools, finish)),
                pool_of_senders,
            ),
            events=BatchWriter("events", lambda handled: self._commit_events(pools, handled), wakeup.set),
            answers=BatchWriter("answers", self._settle_answers, wakeup.set),
        )
        self._pools = pools

        def on_wake_up(what: str) -> None:
            if what == CALLBACK:
                self._submit_split(pools)
            else:
                wakeup.set()

        listener = Listener(on_wake_up) if self._listen else None
        sweep_at = Deadline(0)
        budget = PollBudget()
        try:
            while not stopping.is_set():
                # Guard: cleared before the poll. If it were cleared after, work committed between the claim and
                # the clear would lose its wake-up and wait for the next sweep or poll.
                # Test: tests/test_worker.py, test_a_wake_up_during_a_poll_leads_to_another_poll.
                wakeup.clear()
                busy = False
                try:
                    with reusable_connections(), budget.measure():
                        if sweep_at.remaining() <= 0:
                            sweep_at = Deadline(app_settings.DJM_SWEEP)
                            # Guard: without the turn each of many processes would scan the same rows at once.
                            # Test: tests/test_worker.py, test_one_of_many_processes_sweeps.
                            if models.Sweep.objects.claim(app_settings.DJM_SWEEP * _SWEEP_TURN_SHARE):
                                self._engine().sweep()
                                self._submit_events_without_conversation(
                                    pools, self._engine().waiting_without_conversation()
                                )
                        self._submit_split(pools)
                        busy = self._poll(pools)
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
                    wakeup.wait(app_settings.DJM_POLL)
                if (pause := budget.seconds_to_wait()) > 0:
                    stopping.wait(pause)
        finally:
            self._finish(pools)
            if listener is not None:
                listener.stop()
            connections.close_all()
            self._ended.set()

    def _finish(self, pools: _WorkerPools) -> None:
        """Expire the deadlines of all leases and stop all threads. Running jobs end after their current event or call.

        Jobs that have not begun run in this thread, and only release their queues. The batch writers stop after the
        threads that fill them.
        """
        self._pools = None
        with self._lock:
            deadlines = list(self._deadlines)
        for deadline in deadlines:
            # Each thread reads its deadline before the next event or call, so it ends after the current one.
            # Test: tests/test_worker.py, test_stopping_finishes_the_current_event_and_leaves_the_rest.
            deadline.expire()
        with reusable_connections():
            pools.splitter.close()
            for pool in (pools.handlers, pools.senders):
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
        for pool in (pools.splitter, pools.handlers, pools.senders):
            pool.join(app_settings.DJM_GRAPH_TIMEOUT + 5.0)
        # Guard: a slow rule that ends now passes its answer to a batch writer. A writer that has stopped would drop it.
        # Test: tests/test_worker.py, test_the_answer_of_a_slow_rule_that_ends_during_the_stop_is_committed.
        pools.slow.stop(app_settings.DJM_GRAPH_TIMEOUT)
        for writer in (pools.events, pools.answers):
            writer.stop(app_settings.DJM_GRAPH_TIMEOUT)

    def _poll(self, pools: _WorkerPools) -> bool:
        """Claim as many due queues of each kind as there are free threads for it. Return whether any was due."""
        return self._poll_outgoing(pools) | bool(self._poll_incoming(pools)) | self._poll_slow(pools)

    def _submit_split(self, pools: _WorkerPools) -> None:
        # Guard: a callback can be committed after the running split has read the table. One more split may wait
        # behind it (`free() >= 0`), otherwise that callback would wait for the next poll.
        # Test: tests/test_worker.py, test_a_callback_stored_after_the_read_of_a_running_split_is_split_next.
        if pools.splitter.free() >= 0:
            pools.splitter.submit(lambda: self._split(pools))

    def _split(self, pools: _WorkerPools) -> None:
        """Split callbacks until none is left that is still ``new``.

        Runs in the splitter thread, so that a large number of callbacks does not delay the queues.
        """
        with reusable_connections():
            while not self._stopping.is_set():
                with pools.split_budget.measure():
                    # Guard: a new event claimed here would get a thread before queues that have been due longer.
                    # Test: tests/test_intake_taking.py,
                    # test_a_worker_that_is_behind_claims_waiting_queues_before_new_ones.
                    claim_limit = 0 if self._is_behind else pools.handlers.free()
                    # Guard: the deadline is made before the leases, otherwise it would end after them.
                    deadline = Deadline(app_settings.DJM_LEASE)
                    todo = self._engine().split(claim=max(0, claim_limit))
                    self._submit_events_without_conversation(pools, todo.events_without_conversation)
                    if todo.leases:
                        self._register_deadline(deadline)
                        self._submit_leases(pools, deadline, todo.leases, todo.next_rows)
                    if (
                        todo.conversations
                        and self._poll_incoming(pools) < len(todo.conversations)
                        and self._listen
                    ):
                        # This process claims the rest when a thread is free. Another process may have one now.
                        self._engine().notify(QUEUES)
                if not todo:
                    return
                if not todo.more:
                    pause = pools.split_budget.seconds_to_wait()
                    if not pause:
                        # The next stored callback brings a wake-up of its own.
                        return
                    self._stopping.wait(pause)

    def _poll_incoming(self, pools: _WorkerPools) -> int:
        """Claim as many due incoming queues as there are free threads, submit them and return their number."""
        # Guard: when the database is slower than the rules, handled events that wait for the batch writer would
        # grow without bound in memory. They count as work in progress.
        # Test: tests/test_worker.py, test_a_worker_with_full_writers_claims_nothing.
        limit = pools.handlers.free(ahead=AHEAD) - pools.events.waiting()
        deadline, leases = self._claim(Kind.IN, limit)
        self._is_behind = len(leases) >= limit
        if leases:
            self._submit_leases(pools, deadline, leases, {})
        return len(leases)

    def _poll_slow(self, pools: _WorkerPools) -> bool:
        """Claim queues that wait for a slow thread, one for each free thread. Return whether there were any."""
        free_slots = pools.slow.free_slots()
        deadline, leases = self._claim(Kind.IN, free_slots, is_slow=True)
        pools.slow.reserve(leases, more=len(leases) >= free_slots)
        if leases:
            try:
                self._submit_leases(pools, deadline, leases, {})
            # Guard: a reservation whose queue was released would block a slow thread until the restart.
            # Test: tests/test_worker.py, test_slots_stay_reserved_for_claimed_slow_queues.
            except Exception:
                for lease in leases:
                    pools.slow.drop_reservation(lease)
                raise
        return bool(leases)

    def _submit_leases(
        self,
        pools: _WorkerPools,
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
            handle = partial(inbox.handle, lease, deadline, pools.slow, next_rows.get(lease.queue_id))
            _submit(pools.handlers, partial(self._work, lease, pools, handle))

    def _poll_outgoing(self, pools: _WorkerPools) -> bool:
        deadline, leases = self._claim(Kind.OUT, self._free_senders(pools))
        if not leases:
            return False
        outbox = self._engine().outbox
        with claims.released_on_error(leases):
            pending_sends, others = outbox.begin(leases, deadline)
        self._submit_sends(pools, pending_sends)
        for lease in others:
            _submit(pools.handlers, partial(self._process_next, lease, deadline))
        return True

    @staticmethod
    def _free_senders(pools: _WorkerPools) -> int:
        """Return how many calls may begin now: 0 while too many answers wait for the batch writer.

        An answer that is not committed is lost in a crash, and its reply then is of unknown fate.
        """
        return max(0, min(pools.senders.free(), MOST_QUEUES, 2 * MOST_QUEUES - pools.answers.waiting()))

    def _submit_sends(self, pools: _WorkerPools, pending_sends: list[PendingSend]) -> None:
        outbox = self._engine().outbox
        for pending in pending_sends:
            _submit(pools.senders, partial(self._call, outbox, pending, pools.answers))

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
        """Register a deadline, so that ``_finish`` expires it."""
        with self._lock:
            self._deadlines.add(deadline)
        if self._stopping.is_set():
            # Guard: `_finish` may have copied the set between the claim and the add. The new lease would then be
            # worked on to its end.
            # Test: tests/test_worker.py, test_a_lease_claimed_during_the_stop_ends_at_once.
            deadline.expire()

    def _submit_events_without_conversation(self, pools: _WorkerPools, row_ids: list[int]) -> None:
        if row_ids:
            pools.handlers.submit(lambda: self._handle_events_without_conversation(row_ids))

    def _handle_events_without_conversation(self, row_ids: list[int]) -> None:
        with reusable_connections():
            for row_id in row_ids:
                self._engine().inbox.handle_event_without_conversation(row_id)

    def _work(self, lease: Lease, pools: _WorkerPools, handle: Callable[[], Handled | None]) -> None:
        """Call ``handle`` for a leased queue, and have its result committed."""
        self._job_state.will_wake_poll = True
        try:
            with reusable_connections():
                done = None
                with claims.released_on_error([lease]):
                    done = handle()
                # At low load this thread commits the event and claims the outbox itself, which saves two thread
                # switches before the answer leaves.
                if done is not None:
                    pools.events.write_here(done)
                elif not self._stopping.is_set() and not pools.send_budget.seconds_to_wait():
                    with pools.send_budget.measure():
                        self._poll_outgoing(pools)
        finally:
            # Guard: a queue claimed for a slow thread may contain a quick event only. Its reservation would
            # block that thread.
            # Test: tests/test_worker.py, test_a_slow_slot_is_not_kept_for_an_event_that_is_quick.
            pools.slow.drop_reservation(lease)
            # Guard: wake-ups from inside the job were dropped, and the queue may be due again. Without this one the
            # work would wait for the next poll.
            # Test: tests/test_worker.py, test_events_behind_the_first_are_handled_without_another_wake_up.
            self._job_state.will_wake_poll = False
            self._wakeup.set()

    def _commit_events(self, pools: _WorkerPools, handled: list[Handled]) -> list[Handled]:
        """Commit handled events and begin the send of their replies, as far as senders are free."""
        deadline = Deadline(app_settings.DJM_LEASE)
        self._register_deadline(deadline)
        outbox = self._engine().outbox
        limit = 0 if self._stopping.is_set() else self._free_senders(pools)

        def insert(replies: Sequence[models.Reply]) -> Callable[[], None]:
            pending_sends = outbox.insert_and_begin(replies, deadline, limit)
            return lambda: self._submit_sends(pools, pending_sends)

        self._engine().inbox.commit_handled(handled, insert)
        return []

    def _settle_answers(self, answers: list[SendResult]) -> list[SendResult]:
        # Guard: an answer that is dropped after a database error makes its reply one of unknown fate. It is tried
        # again while its lease lasts; after that the fence would refuse it.
        # Test: tests/test_worker.py, test_an_accepted_call_is_settled_after_a_database_outage.
        left = self._engine().outbox.end(answers)
        return [answer for answer in left if answer.pending.deadline.remaining() > 0]

    @staticmethod
    def _call(outbox: Outbox, pending: PendingSend, writer: BatchWriter[SendResult]) -> None:
        with no_connection():
            writer.put(outbox.call(pending))

    def _process_next(self, lease: Lease, deadline: Deadline) -> None:
        try:
            with reusable_connections(), claims.released_on_error([lease]):
                self._engine().outbox.process_next(lease, deadline)
        finally:
            self._wakeup.set()


def _submit(pool: Threads, job: Callable[[], None]) -> None:
    """Submit a job that holds a lease. If the pool is closed, run the job in this thread."""
    # Guard: the pool may close between the claim and the submit. A dropped job would keep its queue leased.
    # Test: tests/test_worker.py, test_queues_claimed_while_the_threads_end_are_released.
    if not pool.submit(job):
        job()


@dataclass(frozen=True, kw_only=True)
class _WorkerPools:
    splitter: Threads
    split_budget: PollBudget
    send_budget: PollBudget
    handlers: Threads
    senders: Threads
    slow: SlowThreads
    events: BatchWriter[Handled]
    answers: BatchWriter[SendResult]
