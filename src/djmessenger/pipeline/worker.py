"""The worker: claims what waits and works on it, inside a web process or as a process of its own."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable

from django.db import DatabaseError, connections
from django.db.backends.signals import connection_created

from djmessenger import models, settings
from djmessenger.pipeline.clock import Deadline
from djmessenger.pipeline.inbox import Slow
from djmessenger.pipeline.listening import Listener
from djmessenger.pipeline.road import Road, give_back
from djmessenger.pipeline.threads import (
    NAME,
    Threads,
    connection_hygiene,
    limit_idle_transactions,
    no_connection,
)

logger = logging.getLogger(__name__)

Kind = models.Lane.Kind

_LOOK = 0.5
"""Seconds between two looks at what takes too long."""
_RENEWALS = 3
"""How often a lease is renewed in its time."""


class SlowThreads:
    """A pool for slow handlers; the leases of their lanes are renewed while they wait or run."""

    def __init__(self, threads: int, done: Callable[[], None]) -> None:
        self._done = done
        self._pool = Threads(threads, "slow")
        self._lock = threading.Lock()
        self._leases: set[models.Lease] = set()
        self._limits: dict[models.Lease, tuple[Deadline, Callable[[], None]]] = {}
        self._ended = threading.Event()
        self._renewer: threading.Thread | None = None

    def run(self, lease: models.Lease, job: Slow) -> bool:
        """Run the job in a thread of its own, which then lets go of the lane."""
        with self._lock:
            self._leases.add(lease)
            if self._renewer is None:
                self._renewer = threading.Thread(target=self._renew, name=f"{NAME}-renewals", daemon=True)
                self._renewer.start()
        if not self._pool.submit(lambda: self._run(lease, job)):
            self._forget(lease)
            give_back(lease)
        return False

    def _run(self, lease: models.Lease, job: Slow) -> None:
        if job.timeout is not None:
            with self._lock:
                self._limits[lease] = Deadline(job.timeout), job.give_up
        try:
            with no_connection():
                job.prepare()
            with no_connection():
                job.work()
                job.release()
        except models.LeaseLost as lost:
            logger.warning("Slow work was in vain: %s", lost, extra={"action": "lease_lost"})
        except Exception:
            logger.exception("Slow work was interrupted", extra={"action": "work_interrupted"})
            give_back(lease)
        finally:
            self._forget(lease)
            self._done()

    def _forget(self, lease: models.Lease) -> None:
        with self._lock:
            self._leases.discard(lease)
            self._limits.pop(lease, None)

    def _renew(self) -> None:
        due = Deadline(settings.DJM_LEASE / _RENEWALS)
        while not self._ended.wait(min(_LOOK, max(0.0, due.remaining()))):
            with no_connection():
                self._end_late_ones()
                if due.remaining() <= 0:
                    due = Deadline(settings.DJM_LEASE / _RENEWALS)
                    self.renew()

    def _end_late_ones(self) -> None:
        """Give up what takes longer than it may; its thread is free when it comes back by itself."""
        with self._lock:
            late = [(lease, end) for lease, (limit, end) in self._limits.items() if limit.remaining() <= 0]
        for lease, give_up in late:
            self._forget(lease)
            try:
                give_up()
            except models.LeaseLost as lost:
                logger.warning("Slow work was in vain: %s", lost, extra={"action": "lease_lost"})
            except DatabaseError:
                logger.exception("The database did not answer", extra={"action": "database_away"})
            self._done()

    def renew(self) -> None:
        """Hold on to the lanes of what runs; what is lost already fails at its own commit."""
        with self._lock:
            leases = list(self._leases)
        for lease in leases:
            try:
                models.Lane.objects.renew(lease, settings.DJM_LEASE)
            except models.LeaseLost as lost:
                logger.warning("A slow handler works in vain: %s", lost, extra={"action": "lease_lost"})
                self._forget(lease)
            except DatabaseError:
                logger.exception("The database did not answer", extra={"action": "database_away"})

    def stop(self, timeout: float) -> None:
        """Begin nothing more and wait for what runs; lanes of what did not begin are free at once."""
        if self._pool.close():
            running = self._pool.count
            logger.info("Slow work that had not begun is left to others", extra={"threads": running})
        self._pool.join(timeout)
        self._ended.set()
        with self._lock:
            left = list(self._leases)
        for lease in left:
            give_back(lease)


class Worker:
    """Claims lanes and works on them, until it is stopped.

    One thread looks for work and hands it to the others: incoming and outgoing have threads of their own, so
    that a slow Graph keeps nobody from being heard. It looks when it is woken, and by itself every ``DJM_POLL``
    seconds; every so often it sweeps. With ``listen`` PostgreSQL wakes it for work of other processes.
    """

    def __init__(
        self, road: Callable[[], Road], *, threads: int, slow_threads: int, listen: bool = False
    ) -> None:
        self._road = road
        self._counts = threads, slow_threads
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
        self._deadlines: set[Deadline] = set()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Say that something waits; starts the threads at the first call, and again after a fork."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._start()
        self._wakeup.set()

    def start(self) -> None:
        """Start the threads, if they do not run."""
        self.wake()

    def _start(self) -> None:
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._wakeup = threading.Event()
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
        threads, slow_threads = self._counts
        stopping, wakeup = self._stopping, self._wakeup
        slow = SlowThreads(slow_threads, wakeup.set)
        pools = {Kind.OUT: Threads(threads, "out"), Kind.IN: Threads(threads, "in")}
        splitter = Threads(1, "split")
        listener = Listener(wakeup.set) if self._listen else None
        sweep_at = Deadline(0)
        try:
            while not stopping.is_set():
                wakeup.clear()
                busy = False
                try:
                    with connection_hygiene():
                        if sweep_at.remaining() <= 0:
                            sweep_at = Deadline(settings.DJM_SWEEP)
                            self._road().sweep()
                            self._loose(pools[Kind.IN], self._road().loose_waiting())
                        if splitter.free() >= 0:
                            # One more may queue behind one that runs: that one may have looked too early.
                            splitter.submit(lambda: self._split(pools[Kind.IN]))
                        busy = self._round(pools, slow)
                except DatabaseError:
                    logger.exception("The database did not answer", extra={"action": "database_away"})
                except Exception:
                    logger.exception("A look for work failed", extra={"action": "look_failed"})
                if not busy:
                    wakeup.wait(settings.DJM_POLL)
        finally:
            self._finish([splitter, *pools.values()], slow)
            if listener is not None:
                listener.stop()
            connections.close_all()
            self._ended.set()

    def _finish(self, pools: list[Threads], slow: SlowThreads) -> None:
        for deadline in list(self._deadlines):
            # Whoever works on a lane looks at this before it begins the next event or call.
            deadline.expire()
        for pool in pools:
            pool.close()
        for pool in pools:
            pool.join(settings.DJM_GRAPH_TIMEOUT + 5.0)
        slow.stop(settings.DJM_GRAPH_TIMEOUT)

    def _round(self, pools: dict[Kind, Threads], slow: SlowThreads) -> bool:
        """Claim what waits, as much as there are threads for; whether there was any."""
        busy = False
        for kind, pool in pools.items():
            free = pool.free()
            if free <= 0 or self._stopping.is_set():
                continue
            # Made before the leases, so that it never ends after them.
            end = settings.DJM_LEASE
            deadlines = [Deadline(end) for _ in range(free)]
            leases = models.Lane.objects.claim(kind, seconds=end, limit=free)
            for lease, deadline in zip(leases, deadlines, strict=False):
                busy = True
                self._deadlines.add(deadline)
                pool.submit(lambda lease=lease, deadline=deadline: self._work(lease, deadline, slow))  # type: ignore[misc]
        return busy

    def _split(self, pool: Threads) -> None:
        """Split what is stored, in a thread of its own: a flood of callbacks keeps no lane waiting."""
        with connection_hygiene():
            while not self._stopping.is_set() and (todo := self._road().split_waiting()):
                self._loose(pool, todo.loose)
                self._wakeup.set()

    def _loose(self, pool: Threads, row_ids: list[int]) -> None:
        if row_ids:
            pool.submit(lambda: self._handle_loose(row_ids))

    def _handle_loose(self, row_ids: list[int]) -> None:
        with connection_hygiene():
            for row_id in row_ids:
                self._road().inbox.handle_loose(row_id)

    def _work(self, lease: models.Lease, deadline: Deadline, slow: SlowThreads) -> None:
        try:
            with connection_hygiene():
                self._road().work(lease, deadline, slow)
        finally:
            self._deadlines.discard(deadline)
            self._wakeup.set()
