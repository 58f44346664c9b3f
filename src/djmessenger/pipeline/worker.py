"""The worker: threads that claim due conversation queues and work on them, in a web process or a worker process."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from functools import partial

from django.db import connections
from django.db.backends.signals import connection_created

from djmessenger.clock import Deadline
from djmessenger.pipeline.connections import limit_idle_transactions
from djmessenger.pipeline.engine import Engine
from djmessenger.pipeline.threads import THREAD_NAME_PREFIX
from djmessenger.pipeline.worker_run import WorkerRun

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
        senders: int,
        listen: bool = False,
        on_start: Callable[[], object] = lambda: None,
    ) -> None:
        self._new_run = partial(
            WorkerRun, engine, threads=threads, slow_threads=slow_threads, senders=senders, listen=listen
        )
        self._on_start = on_start
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
        self._rest = Deadline(0)
        self._thread: threading.Thread | None = None
        self._run: WorkerRun | None = None

    def wake(self) -> None:
        """Wake the poll. Start the threads if they do not run, for example at the first call or after a fork.

        Does nothing inside a job that wakes the poll at its end, and nothing after ``end``.
        """
        run = self._run
        if run is not None and run.will_be_polled():
            return
        with self._lock:
            if self._rest.remaining() > 0:
                return
            if self._thread is None or not self._thread.is_alive():
                self._start()
        self._wakeup.set()

    def wake_to_split(self) -> None:
        """Wake the splitter thread directly. If the worker is not running yet, start it."""
        run = self._run
        if run is None:
            self.wake()
        else:
            run.submit_split()

    def start(self) -> None:
        """Start the threads unless they run already."""
        self.wake()

    def _start(self) -> None:
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._wakeup = threading.Event()
        self._run = None
        thread = threading.Thread(target=self._work, name=THREAD_NAME_PREFIX, daemon=True)
        # Guard: the system may refuse a thread. One that was never started cannot be joined by ``stop``.
        # Test: tests/faults/test_hints.py, test_a_system_without_threads_fails_no_post.
        thread.start()
        self._thread = thread
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

    def _work(self) -> None:
        connection_created.connect(limit_idle_transactions, dispatch_uid="djmessenger.worker")
        run = self._new_run(self._stopping, self._wakeup)
        self._run = run
        try:
            run.poll()
        finally:
            self._run = None
            run.finish()
            connections.close_all()
            self._ended.set()
