"""Internal: deadlines of this process, by a clock that goes on while the machine sleeps."""

from __future__ import annotations

import time


def seconds() -> float:
    """Return seconds since boot. Time in which the machine slept is included if the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Deadline:
    """End of a time span by this process's clock. Created before its lease, it never ends after the lease."""

    def __init__(self, after: float) -> None:
        self._end = seconds() + after

    def remaining(self) -> float:
        """Return the seconds until the end, negative after it."""
        return self._end - seconds()

    def expire(self) -> None:
        """Move the end to now, so that the holder of the lease begins no further work."""
        self._end = seconds()
