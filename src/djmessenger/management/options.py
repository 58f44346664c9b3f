"""Parsers of options that several verbs share."""

from __future__ import annotations

import argparse
import datetime
import re

from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

_SPAN = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(text: str) -> datetime.datetime:
    """Return the time of an option: 2h, 30m or 7d before now, or an ISO date or time in the project's time zone."""
    if match := _SPAN.fullmatch(text.strip()):
        return timezone.now() - datetime.timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        time = parse_datetime(text)
        if time is None and (day := parse_date(text)) is not None:
            time = datetime.datetime.combine(day, datetime.time())
    except ValueError:
        time = None
    if time is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time: write 2h, 7d, 2026-11-25 or 2026-11-25T08:30"
        )
    return time if timezone.is_aware(time) else timezone.make_aware(time)


def at_least_one(text: str) -> int:
    """Return the whole number of an option. It must be 1 or more."""
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of 1 or more")
    return int(text)


def above_zero(text: str) -> float:
    """Return the number of an option. It must be above zero."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above zero")
    return number
