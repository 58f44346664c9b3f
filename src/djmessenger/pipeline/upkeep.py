"""Old rows away, failed rows again; in small steps that may be broken off and begun again anywhere."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from typing import Any

from django.db import transaction
from django.utils import timezone

from djmessenger import models, settings
from djmessenger.pipeline.failpoints import failpoint

CHUNK = 1000
"""Rows removed in one transaction."""
_KEYS = datetime.timedelta(days=1)
"""How much longer than the oldest event still handled the keys stay."""


def purge(*, dry_run: bool = False) -> Iterator[tuple[str, int]]:
    """Remove what is older than the settings say; give table and count after each step.

    Never a row that is still to be split, handled or sent, nor one marked as kept. An event's row holds its key,
    so it outlives ``DJM_MAX_EVENT_AGE`` by a day whatever the setting says: an old callback that comes again
    does nothing.
    """
    keys = settings.DJM_MAX_EVENT_AGE + _KEYS
    yield from _remove("attempts", _attempts(settings.DJM_KEEP_ROWS), dry_run)
    yield from _remove("replies", _replies(settings.DJM_KEEP_ROWS), dry_run)
    yield from _remove("events", _events(max(settings.DJM_KEEP_ROWS, keys)), dry_run)
    yield from _remove(
        "uploaded files", models.UploadedFile.objects.filter(date_expires__lt=timezone.now()), dry_run
    )
    yield from _remove("lines of request logs", models.GraphCall.objects.old(), dry_run)
    yield from _remove("callbacks", _callbacks(settings.DJM_KEEP_CALLBACKS), dry_run)


def _callbacks(age: datetime.timedelta) -> Any:
    done = models.Callback.objects.exclude(state=models.Callback.State.NEW)
    return done.filter(date_received__lt=timezone.now() - age)


def _events(age: datetime.timedelta) -> Any:
    done = models.Messaging.objects.filter(
        state__in=[models.Messaging.State.DONE, models.Messaging.State.IGNORED], is_kept=False
    )
    return done.filter(date_received__lt=timezone.now() - age)


def _replies(age: datetime.timedelta) -> Any:
    closed = models.Reply.objects.exclude(state__in=[*models.Reply.OPEN, models.Reply.State.PARKED])
    return closed.filter(date_sent__lt=timezone.now() - age)


def _attempts(age: datetime.timedelta) -> Any:
    closed = models.Attempt.objects.exclude(reply__state__in=[*models.Reply.OPEN, models.Reply.State.PARKED])
    return closed.filter(date_started__lt=timezone.now() - age)


def _remove(name: str, rows: Any, dry_run: bool) -> Iterator[tuple[str, int]]:
    if dry_run:
        yield name, rows.count()
        return
    while found := list(rows.order_by("pk").values_list("pk", flat=True)[:CHUNK]):
        with transaction.atomic():
            # Asked again with all conditions: a row may have been opened since.
            removed = rows.filter(pk__in=found).delete()[0]
        failpoint("purge_between_chunks")
        yield name, removed
        if not removed:
            return


def replay(
    rows: Any, *, dry_run: bool = False, limit: int | None = None, rate: float | None = None
) -> Iterator[models.Messaging]:
    """Let events be handled once more, oldest first; ``rate``: so many a second at most.

    Those that wait already are passed over. A second run finishes what a first one began.
    """
    chosen = rows.exclude(state=models.Messaging.State.NEW).order_by("timestamp", "pk")
    for row in chosen[:limit] if limit is not None else chosen.iterator():
        if not dry_run:
            again(row)
            failpoint("replay_between_rows")
            if rate:
                time.sleep(1 / rate)
        yield row


def again(row: models.Messaging) -> bool:
    """Let one event be handled once more; false when it waits already."""
    with transaction.atomic():
        if row.conversation_id is not None:
            # The lock that a holder takes for its commit: one of the two sees what the other did.
            models.Lane.objects.lock([row.conversation_id], models.Lane.Kind.IN)
        changed = (
            models.Messaging.objects.filter(pk=row.pk)
            .exclude(state=models.Messaging.State.NEW)
            .update(state=models.Messaging.State.NEW, tries=0, not_before=None, error="", reason="")
        )
        if changed and row.conversation_id is not None:
            models.Lane.objects.wake([row.conversation_id], models.Lane.Kind.IN)
    return bool(changed)


def understand_again(callbacks: Any) -> int:
    """Let quarantined callbacks be split once more, by code that may understand them by now."""
    quarantined = callbacks.filter(state=models.Callback.State.QUARANTINED)
    return int(quarantined.update(state=models.Callback.State.NEW, error=""))
