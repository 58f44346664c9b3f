"""Erasure of one person: no row contains their data, and events that Meta sends again insert no row."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from django.db.models import QuerySet, TextField
from django.db.models.functions import Cast

from djmessenger import models
from djmessenger.pipeline import reads, split
from djmessenger.pipeline.erased_keys import PREFIX, erased_key
from djmessenger.sql import atomic

Kind = models.ConversationQueue.Kind

_CHUNK = 500


@dataclasses.dataclass(kw_only=True)
class Erased:
    """Number of rows of each kind that were deleted or emptied."""

    persons: int = 0
    conversations: int = 0
    events: int = 0
    replies: int = 0
    locations: int = 0
    callbacks: int = 0


def forget(psid: str, *, dry_run: bool = False) -> Erased:
    """Erase a person with conversations, events, replies, attempts, locations and raw callbacks.

    Waiting callbacks about the person are split first; then one transaction locks both queues and deletes the rows.
    A row without content remains of each event, with an HMAC of its dedup key. Until this row is purged, the same event
    from Meta is recognised and inserts nothing. Raw callbacks are emptied completely, including events of other persons
    in them; their hashes remain. The function may be repeated. Raises ``ProtectedError`` if rows of the project refer
    to the person by a protected foreign key.
    """
    callbacks = list(_callbacks_about(psid))
    if not dry_run:
        # Guard: the bodies are emptied below. If a waiting callback were not split before, the events of other persons
        # in it would be lost, and no key would stop a second delivery of this person's events.
        new_callbacks = models.Callback.objects.filter(pk__in=callbacks, state=models.Callback.State.NEW)
        for callback in new_callbacks.order_by("pk"):
            split.split(callback.pk)
    with atomic():
        conversations = list(models.Conversation.objects.filter(person_id=psid).values_list("pk", flat=True))
        events_without_conversation = _without_conversation_about(psid)
        subject_queues = _subject_queues_about(psid)
        if not dry_run:
            # Guard: a worker that commits a reply of the person after the delete would insert new rows of the person.
            # The incoming queues are locked before the outgoing ones, as in the engine, or both could deadlock.
            models.ConversationQueue.objects.lock(conversations, Kind.IN)
            queues = events_without_conversation.exclude(queue=None).values_list("queue_id", flat=True)
            reads.fenced_queues([*queues, *subject_queues.values_list("pk", flat=True)])
            list(models.Conversation.objects.select_for_update().filter(pk__in=conversations))
            models.ConversationQueue.objects.lock(conversations, Kind.OUT)
        events = models.Messaging.objects.filter(conversation_id__in=conversations)
        callbacks += events.exclude(callback=None).values_list("callback_id", flat=True).distinct()
        bodies = models.Callback.objects.filter(pk__in=set(callbacks)).exclude(body=b"")
        erased = Erased(
            persons=models.FBUserProfile.objects.filter(pk=psid).count(),
            conversations=len(conversations),
            events=events.count() + events_without_conversation.count(),
            replies=models.Reply.objects.filter(recipient_id=psid).count(),
            locations=models.UserLocation.objects.filter(user_id=psid).count(),
            callbacks=bodies.count(),
        )
        if not dry_run:
            tombstones = [
                _tombstone(row)
                for rows in (events, events_without_conversation)
                for row in rows.exclude(key=None).iterator()
            ]
            events_without_conversation.delete()
            subject_queues.delete()
            # This also deletes replies and locations without a conversation, because they refer to the person.
            models.FBUserProfile.objects.filter(pk=psid).delete()
            models.Messaging.objects.bulk_create(tombstones, batch_size=_CHUNK, ignore_conflicts=True)
            bodies.update(body=b"", error="", state=models.Callback.State.SPLIT)
    return erased


def _tombstone(row: models.Messaging) -> models.Messaging:
    return models.Messaging(
        type=row.type,
        body={},
        key=row.key if (row.key or "").startswith(PREFIX) else erased_key(row.key or ""),
        timestamp=row.timestamp,
        state=models.Messaging.State.IGNORED,
        reason="forgotten",
        date_received=row.date_received,
        date_handled=row.date_handled,
    )


def _callbacks_about(psid: str) -> Iterable[int]:
    """Yield the ids of callbacks whose bytes contain the person's id, also of those that were never split."""
    names = re.compile(rf"(?<![0-9]){re.escape(psid)}(?![0-9])".encode())
    rows = models.Callback.objects.exclude(body=b"").order_by("pk").values_list("pk", "body")
    last = 0
    # Not iterator(): outside of a transaction its cursor needs a session that no pooler gives to other clients.
    # Test (PostgreSQL): tests/test_deployments.py, test_a_person_is_forgotten_behind_a_pooler.
    while chunk := list(rows.filter(pk__gt=last)[:_CHUNK]):
        for last, body in chunk:
            if names.search(bytes(body)):
                yield last


def _without_conversation_about(psid: str) -> QuerySet[models.Messaging]:
    """Return the events without a conversation whose body contains the person's id."""
    events_without_conversation = models.Messaging.objects.filter(conversation=None).exclude(body={})
    return events_without_conversation.annotate(body_text=Cast("body", TextField())).filter(
        body_text__contains=psid, body_text__regex=_pattern_of(psid)
    )


def _subject_queues_about(psid: str) -> QuerySet[models.ConversationQueue]:
    """Return the queues without a conversation whose subject contains the person's id."""
    queues = models.ConversationQueue.objects.filter(conversation=None)
    return queues.filter(subject__contains=psid, subject__regex=_pattern_of(psid))


def _pattern_of(psid: str) -> str:
    return rf"(^|[^0-9]){re.escape(psid)}([^0-9]|$)"
