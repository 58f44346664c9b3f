"""Filters by the time of an event. They do not read the clock, so a delay in the queue does not change the result."""

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
    """A filter that passes events whose timestamp lies in a fixed period, both bounds included.

    A bound is a text in the form ``FORMAT`` (``2016-1-1T00:00:00Z-0800``), a text in ISO 8601 with its offset
    (``2016-01-01T00:00:00-08:00``), or an aware datetime. Raises ``DJMInvalidConfigException`` for other values, and if
    the end is before the start.
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
"""Later name of ``TimeFilter``."""


class DailyTimeRangeFilter(BaseFilter):
    """A filter that passes events that were sent between two times of day: ``DailyTimeRangeFilter("22:00", "06:00")``.

    The start is included, the end is not. A range may include midnight and may end at ``24:00``. The time zone is
    ``timezone`` (``Europe/Vienna``, a tzinfo, or hours from UTC), otherwise the person's, otherwise the project's.
    Raises ``DJMInvalidConfigException`` for a wrong time, a wrong time zone, or an empty range.
    """

    def __init__(
        self,
        start_time: str | datetime.time,
        end_time: str | datetime.time,
        timezone: str | float | datetime.tzinfo | None = None,
    ) -> None:
        start, end = _seconds(start_time), _seconds(end_time)
        if start % _DAY == end:
            raise DJMInvalidConfigException(
                f"the range from {start_time} to {end_time} is empty; start and end must differ"
            )
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
    """Return the time of an event, or None if its timestamp is not a possible time. None is in no range."""
    timestamp: Any = messaging.timestamp
    if isinstance(timestamp, bool) or not isinstance(timestamp, (int, float)):
        return None
    try:
        return datetime.datetime.fromtimestamp(timestamp / 1000, tz=datetime.UTC)
    except (OverflowError, OSError, ValueError):
        return None


def _moment(bound: Any, form: str) -> datetime.datetime:
    moment = _read(bound, form) if isinstance(bound, str) else bound
    if not isinstance(moment, datetime.datetime) or moment.utcoffset() is None:
        raise DJMInvalidConfigException(
            f"{bound!r} is not a time with an offset from UTC; write it like 2016-1-1T00:00:00Z-0800 ({form})"
        )
    return moment


@functools.lru_cache(maxsize=1024)
def _read(bound: str, form: str) -> datetime.datetime | None:
    with contextlib.suppress(ValueError):
        return datetime.datetime.strptime(bound, form)  # noqa: DTZ007 - the caller refuses naive ones
    with contextlib.suppress(ValueError):
        return datetime.datetime.fromisoformat(bound)
    return None


def _seconds(value: Any) -> int:
    """Return the seconds since midnight."""
    if isinstance(value, datetime.time) and value.tzinfo is None:
        return value.hour * 3600 + value.minute * 60 + value.second
    if isinstance(value, str):
        if value in {"24:00", "24:00:00"}:
            return _DAY
        for form in ("%H:%M", "%H:%M:%S"):
            try:
                time = datetime.datetime.strptime(value, form)  # noqa: DTZ007 - a time of day has no zone
            except ValueError:
                continue
            return time.hour * 3600 + time.minute * 60 + time.second
    raise DJMInvalidConfigException(f"{value!r} is not a time of day; write it like 18:30")


def _zone(value: Any) -> datetime.tzinfo:
    try:
        if isinstance(value, datetime.tzinfo):
            return value
        if isinstance(value, str):
            return zoneinfo.ZoneInfo(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.timezone(datetime.timedelta(hours=value))
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        pass
    raise DJMInvalidConfigException(
        f"{value!r} is not a time zone; write it like Europe/Vienna, or as hours from UTC"
    )


def _zone_of_person(messaging: Messaging) -> datetime.tzinfo:
    person = person_of(messaging)
    if person is None:
        return get_default_timezone()
    try:
        zone: datetime.tzinfo = person.get_tzinfo()
    except (ValueError, OverflowError):
        # The stored offset is outside the range of possible time zones.
        return get_default_timezone()
    return zone
