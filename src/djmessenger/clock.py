"""Deadlines of this process, by a clock that does not stop while a machine sleeps."""

from __future__ import annotations

import time


def seconds() -> float:
    """Return seconds since boot; the time that the machine slept counts if the system can tell it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Deadline:
    """A moment of this process's clock; made before the lease it guards, so it never ends later."""

    def __init__(self, after: float) -> None:
        self._end = seconds() + after

    def remaining(self) -> float:
        """Seconds left, negative when it has passed."""
        return self._end - seconds()

    def expire(self) -> None:
        """Say that nothing more should be begun."""
        self._end = seconds()
