"""Threads that do the work of the road: inside a web process, or as a process of their own."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from django.db import DatabaseError, close_old_connections, connections

from djmessenger import models, settings
from djmessenger.pipeline.clock import Deadline
from djmessenger.pipeline.road import Road

logger = logging.getLogger(__name__)

Kind = models.Lane.Kind


class SlowThreads:
    """A pool for slow handlers; the leases of their lanes are renewed while they run."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="djmessenger-slow")
        self._lock = threading.Lock()
        self._leases: set[models.Lease] = set()

    def run(self, lease: models.Lease | None, job: Callable[[], None]) -> bool:
        if lease is None:
            job()
            return True
        with self._lock:
            self._leases.add(lease)
        self._pool.submit(self._run, lease, job)
        return False

    def _run(self, lease: models.Lease, job: Callable[[], None]) -> None:
        with connection_hygiene():
            try:
                job()
            finally:
                with self._lock:
                    self._leases.discard(lease)

    def renew(self) -> None:
        """Hold on to the lanes of what runs; what is lost already fails at its own commit."""
        with self._lock:
            leases = list(self._leases)
        for lease in leases:
            try:
                models.Lane.objects.renew(lease, settings.DJM_LEASE)
            except models.LeaseLost:
                logger.warning("A lease was lost under a slow handler", extra={"action": "lease_lost"})

    def stop(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class Worker:
    """Claims lanes and works on them, until it is stopped.

    One thread looks for work and hands it to the others. It looks when it is woken, and by itself every
    ``DJM_POLL`` seconds; every so often it sweeps, and renews the leases of slow handlers.
    """

    def __init__(self, road: Callable[[], Road], *, threads: int, slow_threads: int) -> None:
        self._road = road
        self._threads = threads
        self._slow_threads = slow_threads
        self._lock = threading.Lock()
        self._wakeup = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._pid = 0

    def wake(self) -> None:
        """Say that something waits; starts the threads at the first call, and again after a fork."""
        with self._lock:
            if self._thread is None or self._pid != os.getpid() or not self._thread.is_alive():
                # A forked child has the memory of the parent's threads, not the threads.
                self._wakeup = threading.Event()
                self._stopping = False
                self._thread = threading.Thread(target=self.run, name="djmessenger", daemon=True)
                self._pid = os.getpid()
                self._thread.start()
        self._wakeup.set()

    def stop(self, timeout: float = 30.0) -> None:
        """Claim nothing more, finish what is begun, and end; ``timeout`` in seconds."""
        self._stopping = True
        self._wakeup.set()
        thread = self._thread
        if thread is not None and self._pid == os.getpid() and thread is not threading.current_thread():
            thread.join(timeout)

    def run(self) -> None:
        """Look for work until stopped."""
        slow = SlowThreads(self._slow_threads)
        free = threading.Semaphore(self._threads)
        sweep_at = Deadline(0)
        with ThreadPoolExecutor(self._threads, thread_name_prefix="djmessenger-lane") as pool:
            while not self._stopping:
                self._wakeup.clear()
                with connection_hygiene():
                    try:
                        if sweep_at.remaining() <= 0:
                            sweep_at = Deadline(settings.DJM_SWEEP)
                            self._road().sweep()
                            slow.renew()
                        busy = self._round(pool, free, slow)
                    except DatabaseError:
                        logger.exception("The database did not answer", extra={"action": "database_away"})
                        busy = False
                if not busy:
                    self._wakeup.wait(settings.DJM_POLL)
        slow.stop()
        connections.close_all()

    def _round(self, pool: ThreadPoolExecutor, free: threading.Semaphore, slow: SlowThreads) -> bool:
        """Split what is stored and claim what waits, as much as there are threads for; whether there was any."""
        busy = self._road().split_waiting() > 0
        for kind in (Kind.OUT, Kind.IN):
            while not self._stopping and free.acquire(blocking=False):
                deadline = Deadline(settings.DJM_LEASE)
                leases = models.Lane.objects.claim(kind, seconds=settings.DJM_LEASE)
                if not leases:
                    free.release()
                    break
                busy = True
                future = pool.submit(self._work, leases[0], deadline, slow)
                future.add_done_callback(lambda done: self._done(done, free))
        return busy

    def _work(self, lease: models.Lease, deadline: Deadline, slow: SlowThreads) -> None:
        with connection_hygiene():
            self._road().work(lease, deadline, slow)

    def _done(self, future: Future[None], free: threading.Semaphore) -> None:
        free.release()
        self._wakeup.set()
        if error := future.exception():
            # The lane comes back when its lease ends.
            logger.error("Work was interrupted", exc_info=error, extra={"action": "work_interrupted"})


@contextmanager
def connection_hygiene() -> Iterator[None]:
    """Do what Django does around a request: no connection is used past its age, none stays broken."""
    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()
