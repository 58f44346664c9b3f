"""Reply rows to Graph calls, one conversation at a time and in order."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

from django.db import transaction
from django.utils import timezone

from djmessenger import graph, models
from djmessenger.graph import errors

logger = logging.getLogger(__name__)

State = models.Reply.State

_STATES = {"unsent": State.QUEUED, "refused": State.FAILED, "unknown": State.UNKNOWN}
"""What becomes of a row whose call ended in an error, by the error's fate."""


class Outbox:
    """Sends what waits; ``client_for`` gives the Graph client of a Page."""

    def __init__(self, client_for: Callable[[models.Page], graph.Client]) -> None:
        self._client_for = client_for

    def drain(self, conversation_id: int) -> int:
        """Send the queued replies of a conversation in order; give how many Meta took.

        Stops where a later try may succeed, so that nothing overtakes: the row stays queued.
        """
        sent = 0
        while reply := self._claim(conversation_id):
            if not self._send(reply):
                break
            sent += reply.state == State.SENT
        return sent

    def _claim(self, conversation_id: int) -> models.Reply | None:
        """Take the first open reply for ourselves; None when there is none or somebody is sending."""
        with transaction.atomic():
            reply = (
                models.Reply.objects.select_for_update(of=("self",))
                .select_related("conversation__page")
                .filter(conversation_id=conversation_id, state__in=[State.QUEUED, State.SENDING])
                .order_by("id")
                .first()
            )
            if reply is None or reply.state == State.SENDING:
                return None
            reply.state = State.SENDING
            reply.save(update_fields=["state"])
            return reply

    def _send(self, reply: models.Reply) -> bool:
        """Make the call and write its fate down; whether the next reply may follow."""
        conversation = reply.conversation
        assert conversation is not None  # noqa: S101 - claimed by its conversation
        try:
            client = self._client_for(conversation.page)
            answer = client.send({"id": reply.recipient_id}, reply.data)
        except errors.GraphError as error:
            if isinstance(error, errors.PersonUnreachable):
                models.FBUserProfile.objects.filter(pk=reply.recipient_id, date_unreachable=None).update(
                    date_unreachable=timezone.now()
                )
            self._settle(reply, _STATES[error.fate], error)
            return error.fate != "unsent"
        except Exception as error:
            # A body that cannot become a call: trying it again gives the same.
            self._settle(reply, State.FAILED, error)
        else:
            reply.mid = answer.message_id
            reply.response = answer.data
            reply.status_code = answer.status_code
            reply.date_sent = timezone.now()
            self._settle(reply, State.SENT)
        return True

    def _settle(self, reply: models.Reply, state: str, error: Exception | None = None) -> None:
        reply.state = state
        reply.error = ""
        if isinstance(error, errors.GraphError):
            reply.error = str(error)
            reply.status_code = error.status
            reply.response = {
                "code": error.code,
                "error_subcode": error.subcode,
                "message": error.message,
                "fbtrace_id": error.fbtrace_id,
            }
        elif error is not None:
            reply.error = "".join(traceback.format_exception(error))
        reply.save(update_fields=["state", "mid", "response", "status_code", "error", "date_sent"])
        if error is not None:
            logger.warning(
                "Reply %s is %s: %s",
                reply.pk,
                reply.get_state_display(),
                error,
                exc_info=None if isinstance(error, errors.GraphError) else error,
                extra={"action": "reply_not_sent", "reply": reply.pk, "state": state},
            )
