"""What there is to watch: backlog, ages, fates, duplicates, Pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Min
from django.db.models.functions import Substr
from django.utils import timezone

from djmessenger import models


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures of one moment."""

    figures: dict[str, int | float]
    pages: list[dict[str, Any]]

    def json(self) -> dict[str, Any]:
        return {**self.figures, "pages": self.pages}

    def problems(self, oldest: float) -> list[str]:
        """Say what somebody should look at; ``oldest``: seconds that a row may wait."""
        ages = ("oldest_callback", "oldest_event", "oldest_reply")
        fates = {"replies_parked": "replies are set aside", "events_failed": "events failed"}
        found = [
            f"{name.replace('_', ' ')} has waited {self.figures[name]:.0f} s: does a worker run?"
            for name in ages
            if self.figures[name] > oldest
        ]
        found += [
            f"{self.figures[name]} {what}: look at them in the admin"
            for name, what in fates.items()
            if self.figures[name]
        ]
        found += [
            f"page {page['page']} is paused: {page['why_paused']}" for page in self.pages if page["paused"]
        ]
        return found


def report() -> Report:
    """Count what is there now."""
    callbacks = models.Callback.objects
    events, replies = models.Messaging.objects, models.Reply.objects
    waiting, queued = events.filter(state="new"), replies.filter(state__in=models.Reply.OPEN)
    by_fate = dict(replies.order_by().values_list("state").annotate(Count("pk")))
    now = timezone.now()
    echoes = events.exclude(echo_token=None).annotate(reply=Substr("echo_token", 6, 32))
    proven = echoes.aggregate(mids=Count("mid", distinct=True), rows=Count("reply", distinct=True))
    figures: dict[str, int | float] = {
        "callbacks_waiting": callbacks.filter(state="new").count(),
        "callbacks_quarantined": callbacks.filter(state="quarantined").count(),
        "oldest_callback": _age(callbacks.filter(state="new"), "date_received"),
        "events_waiting": waiting.count(),
        "events_failed": events.filter(state="failed").count(),
        "oldest_event": _age(waiting, "date_received"),
        "replies_queued": by_fate.get("queued", 0),
        "replies_unknown": by_fate.get("unknown", 0) + by_fate.get("sending", 0),
        "replies_parked": by_fate.get("parked", 0),
        "replies_failed": by_fate.get("failed", 0),
        "replies_expired": by_fate.get("expired", 0),
        "oldest_reply": _age(queued.exclude(conversation__page__paused_until__gt=now), "date_sent"),
        "duplicates": max(0, proven["mids"] - proven["rows"]),
        "conversations_held": models.Lane.objects.filter(leased_until__gt=now).count(),
    }
    pages = [
        {
            "page": page.page_id,
            "paused": page.paused_until is not None and page.paused_until > now,
            "why_paused": page.pause_reason,
            "last_callback": page.date_last_callback and page.date_last_callback.isoformat(),
            "last_echo": page.date_last_echo and page.date_last_echo.isoformat(),
            "echo_lag": page.echo_lag,
        }
        for page in models.Page.objects.order_by("page_id")
    ]
    return Report(figures=figures, pages=pages)


def _age(rows: Any, column: str) -> float:
    oldest = rows.aggregate(oldest=Min(column))["oldest"]
    return 0.0 if oldest is None else round(max(0.0, (timezone.now() - oldest).total_seconds()), 1)
