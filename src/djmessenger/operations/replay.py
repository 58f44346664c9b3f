"""Done over: failed events back to the inbox, replies back to the outbox, callbacks back to their split.

Nothing here does the work itself: rows go back to where they wait, and their queues are woken in the same transaction.
"""

from __future__ import annotations

from django.db import transaction

from djmessenger import models
from djmessenger.exceptions import DJMInvalidValueException

Event = models.Messaging.State
Kind = models.ConversationQueue.Kind

REPLAYABLE = (Event.FAILED, Event.DONE, Event.IGNORED)
AGAIN = (Event.DONE, Event.IGNORED)
"""States that were come to on purpose; an event leaves them only when asked for ``again``."""
RESENDABLE = (models.Reply.State.FAILED, models.Reply.State.PARKED, models.Reply.State.EXPIRED)


def replay_event(pk: int, *, again: bool = False) -> models.Messaging | None:
    """Put an event back into its inbox, all tries before it; None where there is nothing to do.

    The policy of today decides, and every rule that applies runs, those that answered the first time among them;
    what they answer is new replies.
    """
    states = REPLAYABLE if again else (Event.FAILED,)
    rows = models.Messaging.objects.filter(pk=pk, state__in=states)
    found = rows.values_list("conversation_id", flat=True).first()
    with transaction.atomic():
        if found is not None:
            models.ConversationQueue.objects.lock([found], Kind.IN)
        row = rows.select_for_update().first()
        if row is None or not row.body:
            return None
        row.state, row.reason, row.error = Event.NEW, "", ""
        row.outcome, row.not_before, row.date_handled = None, None, None
        row.tries = 0
        row.save(update_fields=["state", "reason", "error", "outcome", "not_before", "date_handled", "tries"])
        if row.conversation_id is not None:
            models.ConversationQueue.objects.wake([row.conversation_id], Kind.IN)
        return row


def replay_callback(pk: int) -> models.Callback | None:
    """Have a callback split again by the code of today; None where there is nothing to do.

    Of one that was split before, only the items that could not become a row do.
    """
    states = models.Callback.State
    rows = models.Callback.objects.select_for_update()
    with transaction.atomic():
        callback = rows.filter(pk=pk, state__in=[states.QUARANTINED, states.SPLIT]).first()
        if callback is None or not callback.body:
            return None
        callback.state, callback.error = states.NEW, ""
        callback.save(update_fields=["state", "error"])
        return callback


def resend(pk: int) -> models.Reply | None:
    """Queue a reply again that failed, was set aside or came too late; None where there is nothing to do.

    It keeps its place: what was queued after it is sent after it. One that an echo has proved to be sent by now is
    settled instead. Raises ``DJMInvalidValueException`` for one without a conversation.
    """
    rows = models.Reply.objects.filter(pk=pk, state__in=RESENDABLE)
    found = rows.values_list("conversation_id", flat=True).first()
    if found is None:
        if rows.exists():
            raise DJMInvalidValueException(f"reply {pk} belongs to no conversation")
        return None
    with transaction.atomic():
        models.ConversationQueue.objects.lock([found], Kind.OUT)
        reply = rows.select_for_update().first()
        if reply is None or not reply.data:
            return None
        reply.error, reply.not_before = "", None
        reply.mid = reply.mid or _proof_of(reply) or None
        reply.state = models.Reply.State.SENT if reply.mid else models.Reply.State.QUEUED
        reply.save(update_fields=["state", "error", "not_before", "mid"])
        if reply.state == models.Reply.State.QUEUED:
            models.ConversationQueue.objects.wake([found], Kind.OUT)
        return reply


def _proof_of(reply: models.Reply) -> str:
    """Give the message id under which Meta has it after all, from a late answer or a late echo."""
    attempts = list(reply.attempts.all())
    echo = models.Messaging.objects.filter(
        echo_token__in=[attempt.token for attempt in attempts], conversation=reply.conversation
    ).first()
    return next((attempt.mid for attempt in attempts if attempt.mid), echo.mid if echo else "")
