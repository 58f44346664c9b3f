"""Send: call Graph for the replies of a conversation, one at a time and in order.

States of a reply: ``queued``, then ``sending`` while a call may be under way, then one of the following.

* ``sent``: Meta accepted it.
* ``queued`` again: Meta has no message. Graph refused the call for now, or the lease was near its end.
* ``failed``: Graph refused it for good, or its data cannot become a call.
* ``unknown``: the call ended without an answer, or its process ended. Meta may have the message.
* ``expired``: Meta's window closed before the call.

Order of the steps for one reply, under the lease of its outgoing queue:

1. Commit an ``Attempt`` and the state ``sending``. The transaction checks the lease.
2. Call Graph, with no transaction open. The message contains the send token of the attempt.
3. Commit the outcome of the attempt and the state of the reply. The state is saved only if the lease is still valid,
   the outcome of the attempt in any case. In most cases the same transaction releases the queue.

If a process ends between steps 1 and 3, the next worker finds the reply in state ``sending`` and makes it ``unknown``.

A reply of unknown fate is resolved by the first of these that happens (``_resolve``):

1. An answer or an echo proves that Meta has the message: ``sent``.
2. The time in which an echo would have been noticed, the *observed wait*, reaches its limit. If
   ``DJM_LOOK_UP_UNSURE`` is set, Meta's list of recent messages is read. If it contains the message: ``sent``.
3. Otherwise the reply is ``queued`` again or ``parked``. The field ``is_parked_when_unsure`` of the reply decides. If
   the field is None, ``DJM_WHEN_UNSURE`` decides, but a reply is always parked if the Page receives no echoes and the
   look-up had no result. After three attempts of unknown fate a reply is parked in any case.

A parked reply becomes ``unknown`` again if its echo comes after all. Later replies of the conversation wait while the
first one is queued, sending or unknown.
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
from typing import TYPE_CHECKING, Any, cast

from django.db import DatabaseError, transaction
from django.db.models import F, OuterRef, QuerySet, Subquery, TextField
from django.db.models.functions import Coalesce, Greatest, Now
from django.dispatch import Signal
from django.utils import timezone

from djmessenger import models
from djmessenger.channels import channel_of
from djmessenger.clock import Deadline
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.graph import errors
from djmessenger.graph.client import Client
from djmessenger.graph.results import Sent
from djmessenger.logs import error_label, hidden
from djmessenger.models.queues import Lease, LeaseLost, in_seconds
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
"""Seconds between two checks for an echo, and the most that one check adds to the observed wait."""
_WINDOW = datetime.timedelta(hours=24, seconds=-60)
"""Meta's window after the last message of a person, minus a minute for the call."""
_LOOK_UP_INTERVAL, _MOST_LOOK_UPS = 5.0, 6
"""Seconds of observed wait between two look-ups at Meta, and the most look-ups before the reply is decided."""
_MOST_SILENT_SENDS = 20
"""Accepted sends in a row without an echo, after which the Page counts as one without echoes."""
_MOST_UNSURE = 3
"""Attempts of unknown fate after which a reply is parked, whatever ``DJM_WHEN_UNSURE`` is."""
_BODY_ERRORS = (TypeError, ValueError, AttributeError, KeyError, RecursionError)
"""Exceptions of data that cannot become the body of a call."""
_NO_TOKEN = "none"  # noqa: S105 - the absence of one
"""Value of ``Page.paused_token`` if the Page had no token when it was paused."""

_SIGNALS: Mapping[str, Signal] = {
    State.SENT: reply_sent,
    State.FAILED: reply_failed,
    State.PARKED: reply_failed,
    State.EXPIRED: reply_failed,
}


_OPEN = f"state IN ({', '.join(repr(state.value) for state in models.Reply.OPEN)})"
"""SQL condition of open replies."""


if TYPE_CHECKING:

    class QueuedReply(models.Reply):
        """Reply of a conversation queue, for type checks: its conversation is never None."""

        conversation: models.Conversation
        conversation_id: int

    class NextReply(QueuedReply):
        """First open reply of a queue, as ``_next_rows`` selects it."""

        now: datetime.datetime
        """Time of the database when the row was read."""
        last_number: int | None
        """Number of the last attempt."""


def _next_rows() -> QuerySet[models.Reply]:
    """Select the first open reply of each queue whose key is in the parameter ``queues``.

    Each reply has the time of the database (``now``) and the number of its last attempt (``last_number``).
    """
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
    """Result of one step for the first reply of a queue. If the reply must wait, the result is a ``Wait`` instead."""

    NEXT = enum.auto()
    """The reply changed its state; the queue may have another step at once."""
    EMPTY = enum.auto()
    """The queue has no open reply."""


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Result of one step if the first reply of a queue must wait for ``seconds``."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class PendingSend:
    """Reply with an inserted attempt, to be sent under a lease after the commit."""

    lease: Lease
    deadline: Deadline
    reply: QueuedReply
    attempt: models.Attempt
    data: dict[str, Any]
    """Body of the call, without recipient and send token."""


@dataclass(frozen=True, kw_only=True)
class SendResult:
    """Result of a call."""

    pending: PendingSend
    sent: Sent | None = None
    error: errors.GraphError | None = None
    """Graph error, if any.

    If ``sent``, ``error`` and ``refusal`` are None, no request was made because the lease was about to expire.
    """
    refusal: Exception | None = None
    """Exception of a body that cannot become a call."""


class Outbox:
    """Sender of the replies of leased queues, with the Graph client of each Page.

    ``work`` does all steps in one thread. The worker instead calls ``begin`` and ``end``, each for many queues at once.
    Between them it calls ``call`` in other threads, which have no database connection.
    """

    def __init__(self, client_for: Callable[[models.Page], Client]) -> None:
        self._client_for = client_for

    def work(self, lease: Lease, deadline: Deadline) -> None:
        """Send the replies of a queue in order until none can be sent now, then release the queue.

        Must run outside a transaction. Raises ``LeaseLost`` if another worker claimed the queue.
        """
        while True:
            step = self._step(lease, deadline)
            if step is Step.NEXT and deadline.remaining() > app_settings.DJM_GRAPH_TIMEOUT:
                continue
            self._release_after_step(lease, step)
            return

    def process_next(self, lease: Lease, deadline: Deadline) -> None:
        """Do one step of ``work`` and release the queue. Raises ``LeaseLost`` if another worker claimed the queue.

        The worker calls it for each lease that ``begin`` returns.
        """
        self._release_after_step(lease, self._step(lease, deadline))

    def begin(self, leases: Sequence[Lease], deadline: Deadline) -> tuple[list[PendingSend], list[Lease]]:
        """Commit an attempt for each queue whose first reply can be sent now.

        Returns the replies to send, and the leases of queues that need ``process_next``. Queues whose first reply
        waits for its echo are released. Must run outside a transaction.
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
        """Insert new replies in the caller's transaction; insert attempts for up to ``limit`` of them.

        An attempt is inserted for the first reply of a conversation whose outgoing queue is idle. That queue is
        claimed. All other replies are queued, and their queues woken. Returns the replies with attempts. The caller
        must pass them to ``call`` after the commit, and must drop them after a rollback.
        """
        # A call before the commit would send a reply that a rollback removes, and that the next try sends again.
        # test_a_reply_that_was_rolled_back_is_not_sent_and_can_start_again
        firsts: dict[int, QueuedReply] = {}
        for reply in replies:
            reply.state = State.QUEUED
            if reply.conversation_id is not None:
                firsts.setdefault(reply.conversation_id, cast("QueuedReply", reply))
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
            first = firsts[lease.conversation_id]
            first.state = State.SENDING
            # The call needs no event, and the cached event would stay in memory with the reply.
            first._state.fields_cache.pop("messaging", None)
        models.Reply.objects.insert(replies, leased={lease.conversation_id for lease in leases})
        return self._with_attempts([(lease, firsts[lease.conversation_id]) for lease in leases], deadline)

    def _can_leave(self, reply: QueuedReply) -> bool:
        """Return whether a new reply can be sent at once. Makes no query.

        False if the Page is paused, if a file must be uploaded first, or in the second half of the window. The clock
        of this host may be wrong, so late replies are queued and ``_is_too_late`` decides by the time of the database.
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
    def _needs_upload(reply: QueuedReply) -> bool:
        try:
            return uploads.has_file(reply.data)
        except _BODY_ERRORS:
            return True

    def call(self, pending: PendingSend) -> SendResult:
        """Send the request of an attempt. Uses no database and never raises an ``Exception``."""
        failpoint("outbox_attempt_committed")
        if pending.deadline.remaining() < app_settings.DJM_GRAPH_TIMEOUT:
            # A thread was frozen. A call that began now could still run after the lease, while another worker sends
            # the next reply. test_without_the_deadline_a_call_begins_under_a_lease_that_is_almost_over
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
            # A missing token is like a dead one: the Page is paused until it has a token.
            # test_without_a_token_replies_wait_for_one
            return SendResult(pending=pending, error=errors.TokenError(str(error)))
        try:
            sent = client.send({"id": reply.recipient_id}, body)
        except errors.GraphError as error:
            return SendResult(pending=pending, error=error)
        except Exception as error:
            # The transport may have sent the request before it raised. A reply taken for unsent would be sent again.
            # test_a_transport_that_breaks_leaves_the_fate_unknown
            logger.exception(
                "The transport broke in the call of reply %s; its fate is unknown until an echo comes",
                reply.pk,
                extra={"action": "call_broke"},
            )
            return SendResult(
                pending=pending, error=errors.UnknownFate(f"{type(error).__name__} in the call")
            )
        failpoint("outbox_answer_read")
        return SendResult(pending=pending, sent=sent)

    def end(self, answers: Sequence[SendResult]) -> list[SendResult]:
        """Settle the replies of calls and release their queues.

        Accepted replies are settled in one transaction. If it fails, each is settled in a transaction of its own.
        Returns accepted results that the database could not commit. The caller may pass them again while their
        leases last. Must run outside a transaction. Lost leases are logged.
        """
        # During an outage of the database an accepted result would be lost, and its reply would wait for an echo.
        # test_an_accepted_call_is_settled_after_a_database_outage
        accepted = [answer for answer in answers if answer.sent is not None]
        try:
            if len(accepted) > 1:
                for lease in self._accept(accepted, release=True):
                    log_lost(LeaseLost(lease))
                accepted = []
        except Exception:
            logger.exception(
                "Commit of %s results failed; they are settled one by one",
                len(accepted),
                extra={"action": "answers_singly"},
            )
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
        """Settle results one by one; return those that the database could not commit."""
        unsettled = []
        for answer in answers:
            try:
                settle(answer)
            except LeaseLost as lost:
                log_lost(lost)
            except Exception as error:
                # The next worker finds the reply in state ``sending``, and makes its fate unknown.
                logger.exception(
                    "Result of reply %s could not be settled; the next lease resolves its fate",
                    answer.pending.reply.pk,
                    extra={"action": "answer_waits"},
                )
                if isinstance(error, DatabaseError):
                    unsettled.append(answer)
        return unsettled

    def _release_after_step(self, lease: Lease, step: Step | Wait) -> None:
        """Release the queue. It is due again after the wait, if ``step`` is one, or when its first open reply is due.

        Raises ``LeaseLost`` if another worker claimed the queue.
        """
        # A reply is queued after this worker saw an empty queue, or a pause ends after the worker read it. The release
        # reads the first reply again under the lock, which ``wake`` needs too. Otherwise the queue would stay idle.
        # test_a_pause_that_ends_during_a_release_does_not_delay_the_queue
        with transaction.atomic():
            queue = models.ConversationQueue.objects.fence(lease)
            if isinstance(step, Wait) and (wait := self._current_wait(lease, step)) is not None:
                models.ConversationQueue.objects.release(queue, after=wait.seconds)
            else:
                self._release([queue.pk])

    def _current_wait(self, lease: Lease, wait: Wait) -> Wait | None:
        """Return the wait of the first reply as of now, or None if it can be sent or the queue is empty."""
        next_row = self._next_rows([lease]).get(lease.conversation_id)
        if next_row is None:
            return None
        return self._wait_of(next_row) if next_row.state == State.QUEUED else wait

    @staticmethod
    def _release(queue_ids: Collection[int]) -> None:
        """Release queues that the caller has locked. Each is due when its first open reply is due."""
        failpoint("outbox_before_release")
        models.ConversationQueue.objects.release_many(queue_ids, models.Reply, where=_OPEN, order="id")

    def resume(self) -> int:
        """End the pauses of Pages whose dead token was replaced, and wake their queues; return the number of Pages."""
        resumed = 0
        for page in models.Page.objects.filter(paused_until__gt=Now()).exclude(paused_token=""):
            if self._token_of(page) == page.paused_token:
                continue
            with transaction.atomic():
                # The new token may have been refused meanwhile, which pauses the Page under that token. The update
                # ends only the pause that was read.
                # test_a_pause_under_a_new_token_is_not_ended_with_the_pause_of_the_old_one
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
    def _next_rows(leases: Sequence[Lease]) -> dict[int, NextReply]:
        """Return the first open reply of each queue that has one, by conversation."""
        failpoint("outbox_claimed")
        rows = cast("list[NextReply]", _NEXT_ROWS(queues=[lease.queue_id for lease in leases]))
        return {reply.conversation_id: reply for reply in rows}

    def _step(self, lease: Lease, deadline: Deadline) -> Step | Wait:
        reply = self._next_rows([lease]).get(lease.conversation_id)
        if reply is None:
            return Step.EMPTY
        if reply.state == State.SENDING:
            # This worker has the lease, so the worker that committed ``sending`` lost it or ended. Its call may have
            # reached Meta. Sending again at once could double the message.
            # test_a_reply_in_the_call_of_a_dead_worker_is_unknown_first
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
    def _wait_of(reply: NextReply) -> Wait | None:
        for until in (reply.not_before, reply.conversation.page.paused_until):
            if until is not None and until > reply.now:
                return Wait(seconds=(until - reply.now).total_seconds())
        return None

    @staticmethod
    def _is_too_late(reply: NextReply) -> bool:
        """Return whether Meta's window has closed; false for tags and utility messages, which have other rules."""
        if reply.data.get("messaging_type", "RESPONSE") not in {"RESPONSE", "UPDATE"}:
            return False
        opened = reply.conversation.date_last_inbound
        return opened is not None and reply.now > opened + _WINDOW

    def _send(self, lease: Lease, reply: NextReply, deadline: Deadline) -> Step | Wait:
        page = reply.conversation.page
        upload_error: errors.GraphError
        try:
            data = uploads.with_file(self._client_for(page), page, reply.data)
        except DJMInvalidConfigException as error:
            # A missing token is like a dead one: the Page is paused until it has a token.
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
        self, lease: Lease, reply: QueuedReply, deadline: Deadline, data: dict[str, Any] | None = None
    ) -> PendingSend | None:
        pending_sends = self._commit_attempts([(lease, reply)], deadline)
        if not pending_sends:
            # Staff changed the reply, and the next step reads it again; or the lease is lost, and this raises.
            models.ConversationQueue.objects.check_leased(lease)
            return None
        return pending_sends[0] if data is None else replace(pending_sends[0], data=data)

    @staticmethod
    def _has_lost_file(reply: QueuedReply, error: errors.GraphError) -> bool:
        """Return whether Meta no longer has the uploaded file of a reply; true once for each reply.

        A second refusal fails the reply, otherwise upload and refusal could alternate for ever
        (test_a_second_refusal_is_the_end).
        """
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
        """Settle one accepted reply. Raises ``LeaseLost`` if only the outcome of its attempt could be saved."""
        for lease in cls._accept([answer], release=release):
            raise LeaseLost(lease)

    @staticmethod
    def _accept(answers: Sequence[SendResult], *, release: bool) -> list[Lease]:
        """Settle accepted replies in one transaction; return the leases that were lost."""
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
            # The outcome is saved without a valid lease too: only the process that began an attempt knows it. The next
            # worker reads the message id and settles the reply instead of sending it again.
            # test_a_worker_that_loses_its_lease_in_the_call_commits_the_message_id
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
                # ``Reply.mid`` is unique. If Meta returns one id for two replies, the first has it; the attempts have
                # it both. test_one_message_id_is_never_in_two_rows
                unique_mid = mid if reply_by_mid.setdefault(mid, reply.pk) == reply.pk else None
                rows.append((reply.pk, State.SENT, "", unique_mid, response, status_code, now))
            names = ["state", "error", "mid", "response", "status_code", "date_sent"]
            # Staff may change a reply during its call, for example to ``failed``. Their change is not overwritten.
            # test_a_reply_that_staff_changed_during_the_call_keeps_their_change
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
    def _commit_attempts(pairs: Sequence[tuple[Lease, QueuedReply]], deadline: Deadline) -> list[PendingSend]:
        """Commit an attempt and the state ``sending`` for each reply whose lease is valid.

        Returns nothing and commits nothing if one of the replies is no longer ``queued``. Must run outside a
        transaction.
        """
        # A process may end in the call. Without the committed attempt, the next worker
        # would find a queued reply and send it again. test_without_an_attempt_committed_first_a_reply_is_sent_twice
        with transaction.atomic():
            # A worker that was frozen before this point may have lost its lease, and another worker sends the reply.
            # test_a_worker_whose_lease_is_lost_sends_nothing
            still_leased = models.ConversationQueue.objects.fence_many([lease for lease, _ in pairs])
            pairs = [(lease, reply) for lease, reply in pairs if lease.queue_id in still_leased]
            replies = [reply for _, reply in pairs]
            rows = [(reply.pk, State.SENDING, 0.0, None) for reply in replies]
            # Staff take a reply back after it was read and before this commit. It must not be sent then.
            # test_a_reply_that_staff_changed_before_its_attempt_is_not_sent
            names = ["state", "observed_wait", "not_before"]
            if len(update_each(models.Reply, names, rows, where="state = 'queued'")) < len(rows):
                transaction.set_rollback(True)
                return []
            pending_sends = Outbox._with_attempts(pairs, deadline)
            for reply in replies:
                reply.state = State.SENDING
        return pending_sends

    @staticmethod
    def _with_attempts(pairs: Sequence[tuple[Lease, QueuedReply]], deadline: Deadline) -> list[PendingSend]:
        """Insert an attempt for each reply in the caller's transaction; return the replies to send."""
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

    def _fail_body(self, lease: Lease, reply: QueuedReply, error: Exception) -> None:
        """Settle a reply as failed because its data cannot become a call; another try would fail too."""
        trace = _storable("".join(traceback.format_exception(error)))
        self._settle(lease, reply, State.FAILED, error=trace, why=error_label(error))

    def _settle_error(
        self, lease: Lease, reply: QueuedReply, attempt: models.Attempt, error: errors.GraphError
    ) -> Step | Wait:
        """Settle a reply whose call ended with a Graph error, according to ``error.fate``."""
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
            # A timeout after the request is no refusal: Meta may have the message.
            # test_a_lost_answer_taken_for_unsent_is_queued_again_at_once
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
        self, lease: Lease, reply: QueuedReply, error: errors.GraphError, result_fields: dict[str, Any]
    ) -> Step | Wait:
        """Queue an unsent reply again and return its wait.

        Throttling and a dead token pause all sends of the Page. Any other error delays only this reply, by
        ``error.after`` seconds or by a time that grows with each unsent attempt.
        """
        unsent = reply.attempts.filter(outcome=Outcome.UNSENT).count()
        if error.pauses_page:
            pause = error.after or error.usual_wait or min(30.0 * unsent, 600.0)
            self._pause(reply.conversation.page, pause, error)
            # The reply has no ``not_before`` of its own, so it can be sent as soon as the pause of its Page is ended.
            # test_a_new_token_ends_the_pause_of_a_dead_one
            self._settle(lease, reply, State.QUEUED, **result_fields)
            return Wait(seconds=pause)
        pause = error.after if error.after is not None else min(2.0 ** min(unsent - 1, 9), 300.0)
        self._settle(lease, reply, State.QUEUED, not_before=in_seconds(pause), **result_fields)
        return Wait(seconds=pause)

    def _pause(self, page: models.Page, seconds: float, error: errors.GraphError) -> None:
        """Pause all sends of a Page for at least ``seconds``, and send the signal ``page_paused``."""
        until = in_seconds(seconds)
        models.Page.objects.filter(pk=page.pk).update(
            # A call that began before a restriction of days may be throttled for seconds. The later end counts.
            # test_a_short_pause_does_not_end_a_long_one
            paused_until=Greatest(Coalesce(F("paused_until"), until), until),
            pause_reason=_storable(str(error))[:2000],
            paused_token=self._token_of(page) if isinstance(error, errors.TokenError) else "",
        )
        page.refresh_from_db(fields=["paused_until", "pause_reason", "paused_token"])
        logger.error(
            "Page %s is paused: no reply is sent for %.0f s because of %s",
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
        """Save the outcome of an attempt. No lease is checked: only the process that began the attempt knows it."""
        models.Attempt.objects.filter(pk=attempt.pk).update(
            outcome=outcome, date_ended=timezone.now(), **facts
        )

    @staticmethod
    def _settle(
        lease: Lease, reply: QueuedReply, state: State, *, error: str = "", why: str = "", **facts: Any
    ) -> None:
        """Change the state of a reply under its lease and send the signal after the commit. Raises ``LeaseLost``.

        Does nothing if the reply no longer has the state that was read.
        """
        with transaction.atomic():
            # A worker returns from a frozen call with a refusal. Another worker has claimed the queue and sends the
            # reply again, which must not become ``failed`` meanwhile.
            # test_without_the_fence_a_late_result_settles_the_reply_of_another_worker
            models.ConversationQueue.objects.fence(lease)
            if state == State.SENT:
                facts["date_sent"] = timezone.now()
            mid = facts.get("mid")
            if mid is not None and models.Reply.objects.filter(mid=mid).exclude(pk=reply.pk).exists():
                # ``Reply.mid`` is unique; the attempt has the id in any case.
                # test_one_message_id_is_never_in_two_rows
                del facts["mid"]
            rows = models.Reply.objects.filter(pk=reply.pk, state=reply.state)
            if not rows.update(state=state, error=error, **facts):
                # Staff changed the reply since it was read, and their change counts.
                # test_a_reply_that_staff_changed_during_the_call_keeps_their_change
                return
            reply.state, reply.error = state, error
            for name in {"mid", "response", "status_code", "date_sent"} & set(facts):
                setattr(reply, name, facts[name])
            transaction.on_commit(partial(_signal, reply))
        _log(reply, why or error)

    # Replies of unknown fate.

    def _resolve(self, lease: Lease, reply: NextReply, deadline: Deadline) -> Step | Wait:
        """Do one step for a reply of unknown fate: settle it, wait, or decide without a proof (module docstring)."""
        if mid := self._proofs([reply]).get(reply.pk):
            failpoint("outbox_resolving")
            self._settle(lease, reply, State.SENT, mid=mid)
            return Step.NEXT
        page = reply.conversation.page
        limit = self._limit(page)
        # An echo comes some seconds after its message. Without the wait, a reply whose echo is on its way would be sent
        # again, and the person would get both messages.
        # test_without_the_wait_a_reply_is_sent_twice
        # After that wait, only the look-up at Meta can delay the decision.
        beyond = reply.observed_wait - limit
        known_mid = self._look_up_delivery(reply, beyond, deadline) if beyond >= 0 else None
        if beyond < 0 or isinstance(known_mid, Wait):
            with transaction.atomic():
                models.ConversationQueue.objects.fence(lease)
                self._count_observed_time([reply])
            return Wait(seconds=((reply.not_before or reply.now) - reply.now).total_seconds())
        if known_mid:
            self._settle(lease, reply, State.SENT, mid=known_mid)
            return Step.NEXT
        parks = reply.is_parked_when_unsure
        if parks is None:
            # Without echoes and without a result of the look-up, a second send would be a guess.
            # test_if_echoes_never_come_a_reply_is_parked_at_once_with_a_warning
            parks = app_settings.DJM_WHEN_UNSURE == "park" or (
                known_mid is None and not self._echoes_come(page)
            )
        unsure = reply.attempts.filter(outcome__in=[Outcome.OPEN, Outcome.UNKNOWN]).count()
        # A reply that ends its call without an answer each time would be sent for ever.
        # test_a_reply_is_parked_after_three_attempts_of_unknown_fate
        if parks or unsure >= _MOST_UNSURE:
            self._settle(
                lease, reply, State.PARKED, error="Meta may have the message: no answer and no echo came"
            )
        else:
            self._settle(lease, reply, State.QUEUED, not_before=None)
        return Step.NEXT

    def _look_up_delivery(self, reply: QueuedReply, beyond: float, deadline: Deadline) -> str | Wait | None:
        """Return the message id that Meta has for the reply, or an empty text if Meta does not have the message.

        Returns None if the fate stays unknown or ``DJM_LOOK_UP_UNSURE`` is off, and a ``Wait`` until there is a result.
        ``beyond`` is the number of seconds by which the observed wait exceeds its limit. Each ``_LOOK_UP_INTERVAL``
        seconds of it there is one look-up, at most ``_MOST_LOOK_UPS`` in all.
        """
        # Meta's list of messages may be a few seconds old. The first look-up without the message does not count.
        # test_that_meta_has_none_counts_when_it_says_so_again
        if not app_settings.DJM_LOOK_UP_UNSURE:
            return None
        if (
            beyond % _LOOK_UP_INTERVAL >= _CHECK_INTERVAL
            or deadline.remaining() < app_settings.DJM_GRAPH_TIMEOUT
        ):
            return Wait(seconds=_CHECK_INTERVAL)
        look_ups = beyond // _LOOK_UP_INTERVAL + 1
        page = reply.conversation.page
        platform = channel_of(page.configured("channel")).name
        try:
            mid = look_up_delivery(self._client_for(page), reply, platform)
        except DJMInvalidConfigException:
            return None
        except (errors.RetryLater, errors.NotSent, errors.UnknownFate):
            return None if look_ups >= _MOST_LOOK_UPS else Wait(seconds=_CHECK_INTERVAL)
        return Wait(seconds=_CHECK_INTERVAL) if mid == "" and look_ups == 1 else mid

    def _release_waiting(self, pairs: Sequence[tuple[Lease, NextReply]]) -> set[int]:
        """Release the queues whose first reply must still wait for its echo, in one transaction; return their keys.

        Adds the time since the last check to the observed wait. Lost leases are logged.
        """
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
            log_lost(LeaseLost(waiting[queue_id][0]))
        return set(waiting)

    @staticmethod
    def _count_observed_time(replies: Sequence[NextReply]) -> None:
        """Add the time since the last check to ``observed_wait``, capped at one interval; set the next check.

        Time counts only if an echo would have been noticed in it: not during an outage, a clock jump, or while
        callbacks are still unsplit. Must run in a transaction in which the queues are locked.
        """
        # The database is away for a minute, and echoes of that minute are not stored yet. By the clock the wait would
        # be over. test_a_long_gap_between_two_checks_adds_one_interval_to_the_observed_wait
        # The echo is stored but not split. test_time_in_which_an_echo_could_be_unsplit_is_not_observed
        interval = datetime.timedelta(seconds=_CHECK_INTERVAL)
        unseen = models.Callback.objects.filter(
            state=models.Callback.State.NEW, date_received__lt=in_seconds(-_CHECK_INTERVAL)
        ).exists()
        rows = []
        for reply in replies:
            due = reply.not_before
            # A wake-up may bring a check forward; it adds no time.
            # test_checks_before_the_interval_ends_add_nothing_to_the_observed_wait
            if due is not None and due > reply.now:
                continue
            # The next check is due one interval after the last one was due, so small delays do not add up.
            late = due is None or reply.now - due >= interval
            reply.not_before = (reply.now if due is None or late else due) + interval
            passed = 0.0 if due is None or unseen else _CHECK_INTERVAL
            rows.append((reply.pk, reply.observed_wait + passed, reply.not_before))
        # Staff may have changed a reply since it was read, and their change counts.
        # test_a_change_by_staff_wakes_a_queue_that_waits_for_an_echo
        update_each(models.Reply, ["observed_wait", "not_before"], rows, where="state = 'unknown'")

    @staticmethod
    def _proofs(replies: Sequence[NextReply]) -> dict[int, str]:
        """Return message ids by key of the reply, for each reply that Meta has according to an answer or an echo."""
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
            # The token is no secret: an echo with this token in another conversation proves nothing about this reply.
            # test_an_echo_for_another_person_settles_nothing
            if conversations[reply_id] == conversation_id and mid:
                proofs.setdefault(reply_id, mid)
        return proofs

    def _limit(self, page: models.Page) -> float:
        """Return the seconds of observed wait after which a reply of unknown fate is decided.

        Returns 0 if the Page receives no echoes and ``DJM_LOOK_UP_UNSURE`` is off.
        """
        return self._wait(page) if app_settings.DJM_LOOK_UP_UNSURE or self._echoes_come(page) else 0.0

    @staticmethod
    def _wait(page: models.Page) -> float:
        """Return the seconds in which an echo may still come: four times the usual lag, within bounds."""
        usual = float(app_settings.DJM_ECHO_WAIT)
        if page.echo_lag is None:
            return usual
        return min(max(4 * page.echo_lag, usual * 2 / 3), usual * 8)

    def _echoes_come(self, page: models.Page) -> bool:
        """Return whether the Page's own echoes reach the bot: false if none came for the last 20 accepted sends."""
        # In a burst the first echoes come after the twentieth send. Sends whose echo may still come are not counted.
        # test_a_burst_whose_echoes_are_due_is_no_sign_of_missing_echoes
        silent = models.Attempt.objects.filter(
            reply__conversation__page=page,
            outcome=Outcome.ACCEPTED,
            date_ended__gt=page.date_last_echo or page.date_created,
            date_ended__lt=in_seconds(-self._wait(page)),
        )
        if len(silent.values_list("pk", flat=True)[:_MOST_SILENT_SENDS]) < _MOST_SILENT_SENDS:
            return True
        logger.error(
            "No echo came for the last %s messages of page %s; subscribe the Page to message_echoes",
            _MOST_SILENT_SENDS,
            page.pk,
            extra={"action": "echoes_missing", "page": page.pk},
        )
        return False


def _log(reply: QueuedReply, why: str = "") -> None:
    """Log the state of a reply, as a warning if there is a reason."""
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


def _signal(reply: QueuedReply) -> None:
    """Send the signal of the reply's state, if there is one; an exception of a receiver is only logged."""
    if (signal := _SIGNALS.get(reply.state)) is not None:
        signal.send_robust(models.Reply, reply=reply)


def _storable(value: Any) -> Any:
    """Return external data without NUL and unpaired surrogates, which PostgreSQL or UTF-8 cannot store."""
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_storable(str(key)): _storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable(item) for item in value]
    return value
