"""Filters over the time of the event, never over the clock: what waits in a queue is judged by when it was sent."""

from __future__ import annotations

import contextlib
import datetime
import functools
import zoneinfo
from typing import Any, ClassVar

from django.utils.timezone import get_default_timezone

from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.filtering.base import BaseFilter
from djmessenger.filtering.people import person_of
from djmessenger.receiving import Messaging

_DAY = 24 * 3600


class TimeFilter(BaseFilter):
    """Lets messagings through whose timestamp lies in a fixed period, both bounds included.

    A bound is written as ``FORMAT`` says (``2016-1-1T00:00:00Z-0800``) or in ISO 8601 with its offset
    (``2016-01-01T00:00:00-08:00``), or is an aware datetime. Raises ``DJMInvalidConfigException`` for anything
    else, and where the end is before the start.
    """

    FORMAT: ClassVar[str] = "%Y-%m-%dT%H:%M:%SZ%z"

    def __init__(self, start_time: str | datetime.datetime, end_time: str | datetime.datetime) -> None:
        self.start_time = start_time
        self.end_time = end_time
        start, end = _moment(start_time, self.FORMAT), _moment(end_time, self.FORMAT)
        if end < start:
            raise DJMInvalidConfigException(
                f"the period ends at {end_time}, before it starts at {start_time}"
            )

    def should_pass(self, messaging: Messaging) -> bool:
        moment = _sent(messaging)
        if moment is None:
            return False
        return _moment(self.start_time, self.FORMAT) <= moment <= _moment(self.end_time, self.FORMAT)


DatetimeRangeFilter = TimeFilter
"""The later name."""


class DailyTimeRangeFilter(BaseFilter):
    """Lets messagings through that were sent between two times of day: ``DailyTimeRangeFilter("22:00", "06:00")``.

    The start is included, the end is not; a range may go over midnight, and may end at ``24:00``. The times are
    those of ``timezone`` (``Europe/Vienna``, a tzinfo, or hours from UTC), else of the person, else of the project.
    Raises ``DJMInvalidConfigException`` for what is no time, no time zone, or an empty range.
    """

    def __init__(
        self,
        start_time: str | datetime.time,
        end_time: str | datetime.time,
        timezone: str | float | datetime.tzinfo | None = None,
    ) -> None:
        start, end = _seconds(start_time), _seconds(end_time)
        if start % _DAY == end:
            raise DJMInvalidConfigException(f"from {start_time} to {end_time} there is no time")
        self.start_time = str(start_time)
        self.end_time = str(end_time)
        self.timezone = str(timezone) if isinstance(timezone, datetime.tzinfo) else timezone
        self._zone = None if timezone is None else _zone(timezone)
        self._start, self._end = start % _DAY, end

    def should_pass(self, messaging: Messaging) -> bool:
        moment = _sent(messaging)
        if moment is None:
            return False
        local = moment.astimezone(self._zone or _zone_of_person(messaging))
        second = local.hour * 3600 + local.minute * 60 + local.second
        if self._start < self._end:
            return self._start <= second < self._end
        return second >= self._start or second < self._end

    def describe(self) -> str:
        zone = f", timezone={self.timezone!r}" if self.timezone is not None else ""
        return f"at_time({self.start_time!r}, {self.end_time!r}{zone})"


def _sent(messaging: Messaging) -> datetime.datetime | None:
    """Give the time of the event; None where Meta's cannot be one, which no range holds."""
    timestamp: Any = messaging.timestamp
    if isinstance(timestamp, bool) or not isinstance(timestamp, (int, float)):
        return None
    try:
        return datetime.datetime.fromtimestamp(timestamp / 1000, tz=datetime.UTC)
    except (OverflowError, OSError, ValueError):
        return None


def _moment(bound: Any, form: str) -> datetime.datetime:
    found = _read(bound, form) if isinstance(bound, str) else bound
    if not isinstance(found, datetime.datetime) or found.utcoffset() is None:
        raise DJMInvalidConfigException(
            f"{bound!r} is no time with an offset from UTC; write it like 2016-1-1T00:00:00Z-0800 ({form})"
        )
    return found


@functools.lru_cache(maxsize=1024)
def _read(bound: str, form: str) -> datetime.datetime | None:
    with contextlib.suppress(ValueError):
        return datetime.datetime.strptime(bound, form)  # noqa: DTZ007 - the caller refuses naive ones
    with contextlib.suppress(ValueError):
        return datetime.datetime.fromisoformat(bound)
    return None


def _seconds(given: Any) -> int:
    """Give the seconds since midnight."""
    if isinstance(given, datetime.time) and given.tzinfo is None:
        return given.hour * 3600 + given.minute * 60 + given.second
    if isinstance(given, str):
        if given in {"24:00", "24:00:00"}:
            return _DAY
        for form in ("%H:%M", "%H:%M:%S"):
            try:
                found = datetime.datetime.strptime(given, form)  # noqa: DTZ007 - a time of day has no zone
            except ValueError:
                continue
            return found.hour * 3600 + found.minute * 60 + found.second
    raise DJMInvalidConfigException(f"{given!r} is no time of day; write it like 18:30")


def _zone(given: Any) -> datetime.tzinfo:
    try:
        if isinstance(given, datetime.tzinfo):
            return given
        if isinstance(given, str):
            return zoneinfo.ZoneInfo(given)
        if isinstance(given, (int, float)) and not isinstance(given, bool):
            return datetime.timezone(datetime.timedelta(hours=given))
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        pass
    raise DJMInvalidConfigException(
        f"{given!r} is no time zone; write it like Europe/Vienna, or as hours from UTC"
    )


def _zone_of_person(messaging: Messaging) -> datetime.tzinfo:
    person = person_of(messaging)
    if person is None:
        return get_default_timezone()
    try:
        zone: datetime.tzinfo = person.get_tzinfo()
    except (ValueError, OverflowError):
        # Hours that no place on earth has.
        return get_default_timezone()
    return zone
