"""The dated rulebook: what Meta allows, since when, until when, and where that is written.

Messages, checks and docs read one table; the emulator has a table of its own. A project overrides a row in
``DJM_RULEBOOK`` without waiting for a release: a limit by its new number, something that ends by its new date,
or by ``None`` when it does not end::

    DJM_RULEBOOK = {"buttons.count": 4, "tag.ACCOUNT_UPDATE": None, "graph.v21.0": "2027-03-01"}
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from djmessenger.rulebook.facts import TABLE, Row
from djmessenger.settings import app_settings

__all__ = [
    "Problem",
    "Row",
    "ending_within",
    "limit",
    "problems",
    "retirement",
    "row",
    "rows",
    "table",
]

table: Mapping[str, Row] = MappingProxyType({row.key: row for row in TABLE})
"""The rows as they are printed, without overrides."""


class Problem(NamedTuple):
    """An override that cannot be used."""

    key: str
    message: str


def row(key: str) -> Row:
    """Give one row with its override; ``KeyError`` when the table has none of that key.

    An override that cannot be used is passed over here; ``problems`` tells of it.
    """
    printed = table[key]
    overrides = _read_overrides()
    if key not in overrides:
        return printed
    result = _overridden(printed, overrides[key])
    return result if isinstance(result, Row) else printed


def rows() -> Mapping[str, Row]:
    """Give all rows by key, with their overrides."""
    return {key: row(key) for key in table}


def limit(key: str) -> int:
    """Give the number that the row holds; ``KeyError`` when there is no row, or it holds no number."""
    value = row(key).value
    if not isinstance(value, int):
        raise KeyError(f"row {key!r} of the rulebook is not a number")
    return value


def retirement(key: str, on: datetime.date) -> Row | None:
    """Give the row when what it tells of has ended on that day, else ``None``, also for an unknown key."""
    if key not in table:
        return None
    found = row(key)
    return found if found.until is not None and found.until <= on else None


def ending_within(days: int, on: datetime.date) -> list[Row]:
    """Give the rows that end after that day and not later than so many days on, the nearest end first."""
    last = on + datetime.timedelta(days=days)
    ending = [found for found in rows().values() if found.until is not None and on < found.until <= last]
    return sorted(ending, key=lambda found: (found.until or last, found.key))


def problems() -> list[Problem]:
    """Give the overrides that cannot be used, each with the reason; for a system check to print."""
    raw: Any = app_settings.DJM_RULEBOOK
    if not isinstance(raw, Mapping):
        return [Problem("", f"overrides are a dict by key of a row, not {type(raw).__name__}")]
    found: list[Problem] = []
    for key, value in raw.items():
        if key not in table:
            found.append(Problem(str(key), f"the rulebook has no row {key!r}"))
            continue
        result = _overridden(table[key], value)
        if isinstance(result, str):
            found.append(Problem(key, result))
    return found


def _read_overrides() -> Mapping[str, Any]:
    raw: Any = app_settings.DJM_RULEBOOK
    return raw if isinstance(raw, Mapping) else {}


def _overridden(printed: Row, value: Any) -> Row | str:
    """Give the row with the new value, or the reason why it cannot have it."""
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
