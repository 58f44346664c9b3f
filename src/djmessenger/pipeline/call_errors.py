"""Calls that Graph did not accept. Each reply is settled by the error of its call, or by the error in its own data.

``sending.py`` makes the calls.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from djmessenger import models
from djmessenger.graph import errors
from djmessenger.logs import error_label
from djmessenger.models.queues import seconds_from_now
from djmessenger.pipeline import page_pauses, settling, uploads
from djmessenger.pipeline.claims import Lease
from djmessenger.pipeline.page_pauses import ClientFor
from djmessenger.pipeline.settling import Outcome, PendingSend, SendResult, State, Wait, storable

if TYPE_CHECKING:
    from djmessenger.pipeline.settling import QueuedReply


def settle(answer: SendResult, client_for: ClientFor) -> Wait | None:
    """Settle the reply of a call that ended without an acceptance. Return the wait of the reply, if it has one.

    Raises ``LeaseLost`` if another worker claimed the queue.
    """
    pending = answer.pending
    if answer.error is not None:
        if _has_lost_file(pending, answer.error):
            uploads.forget(pending.reply.conversation.page, pending.data)
            settling.close_attempt(
                pending.attempt, Outcome.REFUSED, code=answer.error.code, subcode=answer.error.subcode
            )
            settling.settle(pending.lease, pending.reply, State.QUEUED, error=storable(str(answer.error)))
            return None
        return _settle_error(pending, answer.error, client_for)
    if answer.body_error is not None:
        settling.close_attempt(pending.attempt, Outcome.REFUSED)
        fail(pending.lease, pending.reply, answer.body_error)
        return None
    settling.close_attempt(pending.attempt, Outcome.UNSENT)
    settling.settle(pending.lease, pending.reply, State.QUEUED)
    return None


def fail(lease: Lease, reply: QueuedReply, error: Exception) -> None:
    """Settle a reply as failed because its data cannot become a call; another try would fail too."""
    trace = storable("".join(traceback.format_exception(error)))
    settling.settle(lease, reply, State.FAILED, error=trace, why=error_label(error))


def needs_window(reply: QueuedReply) -> bool:
    """Return whether Meta accepts the reply only within the window: its ``messaging_type`` is RESPONSE or UPDATE."""
    return reply.data.get("messaging_type", "RESPONSE") in {"RESPONSE", "UPDATE"}


def _has_lost_file(pending: PendingSend, error: errors.GraphError) -> bool:
    """Return whether Meta no longer has the uploaded file of a reply; true once for each reply.

    A second refusal fails the reply, otherwise upload and refusal could alternate for ever
    (test_a_second_refusal_is_the_end).
    """
    code, subcode = uploads.UNKNOWN_ATTACHMENT
    # After an outage of the database the same attempt is settled again.
    others = pending.reply.attempts.exclude(pk=pending.attempt.pk)
    return (
        (error.code, error.subcode) == uploads.UNKNOWN_ATTACHMENT
        and uploads.has_file(pending.reply.data)
        and not others.filter(code=code, subcode=subcode).exists()
    )


def _settle_error(pending: PendingSend, error: errors.GraphError, client_for: ClientFor) -> Wait | None:
    """Settle a reply whose call ended with a Graph error, according to ``error.fate``."""
    facts = {
        "status_code": error.status,
        "code": error.code,
        "subcode": error.subcode,
        "fbtrace_id": error.fbtrace_id[:64],
    }
    lease, reply = pending.lease, pending.reply
    settling.close_attempt(pending.attempt, Outcome(error.fate), **facts)
    answer = {"code": error.code, "error_subcode": error.subcode, "message": error.message}
    result_fields: dict[str, Any] = {
        "error": storable(str(error)),
        "why": error_label(error),
        "status_code": error.status,
        "response": storable(answer),
    }
    if error.fate == "unknown":
        # A timeout after the request is no refusal: Meta may have the message.
        # test_a_lost_answer_taken_for_unsent_is_queued_again_at_once
        settling.settle(lease, reply, State.UNKNOWN, **result_fields)
        return None
    if error.fate == "unsent":
        return _try_later(lease, reply, error, result_fields, client_for)
    if isinstance(error, errors.PersonUnreachable):
        models.FBUserProfile.objects.filter(pk=reply.recipient_id, date_unreachable=None).update(
            date_unreachable=timezone.now()
        )
    is_late = isinstance(error, errors.WindowClosed) and needs_window(reply)
    settling.settle(lease, reply, State.EXPIRED if is_late else State.FAILED, **result_fields)
    return None


def _try_later(
    lease: Lease,
    reply: QueuedReply,
    error: errors.GraphError,
    result_fields: dict[str, Any],
    client_for: ClientFor,
) -> Wait | None:
    """Queue an unsent reply again and return its wait.

    Throttling and a refused token pause all sends of the Page. Any other error delays only this reply, by
    ``error.after`` seconds or by a time that grows with each unsent attempt.
    """
    unsent = reply.attempts.filter(outcome=Outcome.UNSENT).count()
    if error.pauses_page:
        pause = error.after or error.usual_wait or min(30.0 * unsent, 600.0)
        page_pauses.pause(reply.conversation.page, pause, error, client_for)
        # The reply has no ``not_before`` of its own, so it can be sent as soon as the pause of its Page is ended.
        # test_a_new_token_ends_the_pause_of_a_dead_one
        settling.settle(lease, reply, State.QUEUED, **result_fields)
        return Wait(seconds=pause)
    pause = error.after if error.after is not None else min(2.0 ** min(unsent - 1, 9), 300.0)
    settling.settle(lease, reply, State.QUEUED, not_before=seconds_from_now(pause), **result_fields)
    return Wait(seconds=pause)
