"""Parts of the worker: the poll budget and the batch writer."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from django.db import connections

from djmessenger import clock
from djmessenger.pipeline.connections import reusable_connections
from djmessenger.pipeline.threads import THREAD_NAME_PREFIX, started

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SHARE, _BURST = 0.2, 0.2
"""Poll budget: the share of a thread's time that polls may take, and the most seconds of unused budget that are kept.

Rules and polls share the processor, so polls get a fifth. With 0.2 s kept, an idle worker polls a few times at once.
"""
MOST_QUEUES = 100
"""Largest number of queues or items in one batch.

A larger batch would hold its row locks longer. It would save little time, because one commit costs less than 100 rows.
"""
_LONGEST_PAUSE = 0.2
"""Longest pause after a poll, in seconds, even if the poll was slow. Each pause delays the replies behind it."""
_RETRY_DELAY = 0.5
"""Seconds before items that a write returned are written again."""


class PollBudget:
    """Limit of the time that polls take: a token bucket in seconds, filled at ``_SHARE`` up to ``_BURST``.

    Under load a worker polls seldom and claims many queues at once. An idle worker has credit and polls at once. The
    cost of a poll is measured each time, because it grows with the load of the machine.
    """

    def __init__(self) -> None:
        self._credit = _BURST
        self._refilled_at = clock.seconds()
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
                self._credit = max(self._refilled_credit() - cost, -_LONGEST_PAUSE * _SHARE)

    def seconds_to_wait(self) -> float:
        """Return the seconds to wait before the next poll; 0 while there is credit."""
        with self._lock:
            return max(0.0, -self._refilled_credit() / _SHARE)

    def is_half_full(self) -> bool:
        """Return whether at least half of ``_BURST`` is left, so that the thread is far from its limit."""
        with self._lock:
            return self._refilled_credit() >= _BURST / 2

    def _refilled_credit(self) -> float:
        at = clock.seconds()
        self._credit = min(_BURST, self._credit + (at - self._refilled_at) * _SHARE)
        self._refilled_at = at
        return self._credit


class BatchWriter(Generic[T]):
    """Thread that writes items in batches of up to ``MOST_QUEUES``.

    Items that arrive during a write or a pause form the next batch. ``write`` writes a batch and returns the items to
    try again. ``done`` is called after each batch of the thread, not after ``write_here``.
    """

    def __init__(self, name: str, write: Callable[[list[T]], list[T]], done: Callable[[], None]) -> None:
        self._write_batch = write
        self._done = done
        self._work: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._budget = PollBudget()
        thread = threading.Thread(target=self._run, name=f"{THREAD_NAME_PREFIX}-{name}", daemon=True)
        self._thread = thread if started(thread) else None

    def put(self, work: T) -> None:
        """Append an item for the next batch. Without a thread, the caller writes all items that wait."""
        self._work.put(work)
        if self._thread is None:
            self._write_waiting()

    def _write_waiting(self) -> None:
        """Write one batch in the caller's thread. Items to write again wait for the next call."""
        found: list[T] = []
        with contextlib.suppress(queue.Empty):
            while len(found) < MOST_QUEUES:
                work = self._work.get_nowait()
                found += [] if work is None else [work]
        with reusable_connections():
            for item in self._write(found) if found else ():
                self._work.put(item)

    def waiting(self) -> int:
        """Return the number of items that are not in a batch yet."""
        return self._work.qsize()

    def write_here(self, work: T) -> None:
        """Write one item in the caller's thread at low load, if no item waits; otherwise ``put`` it."""
        # Under load the budget has a little credit again and again. Commits of one item would use it up, and each costs
        # as much as that of a batch.
        if self._work.empty() and self._budget.is_half_full():
            for item in self._write([work]):
                self.put(item)
        else:
            self.put(work)

    def stop(self, timeout: float) -> None:
        """Write the items that have arrived and end the thread. Waits up to ``timeout`` seconds.

        Items that a write returns are written again until none is left.
        """
        if self._thread is None:
            self._write_waiting()
            return
        self._work.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            last = False
            left: list[T] = []
            while left or not last:
                found: list[T | None] = [*left] or [self._work.get()]
                if self._work.qsize() < MOST_QUEUES:
                    # Over the budget the thread pauses, and the batch grows meanwhile.
                    time.sleep(self._budget.seconds_to_wait())
                with contextlib.suppress(queue.Empty):
                    while len(found) < MOST_QUEUES:
                        found.append(self._work.get_nowait())
                last |= None in found
                with reusable_connections():
                    left = self._write([work for work in found if work is not None])
                self._done()
                if left:
                    # Guard: the worker may stop while the database is away. Without the next write an accepted call
                    # would be of unknown fate after the restart.
                    # Test: tests/test_worker.py, test_what_a_batch_writer_could_not_write_is_written_at_the_stop.
                    time.sleep(_RETRY_DELAY)
        finally:
            connections.close_all()

    def _write(self, work: list[T]) -> list[T]:
        try:
            with self._budget.measure():
                return self._write_batch(work)
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
