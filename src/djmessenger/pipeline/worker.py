"""The worker: claims what waits and works on it, inside a web process or as a process of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from django.db import DatabaseError, connections
from django.db.backends.signals import connection_created

from djmessenger import models
from djmessenger.clock import Deadline
from djmessenger.pipeline.connections import limit_idle_transactions, no_connection, reusable_connections
from djmessenger.pipeline.engine import Engine
from djmessenger.pipeline.inbox import Handled
from djmessenger.pipeline.leases import give_back
from djmessenger.pipeline.notifications import CALLBACK, QUEUES, Listener
from djmessenger.pipeline.outbox import Outbox, PendingSend, SendResult
from djmessenger.pipeline.pools import AHEAD, MOST_QUEUES, BatchWriter, PollBudget, SlowThreads
from djmessenger.pipeline.threads import NAME, Threads
from djmessenger.settings import app_settings

logger = logging.getLogger(__name__)

Kind = models.ConversationQueue.Kind

_ALONE = 0.5
"""For how much of ``DJM_SWEEP`` one sweep is enough for all processes; less than all of it, since timers drift."""


class Worker:
    """Claims queues and works on them, until it is stopped.

    One thread looks for work and hands it on: ``threads`` handle events, ``senders`` wait for Graph and need no
    database connection meanwhile, and one more writes down what Graph said, of many calls at once. It looks when it
    is woken, and by itself every ``DJM_POLL`` seconds; every so often it sweeps, where no other process just did. With
    ``listen`` PostgreSQL wakes it for work of other processes.
    """

    def __init__(
        self,
        engine: Callable[[], Engine],
        *,
        threads: int,
        slow_threads: int,
        senders: int = 32,
        listen: bool = False,
    ) -> None:
        self._engine = engine
        self._counts = threads, slow_threads, senders
        self._listen = listen
        self._begin_anew()
        anew = weakref.WeakMethod(self._begin_anew)
        # A forked child has the memory of the parent's threads and locks, not the threads.
        os.register_at_fork(after_in_child=lambda: (method := anew()) and method())

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._wakeup = threading.Event()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._deadlines: weakref.WeakSet[Deadline] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._pools: _WorkerPools | None = None
        # Whether more conversations may wait than were claimed last.
        self._is_behind = False
        # Of a thread that is to look for work at the end of its job: what it announces before wakes nobody.
        self._looks_itself = threading.local()

    def wake(self) -> None:
        """Say that something waits; starts the threads at the first call, and again after a fork."""
        if getattr(self._looks_itself, "soon", False):
            return
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._start()
        self._wakeup.set()

    def wake_to_split(self) -> None:
        """Say that a callback waits: where the threads run, the one that splits is told without a way round."""
        pools = self._pools
        if pools is None:
            self.wake()
        else:
            self._have_split(pools)

    def start(self) -> None:
        """Start the threads, if they do not run."""
        self.wake()

    def _start(self) -> None:
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._wakeup = threading.Event()
        self._pools = None
        self._thread = threading.Thread(target=self._run, name=NAME, daemon=True)
        self._thread.start()

    def stop_soon(self) -> None:
        """Claim nothing more; may be called by a signal handler."""
        self._stopping.set()
        self._wakeup.set()

    def stop(self, timeout: float = 25.0) -> bool:
        """Claim nothing more, finish what is begun, and end; false when it took over ``timeout`` seconds."""
        self.stop_soon()
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; false when it has not by then."""
        return self._ended.wait(timeout)

    def _run(self) -> None:
        connection_created.connect(limit_idle_transactions, dispatch_uid="djmessenger.worker")
        threads, slow_threads, senders = self._counts
        stopping, wakeup = self._stopping, self._wakeup
        pools = _WorkerPools(
            splitter=Threads(1, "split"),
            split_budget=PollBudget(),
            send_budget=PollBudget(),
            handlers=Threads(threads, "in"),
            senders=Threads(senders, "out"),
            slow=SlowThreads(slow_threads, wakeup.set),
            events=BatchWriter("events", lambda handled: self._events(pools, handled), wakeup.set),
            answers=BatchWriter("answers", self._answers, wakeup.set),
        )
        self._pools = pools

        def heard(what: str) -> None:
            if what == CALLBACK:
                self._have_split(pools)
            else:
                wakeup.set()

        listener = Listener(heard) if self._listen else None
        sweep_at = Deadline(0)
        budget = PollBudget()
        try:
            while not stopping.is_set():
                wakeup.clear()
                busy = False
                try:
                    with reusable_connections(), budget.measure():
                        if sweep_at.remaining() <= 0:
                            sweep_at = Deadline(app_settings.DJM_SWEEP)
                            if models.Sweep.objects.claim(app_settings.DJM_SWEEP * _ALONE):
                                self._engine().sweep()
                                self._submit_events_without_conversation(
                                    pools, self._engine().waiting_without_conversation()
                                )
                        self._have_split(pools)
                        busy = self._poll(pools)
                except DatabaseError:
                    logger.exception("The database did not answer", extra={"action": "database_away"})
                except Exception:
                    logger.exception("A look for work failed", extra={"action": "look_failed"})
                if not busy:
                    wakeup.wait(app_settings.DJM_POLL)
                if (pause := budget.pause()) > 0:
                    stopping.wait(pause)
        finally:
            self._finish(pools)
            if listener is not None:
                listener.stop()
            connections.close_all()
            self._ended.set()

    def _finish(self, pools: _WorkerPools) -> None:
        self._pools = None
        with self._lock:
            deadlines = list(self._deadlines)
        for deadline in deadlines:
            # Whoever works on a queue looks at this before it begins the next event or call.
            deadline.expire()
        with reusable_connections():
            pools.splitter.close()
            for pool in (pools.handlers, pools.senders):
                for job in pool.close():
                    try:
                        # It ends at once, and lets go of its queue.
                        job()
                    except Exception:
                        logger.exception("Work was interrupted", extra={"action": "work_interrupted"})
        for pool in (pools.splitter, pools.handlers, pools.senders):
            pool.join(app_settings.DJM_GRAPH_TIMEOUT + 5.0)
        for writer in (pools.events, pools.answers):
            writer.stop(app_settings.DJM_GRAPH_TIMEOUT)
        pools.slow.stop(app_settings.DJM_GRAPH_TIMEOUT)

    def _poll(self, pools: _WorkerPools) -> bool:
        """Claim what waits, as much as there are threads for; whether there was any."""
        return self._poll_outgoing(pools) | bool(self._poll_incoming(pools)) | self._poll_slow(pools)

    def _have_split(self, pools: _WorkerPools) -> None:
        # One more may queue behind one that runs: that one may have looked too early.
        if pools.splitter.free() >= 0:
            pools.splitter.submit(lambda: self._split(pools))

    def _split(self, pools: _WorkerPools) -> None:
        """Split what is stored, in a thread of its own: a flood of callbacks keeps no queue waiting."""
        with reusable_connections():
            while not self._stopping.is_set():
                with pools.split_budget.measure():
                    # What has waited longer comes first.
                    take = 0 if self._is_behind else pools.handlers.free()
                    # Made before the leases, so that it never ends after them.
                    deadline = Deadline(app_settings.DJM_LEASE)
                    todo = self._engine().split_waiting(max(0, take))
                    self._submit_events_without_conversation(pools, todo.events_without_conversation)
                    if todo.leases:
                        self._watch(deadline)
                        self._submit_leases(pools, deadline, todo.leases, todo.next_rows)
                    if (
                        todo.conversations
                        and self._poll_incoming(pools) < len(todo.conversations)
                        and self._listen
                    ):
                        # Here the rest is found when a thread is free; others may have one.
                        self._engine().notify(QUEUES)
                if not todo:
                    return
                if not todo.more:
                    pause = pools.split_budget.pause()
                    if not pause:
                        # Whoever stores another says so.
                        return
                    self._stopping.wait(pause)

    def _poll_incoming(self, pools: _WorkerPools) -> int:
        """Claim waiting conversations, as many as there are threads for, and hand them on; give how many."""
        # What is handled and not written down is still at hand.
        limit = pools.handlers.free(ahead=AHEAD) - pools.events.waiting()
        deadline, leases = self._claim(Kind.IN, limit)
        self._is_behind = len(leases) >= limit
        if leases:
            self._submit_leases(pools, deadline, leases, {})
        return len(leases)

    def _poll_slow(self, pools: _WorkerPools) -> bool:
        """Claim conversations that wait for a thread for slow work, as many as are free; whether there were any."""
        free_slots = pools.slow.free_slots()
        deadline, leases = self._claim(Kind.IN, free_slots, is_slow=True)
        pools.slow.reserve(leases, more=len(leases) >= free_slots)
        if leases:
            try:
                self._submit_leases(pools, deadline, leases, {})
            except Exception:
                for lease in leases:
                    pools.slow.drop_reservation(lease)
                raise
        return bool(leases)

    def _submit_leases(
        self,
        pools: _WorkerPools,
        deadline: Deadline,
        leases: list[models.Lease],
        known: Mapping[int, models.Messaging],
    ) -> None:
        """Hand claimed conversations on; of those whose first event is not ``known``, by queue, it is read."""
        with self._giving_back(leases):
            unknown = [lease for lease in leases if lease.queue_id not in known]
            next_rows = {**known, **(self._engine().inbox.next_rows(unknown) if unknown else {})}
        for lease in leases:
            next_row = next_rows.get(lease.queue_id)
            _submit(pools.handlers, partial(self._work, lease, deadline, pools, next_row))

    def _poll_outgoing(self, pools: _WorkerPools) -> bool:
        deadline, leases = self._claim(Kind.OUT, self._free_senders(pools))
        if not leases:
            return False
        outbox = self._engine().outbox
        with self._giving_back(leases):
            pending_sends, others = outbox.begin(leases, deadline)
        self._submit_sends(pools, pending_sends)
        for lease in others:
            _submit(pools.handlers, partial(self._process_next, lease, deadline))
        return True

    @staticmethod
    def _free_senders(pools: _WorkerPools) -> int:
        """How many calls may be begun at once; none while what others came to is not written down."""
        return max(0, min(pools.senders.free(), MOST_QUEUES, 2 * MOST_QUEUES - pools.answers.waiting()))

    def _submit_sends(self, pools: _WorkerPools, pending_sends: list[PendingSend]) -> None:
        outbox = self._engine().outbox
        for pending in pending_sends:
            _submit(pools.senders, partial(self._call, outbox, pending, pools.answers))

    def _claim(self, kind: Kind, limit: int, *, is_slow: bool = False) -> tuple[Deadline, list[models.Lease]]:
        # Made before the leases, so that it never ends after them.
        deadline = Deadline(app_settings.DJM_LEASE)
        if limit <= 0 or self._stopping.is_set():
            return deadline, []
        leases = models.ConversationQueue.objects.claim(
            kind, seconds=app_settings.DJM_LEASE, limit=limit, is_slow=is_slow
        )
        if leases:
            self._watch(deadline)
        return deadline, leases

    def _watch(self, deadline: Deadline) -> None:
        """Have leases end when this worker stops."""
        with self._lock:
            self._deadlines.add(deadline)
        if self._stopping.is_set():
            # Claimed while the others were told; these end at once too.
            deadline.expire()

    @staticmethod
    @contextlib.contextmanager
    def _giving_back(leases: list[models.Lease]) -> Iterator[None]:
        try:
            yield
        except Exception:
            for lease in leases:
                give_back(lease)
            raise

    def _submit_events_without_conversation(self, pools: _WorkerPools, row_ids: list[int]) -> None:
        if row_ids:
            pools.handlers.submit(lambda: self._handle_events_without_conversation(row_ids))

    def _handle_events_without_conversation(self, row_ids: list[int]) -> None:
        with reusable_connections():
            for row_id in row_ids:
                self._engine().inbox.handle_event_without_conversation(row_id)

    def _work(
        self, lease: models.Lease, deadline: Deadline, pools: _WorkerPools, next_row: models.Messaging | None
    ) -> None:
        self._looks_itself.soon = True
        try:
            with reusable_connections():
                done = self._engine().handle(lease, deadline, pools.slow, next_row)
                # When little is to do, the answer leaves from here, without a way over another thread.
                if done is not None:
                    pools.events.write_here(done)
                elif not self._stopping.is_set() and not pools.send_budget.pause():
                    with pools.send_budget.measure():
                        self._poll_outgoing(pools)
        finally:
            pools.slow.drop_reservation(lease)
            self._looks_itself.soon = False
            self._wakeup.set()

    def _events(self, pools: _WorkerPools, handled: list[Handled]) -> list[Handled]:
        """Write events down, and have their answers sent that can leave at once."""
        deadline = Deadline(app_settings.DJM_LEASE)
        self._watch(deadline)
        outbox = self._engine().outbox
        limit = 0 if self._stopping.is_set() else self._free_senders(pools)

        def insert(replies: Sequence[models.Reply]) -> Callable[[], None]:
            pending_sends = outbox.start(replies, deadline, limit)
            return lambda: self._submit_sends(pools, pending_sends)

        self._engine().inbox.write_down(handled, insert)
        return []

    def _answers(self, answers: list[SendResult]) -> list[SendResult]:
        left = self._engine().outbox.end(answers)
        return [answer for answer in left if answer.pending.deadline.remaining() > 0]

    @staticmethod
    def _call(outbox: Outbox, pending: PendingSend, writer: BatchWriter[SendResult]) -> None:
        with no_connection():
            writer.put(outbox.call(pending))

    def _process_next(self, lease: models.Lease, deadline: Deadline) -> None:
        try:
            with reusable_connections():
                self._engine().process_next(lease, deadline)
        finally:
            self._wakeup.set()


def _submit(pool: Threads, job: Callable[[], None]) -> None:
    """Have a job done by a thread; where they end already, here and now, for it lets go of a queue."""
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
