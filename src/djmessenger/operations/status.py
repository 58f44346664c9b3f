"""State of the engine in numbers: waiting, blocked, failed and duplicate rows. It only reads."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from django.db.models import Count, Min, Q, QuerySet
from django.db.models.functions import Substr
from django.utils import timezone

from djmessenger import models
from djmessenger.settings import app_settings
from djmessenger.sql import Now

_REPLY_IN_TOKEN = len("djm1.") + 32
"""Number of characters of a send token that identify the reply. The number of the attempt follows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PageStatus:
    """State of one Page: the age of its last callback and echo, and the pause of its replies."""

    page_id: str
    name: str
    last_callback: datetime.datetime | None
    silence: float | None
    """Seconds since the last callback; None if none came yet."""
    last_echo: datetime.datetime | None
    echo_lag: float | None
    """Seconds from a message to its echo: a maximum that decreases slowly. None if no echo came yet."""
    paused_until: datetime.datetime | None
    """End of the pause; None if the Page is not paused."""
    pause_reason: str
    token_expires: datetime.datetime | None
    """End of the stored token of Instagram Login; None if it is unknown, or if the token does not end by time."""
    is_token_ending: bool
    """True from 14 days before the end of the token on, if it was not renewed until then."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Status:
    """All numbers at one moment. Failures and duplicates are those of the last ``hours``; the others are of now."""

    callbacks_waiting: int
    events_waiting: int
    replies_waiting: int
    """Replies that are queued, being sent, or of unknown fate."""
    oldest_wait: float
    """Age in seconds of the oldest callback, event or reply that could be worked on now; 0.0 if there is none."""
    blocked: int
    """Conversations that wait for another try, for an echo, or for a time that Meta set."""
    slow_waiting: int
    """Conversations that wait for a thread for slow rules. If it stays high, increase ``--slow-threads``."""
    overdue_queues: int
    """Conversation queues whose lease expired. The next claim takes them."""
    unknown: int
    """Replies of unknown fate, which wait for their echo."""
    quarantined: int
    """Callbacks that could not be split, of any age."""
    events_failed: int
    replies_failed: int
    replies_parked: int
    replies_expired: int
    replies_over_limit: int
    """Failed replies of rules that had sent ``DJM_MAX_UNASKED`` messages."""
    fast_exchanges: int
    """Conversations, active in the last hour, whose answers wait because the person writes as fast as a bot."""
    duplicates: int
    """Messages that persons got in addition to the first, counted by different echoes of one reply."""
    hours: float
    pages: tuple[PageStatus, ...]

    @property
    def backlog(self) -> int:
        return self.callbacks_waiting + self.events_waiting + self.replies_waiting

    @property
    def failed(self) -> int:
        return self.events_failed + self.replies_failed

    @property
    def paused(self) -> tuple[PageStatus, ...]:
        return tuple(page for page in self.pages if page.paused_until is not None)

    @property
    def echo_lag(self) -> float:
        """Largest echo lag of a Page, in seconds."""
        return max((page.echo_lag or 0.0 for page in self.pages), default=0.0)

    @property
    def silence(self) -> float:
        """Seconds since the last callback of the Page whose last callback is oldest."""
        return max((page.silence or 0.0 for page in self.pages), default=0.0)

    def json(self) -> dict[str, Any]:
        """Return the JSON-ready dict, with the sum ``backlog``."""
        data = dataclasses.asdict(self)
        data["pages"] = [
            {
                key: value.isoformat() if isinstance(value, datetime.datetime) else value
                for key, value in page.items()
            }
            for page in data["pages"]
        ]
        return {"backlog": self.backlog, **data}


def read_status(hours: float = 24.0) -> Status:
    """Count and return the status, with failures and duplicates of the last ``hours``. Raises ``DatabaseError``."""
    now = timezone.now()
    since = now - datetime.timedelta(hours=hours)
    events = models.Messaging.objects.filter(state=models.Messaging.State.NEW)
    replies = models.Reply.objects.filter(state__in=models.Reply.OPEN)
    callbacks = models.Callback.objects.filter(state=models.Callback.State.NEW)
    states = models.Reply.State
    ended = dict(
        models.Reply.objects.filter(
            state__in=[states.FAILED, states.PARKED, states.EXPIRED], date_sent__gte=since
        )
        .values_list("state")
        .annotate(Count("id"))
    )
    return Status(
        callbacks_waiting=callbacks.count(),
        events_waiting=events.count(),
        replies_waiting=replies.count(),
        oldest_wait=oldest_wait(now),
        blocked=len(_blocked(events, replies)),
        slow_waiting=models.ConversationQueue.objects.filter(is_slow=True, ready_at__isnull=False).count(),
        overdue_queues=models.ConversationQueue.objects.filter(leased_until__lte=Now()).count(),
        unknown=replies.filter(state=states.UNKNOWN).count(),
        quarantined=models.Callback.objects.filter(state=models.Callback.State.QUARANTINED).count(),
        events_failed=models.Messaging.objects.filter(
            state=models.Messaging.State.FAILED, date_handled__gte=since
        ).count(),
        replies_failed=ended.get(states.FAILED, 0),
        replies_parked=ended.get(states.PARKED, 0),
        replies_expired=ended.get(states.EXPIRED, 0),
        replies_over_limit=models.Reply.objects.filter(
            state=states.FAILED, is_over_limit=True, date_sent__gte=since
        ).count(),
        fast_exchanges=_count_fast_exchanges(now),
        duplicates=count_duplicates(since),
        hours=hours,
        pages=tuple(_page(page, now) for page in models.Page.objects.order_by("page_id")),
    )


def read_health() -> dict[str, Any]:
    """Return the few numbers that are cheap to read every few seconds, JSON-ready. Raises ``DatabaseError``."""
    now = timezone.now()
    paused = models.Page.objects.filter(paused_until__gt=Now()).order_by("page_id")
    return {
        "oldest_wait": round(oldest_wait(now), 1),
        "callbacks_waiting": models.Callback.objects.filter(state=models.Callback.State.NEW).count(),
        "events_waiting": models.Messaging.objects.filter(state=models.Messaging.State.NEW).count(),
        "replies_waiting": models.Reply.objects.filter(state__in=models.Reply.OPEN).count(),
        "paused_pages": list(paused.values_list("page_id", flat=True)),
    }


def oldest_wait(now: datetime.datetime) -> float:
    """Return the age in seconds of the oldest callback, event or reply that could be worked on; 0.0 if there is none.

    Rows that wait for their next try or for a paused Page do not count, because they wait also while workers run.
    """
    callbacks = models.Callback.objects.filter(state=models.Callback.State.NEW)
    events = models.Messaging.objects.filter(state=models.Messaging.State.NEW, tries=0)
    replies = models.Reply.objects.filter(state=models.Reply.State.QUEUED, not_before=None).exclude(
        conversation__page__paused_until__gt=Now()
    )
    oldest = [
        callbacks.aggregate(at=Min("date_received"))["at"],
        events.aggregate(at=Min("date_received"))["at"],
        # The column date_sent contains the time of queueing until the reply is settled.
        replies.aggregate(at=Min("date_sent"))["at"],
    ]
    waits: list[float] = [(now - at).total_seconds() for at in oldest if at is not None]
    return max([0.0, *waits])


def count_duplicates(since: datetime.datetime) -> int:
    """Return the number of messages since then that persons got in addition to the first.

    It is the number of distinct message ids among the echoes of a reply, less one.
    """
    doubled = (
        models.Messaging.objects.filter(echo_token__isnull=False, date_received__gte=since)
        .exclude(mid="")
        .order_by()
        .annotate(reply_token=Substr("echo_token", 1, _REPLY_IN_TOKEN))
        .values("reply_token")
        .annotate(copies=Count("mid", distinct=True))
        .filter(copies__gt=1)
    )
    return sum(row["copies"] - 1 for row in doubled)


def _count_fast_exchanges(now: datetime.datetime) -> int:
    most = app_settings.DJM_FAST_EXCHANGES
    active = models.Conversation.objects.filter(date_last_activity__gte=now - datetime.timedelta(hours=1))
    return active.filter(fast_exchanges__gt=most).count() if most else 0


def _blocked(events: QuerySet[models.Messaging], replies: QuerySet[models.Reply]) -> set[tuple[Any, ...]]:
    """Return one pair for each blocked conversation or subject: its id and None, or None and the id of its queue."""
    retried = events.filter(tries__gt=0).values_list("conversation_id", "queue_id")
    blocked = replies.filter(Q(state=models.Reply.State.UNKNOWN) | Q(not_before__gt=Now()))
    conversations = blocked.order_by().values_list("conversation_id").distinct()
    return {*retried.order_by().distinct(), *((pk, None) for (pk,) in conversations)}


def _page(page: models.Page, now: datetime.datetime) -> PageStatus:
    callback, paused = page.date_last_callback, page.paused_until
    is_paused = paused is not None and paused > now
    return PageStatus(
        page_id=page.page_id,
        name=page.name,
        last_callback=callback,
        silence=None if callback is None else (now - callback).total_seconds(),
        last_echo=page.date_last_echo,
        echo_lag=page.echo_lag,
        paused_until=paused if is_paused else None,
        pause_reason=page.pause_reason if is_paused else "",
        token_expires=page.date_token_expires if page.has_instagram_login() else None,
        is_token_ending=page.is_token_ending(),
    )
