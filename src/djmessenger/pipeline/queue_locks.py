"""Locks of the incoming queues of events: without a wait in a split, with a wait elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from djmessenger import models, receiving
from djmessenger.pipeline import reads
from djmessenger.pipeline.connections import limit_lock_waits
from djmessenger.pipeline.participants import Participants
from djmessenger.receiving.keys import subject_of
from djmessenger.sql import dialect, fetch, many, require_transaction, update_each

_LOCK_QUEUES = """
    SELECT queue.conversation_id, queue.id
    FROM {queues} queue
    JOIN {conversations} conversation ON conversation.id = queue.conversation_id
    JOIN {pages} page ON page.id = conversation.page_id
    WHERE queue.conversation_id {is_given_id} AND conversation.id {is_given_id} AND queue.kind = 'in'
    ORDER BY queue.conversation_id
    FOR UPDATE OF queue SKIP LOCKED
    FOR NO KEY UPDATE OF conversation SKIP LOCKED
    FOR KEY SHARE OF page SKIP LOCKED
"""
_LOCK_SUBJECTS = """
    SELECT queue.subject, queue.id FROM {queues} queue
    WHERE queue.subject {is_given_text} AND queue.conversation_id IS NULL
    ORDER BY queue.id FOR UPDATE SKIP LOCKED
"""
_LOCK_PAGES = """
    SELECT page.id FROM {pages} page WHERE page.id {is_given_id} ORDER BY page.id FOR KEY SHARE SKIP LOCKED
"""


def _lock_queues_if_free(conversation_ids: Collection[int]) -> dict[int, int]:
    """Lock the incoming queues of conversations, as far as no other transaction has locked them.

    Conversation and Page are locked too, as the split will update or refer to them. Missing queues are inserted.
    Returns a dict of conversation id to queue id. The locks last until the end of the caller's transaction.
    """
    queues = models.ConversationQueue.objects
    if not _has_row_locks():
        return queues.lock(conversation_ids, models.ConversationQueue.Kind.IN)
    found = dict(_lock_if_free(_LOCK_QUEUES, conversation_ids, 2))
    if others := set(conversation_ids) - found.keys():
        stored = queues.filter(conversation__in=others, kind=queues.model.Kind.IN)
        if missing := others - set(stored.values_list("conversation_id", flat=True)):
            limit_lock_waits()
            queues.ensure(missing)
            found |= _lock_if_free(_LOCK_QUEUES, missing, 2)
    return found


def _lock_subjects_if_free(subjects: Iterable[str]) -> dict[str, int]:
    """Lock the existing queues of subjects as ``_lock_queues_if_free`` does; return a dict of subject to queue id."""
    wanted = set(subjects)
    if not _has_row_locks():
        return models.ConversationQueue.objects.lock_subjects(wanted)
    return dict(_lock_if_free(_LOCK_SUBJECTS, wanted))


def _lock_pages_if_free(page_ids: Iterable[int]) -> set[int]:
    """Lock Pages against a change of their keys, as far as no other transaction prevents it; return their ids."""
    wanted = set(page_ids)
    return {pk for (pk,) in _lock_if_free(_LOCK_PAGES, wanted)} if _has_row_locks() else wanted


def _has_row_locks() -> bool:
    """Return whether the database locks rows. SQLite has one writer at a time, and nothing to skip."""
    return bool(dialect(models.ConversationQueue)["skip_locked"])


def _lock_if_free(
    text: str, keys: Collection[int] | Collection[str], times: int = 1
) -> list[tuple[Any, ...]]:
    require_transaction()
    return fetch(reads.statement(text), [many(keys)] * times) if keys else []


def lock_queues(rows: Sequence[models.Messaging], participants: Participants) -> set[int]:
    """Lock the incoming queue of each event until the end of the transaction, and set ``waits_in`` to its id.

    Inserts the missing queues of subjects. Waits for no lock. Returns the ids of the callbacks of those events for
    which another transaction has locked a row.
    """
    subjects = {
        id(row): row.queue.subject for row in rows if row.conversation_id is None and row.queue is not None
    }
    if subjects:
        limit_lock_waits()
    models.ConversationQueue.objects.ensure_subjects(subjects.values())
    ids = _lock_queues_if_free(participants.conversation_ids())
    subject_ids = _lock_subjects_if_free(subjects.values())
    pages = _lock_pages_if_free(row.page_id for row in rows if row.conversation_id is None and row.page_id)
    locked = set()
    for row in rows:
        is_free = row.conversation_id in ids
        if row.conversation_id is not None:
            row.waits_in = ids.get(row.conversation_id)
        else:
            is_free = row.page_id is None or row.page_id in pages
            if id(row) in subjects:
                row.queue_id = row.waits_in = subject_ids.get(subjects[id(row)])
                is_free &= row.waits_in is not None
        if not is_free and row.callback_id is not None:
            locked.add(row.callback_id)
    return locked


def assign_queues(rows: Sequence[models.Messaging]) -> None:
    """Put waiting events without a conversation into the queues of their subjects, and make these due.

    The queues are locked until the end of the caller's transaction. Missing queues are inserted. Events that another
    process has handled or erased meanwhile are skipped.
    """
    queue_ids = lock_queues_of_subjects(rows)
    assigned = update_each(
        models.Messaging, ["queue"], [(row.pk, row.queue_id) for row in rows], where="state = 'new'"
    )
    used = {queue_ids[pk] for pk in assigned}
    models.ConversationQueue.objects.wake_locked(used)
    # A person was forgotten between the read of the event and the lock. The subject may contain the id of the person.
    # test_a_person_who_is_forgotten_before_the_lock_of_a_subject_leaves_no_queue
    unused = models.ConversationQueue.objects.filter(pk__in=set(queue_ids.values()) - used)
    unused.filter(messagings=None).delete()


def lock_queues_of_subjects(rows: Sequence[models.Messaging]) -> dict[int, int]:
    """Lock the queues of the subjects of stored events, and set ``queue_id`` on the objects. Missing ones are inserted.

    Returns a dict of event id to queue id. The locks last until the end of the caller's transaction.
    """
    subjects = {row.pk: _stored_subject(row) for row in rows}
    models.ConversationQueue.objects.ensure_subjects(subjects.values())
    queue_ids = models.ConversationQueue.objects.lock_subjects(subjects.values())
    for row in rows:
        row.queue_id = queue_ids[subjects[row.pk]]
    return {pk: queue_ids[subject] for pk, subject in subjects.items()}


def _stored_subject(row: models.Messaging) -> str:
    """Return the subject of a stored event, or one of its own if its body cannot be read."""
    try:
        return subject_of(receiving.Messaging.from_row(row.body, row))
    except Exception:  # noqa: BLE001 - the handling of the event reads the body again, and logs the error
        # Staff replay an item that was not understood. Its exception would end each sweep, and no pause of a Page
        # would end. test_an_event_that_cannot_be_read_fails_and_does_not_end_the_sweep
        return f"event/{row.pk}"
