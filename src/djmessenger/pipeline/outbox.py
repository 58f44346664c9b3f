"""Reply rows to Graph calls: commit, send, settle; one conversation at a time and in order.

The attempt is committed before the first byte leaves, under a token that comes back in the echo. Where the fate
of an attempt is not known, the echo settles it; without one, the reply is sent again or set aside, but not before
the time has passed in which an echo could still come.
"""

from __future__ import annotations

import datetime
import enum
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from djmessenger import graph, models, settings
from djmessenger.graph import errors
from djmessenger.pipeline.clock import Deadline
from djmessenger.pipeline.failpoints import failpoint
from djmessenger.pipeline.tokens import token_of, with_token

logger = logging.getLogger(__name__)

State = models.Reply.State
Outcome = models.Attempt.Outcome

_POLL = 0.5
"""Seconds between two looks for an echo."""
_WINDOW = datetime.timedelta(hours=24, seconds=-60)
"""Meta's window after the last message of a person, less a minute for the way."""
_ECHO_TRUST = 20
"""Accepted sends in a row without any echo, after which echoes count as not working."""


class Step(enum.Enum):
    """What a look at the head of a lane came to."""

    NEXT = enum.auto()
    """The head is closed; look at the next."""
    EMPTY = enum.auto()


@dataclass(frozen=True, kw_only=True)
class Wait:
    """The head cannot go on before ``seconds`` have passed."""

    seconds: float


class Outbox:
    """Sends what waits in a leased lane; ``client_for`` gives the Graph client of a Page."""

    def __init__(self, client_for: Callable[[models.Page], graph.Client]) -> None:
        self._client_for = client_for

    def work(self, lease: models.Lease, deadline: Deadline) -> None:
        """Send the lane's replies in order until none can be sent now, then let go of the lane.

        Raises ``LeaseLost`` when somebody took the lane; what was not committed by then has no effect here.
        """
        while True:
            step = self._step(lease, deadline)
            if step is Step.NEXT and deadline.remaining() > settings.DJM_GRAPH_TIMEOUT:
                continue
            with transaction.atomic():
                lane = models.Lane.objects.fence(lease)
                after = step.seconds if isinstance(step, Wait) else self._head_due(lease.conversation_id)
                failpoint("out_before_release")
                models.Lane.objects.release(lane, after=after)
            return

    @staticmethod
    def _open(conversation_id: int) -> Any:
        return models.Reply.objects.filter(
            conversation_id=conversation_id, state__in=models.Reply.OPEN
        ).order_by("id")

    def _head_due(self, conversation_id: int) -> float | None:
        """Seconds until the lane is to be looked at again; None when it is empty."""
        return 0.0 if self._open(conversation_id).exists() else None

    def _step(self, lease: models.Lease, deadline: Deadline) -> Step | Wait:
        reply = (
            self._open(lease.conversation_id)
            .select_related("conversation__page", "recipient")
            .annotate(now=Now())
            .first()
        )
        if reply is None:
            return Step.EMPTY
        if reply.state == State.SENDING:
            # Whoever wrote this down is gone: nobody else may hold the lane while a call is under way.
            self._settle(lease, reply, State.UNKNOWN, error="the process ended while it was being sent")
            return Step.NEXT
        if reply.state == State.UNKNOWN:
            return self._resolve(lease, reply)
        for until in (reply.not_before, reply.conversation.page.paused_until):
            if until is not None and until > reply.now:
                return Wait(seconds=(until - reply.now).total_seconds())
        if self._is_too_late(reply):
            self._settle(lease, reply, State.EXPIRED, error="the person's window of 24 hours has closed")
            return Step.NEXT
        return self._send(lease, reply, deadline)

    @staticmethod
    def _is_too_late(reply: models.Reply) -> bool:
        """Whether Meta's window has closed. A tag or a utility template has rules of its own."""
        if reply.data.get("messaging_type", "RESPONSE") not in {"RESPONSE", "UPDATE"}:
            return False
        opened = reply.conversation.date_last_inbound
        return opened is not None and reply.now > opened + _WINDOW

    def _send(self, lease: models.Lease, reply: models.Reply, deadline: Deadline) -> Step | Wait:
        attempt = self._write_down(lease, reply)
        if deadline.remaining() < settings.DJM_GRAPH_TIMEOUT:
            # Frozen for a while: what starts now might still be under way when another holds the lane.
            self._close(attempt, Outcome.UNSENT)
            self._settle(lease, reply, State.QUEUED)
            return Wait(seconds=0.0)
        failpoint("out_before_call")
        try:
            client = self._client_for(reply.conversation.page)
            sent = client.send({"id": reply.recipient_id}, with_token(reply.data, attempt.token))
        except errors.GraphError as error:
            return self._failed(lease, reply, attempt, error)
        except Exception as error:
            # A body that cannot become a call: trying it again gives the same.
            self._close(attempt, Outcome.REFUSED)
            self._settle(lease, reply, State.FAILED, error="".join(traceback.format_exception(error)))
            return Step.NEXT
        failpoint("out_before_settle")
        self._close(attempt, Outcome.ACCEPTED, mid=sent.message_id, status_code=sent.status_code)
        self._settle(
            lease, reply, State.SENT, mid=sent.message_id, response=sent.data, status_code=sent.status_code
        )
        return Step.NEXT

    def _write_down(self, lease: models.Lease, reply: models.Reply) -> models.Attempt:
        with transaction.atomic():
            models.Lane.objects.fence(lease)
            number = reply.attempts.count() + 1
            attempt = models.Attempt.objects.create(
                reply=reply, number=number, token=token_of(reply.uuid, number), epoch=lease.epoch
            )
            reply.state = State.SENDING
            reply.vouched_wait = 0.0
            reply.save(update_fields=["state", "vouched_wait"])
        failpoint("out_attempt_committed")
        return attempt

    def _failed(
        self, lease: models.Lease, reply: models.Reply, attempt: models.Attempt, error: errors.GraphError
    ) -> Step | Wait:
        facts = {
            "status_code": error.status,
            "code": error.code,
            "subcode": error.subcode,
            "fbtrace_id": error.fbtrace_id[:64],
        }
        self._close(attempt, Outcome(error.fate), **facts)
        answer = {"code": error.code, "error_subcode": error.subcode, "message": error.message}
        told: dict[str, Any] = {"error": str(error), "status_code": error.status, "response": answer}
        if error.fate == "unknown":
            self._settle(lease, reply, State.UNKNOWN, **told)
            return Step.NEXT
        if error.fate == "unsent":
            return self._try_later(lease, reply, error, told)
        if isinstance(error, errors.PersonUnreachable):
            models.FBUserProfile.objects.filter(pk=reply.recipient_id, date_unreachable=None).update(
                date_unreachable=timezone.now()
            )
        self._settle(lease, reply, State.FAILED, **told)
        return Step.NEXT

    def _try_later(
        self, lease: models.Lease, reply: models.Reply, error: errors.GraphError, told: dict[str, Any]
    ) -> Wait:
        """Back to the queue: a Page that is throttled or has lost its token waits whole."""
        unsent = reply.attempts.filter(outcome=Outcome.UNSENT).count()
        pause = error.after if error.after is not None else min(2.0 ** min(unsent - 1, 9), 300.0)
        if error.pauses_page:
            pause = (
                error.after if error.after is not None else (error.usual_wait or min(30.0 * unsent, 600.0))
            )
            self._pause(reply.conversation.page, pause, str(error))
        moment = Now() + datetime.timedelta(seconds=pause)
        self._settle(lease, reply, State.QUEUED, not_before=moment, **told)
        return Wait(seconds=pause)

    @staticmethod
    def _pause(page: models.Page, seconds: float, reason: str) -> None:
        models.Page.objects.filter(pk=page.pk).update(
            paused_until=Now() + datetime.timedelta(seconds=seconds), pause_reason=reason[:2000]
        )
        page.refresh_from_db(fields=["paused_until", "pause_reason"])
        logger.error(
            "Nothing is sent for page %s for %.0f s: %s",
            page.pk,
            seconds,
            reason,
            extra={"action": "page_paused", "page": page.pk, "seconds": seconds},
        )
        transaction.on_commit(lambda: models.page_paused.send(models.Page, page=page))

    @staticmethod
    def _close(attempt: models.Attempt, outcome: str, **facts: Any) -> None:
        """Write an attempt's outcome down. Not fenced: only the process that began it knows it."""
        models.Attempt.objects.filter(pk=attempt.pk).update(
            outcome=outcome, date_ended=timezone.now(), **facts
        )

    def _settle(
        self, lease: models.Lease, reply: models.Reply, state: str, *, error: str = "", **facts: Any
    ) -> None:
        with transaction.atomic():
            models.Lane.objects.fence(lease)
            if state == State.SENT:
                facts["date_sent"] = timezone.now()
            models.Reply.objects.filter(pk=reply.pk).update(state=state, error=error, **facts)
            reply.state, reply.error = state, error
            if state == State.SENT:
                transaction.on_commit(lambda: models.reply_sent.send(models.Reply, reply=reply))
            elif state in {State.FAILED, State.PARKED, State.EXPIRED}:
                transaction.on_commit(lambda: models.reply_failed.send(models.Reply, reply=reply))
        if error:
            logger.warning(
                "Reply %s is %s: %s",
                reply.pk,
                state,
                error.splitlines()[0],
                extra={"action": "reply_not_sent", "reply": reply.pk, "state": state},
            )

    # What Meta may or may not have.

    def _resolve(self, lease: models.Lease, reply: models.Reply) -> Step | Wait:
        failpoint("out_resolving")
        found = reply.attempts.exclude(mid="").first()
        mid = found.mid if found else self._echoed(reply)
        if mid:
            self._settle(lease, reply, State.SENT, mid=mid)
            return Step.NEXT
        page = reply.conversation.page
        if self._echoes_come(page) and reply.vouched_wait < self._wait(page):
            # Each look adds at most one interval: an outage, a frozen host or a clock step waits nothing off.
            models.Reply.objects.filter(pk=reply.pk).update(vouched_wait=F("vouched_wait") + _POLL)
            return Wait(seconds=_POLL)
        parks = reply.is_parked_when_unsure
        if parks is None:
            parks = settings.DJM_WHEN_UNSURE == "park" or not self._echoes_come(page)
        if parks or reply.attempts.filter(outcome__in=[Outcome.OPEN, Outcome.UNKNOWN]).count() >= 3:
            self._settle(lease, reply, State.PARKED, error="Meta may have it: no answer and no echo came")
        else:
            self._settle(lease, reply, State.QUEUED)
        return Step.NEXT

    @staticmethod
    def _echoed(reply: models.Reply) -> str:
        """Give the message id of a stored echo of one of the reply's attempts."""
        tokens = list(reply.attempts.values_list("token", flat=True))
        echo = models.Messaging.objects.filter(
            echo_token__in=tokens, conversation_id=reply.conversation_id
        ).first()
        return echo.mid if echo else ""

    @staticmethod
    def _wait(page: models.Page) -> float:
        """Seconds in which an echo may still come: four times the lag seen, within bounds."""
        if page.echo_lag is None:
            return float(settings.DJM_ECHO_WAIT)
        return min(max(4 * page.echo_lag, float(settings.DJM_ECHO_WAIT) * 2 / 3), 120.0)

    @staticmethod
    def _echoes_come(page: models.Page) -> bool:
        """Whether echoes of ours reach us; when none came for a score of accepted sends, waiting is vain."""
        sent = models.Attempt.objects.filter(
            reply__conversation__page=page,
            outcome=Outcome.ACCEPTED,
            date_ended__gt=Coalesce(
                models.Page.objects.filter(pk=page.pk).values("date_last_echo")[:1],
                page.date_created,
            ),
        )[:_ECHO_TRUST]
        return len(sent) < _ECHO_TRUST
