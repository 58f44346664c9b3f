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
    if found := _SPAN.fullmatch(text.strip()):
        return timezone.now() - datetime.timedelta(**{_UNITS[found[2]]: int(found[1])})
    try:
        read = parse_datetime(text)
        if read is None and (day := parse_date(text)) is not None:
            read = datetime.datetime.combine(day, datetime.time())
    except ValueError:
        read = None
    if read is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time: write 2h, 7d, 2026-11-25 or 2026-11-25T08:30"
        )
    return read if timezone.is_aware(read) else timezone.make_aware(read)


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
