"""Reply rows to Graph calls: commit, send, settle; one conversation at a time and in order.

The attempt is committed before the first byte leaves, under a token that comes back in the echo. Where the fate
of an attempt is not known, the echo settles it; without one, the reply is sent again or set aside, but not before
the time has passed in which an echo could still come and, where that is wanted, Meta was asked what it has.
"""

from __future__ import annotations

import datetime
import enum
import json
import logging
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from django.db import DatabaseError, transaction
from django.db.models import F, OuterRef, Subquery, TextField
from django.db.models.functions import Coalesce, Greatest, Now
from django.utils import timezone

from djmessenger import graph, models
from djmessenger.clock import Deadline
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.graph import errors
from djmessenger.logs import error_label, hidden
from djmessenger.models.queues import in_seconds
from djmessenger.pipeline import uploads
from djmessenger.pipeline.delivery_lookup import look_up_delivery
from djmessenger.pipeline.failpoints import failpoint
from djmessenger.pipeline.leases import log_lost
from djmessenger.pipeline.send_tokens import token_of, with_token
from djmessenger.settings import app_settings
from djmessenger.signals import page_paused, reply_failed, reply_sent
from djmessenger.sql import Among, Prepared, Several, insert_each, update_each

logger = logging.getLogger(__name__)

State = models.Reply.State
Outcome = models.Attempt.Outcome

_CHECK_INTERVAL = 0.5
"""Seconds between two looks for an echo, and what a look counts at most."""
_WINDOW = datetime.timedelta(hours=24, seconds=-60)
"""Meta's window after the last message of a person, less a minute for the way."""
_LOOK_UP_INTERVAL, _MOST_LOOK_UPS = 5.0, 6
"""Seconds between two questions to Meta what it has, and how often it is asked when it does not answer."""
_MOST_SILENT_SENDS = 20
"""Accepted sends in a row without any echo, after which echoes count as not working."""
_MOST_UNSURE = 3
"""Attempts of unknown fate, after which a reply is set aside whatever its mode."""
_BODY_ERRORS = (TypeError, ValueError, AttributeError, KeyError, RecursionError)
"""What data raise that cannot become the body of a call."""
_NO_TOKEN = "none"  # noqa: S105 - the absence of one

_SIGNALS = {
    State.SENT: reply_sent,
    State.FAILED: reply_failed,
    State.PARKED: reply_failed,
    State.EXPIRED: reply_failed,
}


_OPEN = f"state IN ({', '.join(repr(state.value) for state in models.Reply.OPEN)})"


def _next_rows() -> Any:
    """The first open reply of each of ``queues``, with all that is asked of it."""
    first = models.Reply.objects.filter(conversation=OuterRef("conversation"), state__in=models.Reply.OPEN)
    queues = models.ConversationQueue.objects.filter(Among("pk", Several("queues")))
    next_rows = queues.annotate(next_row=Subquery(first.order_by("id").values("pk")[:1])).values("next_row")
    last = models.Attempt.objects.filter(reply=OuterRef("pk")).order_by("-number").values("number")[:1]
    replies = models.Reply.objects.filter(Among("pk", next_rows)).select_related("conversation__page")
    return replies.annotate(now=Now(), last_number=Subquery(last))


_NEXT_ROWS = Prepared(models.Reply, _next_rows)
_REPLIES_BY_MID = Prepared(
    models.Reply,
    lambda: models.Reply.objects.filter(Among("mid", Several("mids", TextField()))).values_list("mid", "pk"),
)


class Step(enum.Enum):
    """What a look at the next_row of a queue came to."""

    NEXT = enum.auto()
    """The next_row is closed, or has a state of its own now; look again."""
    EMPTY = enum.auto()


@dataclass(frozen=True, kw_only=True)
class Wait:
    """The next_row cannot go on before ``seconds`` have passed."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class PendingSend:
    """A reply whose attempt is written down, and which is to be sent under a lease."""

    lease: models.Lease
    deadline: Deadline
    reply: Any
    attempt: models.Attempt
    data: dict[str, Any]
    """The body to send."""


@dataclass(frozen=True, kw_only=True)
class SendResult:
    """What became of a call."""

    pending: PendingSend
    sent: graph.Sent | None = None
    error: errors.GraphError | None = None
    """Why it is not known to be accepted; with neither nothing was sent, for the lease is too near its end."""
    refusal: Exception | None = None
    """Why the body cannot become a call."""


class Outbox:
    """Sends what waits in leased queues; ``client_for`` gives the Graph client of a Page.

    ``work`` does it all in one thread. Whoever has many queues takes it apart: ``begin`` and ``end`` need the
    database and take many at once, ``call`` waits for Graph and needs no database.
    """

    def __init__(self, client_for: Callable[[models.Page], graph.Client]) -> None:
        self._client_for = client_for

    def work(self, lease: models.Lease, deadline: Deadline) -> None:
        """Send the queue's replies in order until none can be sent now, then let go of the queue.

        Raises ``LeaseLost`` when somebody took the queue; what was not committed by then has no effect here.
        """
        while True:
            step = self._step(lease, deadline)
            if step is Step.NEXT and deadline.remaining() > app_settings.DJM_GRAPH_TIMEOUT:
                continue
            self._release_after_step(lease, step)
            return

    def process_next(self, lease: models.Lease, deadline: Deadline) -> None:
        """Do one step of ``work`` and let go of the queue: for next_rows that ``begin`` leaves."""
        self._release_after_step(lease, self._step(lease, deadline))

    def begin(
        self, leases: Sequence[models.Lease], deadline: Deadline
    ) -> tuple[list[PendingSend], list[models.Lease]]:
        """Write down an attempt for each queue whose next_row can be sent now; give these, and the queues to look at.

        Queues whose next_row waits for its echo are let go of, to be looked at again.
        """
        next_rows = self._next_rows(leases)
        pairs = [
            (lease, next_rows[lease.conversation_id])
            for lease in leases
            if lease.conversation_id in next_rows
        ]
        ready = [
            (lease, reply)
            for lease, reply in pairs
            if reply.state == State.QUEUED
            and self._wait_of(reply) is None
            and not self._is_too_late(reply)
            and not self._needs_upload(reply)
        ]
        pending_sends = self._commit_attempts(ready, deadline) if ready else []
        served = {pending.lease.queue_id for pending in pending_sends}
        if unsure := [(lease, reply) for lease, reply in pairs if reply.state == State.UNKNOWN]:
            served |= self._release_waiting(unsure)
        return pending_sends, [lease for lease in leases if lease.queue_id not in served]

    def start(self, replies: Sequence[models.Reply], deadline: Deadline, limit: int) -> list[PendingSend]:
        """Insert new replies in the caller's transaction, with an attempt for those that can leave at its commit.

        At most ``limit`` can: the first of each conversation in whose queue nothing waits and that nobody holds. All
        others wait in their queues. Only what was committed may be called.
        """
        firsts: dict[int, models.Reply] = {}
        for reply in replies:
            reply.state = State.QUEUED
            if reply.conversation_id is not None:
                firsts.setdefault(reply.conversation_id, reply)
        ready = [pk for pk, reply in firsts.items() if self._can_leave(reply)][:limit]
        leases = (
            models.ConversationQueue.objects.claim_idle(
                models.ConversationQueue.Kind.OUT,
                ready,
                models.Reply,
                where=_OPEN,
                seconds=app_settings.DJM_LEASE,
            )
            if ready
            else []
        )
        for lease in leases:
            reply = firsts[lease.conversation_id]
            reply.state = State.SENDING
            # Under way it needs no event, which would stay in memory with it.
            reply._state.fields_cache.pop("messaging", None)
        models.Reply.objects.insert(replies, leased={lease.conversation_id for lease in leases})
        return self._with_attempts([(lease, firsts[lease.conversation_id]) for lease in leases], deadline)

    def _can_leave(self, reply: Any) -> bool:
        """Whether nothing holds a new reply back, as far as is known without a query.

        By the clock of this host, so that it keeps well away from the end of the window.
        """
        conversation = reply.conversation
        opened = conversation.date_last_inbound
        return (
            conversation.page.paused_until is None
            and opened is not None
            and timezone.now() < opened + _WINDOW / 2
            and not self._needs_upload(reply)
        )

    @staticmethod
    def _needs_upload(reply: Any) -> bool:
        try:
            return uploads.has_file(reply.data)
        except _BODY_ERRORS:
            return True

    def call(self, pending: PendingSend) -> SendResult:
        """Make the call of an attempt; touches no database and never raises an ``Exception``."""
        failpoint("outbox_attempt_committed")
        if pending.deadline.remaining() < app_settings.DJM_GRAPH_TIMEOUT:
            # Frozen for a while: what starts now might still be under way when another holds the queue.
            return SendResult(pending=pending)
        reply = pending.reply
        try:
            body = with_token(pending.data, pending.attempt.token)
            json.dumps(body, allow_nan=False)
        except _BODY_ERRORS as error:
            return SendResult(pending=pending, refusal=error)
        try:
            client = self._client_for(reply.conversation.page)
        except DJMInvalidConfigException as error:
            # No token at all is a dead token: the messages wait for one.
            return SendResult(pending=pending, error=errors.TokenError(str(error)))
        try:
            sent = client.send({"id": reply.recipient_id}, body)
        except errors.GraphError as error:
            return SendResult(pending=pending, error=error)
        except Exception as error:
            # Nobody can say whether bytes had left by then.
            logger.exception("The call of reply %s broke", reply.pk, extra={"action": "call_broke"})
            return SendResult(
                pending=pending, error=errors.UnknownFate(f"{type(error).__name__} in the call")
            )
        failpoint("outbox_answer_read")
        return SendResult(pending=pending, sent=sent)

    def end(self, answers: Sequence[SendResult]) -> list[SendResult]:
        """Write down what became of calls and let go of their queues.

        Gives the accepted ones that the database did not take: they may be given again while their leases last.
        """
        accepted = [answer for answer in answers if answer.sent is not None]
        try:
            if len(accepted) > 1:
                for lease in self._accept(accepted, release=True):
                    log_lost(models.LeaseLost(lease))
                accepted = []
        except Exception:
            logger.exception("Answers are settled one by one", extra={"action": "answers_singly"})
        unsettled = self._settle_each(accepted, lambda answer: self._accept_one(answer, release=True))
        not_accepted = [answer for answer in answers if answer.sent is None]
        self._settle_each(
            not_accepted,
            lambda answer: self._release_after_step(answer.pending.lease, self._not_accepted(answer)),
        )
        return unsettled

    @staticmethod
    def _settle_each(
        answers: Iterable[SendResult], settle: Callable[[SendResult], object]
    ) -> list[SendResult]:
        """Settle each by itself; give those that the database did not take."""
        unsettled = []
        for answer in answers:
            try:
                settle(answer)
            except models.LeaseLost as lost:
                log_lost(lost)
            except Exception as error:
                # Its attempt is found open under the next lease.
                logger.exception("An answer could not be settled", extra={"action": "answer_waits"})
                if isinstance(error, DatabaseError):
                    unsettled.append(answer)
        return unsettled

    def _release_after_step(self, lease: models.Lease, step: Step | Wait) -> None:
        """Let go of the queue, looking again under its lock for what came meanwhile."""
        with transaction.atomic():
            queue = models.ConversationQueue.objects.fence(lease)
            if isinstance(step, Wait) and (wait := self._current_wait(lease, step)) is not None:
                models.ConversationQueue.objects.release(queue, after=wait.seconds)
            else:
                self._release([queue.pk])

    def _current_wait(self, lease: models.Lease, wait: Wait) -> Wait | None:
        """Give what the next_row waits for now: its Page's pause may have ended, and the queue been woken for it."""
        next_row = self._next_rows([lease]).get(lease.conversation_id)
        if next_row is None:
            return None
        return self._wait_of(next_row) if next_row.state == State.QUEUED else wait

    @staticmethod
    def _release(queue_ids: Collection[int]) -> None:
        """Let go of queues that are locked, looking again for what came meanwhile."""
        failpoint("outbox_before_release")
        models.ConversationQueue.objects.release_many(queue_ids, models.Reply, where=_OPEN, order="id")

    def resume(self) -> int:
        """End the pauses of Pages whose dead token was replaced; give how many."""
        resumed = 0
        for page in models.Page.objects.filter(paused_until__gt=Now()).exclude(paused_token=""):
            if self._token_of(page) == page.paused_token:
                continue
            with transaction.atomic():
                resumed += models.Page.objects.filter(pk=page.pk, paused_token=page.paused_token).update(
                    paused_until=None, pause_reason="", paused_token=""
                )
                waiting = models.Reply.objects.filter(conversation__page=page, state__in=models.Reply.OPEN)
                conversation_ids = waiting.order_by().values_list("conversation_id", flat=True).distinct()
                models.ConversationQueue.objects.wake(
                    [pk for pk in conversation_ids if pk is not None], models.ConversationQueue.Kind.OUT
                )
        return resumed

    @staticmethod
    def _next_rows(leases: Sequence[models.Lease]) -> dict[int, Any]:
        """Give the first open reply of each queue that has one, by conversation."""
        failpoint("outbox_claimed")
        rows: list[Any] = _NEXT_ROWS(queues=[lease.queue_id for lease in leases])
        return {reply.conversation_id: reply for reply in rows}

    def _step(self, lease: models.Lease, deadline: Deadline) -> Step | Wait:
        reply = self._next_rows([lease]).get(lease.conversation_id)
        if reply is None:
            return Step.EMPTY
        if reply.state == State.SENDING:
            # Whoever wrote this down is gone: nobody else may hold the queue while a call is under way.
            self._settle(lease, reply, State.UNKNOWN, error="the process ended while it was being sent")
            return Step.NEXT
        if reply.state == State.UNKNOWN:
            return self._resolve(lease, reply, deadline)
        if (wait := self._wait_of(reply)) is not None:
            return wait
        if self._is_too_late(reply):
            self._settle(lease, reply, State.EXPIRED, error="the person's window of 24 hours has closed")
            return Step.NEXT
        return self._send(lease, reply, deadline)

    @staticmethod
    def _wait_of(reply: Any) -> Wait | None:
        for until in (reply.not_before, reply.conversation.page.paused_until):
            if until is not None and until > reply.now:
                return Wait(seconds=(until - reply.now).total_seconds())
        return None

    @staticmethod
    def _is_too_late(reply: Any) -> bool:
        """Whether Meta's window has closed. A tag or a utility template has rules of its own."""
        if reply.data.get("messaging_type", "RESPONSE") not in {"RESPONSE", "UPDATE"}:
            return False
        opened = reply.conversation.date_last_inbound
        return opened is not None and reply.now > opened + _WINDOW

    def _send(self, lease: models.Lease, reply: Any, deadline: Deadline) -> Step | Wait:
        page = reply.conversation.page
        upload_error: errors.GraphError
        try:
            data = uploads.with_file(self._client_for(page), page, reply.data)
        except DJMInvalidConfigException as error:
            # No token at all is a dead token: the messages wait for one.
            upload_error = errors.TokenError(str(error))
        except errors.GraphError as error:
            upload_error = error
        except (OSError, *_BODY_ERRORS) as error:
            self._fail_body(lease, reply, error)
            return Step.NEXT
        else:
            pending = self._begin_one(lease, reply, deadline, data)
            if pending is None:
                return Step.NEXT
            answer = self.call(pending)
            if answer.sent is None:
                return self._not_accepted(answer)
            self._accept_one(answer, release=False)
            return Step.NEXT
        pending = self._begin_one(lease, reply, deadline)
        return (
            Step.NEXT if pending is None else self._settle_error(lease, reply, pending.attempt, upload_error)
        )

    def _begin_one(
        self, lease: models.Lease, reply: Any, deadline: Deadline, data: dict[str, Any] | None = None
    ) -> PendingSend | None:
        pending_sends = self._commit_attempts([(lease, reply)], deadline)
        if not pending_sends:
            # Changed by hand meanwhile, or the lease is lost.
            models.ConversationQueue.objects.check_leased(lease)
            return None
        return pending_sends[0] if data is None else replace(pending_sends[0], data=data)

    @staticmethod
    def _has_lost_file(reply: Any, error: errors.GraphError) -> bool:
        """Whether Meta no longer has a file that we uploaded; once for each reply, or it would go on for ever."""
        code, subcode = uploads.UNKNOWN_ATTACHMENT
        return (
            (error.code, error.subcode) == uploads.UNKNOWN_ATTACHMENT
            and uploads.has_file(reply.data)
            and not reply.attempts.filter(code=code, subcode=subcode).exists()
        )

    def _not_accepted(self, answer: SendResult) -> Step | Wait:
        pending = answer.pending
        if answer.error is not None:
            if self._has_lost_file(pending.reply, answer.error):
                uploads.forget(pending.reply.conversation.page, pending.data)
                self._close(
                    pending.attempt, Outcome.REFUSED, code=answer.error.code, subcode=answer.error.subcode
                )
                self._settle(pending.lease, pending.reply, State.QUEUED, error=_storable(str(answer.error)))
                return Step.NEXT
            return self._settle_error(pending.lease, pending.reply, pending.attempt, answer.error)
        if answer.refusal is not None:
            self._close(pending.attempt, Outcome.REFUSED)
            self._fail_body(pending.lease, pending.reply, answer.refusal)
            return Step.NEXT
        self._close(pending.attempt, Outcome.UNSENT)
        self._settle(pending.lease, pending.reply, State.QUEUED)
        return Wait(seconds=0.0)

    @classmethod
    def _accept_one(cls, answer: SendResult, *, release: bool) -> None:
        """Settle what Meta has; raises ``LeaseLost`` where only the attempt could be written down."""
        for lease in cls._accept([answer], release=release):
            raise models.LeaseLost(lease)

    @staticmethod
    def _accept(answers: Sequence[SendResult], *, release: bool) -> list[models.Lease]:
        """Settle what Meta has, all in one transaction; give the leases that were lost by then."""
        now = timezone.now()
        facts = {
            answer.pending.reply.pk: (
                _storable(answer.sent.message_id)[:255],
                _storable(answer.sent.data),
                answer.sent.status_code,
            )
            for answer in answers
            if answer.sent is not None
        }
        with transaction.atomic():
            still_leased = models.ConversationQueue.objects.fence_many(
                [answer.pending.lease for answer in answers]
            )
            # Not fenced: only the process that began an attempt knows its outcome.
            update_each(
                models.Attempt,
                ["outcome", "date_ended", "mid", "status_code"],
                [
                    (
                        pending.attempt.pk,
                        Outcome.ACCEPTED,
                        now,
                        facts[pending.reply.pk][0],
                        facts[pending.reply.pk][2],
                    )
                    for pending in (answer.pending for answer in answers)
                ],
            )
            replies = [
                answer.pending.reply for answer in answers if answer.pending.lease.queue_id in still_leased
            ]
            mids = [facts[reply.pk][0] for reply in replies]
            reply_by_mid = dict(_REPLIES_BY_MID.rows(mids=mids))
            rows = []
            for reply in replies:
                mid, response, status_code = facts[reply.pk]
                # One message settles one row; the attempt keeps the id all the same.
                unique_mid = mid if reply_by_mid.setdefault(mid, reply.pk) == reply.pk else None
                rows.append((reply.pk, State.SENT, "", unique_mid, response, status_code, now))
            names = ["state", "error", "mid", "response", "status_code", "date_sent"]
            # Where a row was changed by hand meanwhile, what it is now counts.
            settled = update_each(models.Reply, names, rows, where="state = 'sending'")
            for reply, row in zip(replies, rows, strict=True):
                if reply.pk in settled:
                    for name, value in zip(names, row[1:], strict=True):
                        setattr(reply, name, value)
                    transaction.on_commit(partial(_signal, reply))
            if release:
                Outbox._release(still_leased)
        for reply in replies:
            if reply.pk in settled:
                _log(reply)
        return [
            answer.pending.lease for answer in answers if answer.pending.lease.queue_id not in still_leased
        ]

    @staticmethod
    def _commit_attempts(pairs: Sequence[tuple[models.Lease, Any]], deadline: Deadline) -> list[PendingSend]:
        """Commit an attempt for each reply whose queue is still still_leased; none where a row changed meanwhile."""
        with transaction.atomic():
            still_leased = models.ConversationQueue.objects.fence_many([lease for lease, _ in pairs])
            pairs = [(lease, reply) for lease, reply in pairs if lease.queue_id in still_leased]
            replies = [reply for _, reply in pairs]
            rows = [(reply.pk, State.SENDING, 0.0, None) for reply in replies]
            names = ["state", "observed_wait", "not_before"]
            if len(update_each(models.Reply, names, rows, where="state = 'queued'")) < len(rows):
                transaction.set_rollback(True)
                return []
            pending_sends = Outbox._with_attempts(pairs, deadline)
            for reply in replies:
                reply.state = State.SENDING
        return pending_sends

    @staticmethod
    def _with_attempts(pairs: Sequence[tuple[models.Lease, Any]], deadline: Deadline) -> list[PendingSend]:
        """Insert an attempt for each reply, in the caller's transaction."""
        pending_sends = [
            PendingSend(
                lease=lease,
                deadline=deadline,
                reply=reply,
                data=reply.data,
                attempt=models.Attempt(
                    reply=reply,
                    number=(number := (getattr(reply, "last_number", None) or 0) + 1),
                    token=token_of(reply.uuid, number),
                    fencing_token=lease.fencing_token,
                ),
            )
            for lease, reply in pairs
        ]
        insert_each([pending.attempt for pending in pending_sends], "token")
        return pending_sends

    def _fail_body(self, lease: models.Lease, reply: Any, error: Exception) -> None:
        """Give up a reply whose data cannot become a call: trying it again gives the same."""
        trace = _storable("".join(traceback.format_exception(error)))
        self._settle(lease, reply, State.FAILED, error=trace, why=error_label(error))

    def _settle_error(
        self, lease: models.Lease, reply: Any, attempt: models.Attempt, error: errors.GraphError
    ) -> Step | Wait:
        facts = {
            "status_code": error.status,
            "code": error.code,
            "subcode": error.subcode,
            "fbtrace_id": error.fbtrace_id[:64],
        }
        self._close(attempt, Outcome(error.fate), **facts)
        answer = {"code": error.code, "error_subcode": error.subcode, "message": error.message}
        result_fields: dict[str, Any] = {
            "error": _storable(str(error)),
            "why": error_label(error),
            "status_code": error.status,
            "response": _storable(answer),
        }
        if error.fate == "unknown":
            self._settle(lease, reply, State.UNKNOWN, **result_fields)
            return Step.NEXT
        if error.fate == "unsent":
            return self._try_later(lease, reply, error, result_fields)
        if isinstance(error, errors.PersonUnreachable):
            models.FBUserProfile.objects.filter(pk=reply.recipient_id, date_unreachable=None).update(
                date_unreachable=timezone.now()
            )
        self._settle(lease, reply, State.FAILED, **result_fields)
        return Step.NEXT

    def _try_later(
        self, lease: models.Lease, reply: Any, error: errors.GraphError, result_fields: dict[str, Any]
    ) -> Step | Wait:
        """Put it back into the queue: a Page that is throttled or has lost its token waits whole."""
        unsent = reply.attempts.filter(outcome=Outcome.UNSENT).count()
        if error.pauses_page:
            pause = error.after or error.usual_wait or min(30.0 * unsent, 600.0)
            self._pause(reply.conversation.page, pause, error)
            # The Page's pause alone holds the reply, so that it goes on when that is ended early.
            self._settle(lease, reply, State.QUEUED, **result_fields)
            return Wait(seconds=pause)
        pause = error.after if error.after is not None else min(2.0 ** min(unsent - 1, 9), 300.0)
        self._settle(lease, reply, State.QUEUED, not_before=in_seconds(pause), **result_fields)
        return Wait(seconds=pause)

    def _pause(self, page: models.Page, seconds: float, error: errors.GraphError) -> None:
        until = in_seconds(seconds)
        models.Page.objects.filter(pk=page.pk).update(
            # One throttled call does not shorten the days of a restriction.
            paused_until=Greatest(Coalesce(F("paused_until"), until), until),
            pause_reason=_storable(str(error))[:2000],
            paused_token=self._token_of(page) if isinstance(error, errors.TokenError) else "",
        )
        page.refresh_from_db(fields=["paused_until", "pause_reason", "paused_token"])
        logger.error(
            "Nothing is sent for page %s for %.0f s: %s",
            page.pk,
            seconds,
            f"{error_label(error)}. {error.action}",
            extra={"action": "page_paused", "page": hidden(page.page_id), "seconds": round(seconds)},
        )
        page_paused.send_robust(models.Page, page=page)

    def _token_of(self, page: models.Page) -> str:
        try:
            return self._client_for(page).token_hash
        except DJMInvalidConfigException:
            return _NO_TOKEN

    @staticmethod
    def _close(attempt: models.Attempt, outcome: str, **facts: Any) -> None:
        """Write an attempt's outcome down. Not fenced: only the process that began it knows it."""
        models.Attempt.objects.filter(pk=attempt.pk).update(
            outcome=outcome, date_ended=timezone.now(), **facts
        )

    @staticmethod
    def _settle(
        lease: models.Lease, reply: Any, state: State, *, error: str = "", why: str = "", **facts: Any
    ) -> None:
        with transaction.atomic():
            models.ConversationQueue.objects.fence(lease)
            if state == State.SENT:
                facts["date_sent"] = timezone.now()
            mid = facts.get("mid")
            if mid is not None and models.Reply.objects.filter(mid=mid).exclude(pk=reply.pk).exists():
                # One message settles one row; the attempt keeps the id all the same.
                del facts["mid"]
            rows = models.Reply.objects.filter(pk=reply.pk, state=reply.state)
            if not rows.update(state=state, error=error, **facts):
                # Changed by hand meanwhile, and what it is now counts.
                return
            reply.state, reply.error = state, error
            for name in {"mid", "response", "status_code", "date_sent"} & set(facts):
                setattr(reply, name, facts[name])
            transaction.on_commit(partial(_signal, reply))
        _log(reply, why or error)

    # What Meta may or may not have.

    def _resolve(self, lease: models.Lease, reply: Any, deadline: Deadline) -> Step | Wait:
        if mid := self._proofs([reply]).get(reply.pk):
            failpoint("outbox_resolving")
            self._settle(lease, reply, State.SENT, mid=mid)
            return Step.NEXT
        page = reply.conversation.page
        limit = self._limit(page)
        # After the wait, only the look-up at Meta can delay the decision.
        beyond = reply.observed_wait - limit
        known_mid = self._look_up_delivery(reply, beyond, deadline) if beyond >= 0 else None
        if beyond < 0 or isinstance(known_mid, Wait):
            with transaction.atomic():
                models.ConversationQueue.objects.fence(lease)
                self._count_observed_time([reply])
            return Wait(seconds=(reply.not_before - reply.now).total_seconds())
        if known_mid:
            self._settle(lease, reply, State.SENT, mid=known_mid)
            return Step.NEXT
        parks = reply.is_parked_when_unsure
        if parks is None:
            parks = app_settings.DJM_WHEN_UNSURE == "park" or (
                known_mid is None and not self._echoes_come(page)
            )
        unsure = reply.attempts.filter(outcome__in=[Outcome.OPEN, Outcome.UNKNOWN]).count()
        if parks or unsure >= _MOST_UNSURE:
            self._settle(lease, reply, State.PARKED, error="Meta may have it: no answer and no echo came")
        else:
            self._settle(lease, reply, State.QUEUED, not_before=None)
        return Step.NEXT

    def _look_up_delivery(self, reply: Any, beyond: float, deadline: Deadline) -> str | Wait | None:
        """Give the id of the message that Meta has, empty where it has none, None where it does not tell.

        It is asked each ``_LOOK_UP_INTERVAL`` of the seconds ``beyond`` the wait, ``_MOST_LOOK_UPS`` times at most;
        that it has none counts when it says so again. ``Wait`` stands for: not yet.
        """
        if not app_settings.DJM_LOOK_UP_UNSURE:
            return None
        if (
            beyond % _LOOK_UP_INTERVAL >= _CHECK_INTERVAL
            or deadline.remaining() < app_settings.DJM_GRAPH_TIMEOUT
        ):
            return Wait(seconds=_CHECK_INTERVAL)
        look_ups = beyond // _LOOK_UP_INTERVAL + 1
        page = reply.conversation.page
        platform = "instagram" if page.configured("channel") == models.Page.Channel.INSTAGRAM else "messenger"
        try:
            mid = look_up_delivery(self._client_for(page), reply, platform)
        except DJMInvalidConfigException:
            return None
        except (errors.RetryLater, errors.NotSent, errors.UnknownFate):
            return None if look_ups >= _MOST_LOOK_UPS else Wait(seconds=_CHECK_INTERVAL)
        return Wait(seconds=_CHECK_INTERVAL) if mid == "" and look_ups == 1 else mid

    def _release_waiting(self, pairs: Sequence[tuple[models.Lease, Any]]) -> set[int]:
        """Let go of the queues whose next_row is to wait on for its echo, all in one transaction; give their keys."""
        proofs = self._proofs([reply for _, reply in pairs])
        pages = {reply.conversation.page_id: reply.conversation.page for _, reply in pairs}
        limits = {pk: self._limit(page) for pk, page in pages.items()}
        waiting = {
            lease.queue_id: (lease, reply)
            for lease, reply in pairs
            if reply.pk not in proofs and reply.observed_wait < limits[reply.conversation.page_id]
        }
        if not waiting:
            return set()
        with transaction.atomic():
            still_leased = models.ConversationQueue.objects.fence_many(
                [lease for lease, _ in waiting.values()]
            )
            self._count_observed_time([waiting[queue_id][1] for queue_id in sorted(still_leased)])
            self._release(still_leased)
        for queue_id in waiting.keys() - still_leased:
            log_lost(models.LeaseLost(waiting[queue_id][0]))
        return set(waiting)

    @staticmethod
    def _count_observed_time(replies: Sequence[Any]) -> None:
        """Count the time since the last look, as far as the echo would have been seen in it.

        Each look adds one interval at most: an outage, a frozen host or a clock step waits nothing off, and
        neither does a look that a wake-up brought on early, nor one while callbacks wait to be split.
        """
        interval = datetime.timedelta(seconds=_CHECK_INTERVAL)
        unseen = models.Callback.objects.filter(
            state=models.Callback.State.NEW, date_received__lt=in_seconds(-_CHECK_INTERVAL)
        ).exists()
        rows = []
        for reply in replies:
            due = reply.not_before
            if due is not None and due > reply.now:
                continue
            # A look that is a little late does not make the next one late.
            late = due is None or reply.now - due >= interval
            reply.not_before = (reply.now if late else due) + interval
            passed = 0.0 if due is None or unseen else _CHECK_INTERVAL
            rows.append((reply.pk, reply.observed_wait + passed, reply.not_before))
        # Where a row was changed by hand meanwhile, what it is now counts.
        update_each(models.Reply, ["observed_wait", "not_before"], rows, where="state = 'unknown'")

    @staticmethod
    def _proofs(replies: Sequence[Any]) -> dict[int, str]:
        """Give the message id of each reply that Meta has: an answer or an echo of one of its attempts tells it."""
        conversations = {reply.pk: reply.conversation_id for reply in replies}
        attempts = models.Attempt.objects.filter(reply__in=list(conversations))
        proofs: dict[int, str] = {}
        tokens: dict[str, int] = {}
        for reply_id, token, mid in attempts.values_list("reply_id", "token", "mid"):
            tokens[token] = reply_id
            if mid:
                proofs[reply_id] = mid
        echoes = models.Messaging.objects.filter(echo_token__in=list(tokens))
        for echoed, conversation_id, mid in echoes.values_list("echo_token", "conversation_id", "mid"):
            reply_id = tokens[echoed or ""]
            if conversations[reply_id] == conversation_id and mid:
                proofs.setdefault(reply_id, mid)
        return proofs

    def _limit(self, page: models.Page) -> float:
        """Seconds that an unsure reply waits: none where no echo can come and nobody else is asked."""
        return self._wait(page) if app_settings.DJM_LOOK_UP_UNSURE or self._echoes_come(page) else 0.0

    @staticmethod
    def _wait(page: models.Page) -> float:
        """Seconds in which an echo may still come: four times the lag seen, within bounds."""
        usual = float(app_settings.DJM_ECHO_WAIT)
        if page.echo_lag is None:
            return usual
        return min(max(4 * page.echo_lag, usual * 2 / 3), usual * 8)

    def _echoes_come(self, page: models.Page) -> bool:
        """Whether echoes of ours reach us; when none came for a score of accepted sends, waiting is vain.

        Sends whose echo may still be on its way say nothing yet.
        """
        silent = models.Attempt.objects.filter(
            reply__conversation__page=page,
            outcome=Outcome.ACCEPTED,
            date_ended__gt=page.date_last_echo or page.date_created,
            date_ended__lt=in_seconds(-self._wait(page)),
        )
        if len(silent.values_list("pk", flat=True)[:_MOST_SILENT_SENDS]) < _MOST_SILENT_SENDS:
            return True
        logger.error(
            "No echo came of the last %s messages of page %s: subscribe the Page to message_echoes",
            _MOST_SILENT_SENDS,
            page.pk,
            extra={"action": "echoes_missing", "page": page.pk},
        )
        return False


def _log(reply: Any, why: str = "") -> None:
    logger.log(
        logging.WARNING if why else logging.INFO,
        "Reply %s is %s%s",
        reply.pk,
        reply.state,
        f": {why}" if why else "",
        extra={
            "action": f"reply_{reply.state}",
            "reply": reply.pk,
            "event": reply.messaging_id,
            "page": hidden(reply.conversation.page.page_id),
            "person": hidden(reply.recipient_id),
            "kind": reply.type,
        },
    )


def _signal(reply: Any) -> None:
    """Send the signal of a reply's state, if it has one; what a receiver raises is logged and no business of ours."""
    if (signal := _SIGNALS.get(reply.state)) is not None:
        signal.send_robust(models.Reply, reply=reply)


def _storable(value: Any) -> Any:
    """Give what both databases take of what came from outside: no NUL, no half of a letter."""
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_storable(str(key)): _storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable(item) for item in value]
    return value
