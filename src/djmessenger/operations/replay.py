"""Return of failed events to the inbox, of replies to the outbox, and of callbacks to the split.

The functions only put rows back into the waiting state, and make their queues due in the same transaction. A worker
does the work.
"""

from __future__ import annotations

from django.db import transaction

from djmessenger import models
from djmessenger.exceptions import DJMInvalidValueException
from djmessenger.pipeline import queue_locks, settling
from djmessenger.pipeline.evidence import evidence_of
from djmessenger.sql import alias, atomic

Event = models.Messaging.State
Kind = models.ConversationQueue.Kind

REPLAYABLE = (Event.FAILED, Event.DONE, Event.IGNORED)
AGAIN = (Event.DONE, Event.IGNORED)
"""States of events that were handled without a failure. Such events are replayed only with ``again``."""
RESENDABLE = (models.Reply.State.FAILED, models.Reply.State.PARKED, models.Reply.State.EXPIRED)


def replay_event(pk: int, *, again: bool = False) -> models.Messaging | None:
    """Put an event back into its inbox with all its tries, and return its row, or None if there is nothing to do.

    Locks the queue and the row in a transaction of its own. The present policy decides. Each rule that applies runs,
    also a rule that ran the first time. Its replies are sent in addition to the earlier ones.
    """
    states = REPLAYABLE if again else (Event.FAILED,)
    rows = models.Messaging.objects.filter(pk=pk, state__in=states)
    found = rows.first()
    if found is None or not found.body:
        return None
    with atomic():
        # ``forget`` and the sweep lock a queue before its events. In the other order both would wait for each other.
        # test_a_replay_and_an_erasure_of_an_event_without_a_conversation_never_deadlock
        if found.conversation_id is not None:
            models.ConversationQueue.objects.lock([found.conversation_id], Kind.IN)
        else:
            queue_locks.lock_queues_of_subjects([found])
        row = rows.select_for_update().first()
        if row is None or not row.body:
            # The person was forgotten before the lock, which may have inserted the queue again.
            transaction.set_rollback(True, using=alias())
            return None
        row.state, row.reason, row.error = Event.NEW, "", ""
        row.outcome, row.not_before, row.date_handled = None, None, None
        row.tries = row.crashes = 0
        names = ["state", "reason", "error", "outcome", "not_before", "date_handled", "tries", "crashes"]
        row.save(update_fields=names)
        if row.conversation_id is not None:
            models.ConversationQueue.objects.wake([row.conversation_id], Kind.IN)
        else:
            queue_locks.assign_queues([row])
        return row


def replay_callback(pk: int) -> models.Callback | None:
    """Mark a callback as not split yet, so that it is split again, and return it, or None if there is nothing to do.

    Locks the row in a transaction of its own. The dedup keys prevent a second row for events that have one already.
    """
    states = models.Callback.State
    rows = models.Callback.objects.select_for_update()
    with atomic():
        callback = rows.filter(pk=pk, state__in=[states.QUARANTINED, states.SPLIT]).first()
        if callback is None or not callback.body:
            return None
        callback.state, callback.error, callback.crashes = states.NEW, "", 0
        callback.save(update_fields=["state", "error", "crashes"])
        return callback


def resend(pk: int) -> models.Reply | None:
    """Queue a failed, parked or expired reply again and return its row, or None if there is nothing to do.

    Locks the queue and the row in a transaction of its own. The reply keeps its position, before the replies that were
    queued after it. If an echo or a late answer proves that Meta has it, it is settled as sent instead. Raises
    ``DJMInvalidValueException`` for a reply without a conversation.
    """
    rows = models.Reply.objects.filter(pk=pk, state__in=RESENDABLE)
    conversation_id = rows.values_list("conversation_id", flat=True).first()
    if conversation_id is None:
        if rows.exists():
            raise DJMInvalidValueException(f"reply {pk} has no conversation, so it cannot be queued again")
        return None
    with atomic():
        # Guard: a worker may settle the reply by a late echo between the query above and this lock, so the state is
        # read again under the lock, and the attempts are searched for a proof.
        # test_a_reply_that_an_echo_proved_is_not_sent_again
        models.ConversationQueue.objects.lock([conversation_id], Kind.OUT)
        reply = rows.select_for_update().first()
        if reply is None or not reply.data:
            return None
        settling.queue_again(reply, reply.mid or evidence_of([reply])[reply.pk].mid)
        return reply
