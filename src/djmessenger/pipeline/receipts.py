"""Receipts: times of delivery and reading on replies, and the reachability of persons."""

from __future__ import annotations

import datetime
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet

from djmessenger import models, receiving
from djmessenger.clock import as_stored
from djmessenger.receiving import ReceivingType


def note_receipts(row: models.Messaging, messaging: receiving.Messaging) -> None:
    """Save the effects of an event on sent replies and on its person.

    A receipt sets when replies were delivered or read. An authored event marks the person as reachable.
    """
    if messaging.type is ReceivingType.DELIVERED and messaging.delivery is not None:
        mids, until = messaging.delivery.mids or [], _time_of_watermark(messaging.delivery.watermark)
        _sent_replies(row).filter(Q(mid__in=mids) | _started_until(until), date_delivered=None).update(
            date_delivered=row.date_event
        )
    elif messaging.type is ReceivingType.READ:
        read = messaging.read
        sent = _sent_replies(row)
        started = sent.filter(_started_until(_time_of_watermark(read.watermark if read else None)))
        if read is not None and read.mid:
            named = sent.filter(mid=read.mid).values("pk")[:1]
            started = sent.filter(pk__lte=named)
        started.filter(date_delivered=None).update(date_delivered=row.date_event)
        started.filter(date_read=None).update(date_read=row.date_event)
    elif messaging.authored and row.conversation is not None and row.conversation.person.date_unreachable:
        models.FBUserProfile.objects.filter(pk=row.conversation.person_id).exclude(
            date_unreachable=None
        ).update(date_unreachable=None)


def _sent_replies(row: models.Messaging) -> QuerySet[models.Reply]:
    return models.Reply.objects.filter(conversation=row.conversation, state=models.Reply.State.SENT)


def _started_until(moment: datetime.datetime | None) -> Q:
    """Return the condition for replies with an attempt that began at or before ``moment``; it is false for None.

    ``moment`` is a watermark, by Meta's clock. The end of the attempt is not compared, because a fast person may read
    the message before the answer of Graph arrives.
    """
    if moment is None:
        return Q(pk=None)
    return Q(Exists(models.Attempt.objects.filter(reply=OuterRef("pk"), date_started__lte=moment)))


def _time_of_watermark(milliseconds: Any) -> datetime.datetime | None:
    try:
        # The end of the millisecond: an attempt that began in it began before the person read its message.
        return as_stored(datetime.datetime.fromtimestamp((milliseconds + 0.999) / 1000, tz=datetime.UTC))
    except (TypeError, ValueError, OverflowError, OSError):
        return None
