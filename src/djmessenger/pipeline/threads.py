"""Pool of daemon threads for the jobs of the worker."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from django.db import connections

from djmessenger.clock import Deadline, seconds

logger = logging.getLogger(__name__)

THREAD_NAME_PREFIX = "djmessenger"
"""Prefix of the names of all threads of the pipeline. Connections use it to recognise these threads."""
AHEAD = 0.5
"""Seconds of work that is claimed ahead, so that no thread waits for the next poll.

A claimed queue waits at most about that long for a thread of this process, although another process may have one free.
"""
_MOST_AHEAD = 25
"""Most jobs that ``free`` expects one thread to finish within ``ahead`` seconds.

Without this limit, very short jobs would give a huge number.
"""

_REFUSED = 10.0
"""Seconds for which no further thread is started after the system has refused one."""

Job = Callable[[], None]


def started(thread: threading.Thread) -> bool:
    """Start a thread. Log and return False if the system refuses it, for example at its limit of processes."""
    # Python raises an error of one text only. A thread that is listed before its start would be waited for.
    # Test: tests/faults/test_small_hosts.py, test_a_worker_runs_with_the_threads_that_the_system_allows.
    try:
        thread.start()
    except RuntimeError as error:
        logger.warning(
            "The system refuses the thread %s (%s); the work goes on with the threads that run. Raise the limit of "
            "processes, or lower the numbers of threads",
            thread.name,
            error,
            extra={"action": "thread_refused"},
        )
        return False
    return True


class Threads:
    """Pool of daemon threads, which do not keep the interpreter alive.

    ``concurrent.futures`` does not fit: its threads are joined before any exit handler runs, and its pool refuses
    jobs from then on. A job that the end of the interpreter stops is repeated under the next lease, as after any crash.
    """

    def __init__(
        self, count: int, name: str, *, usual: float = 0.01, freed: Callable[[], object] = lambda: None
    ) -> None:
        """Create a pool of up to ``count`` threads; each starts when it is needed.

        ``usual`` is the first estimate of a job's duration in seconds. ``freed`` is called after each job.
        """
        self.count = count
        self._name = name
        self._freed = freed
        self._jobs: deque[Job] = deque()
        self._busy = 0
        self._usual = usual
        self._closed = False
        self._begun: dict[int, float] = {}
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._refusal = Deadline(0)

    @property
    def closed(self) -> bool:
        return self._closed

    def _room(self) -> int:
        """Return the number of threads that the pool has or may start now, at least 1."""
        return max(1, len(self._threads)) if self._refusal.remaining() > 0 else self.count

    def free(self, *, ahead: float = 0.0) -> int:
        """Return the number of free slots, negative if more jobs wait than threads are free; 0 if the pool is closed.

        With ``ahead``, also count the jobs that the threads are expected to finish within ``ahead`` seconds. The
        estimate uses the moving average of job durations. A thread whose current job has run longer than ``ahead``
        seconds adds nothing to the estimate.
        """
        with self._changed:
            if self._closed:
                return 0
            more = min(int(ahead / self._usual), _MOST_AHEAD) * self._count_not_stuck(ahead) if ahead else 0
            return self._room() + more - self._busy - len(self._jobs)

    def _count_not_stuck(self, within: float) -> int:
        """Return the number of threads that are idle or whose job has run for at most ``within`` seconds."""
        late = seconds() - within
        return self._room() - sum(began < late for began in self._begun.values())

    def withdraw(self, after: float) -> list[Job]:
        """Remove and return the jobs that have not started, if each thread's job has run longer than ``after`` seconds.

        Otherwise return an empty list.
        """
        with self._changed:
            if self._count_not_stuck(after):
                return []
            left = list(self._jobs)
            self._jobs.clear()
            return left

    def submit(self, job: Job) -> bool:
        """Append a job for the next free thread.

        Return False, without effect, if the pool is closed, or if it has no thread and the system refuses one. The
        caller may run the job itself.
        """
        with self._changed:
            if self._closed:
                return False
            is_short = len(self._threads) < self.count and self._busy + len(self._jobs) >= len(self._threads)
            if is_short and self._refusal.remaining() <= 0:
                name = f"{THREAD_NAME_PREFIX}-{self._name}-{len(self._threads) + 1}"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                if started(thread):
                    self._threads.append(thread)
                else:
                    self._refusal = Deadline(_REFUSED)
            if not self._threads:
                return False
            self._jobs.append(job)
            self._changed.notify()
            return True

    def close(self) -> list[Job]:
        """Refuse further jobs. Return the jobs that had not started; they will not run."""
        with self._changed:
            self._closed = True
            left = list(self._jobs)
            self._jobs.clear()
            self._changed.notify_all()
            return left

    def join(self, timeout: float) -> bool:
        """Wait for running jobs after ``close``. Return whether all threads ended within ``timeout`` seconds."""
        end = seconds() + timeout
        for thread in self._threads:
            thread.join(max(0.0, end - seconds()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    while not self._jobs:
                        if self._closed:
                            return
                        self._changed.wait()
                    job = self._jobs.popleft()
                    self._busy += 1
                    began = self._begun[threading.get_ident()] = seconds()
                try:
                    job()
                except BaseException:
                    # A job releases its own lease when it fails; the thread goes on with the next job.
                    # Guard: SystemExit or CancelledError of a rule would end the thread without a line in the log. The
                    # pool would count it as free for ever, and its process would claim queues without handling them.
                    # Test: tests/test_worker.py, test_a_thread_survives_an_exit_of_its_job.
                    logger.exception(
                        "Job failed in thread %s; its queue is due again when released or when its lease ends",
                        threading.current_thread().name,
                        extra={"action": "work_interrupted"},
                    )
                finally:
                    with self._changed:
                        self._busy -= 1
                        del self._begun[threading.get_ident()]
                        self._usual += (seconds() - began - self._usual) * 0.1
                    # Guard: an exception here would end the thread, and the pool would count it as free for ever.
                    # Test: tests/test_worker.py, test_a_thread_survives_a_broken_freed_callback.
                    try:
                        self._freed()
                    except Exception:
                        logger.exception(
                            "Wake-up of a free thread failed; the next poll finds due work",
                            extra={"action": "wake_up_failed"},
                        )
        finally:
            connections.close_all()
