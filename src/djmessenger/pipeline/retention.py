"""Removal of old rows in chunks, by the ``DJM_KEEP_*`` settings. Rows that still wait for work are never removed."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Iterator
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from djmessenger import models
from djmessenger.pipeline.failpoints import failpoint
from djmessenger.settings import app_settings
from djmessenger.sql import atomic

CHUNK = 1000
"""Rows in one transaction; small, because its locks delay the worker."""

_DAY = datetime.timedelta(days=1)

EventState = models.Messaging.State
ReplyState = models.Reply.State


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One kind of rows to remove."""

    what: str
    """Name of the kind, as shown to the user."""
    rows: QuerySet[Any]
    remove: Callable[[QuerySet[Any]], int]
    """Function that removes the rows of a chunk, or empties them, and returns their number."""


def steps(now: datetime.datetime | None = None) -> list[Step]:
    """Return the steps of a purge in their order, one for each kind of rows that may be removed.

    The ``DJM_KEEP_*`` settings decide, but uploaded files and request logs have an age of their own. ``now`` is the
    time of the purge, by default the present.
    """
    now = now or timezone.now()
    keys = now - keys_kept()
    failed = now - app_settings.DJM_KEEP_FAILED
    due_steps = [
        Step(
            what="raw callbacks", rows=_callbacks(now - app_settings.DJM_KEEP_BODIES, failed), remove=_delete
        ),
        Step(what="attempts", rows=_attempts(now - app_settings.DJM_KEEP_ATTEMPTS), remove=_delete),
        Step(
            what="uploaded files",
            rows=models.UploadedFile.objects.filter(date_expires__lt=now),
            remove=_delete,
        ),
        Step(what="lines of request logs", rows=models.GraphCall.objects.old(), remove=_delete),
        Step(
            what="failed replies",
            rows=_replies([ReplyState.FAILED, ReplyState.PARKED], failed),
            remove=_delete,
        ),
        Step(
            what="failed events", rows=_events([EventState.FAILED], min(failed, keys), keys), remove=_delete
        ),
    ]
    if app_settings.DJM_KEEP_TEXTS is not None:
        texts = now - app_settings.DJM_KEEP_TEXTS
        handled = _events([EventState.DONE, EventState.IGNORED], texts, None)
        due_steps += [
            Step(what="replies", rows=_replies([ReplyState.SENT, ReplyState.EXPIRED], texts), remove=_delete),
            Step(what="texts of events", rows=handled.exclude(body={}), remove=_empty),
            Step(
                what="events",
                rows=_events([EventState.DONE, EventState.IGNORED], min(texts, keys), keys),
                remove=_delete,
            ),
        ]
    # A split may insert an event and wake the queue while the purge waits for the lock of the queue. PostgreSQL then
    # compares the new columns of the queue, but does not run the subquery again. So ``ready_at`` must be empty too.
    # test_a_queue_into_which_a_split_inserts_an_event_is_not_removed
    unused = models.ConversationQueue.objects.filter(
        ~Exists(models.Messaging.objects.filter(queue=OuterRef("pk"))),
        conversation=None,
        ready_at=None,
        leased_until=None,
    )
    return [*due_steps, Step(what="queues without events", rows=unused, remove=_delete)]


def keys_kept() -> datetime.timedelta:
    """Return the time for which dedup keys are kept, at least a day longer than ``DJM_MAX_EVENT_AGE``."""
    # A captured callback is posted again after its key was removed. It must be too old to be handled by then.
    # test_a_capture_that_is_replayed_after_a_purge_does_nothing
    return max(app_settings.DJM_KEEP_KEYS, app_settings.DJM_MAX_EVENT_AGE + _DAY)


def purge(step: Step) -> Iterator[int]:
    """Remove the rows of a step in chunks, each in its own transaction.

    After each chunk, yield the number of rows that were removed or emptied in it.
    """
    last = 0
    while chunk := list(step.rows.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:CHUNK]):
        with atomic():
            # Staff queue a failed row again after it was chosen and before it is removed. The conditions are checked
            # again under the lock of the rows. test_a_row_that_opens_meanwhile_stays
            # A split locks two queues by id while a purge locks them in another order: a deadlock; hence the order.
            # test_a_purge_and_a_split_lock_queues_in_one_order
            still = step.rows.filter(pk__in=chunk).order_by("pk").select_for_update(of=("self",))
            removed = step.remove(
                step.rows.model._default_manager.filter(pk__in=[row.pk for row in still.only("pk")])
            )
        last = chunk[-1]
        failpoint("purge_between_chunks")
        yield removed


def _callbacks(
    split_before: datetime.datetime, failed_before: datetime.datetime
) -> QuerySet[models.Callback]:
    states = models.Callback.State
    waiting = models.Messaging.objects.filter(
        callback=OuterRef("pk"), state__in=[EventState.NEW, EventState.PAUSED]
    )
    # A callback without a body belonged to an erased person. Its hash stays, so that the same bytes are not stored
    # and handled again.
    return models.Callback.objects.filter(
        Q(state=states.SPLIT, date_received__lt=split_before)
        | Q(state=states.QUARANTINED, date_received__lt=failed_before),
        ~Exists(waiting),
    ).exclude(body=b"")


def _events(
    states: list[EventState], before: datetime.datetime, keys_before: datetime.datetime | None
) -> QuerySet[models.Messaging]:
    """Return events in one of ``states`` received before a time, without kept events and events with open replies.

    With ``keys_before``, Meta's time of the event must also be before that time. Otherwise a repetition of an event
    with a fresh or future time would be handled again after its key was removed.
    """
    open_replies = models.Reply.objects.filter(messaging=OuterRef("pk"), state__in=models.Reply.OPEN)
    rows = models.Messaging.objects.filter(
        ~Exists(open_replies), state__in=states, is_kept=False, date_received__lt=before
    )
    if keys_before is not None:
        rows = rows.filter(timestamp__lt=int(keys_before.timestamp() * 1000))
    return rows


def _replies(states: list[ReplyState], before: datetime.datetime) -> QuerySet[models.Reply]:
    """Return replies in one of ``states`` with a ``date_sent`` before a time, without those to kept events.

    If a reply was never sent, its ``date_sent`` is the time when it was queued.
    """
    return models.Reply.objects.filter(
        Q(messaging=None) | Q(messaging__is_kept=False), state__in=states, date_sent__lt=before
    )


def _attempts(before: datetime.datetime) -> QuerySet[models.Attempt]:
    return models.Attempt.objects.filter(date_started__lt=before).exclude(reply__state__in=models.Reply.OPEN)


def _delete(rows: QuerySet[Any]) -> int:
    count = rows.count()
    rows.delete()
    return count


def _empty(rows: QuerySet[Any]) -> int:
    return int(rows.update(body={}, outcome=None, error=""))
