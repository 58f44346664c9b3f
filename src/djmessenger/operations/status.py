"""How the engine is doing, in numbers: what waits, what is stuck, what was doubled. Reads only."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from django.db.models import Count, Min, Q, QuerySet
from django.db.models.functions import Now, Substr
from django.utils import timezone

from djmessenger import models

_REPLY_IN_TOKEN = len("djm1.") + 32
"""Characters of a send token that name the reply; the number of the attempt follows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PageStatus:
    """One Page: whether Meta still speaks to us, and whether we may speak to Meta."""

    page_id: str
    name: str
    last_callback: datetime.datetime | None
    silence: float | None
    """Seconds since the last callback; None where none ever came."""
    last_echo: datetime.datetime | None
    echo_lag: float | None
    """Seconds between a message and its echo; a slow maximum."""
    paused_until: datetime.datetime | None
    """None where it is not paused."""
    pause_reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Status:
    """All numbers at one moment. ``failed`` to ``duplicates`` are those of the last ``hours``; the rest is now."""

    callbacks_waiting: int
    events_waiting: int
    replies_waiting: int
    """Not yet sent: queued, being sent, or unknown."""
    oldest_wait: float
    """Seconds that the oldest callback, event or reply waits that nothing holds back; 0.0 where none does."""
    blocked: int
    """Conversations that wait for another try, for an echo, or for a time that Meta named."""
    slow_waiting: int
    """Conversations that wait for a thread for slow work; more of these than usual want more ``--slow-threads``."""
    overdue_queues: int
    """Conversation queues whose holder went away with them: they come back by themselves."""
    unknown: int
    """Replies that Meta may or may not have, waiting for their echo."""
    quarantined: int
    """Callbacks that were not understood, all that are kept."""
    events_failed: int
    replies_failed: int
    replies_parked: int
    replies_expired: int
    duplicates: int
    """Messages that a person got twice: different echoes of one reply, less one."""
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
        """The slowest Page's, in seconds."""
        return max((page.echo_lag or 0.0 for page in self.pages), default=0.0)

    @property
    def silence(self) -> float:
        """Seconds since the last callback of the Page that was silent longest."""
        return max((page.silence or 0.0 for page in self.pages), default=0.0)

    def json(self) -> dict[str, Any]:
        """Give it JSON-ready, sums included."""
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
    """Count; ``hours`` is how far back failures and duplicates are looked for. Raises ``DatabaseError``."""
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
        duplicates=count_duplicates(since),
        hours=hours,
        pages=tuple(_page(page, now) for page in models.Page.objects.order_by("page_id")),
    )


def read_health() -> dict[str, Any]:
    """Give the few figures that are cheap enough for every few seconds, JSON-ready. Raises ``DatabaseError``."""
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
    """Seconds that the oldest callback, event or reply waits that could be worked on; 0.0 where none does.

    What waits for its next try is left out, and so is what waits for a paused Page: neither says that nobody works.
    """
    callbacks = models.Callback.objects.filter(state=models.Callback.State.NEW)
    events = models.Messaging.objects.filter(state=models.Messaging.State.NEW, tries=0)
    replies = models.Reply.objects.filter(state=models.Reply.State.QUEUED, not_before=None).exclude(
        conversation__page__paused_until__gt=Now()
    )
    oldest = [
        callbacks.aggregate(at=Min("date_received"))["at"],
        events.aggregate(at=Min("date_received"))["at"],
        # While it is queued the column holds the time of queueing.
        replies.aggregate(at=Min("date_sent"))["at"],
    ]
    waits: list[float] = [(now - at).total_seconds() for at in oldest if at is not None]
    return max([0.0, *waits])


def count_duplicates(since: datetime.datetime) -> int:
    """Count the messages that persons got twice since then: distinct message ids of a reply's echoes, less one."""
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


def _blocked(events: QuerySet[models.Messaging], replies: QuerySet[models.Reply]) -> set[int | None]:
    blocked = [
        events.filter(tries__gt=0),
        replies.filter(Q(state=models.Reply.State.UNKNOWN) | Q(not_before__gt=Now())),
    ]
    return {
        pk for rows in blocked for pk in rows.order_by().values_list("conversation_id", flat=True).distinct()
    }


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
    )
