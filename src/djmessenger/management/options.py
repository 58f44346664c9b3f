"""Parsers of options that several verbs share."""

from __future__ import annotations

import argparse
import datetime
import math
import re

from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from djmessenger.clock import as_stored

_SPAN = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LARGEST_KEY = 2**63 - 1
"""Largest number that the column of an id can hold. SQLite raises ``OverflowError`` for a larger one."""
_SMALLEST, _LARGEST = 1e-6, 1e6
"""Bounds of a number: a million hours ago is a date, and a pause of a million seconds can be slept."""


def moment(text: str) -> datetime.datetime:
    """Return the time of an option: 2h, 30m or 7d before now, or an ISO date or time in the project's time zone."""
    try:
        if match := _SPAN.fullmatch(text.strip()):
            return timezone.now() - datetime.timedelta(**{_UNITS[match[2]]: int(match[1])})
        time = parse_datetime(text)
        if time is None and (day := parse_date(text)) is not None:
            time = datetime.datetime.combine(day, datetime.time())
        if time is not None:
            # The first and the last day of the calendar may have no time in UTC, as which the database compares it.
            aware = time if timezone.is_aware(time) else timezone.make_aware(time)
            return as_stored(aware.astimezone(datetime.UTC))
    except (ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a time: write 2h, 7d, 2026-11-25 or 2026-11-25T08:30")


def at_least_one(text: str) -> int:
    """Return the whole number of an option. It must be 1 or more, and not larger than an id can be."""
    digits = text.isascii() and text.isdecimal() and len(text) <= len(str(_LARGEST_KEY))
    if not (digits and 0 < int(text) <= _LARGEST_KEY):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of 1 or more")
    return int(text)


def above_zero(text: str) -> float:
    """Return the number of an option. It must be from 0.000001 to 1000000."""
    number = any_number(text)
    if not _SMALLEST <= number <= _LARGEST:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above zero, at most {_LARGEST:.0f}")
    return number


def any_number(text: str) -> float:
    """Return the number of an option. NaN is not a number, because no value is over a limit of NaN."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return number
