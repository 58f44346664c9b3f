"""Threads of the engine: a small pool that ends with its process."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from django.db import connections

from djmessenger.clock import seconds

logger = logging.getLogger(__name__)

NAME = "djmessenger"
"""What the names of all threads of the pipeline begin with."""
_MOST_AHEAD = 25
"""Jobs for each thread that wait at most."""

Job = Callable[[], None]


class Threads:
    """A pool of daemon threads: the interpreter may end under them, as it may under any process.

    Those of ``concurrent.futures`` are joined before any exit handler runs, and refuse work from then on.
    """

    def __init__(
        self, count: int, name: str, *, usual: float = 0.01, freed: Callable[[], object] = lambda: None
    ) -> None:
        """``usual`` seconds are what a job is thought to take at first; ``freed`` is called when a thread is free."""
        self.count = count
        self._name = name
        self._say_freed = freed
        self._jobs: deque[Job] = deque()
        self._busy = 0
        self._usual = usual
        self._closed = False
        self._begun: dict[int, float] = {}
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []

    def free(self, *, ahead: float = 0.0) -> int:
        """How many jobs could begin at once, or, going by those before, within ``ahead`` seconds."""
        with self._changed:
            if self._closed:
                return 0
            more = min(int(ahead / self._usual), _MOST_AHEAD) * self._moving(ahead) if ahead else 0
            return self.count + more - self._busy - len(self._jobs)

    def _moving(self, within: float) -> int:
        """How many threads are not at a job that takes longer than that already."""
        late = seconds() - within
        return self.count - sum(began < late for began in self._begun.values())

    def withdraw(self, after: float) -> list[Job]:
        """Take back the jobs that have not begun, where no thread has come free for so many seconds."""
        with self._changed:
            if self._moving(after):
                return []
            left = list(self._jobs)
            self._jobs.clear()
            return left

    def submit(self, job: Job) -> bool:
        """Have a job done by the next thread that is free; false when the pool is closed."""
        with self._changed:
            if self._closed:
                return False
            self._jobs.append(job)
            if len(self._threads) < self.count and self._busy + len(self._jobs) > len(self._threads):
                name = f"{NAME}-{self._name}-{len(self._threads) + 1}"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()
            return True

    def close(self) -> list[Job]:
        """Take no more jobs; give those that had not begun."""
        with self._changed:
            self._closed = True
            left = list(self._jobs)
            self._jobs.clear()
            self._changed.notify_all()
            return left

    def join(self, timeout: float) -> bool:
        """Wait for what runs, after ``close``; false when it was not done in time."""
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
                except Exception:
                    logger.exception("Work was interrupted", extra={"action": "work_interrupted"})
                finally:
                    with self._changed:
                        self._busy -= 1
                        del self._begun[threading.get_ident()]
                        self._usual += (seconds() - began - self._usual) * 0.1
                    try:
                        self._say_freed()
                    except Exception:
                        logger.exception("A free thread told nobody", extra={"action": "wake_up_failed"})
        finally:
            connections.close_all()
