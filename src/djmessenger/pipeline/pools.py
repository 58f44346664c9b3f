"""Pools of the worker: threads for slow rules, the share of time that polling may take, and the batch writer."""

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
from djmessenger.pipeline.connections import no_connection, reusable_connections
from djmessenger.pipeline.inbox import NoRoom, Slow
from djmessenger.pipeline.leases import give_back
from djmessenger.pipeline.threads import NAME, Threads
from djmessenger.settings import app_settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SHARE, _BURST = 0.2, 0.2
"""Of a thread's time, how much looking for work may take, and how many seconds of it an idle worker has in hand."""
AHEAD = 0.5
"""Seconds of work that is claimed ahead, so that no thread waits for the next round."""
MOST_QUEUES = 100
"""Queues that share a transaction."""
_LONGEST_PAUSE = 0.2
"""Seconds between two rounds, however dear they are."""
_LOOK = 0.5
"""Seconds between two looks at what takes too long."""
_RENEWALS = 3
"""How often a lease is renewed in its time."""


class SlowThreads:
    """A pool for slow handlers; the leases of their queues are renewed while they run.

    What finds all threads busy waits in the database, where any process may have it, and comes before what is new.
    """

    def __init__(self, threads: int, done: Callable[[], None]) -> None:
        self._done = done
        # Until it is known how slow they are, nothing is held for a thread that is busy.
        self._pool = Threads(threads, "slow", usual=2 * AHEAD, freed=done)
        self._lock = threading.Lock()
        self._leases: set[models.Lease] = set()
        self._reserved: set[models.Lease] = set()
        self._is_behind = False
        self._limits: dict[models.Lease, tuple[Deadline, Callable[[], None]]] = {}
        self._ended = threading.Event()
        self._renewer: threading.Thread | None = None

    def free_slots(self) -> int:
        """How many threads are free for what waits in the database, or will be in a moment."""
        with self._lock:
            return max(0, self._pool.free(ahead=AHEAD) - len(self._reserved))

    def reserve(self, leases: Sequence[models.Lease], *, more: bool) -> None:
        """Keep a thread for each of these, which waited for one; ``more`` may wait."""
        with self._lock:
            self._reserved.update(leases)
            self._is_behind = more

    def drop_reservation(self, lease: models.Lease) -> None:
        """Say that a lease is worked on, or never will be: its thread is for others, unless it has it."""
        with self._lock:
            self._reserved.discard(lease)

    def run(self, lease: models.Lease, job: Slow) -> bool:
        """Run the job in a thread of its own, which then lets go of the queue; ``NoRoom`` when others come first."""
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

    def _forget(self, lease: models.Lease) -> None:
        with self._lock:
            self._leases.discard(lease)
            self._limits.pop(lease, None)

    def _renew(self) -> None:
        due = Deadline(app_settings.DJM_LEASE / _RENEWALS)
        while not self._ended.wait(min(_LOOK, max(0.0, due.remaining()))):
            with no_connection():
                self._end_late_ones()
                self._leave_to_others()
                if due.remaining() <= 0:
                    due = Deadline(app_settings.DJM_LEASE / _RENEWALS)
                    self.renew()

    def _leave_to_others(self) -> None:
        """Give back what was taken on for a moment ahead, when no thread came free."""
        for job in self._pool.withdraw(AHEAD):
            lease: models.Lease = job.args[0]  # type: ignore[attr-defined]
            self._forget(lease)
            give_back(lease, is_slow=True)

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
        """Hold on to the queues of what runs; what is lost already fails at its own commit."""
        with self._lock:
            leases = list(self._leases)
        for lease in leases:
            try:
                models.ConversationQueue.objects.renew(lease, app_settings.DJM_LEASE)
            except models.LeaseLost as lost:
                logger.warning("A slow handler works in vain: %s", lost, extra={"action": "lease_lost"})
                self._forget(lease)
            except DatabaseError:
                logger.exception("The database did not answer", extra={"action": "database_away"})

    def stop(self, timeout: float) -> None:
        """Begin nothing more and wait for what runs; queues of what did not begin are free at once."""
        if self._pool.close():
            running = self._pool.count
            logger.info("Slow work that had not begun is left to others", extra={"threads": running})
        self._pool.join(timeout)
        self._ended.set()
        with self._lock:
            left = list(self._leases)
        for lease in left:
            give_back(lease)


class PollBudget:
    """Keeps what rounds cost to a share of the time, so that those of a busy worker come seldom and take much.

    An idle one has some in hand and is quick. What a round costs is measured as it goes, for a busy machine makes
    it dearer.
    """

    def __init__(self) -> None:
        self._credit = _BURST
        self._at = clock.seconds()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def measure(self) -> Iterator[None]:
        """Measure what the block costs."""
        began = clock.seconds()
        try:
            yield
        finally:
            with self._lock:
                cost = clock.seconds() - began
                self._credit = max(self._now() - cost, -_LONGEST_PAUSE * _SHARE)

    def pause(self) -> float:
        """Give the seconds to wait before the next round."""
        with self._lock:
            return max(0.0, -self._now() / _SHARE)

    def _now(self) -> float:
        at = clock.seconds()
        self._credit = min(_BURST, self._credit + (at - self._at) * _SHARE)
        self._at = at
        return self._credit


class BatchWriter(Generic[T]):
    """A thread that writes down what others have done: all that came while it wrote the last.

    ``write`` gives what is to be tried again; ``done`` is called when the thread wrote.
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
        """How much was put and not begun."""
        return self._work.qsize()

    def write_here(self, work: T) -> None:
        """Write it down in the caller's thread, when little is to do; else leave it to the writer."""
        if self._work.empty() and not self._budget.pause():
            self._write([work])
        else:
            self.put(work)

    def stop(self, timeout: float) -> None:
        """Write down what has come and end; ``timeout`` in seconds."""
        self._work.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            last = False
            while not last:
                found = [self._work.get()]
                if self._work.qsize() < MOST_QUEUES:
                    # When many come, it waits for more.
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
            # What it was is found under the next leases.
            logger.exception("What was done could not be written down", extra={"action": "work_waits"})
            return []
