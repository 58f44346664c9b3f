"""The queries of ``djmessenger.pipeline.reads`` by Django's ORM: the same functions, to compare them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Count, Max, OuterRef, Q, Subquery
from django.db.models.functions import Length

from djmessenger import models
from djmessenger.sql import Now


def _first_of(rows: Any, queue_ids: Iterable[int]) -> Any:
    """Return a query of the primary keys: for each queue that of its first row in ``rows``."""
    first = rows.filter(conversation=OuterRef("conversation")).values("pk")[:1]
    queues = models.ConversationQueue.objects.filter(pk__in=list(queue_ids))
    return queues.annotate(first=Subquery(first)).values("first")


def next_events(queue_ids: Iterable[int]) -> list[models.Messaging]:
    waiting = models.Messaging.objects.filter(state="new").order_by(*models.Messaging.ORDER)
    due = models.Messaging.objects.filter(Q(not_before=None) | Q(not_before__lte=Now()))
    chosen = due.filter(pk__in=_first_of(waiting, queue_ids))
    return list(chosen.select_related("page", "conversation__person"))


def next_replies(queue_ids: Iterable[int]) -> list[models.Reply]:
    waiting = models.Reply.objects.filter(state__in=models.Reply.OPEN).order_by("pk")
    last = models.Attempt.objects.filter(reply=OuterRef("pk")).order_by("-number").values("number")[:1]
    chosen = models.Reply.objects.filter(pk__in=_first_of(waiting, queue_ids))
    return list(chosen.select_related("conversation__page").annotate(now=Now(), last_number=Subquery(last)))


def conversations_of(psids: Iterable[str]) -> list[models.Conversation]:
    idle = models.ConversationQueue.objects.filter(
        conversation=OuterRef("pk"), kind="in", leased_until=None
    ).values("fencing_token")
    found = models.Conversation.objects.filter(person__in=list(psids)).select_related("page", "person")
    return list(found.annotate(unleased_token=Subquery(idle)))


def replies_by_mid(mids: Iterable[str]) -> dict[str, int]:
    return dict(models.Reply.objects.filter(mid__in=list(mids)).values_list("mid", "pk"))


def new_callbacks(callback_ids: Iterable[int]) -> list[models.Callback]:
    found = models.Callback.objects.filter(pk__in=list(callback_ids), state="new")
    return list(found.order_by("pk").select_for_update())


def waiting_events(ids: Iterable[int], column: str = "conversation_id") -> list[tuple[Any, ...]]:
    waiting = models.Messaging.objects.filter(**{f"{column}__in": list(ids)}, state="new")
    parts = waiting.order_by().values_list(column, "callback")
    return list(parts.annotate(Count("id"), Max("position")))


def oldest_callbacks(limit: int) -> list[tuple[Any, ...]]:
    waiting = models.Callback.objects.filter(state="new").order_by("pk")
    return list(waiting.values_list("pk", Length("body"), "app_id")[:limit])


def fenced_queues(queue_ids: Iterable[int]) -> list[tuple[Any, ...]]:
    queues = models.ConversationQueue.objects.filter(pk__in=list(queue_ids)).order_by("conversation")
    return list(queues.select_for_update().values_list("pk", "fencing_token"))


def pages_of(page_ids: Iterable[str]) -> list[models.Page]:
    return list(models.Page.objects.filter(page_id__in=list(page_ids)))


READS = (
    conversations_of,
    fenced_queues,
    new_callbacks,
    next_events,
    next_replies,
    oldest_callbacks,
    pages_of,
    replies_by_mid,
    waiting_events,
)
