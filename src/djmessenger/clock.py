"""Internal: deadlines of this process, by a clock that goes on while the machine sleeps, and times for the database."""

from __future__ import annotations

import datetime
import time

from django.conf import settings
from django.utils import timezone


def seconds() -> float:
    """Return seconds since boot. Time in which the machine slept is included if the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def as_stored(moment: datetime.datetime) -> datetime.datetime:
    """Return an aware time as Django stores it: unchanged, or naive and local in a project with ``USE_TZ = False``."""
    # Guard: Python refuses to compare aware times with naive ones, and Django refuses to store them in SQLite.
    # The time zone of a rule's person must not matter. Test: tests/test_deployments.py,
    # test_a_project_without_time_zones_answers_everyone.
    return moment if settings.USE_TZ else timezone.make_naive(moment, timezone.get_default_timezone())


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
