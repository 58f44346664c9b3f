"""Send: call Graph for the replies of a conversation, one at a time and in order.

Order of the steps for one reply, under the lease of its outgoing queue:

1. Commit an ``Attempt`` and the state ``sending``. The transaction checks the lease.
2. Call Graph, with no transaction open. The message contains the send token of the attempt.
3. Commit the outcome of the attempt and the state of the reply. The state is saved only if the lease is still valid,
   the outcome of the attempt in any case. In most cases the same transaction releases the queue.

If a process ends between steps 1 and 3, the next worker finds the reply in state ``sending`` and makes it ``unknown``.

Later replies of the conversation wait while the first one is queued, sending or unknown. ``settling.py`` has the
states. ``call_errors.py`` settles replies whose call ended without an acceptance, and ``unknown_fate.py`` resolves
replies of unknown fate.
"""

from __future__ import annotations

import copy
import datetime
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from django.db import DatabaseError
from django.utils import timezone

from djmessenger import models
from djmessenger.clock import Deadline
from djmessenger.database_errors import is_outage_of_engine
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.graph import errors
from djmessenger.pipeline import call_errors, claims, page_pauses, reads, settling, uploads
from djmessenger.pipeline.claims import Lease, LeaseLost, log_lost
from djmessenger.pipeline.failpoints import failpoint
from djmessenger.pipeline.page_pauses import ClientFor
from djmessenger.pipeline.send_tokens import with_token
from djmessenger.pipeline.settling import (
    PendingSend,
    SendResult,
    State,
    Wait,
)
from djmessenger.pipeline.unknown_fate import UnknownFate
from djmessenger.settings import app_settings
from djmessenger.sql import atomic

if TYPE_CHECKING:
    from djmessenger.pipeline.settling import NextReply, QueuedReply

logger = logging.getLogger(__name__)


_CALL = datetime.timedelta(minutes=1)
"""Time before the end of Meta's window that is left to the call."""
_SAFE = datetime.timedelta(hours=12)
"""Time before the end of Meta's window that is left to a wrong clock of this host."""
OVER_LIMIT = "DJM_MAX_UNASKED messages of rules followed the last event that the person authored"
"""Error of a reply that is over the limit."""
_BODY_ERRORS = (TypeError, ValueError, AttributeError, KeyError, RecursionError)
"""Exceptions of data that cannot become the body of a call."""


class Outbox:
    """Sender of the replies of leased queues, with the Graph client of each Page.

    ``begin`` and ``end`` take many queues at once. ``call`` makes one call between them; it may run in a thread without
    a database connection. ``process_next`` takes one queue that ``begin`` left, for example because of an upload or an
    unknown fate.
    """

    def __init__(self, client_for: ClientFor) -> None:
        self._client_for = client_for
        self._unknown_fate = UnknownFate(client_for)

    def resume_pages(self) -> int:
        """End the pauses that a missing or refused token caused, if the Page has another token now.

        Returns the number of Pages.
        """
        return page_pauses.resume(self._client_for)

    def process_next(self, lease: Lease, deadline: Deadline) -> None:
        """Do one step for the first reply of a queue that ``begin`` left to this method, and release the queue.

        A ``queued`` reply is sent, after the upload of its file, or settled as ``expired`` if its window has closed. A
        ``sending`` reply becomes ``unknown``. For an ``unknown`` reply one step of its resolution is done. Nothing is
        done for a reply that must wait. Must run outside a transaction. Raises ``LeaseLost`` if another worker claimed
        the queue.
        """
        reply = self._next_rows([lease]).get(lease.conversation_id)
        wait = None
        if reply is not None and reply.state == State.SENDING:
            # This worker has the lease, so the worker that committed ``sending`` lost it or ended. Its call may have
            # reached Meta. Sending again at once could double the message.
            # test_a_reply_in_the_call_of_a_dead_worker_is_unknown_first
            settling.settle(lease, reply, State.UNKNOWN, error="the process ended while it was being sent")
        elif reply is not None and reply.state == State.UNKNOWN:
            wait = self._unknown_fate.resolve(lease, reply, deadline)
        elif reply is not None and (wait := self._wait_of(reply)) is None:
            if self._is_too_late(reply):
                settling.settle(
                    lease, reply, State.EXPIRED, error="Meta's window for messages to the person has closed"
                )
            elif reply.is_over_limit:
                settling.settle(lease, reply, State.FAILED, error=OVER_LIMIT, why=OVER_LIMIT)
            else:
                self._upload_and_send(lease, reply, deadline)
                return
        self._release_after(lease, wait)

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
            and not reply.is_over_limit
            and not self._needs_upload(reply)
        ]
        pending_sends = settling.commit_attempts(ready, deadline) if ready else []
        served = {pending.lease.queue_id for pending in pending_sends}
        if unsure := [(lease, reply) for lease, reply in pairs if reply.state == State.UNKNOWN]:
            served |= self._unknown_fate.release_waiting(unsure)
        return pending_sends, [lease for lease in leases if lease.queue_id not in served]

    def insert_and_begin(
        self, replies: Sequence[models.Reply], deadline: Deadline, limit: int
    ) -> list[PendingSend]:
        """Insert new replies in the caller's transaction; insert attempts for up to ``limit`` of them.

        An attempt is inserted for the first reply of a conversation, if its outgoing queue is idle and
        ``_can_be_sent_at_once`` is true. That queue is claimed. All other replies are queued; their queues become due
        unless they are claimed here. Returns the replies with attempts. The caller must pass them to ``call`` after the
        commit, and must drop them after a rollback.
        """
        # A call before the commit would send a reply that a rollback removes, and that the next try sends again.
        # test_a_reply_that_was_rolled_back_is_not_sent_and_can_start_again
        firsts = {
            reply.conversation_id: reply for reply in reversed(replies) if reply.conversation_id is not None
        }
        ready = [
            pk
            for pk, reply in reversed(firsts.items())
            if self._can_be_sent_at_once(cast("QueuedReply", reply))
        ]
        return settling.insert_replies(replies, ready[:limit], deadline)

    def _can_be_sent_at_once(self, reply: QueuedReply) -> bool:
        """Return whether a new reply can be sent at once. Makes no query.

        False if the Page has ``paused_until`` set, or if a file must be uploaded first. Also False if the reply has to
        wait or is over the limit, and if the person has never written. Also False in the last hours of the window. The
        clock of this host may be wrong, so late replies are queued and ``_is_too_late`` decides by the time of the
        database.
        """
        conversation = reply.conversation
        until = conversation.get_window_until()
        return (
            conversation.page.paused_until is None
            and until is not None
            and timezone.now() < until - _SAFE
            and not reply.is_over_limit
            and reply.not_before is None
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
            # No variable holds the body, because a traceback would show the texts in it.
            json.dumps(with_token(pending.data, pending.attempt.token), allow_nan=False)
        except _BODY_ERRORS as error:
            return SendResult(pending=pending, body_error=error)
        try:
            client = self._client_for(reply.conversation.page)
        except DJMInvalidConfigException as error:
            # A missing token is like a refused one: the Page is paused until it has a token.
            # test_without_a_token_replies_wait_for_one
            return SendResult(pending=pending, error=errors.TokenError(str(error)))
        except Exception as error:
            # A client that cannot be made has sent nothing.
            # test_a_client_that_cannot_be_made_leaves_the_reply_unsent
            logger.exception(
                "The Graph client for reply %s could not be made; the reply is sent later",
                reply.pk,
                extra={"action": "client_failed"},
            )
            return SendResult(pending=pending, error=errors.NotSent(f"no client ({type(error).__name__})"))
        try:
            sent = client.send({"id": reply.recipient_id}, with_token(pending.data, pending.attempt.token))
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
        Returns the results that the database could not commit. The caller may pass them again, also after an outage
        that is longer than their leases. Must run outside a transaction. Lost leases are logged.
        """
        # During an outage of the database a result would be lost, and its reply would wait for an echo. That of a call
        # that was never made would not come. test_an_accepted_call_is_settled_after_a_database_outage
        # tests/faults/test_small_hosts.py, test_a_call_without_a_socket_is_unsent_however_long_files_are_missing
        accepted = [answer for answer in answers if answer.sent is not None]
        try:
            if len(accepted) > 1:
                for lease in settling.settle_accepted(accepted):
                    log_lost(LeaseLost(lease))
                accepted = []
        except Exception:
            logger.exception(
                "Commit of %s results failed; they are settled one by one",
                len(accepted),
                extra={"action": "answers_singly"},
            )
        unsettled = self._settle_each(accepted, settling.settle_accepted_one)
        not_accepted = [answer for answer in answers if answer.sent is None]
        return unsettled + self._settle_each(not_accepted, self._settle_not_accepted)

    def _settle_not_accepted(self, answer: SendResult) -> None:
        pending = answer.pending
        # Guard: the commit fails, or the release after it, and the result is settled again. The reply in memory would
        # have a state that the row may not have.
        # Test: tests/test_outbox.py, test_a_result_is_settled_once_if_the_database_fails_meanwhile.
        again = replace(answer, pending=replace(pending, reply=copy.copy(pending.reply)))
        try:
            wait = call_errors.settle(again, self._client_for)
        except LeaseLost:
            settling.reopen(pending.reply)
            raise
        self._release_after(answer.pending.lease, wait)

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
                is_leased = answer.pending.deadline.remaining() > 0
                if is_outage_of_engine(error) or (is_leased and isinstance(error, DatabaseError)):
                    unsettled.append(answer)
        return unsettled

    def _release_after(self, lease: Lease, wait: Wait | None) -> None:
        """Release the queue. Raises ``LeaseLost`` if another worker claimed the queue.

        If ``wait`` is given, the wait of the first reply is read again, and the queue is due after it. Otherwise, or if
        no wait is left, the queue is due when its first open reply is due.
        """
        # A reply is queued after this worker saw an empty queue, or a pause ends after the worker read it. The release
        # reads the first reply again under the lock, which ``wake`` needs too. Otherwise the queue would stay idle.
        # test_a_pause_that_ends_during_a_release_does_not_delay_the_queue
        with atomic():
            queue = claims.fence(lease)
            if wait is not None and (wait := self._current_wait(lease, wait)) is not None:
                claims.release(queue, after=wait.seconds)
            else:
                settling.release_queues([queue.pk])

    def _current_wait(self, lease: Lease, wait: Wait) -> Wait | None:
        """Read the first reply again and return its wait, or None if it can be sent or the queue is empty.

        Returns ``wait`` unchanged if the reply is not ``queued``.
        """
        next_row = self._next_rows([lease]).get(lease.conversation_id)
        if next_row is None:
            return None
        return self._wait_of(next_row) if next_row.state == State.QUEUED else wait

    @staticmethod
    def _next_rows(leases: Sequence[Lease]) -> dict[int | None, NextReply]:
        """Return the first open reply of each queue that has one, by conversation id."""
        failpoint("outbox_claimed")
        rows = cast("list[NextReply]", reads.next_replies([lease.queue_id for lease in leases]))
        return {reply.conversation_id: reply for reply in rows}

    @staticmethod
    def _wait_of(reply: NextReply) -> Wait | None:
        for until in (reply.not_before, reply.conversation.page.paused_until):
            if until is not None and until > reply.now:
                return Wait(seconds=(until - reply.now).total_seconds())
        return None

    @staticmethod
    def _is_too_late(reply: NextReply) -> bool:
        """Return whether Meta's window has closed.

        False if the window is no limit for the reply, and if nothing has opened it. After a click on an ad, Graph may
        close the window earlier: it then refuses the call.
        """
        until = reply.conversation.get_window_until()
        return until is not None and call_errors.needs_window(reply) and reply.now > until - _CALL

    def _upload_and_send(self, lease: Lease, reply: NextReply, deadline: Deadline) -> None:
        """Upload the file of a reply, if it has one. Then commit its attempt, send it, settle it and release the queue.

        A reply whose upload failed is settled as if its call had failed.
        """
        page = reply.conversation.page
        error: errors.GraphError | None = None
        data = reply.data
        try:
            data = uploads.with_file(self._client_for(page), page, data)
        except DJMInvalidConfigException as missing:
            # A missing token is like a refused one: the Page is paused until it has a token.
            error = errors.TokenError(str(missing))
        except errors.GraphError as refusal:
            error = refusal
        except (OSError, *_BODY_ERRORS) as broken:
            call_errors.fail(lease, reply, broken)
            self._release_after(lease, None)
            return
        pending_sends = settling.commit_attempts([(lease, reply)], deadline)
        if not pending_sends:
            # Staff changed the reply, and the next step reads it again; or the lease is lost, and this raises.
            self._release_after(lease, None)
            return
        pending = replace(pending_sends[0], data=data)
        result = self.call(pending) if error is None else SendResult(pending=pending, error=error)
        if self.end([result]):
            claims.give_back(lease)
