"""Usage of Meta's limits, read from the headers of each answer.

Source: the Graph API's page "Rate Limits" (read 2026-08-13). Values are percentages; Meta throttles at 100.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from djmessenger.graph.wire import find_header


@dataclass(frozen=True)
class Usage:
    """One counter, in percent of the limit."""

    call_count: float = 0
    total_cputime: float = 0
    total_time: float = 0
    regain_after: float | None = None
    """Seconds until calls are accepted again; ``None`` if Meta names no time."""
    type: str = ""
    """Business use case, such as ``messenger`` or ``pages``; empty for app and Page."""

    @property
    def peak(self) -> float:
        return max(self.call_count, self.total_cputime, self.total_time)


@dataclass(frozen=True)
class UsageReport:
    """The counters of one answer, or the latest of each kind."""

    app: Usage | None = None
    page: Usage | None = None
    business: Mapping[str, tuple[Usage, ...]] = field(default_factory=dict)
    """Counters of the business use cases, by id of the business or Page."""

    @property
    def all(self) -> tuple[Usage, ...]:
        counters = [usage for usage in (self.app, self.page) if usage]
        return (*counters, *(usage for usages in self.business.values() for usage in usages))

    @property
    def peak(self) -> float:
        """Highest percentage; 0 if there is no counter."""
        return max((usage.peak for usage in self.all), default=0)

    @property
    def regain_after(self) -> float | None:
        """Seconds until calls are accepted again; ``None`` if Meta names no time."""
        return max((usage.regain_after for usage in self.all if usage.regain_after), default=None)

    def updated(self, newer: UsageReport) -> UsageReport:
        """Return a report with the counters of ``newer``, and those of this report that ``newer`` lacks."""
        return UsageReport(
            app=newer.app or self.app,
            page=newer.page or self.page,
            business={**self.business, **newer.business},
        )


def parse_usage(headers: Mapping[str, str]) -> UsageReport:
    """Return the counters in the headers of an answer; skip values that cannot be read.

    Headers: ``X-App-Usage``, ``X-Page-Usage`` and ``X-Business-Use-Case-Usage``.
    """
    business = _json(headers, "X-Business-Use-Case-Usage")
    return UsageReport(
        app=_usage(_json(headers, "X-App-Usage")),
        page=_usage(_json(headers, "X-Page-Usage")),
        business={
            owner: usages
            for owner, listed in business.items()
            if isinstance(listed, list) and (usages := tuple(filter(None, map(_usage, listed))))
        },
    )


def _json(headers: Mapping[str, str], name: str) -> dict[str, Any]:
    text = find_header(headers, name)
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _usage(data: Any) -> Usage | None:
    if not isinstance(data, dict) or not data:
        return None
    minutes = _percent(data.get("estimated_time_to_regain_access"))
    kind = data.get("type")
    return Usage(
        call_count=_percent(data.get("call_count")),
        total_cputime=_percent(data.get("total_cputime")),
        total_time=_percent(data.get("total_time")),
        regain_after=minutes * 60 if minutes else None,
        type=kind if isinstance(kind, str) else "",
    )


def _percent(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e9:
        return value
    return 0
