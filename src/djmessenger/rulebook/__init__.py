"""Internal: the dated rulebook: limits and retirements of Meta's platform, with dates and sources.

Messages, checks and docs read one table; the emulator has a table of its own. A project overrides a row in
``DJM_RULEBOOK`` without waiting for a release. The override of a limit is a number. The override of a retirement
is a date, or ``None`` if it does not end::

    DJM_RULEBOOK = {"buttons.count": 4, "tag.ACCOUNT_UPDATE": None, "graph.v22.0": "2027-08-01"}
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from djmessenger.rulebook.facts import TABLE, Row
from djmessenger.settings import app_settings

table: Mapping[str, Row] = MappingProxyType({row.key: row for row in TABLE})
"""Rows by key, without overrides."""


class Problem(NamedTuple):
    """An override that cannot be used."""

    key: str
    message: str


def row(key: str) -> Row:
    """Return one row with its override; raise ``KeyError`` if the table has no such key.

    An override that cannot be used is ignored here and listed by ``problems``.
    """
    printed = table[key]
    overrides = _read_overrides()
    if key not in overrides:
        return printed
    result = _overridden(printed, overrides[key])
    return result if isinstance(result, Row) else printed


def rows() -> Mapping[str, Row]:
    """Return all rows by key, with their overrides."""
    return {key: row(key) for key in table}


def limit(key: str) -> int:
    """Return the number of the row; raise ``KeyError`` if there is no row, or its value is no number."""
    value = row(key).value
    if not isinstance(value, int):
        raise KeyError(f"row {key!r} of the rulebook is not a number")
    return value


def retirement(key: str, on: datetime.date) -> Row | None:
    """Return the row if it has ended on that day, otherwise ``None``; ``None`` for an unknown key too."""
    if key not in table:
        return None
    current = row(key)
    return current if current.until is not None and current.until <= on else None


def ending_within(days: int, on: datetime.date) -> list[Row]:
    """Return the rows that end in the ``days`` days after that day, the nearest end first."""
    last = on + datetime.timedelta(days=days)
    ending = [each for each in rows().values() if each.until is not None and on < each.until <= last]
    return sorted(ending, key=lambda each: (each.until or last, each.key))


STALE_DAYS = 120
"""Days after the newest reading of Meta's pages from which the check and doctor warn."""


def days_since_reading(on: datetime.date) -> int:
    """Return the days from the reading of the newest row of the table to that day."""
    return (on - max(each.date for each in TABLE)).days


def problems() -> list[Problem]:
    """Return the overrides that cannot be used, each with the reason; a system check prints them."""
    raw: Any = app_settings.DJM_RULEBOOK
    if not isinstance(raw, Mapping):
        return [Problem("", f"overrides are a dict by key of a row, not {type(raw).__name__}")]
    result: list[Problem] = []
    for key, value in raw.items():
        if key not in table:
            result.append(Problem(str(key), f"the rulebook has no row {key!r}"))
            continue
        overridden = _overridden(table[key], value)
        if isinstance(overridden, str):
            result.append(Problem(key, overridden))
    return result


def _read_overrides() -> Mapping[str, Any]:
    raw: Any = app_settings.DJM_RULEBOOK
    return raw if isinstance(raw, Mapping) else {}


def _overridden(printed: Row, value: Any) -> Row | str:
    """Return the row with the new value, or the reason why the value cannot be used."""
    if printed.value is None:
        return _with_new_end(printed, value)
    if type(value) is not type(printed.value):
        return f"needs {type(printed.value).__name__}, not {value!r}"
    if isinstance(value, int) and value < 1:
        return f"needs a number above zero, not {value!r}"
    return replace(printed, value=value)


def _with_new_end(printed: Row, value: Any) -> Row | str:
    if isinstance(value, str):
        try:
            value = datetime.date.fromisoformat(value)
        except ValueError:
            return f"needs a date such as 2027-01-21, or None, not {value!r}"
    if value is None or (isinstance(value, datetime.date) and not isinstance(value, datetime.datetime)):
        return replace(printed, until=value)
    return f"needs a date or None, not {value!r}"
