"""Settle: the only file that changes the state of a reply, in the transactions described here.

``TRANSITIONS`` has all changes. ``Reply.objects.queue`` and ``insert`` create replies as ``queued``.

* ``queued``: waits in its outbox. A paused Page, ``not_before`` or an earlier reply may delay it.
* ``sending``: an attempt is committed, and the call may be under way.
* ``sent``: Meta accepted it.
* ``failed``: Graph refused it for good, or its data cannot become a call. No attempt can have reached Meta.
* ``unknown``: the call ended without an answer, or its process ended. Meta may have the message.
* ``parked``: its fate stays unknown, and it is not sent again by itself.
* ``expired``: Meta's window closed before the call, or Graph refused the call for that. No attempt can have reached
  Meta.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.dispatch import Signal
from django.utils import timezone

from djmessenger import models
from djmessenger.clock import Deadline
from djmessenger.graph import errors
from djmessenger.graph.results import Sent
from djmessenger.logs import hidden
from djmessenger.pipeline import claims, reads
from djmessenger.pipeline.claims import Lease, LeaseLost
from djmessenger.pipeline.evidence import evidence_of
from djmessenger.pipeline.failpoints import failpoint
from djmessenger.pipeline.send_tokens import token_of
from djmessenger.project_code import announce
from djmessenger.settings import app_settings
from djmessenger.signals import reply_failed, reply_sent
from djmessenger.sql import Now, alias, atomic, insert_each, on_commit, update_each

logger = logging.getLogger(__name__)

Kind = models.ConversationQueue.Kind
State = models.Reply.State
Outcome = models.Attempt.Outcome

TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.SENDING, State.SENT, State.FAILED, State.PARKED, State.EXPIRED}),
    State.SENDING: frozenset(
        {State.SENT, State.QUEUED, State.FAILED, State.PARKED, State.EXPIRED, State.UNKNOWN}
    ),
    State.UNKNOWN: frozenset({State.SENT, State.QUEUED, State.PARKED}),
    State.PARKED: frozenset({State.UNKNOWN, State.SENT, State.QUEUED}),
    State.FAILED: frozenset({State.SENT, State.QUEUED}),
    State.EXPIRED: frozenset({State.SENT, State.QUEUED}),
    State.SENT: frozenset(),
}
"""States that may follow each state.

A ``parked``, ``failed`` or ``expired`` reply is changed only by an echo or by staff (``queue_again``). A ``sent`` reply
keeps its state.
"""

_UNSENT_ENDS = frozenset({State.FAILED, State.PARKED, State.EXPIRED})
"""States of replies that end without being sent."""

_SIGNALS: Mapping[str, Signal] = {
    State.SENT: reply_sent,
    State.FAILED: reply_failed,
    State.PARKED: reply_failed,
    State.EXPIRED: reply_failed,
}

if TYPE_CHECKING:

    class QueuedReply(models.Reply):
        """Reply of a conversation queue, for type checks: its conversation is never None."""

        conversation: models.Conversation
        conversation_id: int

    class NextReply(QueuedReply):
        """First open reply of a queue, as ``next_replies`` returns it."""

        now: datetime.datetime
        """Time of the database when the row was read."""
        last_number: int | None
        """Number of the last attempt."""


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
    data: dict[str, Any] = field(repr=False)
    """Body of the call, without recipient and send token."""


@dataclass(frozen=True, kw_only=True)
class SendResult:
    """Result of ``Outbox.call``: at most one of ``sent``, ``error`` and ``body_error`` is set.

    If all three are None, no request was made because the lease was about to expire.
    """

    pending: PendingSend
    sent: Sent | None = None
    """Meta's answer to an accepted call."""
    error: errors.GraphError | None = None
    """Graph error of the call. Also set if the Page has no token, and if the transport raised."""
    body_error: Exception | None = None
    """Exception of a body that cannot become a call."""


def close_attempt(attempt: models.Attempt, outcome: str, **facts: Any) -> None:
    """Save the outcome of an attempt without a check of the lease.

    Only the process that began the attempt knows the outcome.
    """
    models.Attempt.objects.filter(pk=attempt.pk).update(outcome=outcome, date_ended=Now(), **facts)


def settle(
    lease: Lease, reply: QueuedReply, state: State, *, error: str = "", why: str = "", **facts: Any
) -> None:
    """Change the state of a reply under its lease and send the signal after the commit. Raises ``LeaseLost``.

    A reply that would end without being sent becomes ``sent`` if Meta is proved to have it, and ``parked`` if Meta may
    have it. Does nothing if the reply no longer has the state that was read. Raises ``ValueError`` for a change that
    ``TRANSITIONS`` does not have.
    """
    if state not in TRANSITIONS[State(reply.state)]:
        raise ValueError(f"reply {reply.pk} is {reply.state} and cannot become {state}")
    with atomic():
        # A worker returns from a frozen call with a refusal. Another worker has claimed the queue and sends the
        # reply again, which must not become ``failed`` meanwhile.
        # test_without_the_fence_a_late_result_settles_the_reply_of_another_worker
        claims.fence(lease)
        if state in _UNSENT_ENDS:
            # The answer to the first attempt is lost and its echo comes late. The second attempt is refused. The person
            # has the message, so the reply must not become ``failed``.
            # test_a_refusal_after_an_attempt_of_unknown_fate_parks_the_reply
            evidence = evidence_of([reply])[reply.pk]
            if evidence.mid:
                state, error, why, facts = State.SENT, "", "", {"mid": evidence.mid}
            elif evidence.unsure and state != State.PARKED:
                state = State.PARKED
                error = f"Meta may have the message of attempt {evidence.unsure[0]}. The reply ended with: {error}"
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
        on_commit(partial(_signal, reply))
    _log(reply, why or error)


def settle_accepted(answers: Sequence[SendResult]) -> list[Lease]:
    """Settle accepted replies and release their queues in one transaction; return the leases that were lost."""
    now = timezone.now()
    facts = {
        answer.pending.reply.pk: (
            storable(answer.sent.message_id)[:255],
            storable(answer.sent.data),
            answer.sent.status_code,
        )
        for answer in answers
        if answer.sent is not None
    }
    with atomic():
        still_leased = claims.fence_many([answer.pending.lease for answer in answers])
        # The outcome is saved without a valid lease too: only the process that began an attempt knows it. The next
        # worker reads the message id and settles the reply instead of sending it again.
        # test_a_worker_that_loses_its_lease_in_the_call_commits_the_message_id
        update_each(
            models.Attempt,
            ["outcome", "mid", "status_code"],
            [
                (
                    pending.attempt.pk,
                    Outcome.ACCEPTED,
                    facts[pending.reply.pk][0],
                    facts[pending.reply.pk][2],
                )
                for pending in (answer.pending for answer in answers)
            ],
            # Compared with the time of the last echo, which is one of the database.
            # test_the_times_of_an_attempt_are_those_of_the_database
            at_now="date_ended",
        )
        replies = [
            answer.pending.reply for answer in answers if answer.pending.lease.queue_id in still_leased
        ]
        mids = [facts[reply.pk][0] for reply in replies]
        reply_by_mid = reads.replies_by_mid(mids)
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
                on_commit(partial(_signal, reply))
        release_queues(still_leased)
        # A worker is frozen with an acceptance that it has not settled. Another worker sends the reply again, is
        # refused and parks it. test_a_late_acceptance_settles_a_parked_reply
        _reopen(
            {
                answer.pending.reply.pk: answer.pending.lease.queue_id
                for answer in answers
                if answer.pending.lease.queue_id not in still_leased
            }
        )
    for reply in replies:
        if reply.pk in settled:
            _log(reply)
    return [answer.pending.lease for answer in answers if answer.pending.lease.queue_id not in still_leased]


def settle_accepted_one(answer: SendResult) -> None:
    """Settle one accepted reply and release its queue.

    Raises ``LeaseLost`` if only the outcome of its attempt could be saved.
    """
    for lease in settle_accepted([answer]):
        raise LeaseLost(lease)


def commit_attempts(pairs: Sequence[tuple[Lease, QueuedReply]], deadline: Deadline) -> list[PendingSend]:
    """Commit an attempt and the state ``sending`` for each reply whose lease is valid.

    Returns nothing and commits nothing if one of the replies is no longer ``queued``. Must run outside a
    transaction.
    """
    # A process may end in the call. Without the committed attempt, the next worker
    # would find a queued reply and send it again. test_without_an_attempt_committed_first_a_reply_is_sent_twice
    with atomic():
        # A worker that was frozen before this point may have lost its lease, and another worker sends the reply.
        # test_a_worker_whose_lease_is_lost_sends_nothing
        still_leased = claims.fence_many([lease for lease, _ in pairs])
        pairs = [(lease, reply) for lease, reply in pairs if lease.queue_id in still_leased]
        replies = [reply for _, reply in pairs]
        rows = [(reply.pk, State.SENDING, 0.0, None) for reply in replies]
        # Staff take a reply back after it was read and before this commit. It must not be sent then.
        # test_a_reply_that_staff_changed_before_its_attempt_is_not_sent
        names = ["state", "observed_wait", "not_before"]
        if len(update_each(models.Reply, names, rows, where="state = 'queued'")) < len(rows):
            transaction.set_rollback(True, using=alias())
            return []
        pending_sends = insert_attempts(pairs, deadline)
        for reply in replies:
            reply.state = State.SENDING
    return pending_sends


def insert_replies(
    replies: Sequence[models.Reply], ready: Sequence[int], deadline: Deadline
) -> list[PendingSend]:
    """Insert new replies in the caller's transaction, and an attempt for each that can be sent at once.

    ``ready`` contains the ids of conversations whose first new reply may be sent at once. If its outgoing queue is
    idle, the queue is claimed and the reply is inserted as ``sending``. All other replies are ``queued``, and their
    queues become due unless they are claimed here.
    """
    firsts: dict[int | None, QueuedReply] = {}
    for reply in replies:
        reply.state = State.QUEUED
        if reply.conversation_id is not None:
            firsts.setdefault(reply.conversation_id, cast("QueuedReply", reply))
    leases = claims.claim_idle(Kind.OUT, ready, seconds=app_settings.DJM_LEASE) if ready else []
    for lease in leases:
        first = firsts[lease.conversation_id]
        first.state = State.SENDING
        # The call needs no event, and the cached event would stay in memory with the reply.
        messaging_id, first.messaging = first.messaging_id, None
        first.messaging_id = messaging_id
    models.Reply.objects.insert(replies, leased={lease.conversation_id for lease in leases})
    return insert_attempts([(lease, firsts[lease.conversation_id]) for lease in leases], deadline)


def insert_attempts(pairs: Sequence[tuple[Lease, QueuedReply]], deadline: Deadline) -> list[PendingSend]:
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
    # The look-up at Meta and the watermarks of a person compare this time, also on other hosts.
    # test_the_lookup_finds_a_message_if_the_clock_of_the_sender_is_wrong
    insert_each([pending.attempt for pending in pending_sends], "token", at_now="date_started")
    return pending_sends


def reopen_parked(events: Iterable[models.Messaging]) -> None:
    """Change parked replies to unknown and wake their queues, for those of the events that are echoes of an attempt.

    Must run in a transaction.
    """
    # The echo of an accepted message may come after its reply was parked. Staff would then send it a second time.
    # test_an_echo_settles_a_parked_reply
    echoes = {row.echo_token: row.conversation_id for row in events if row.echo_token and row.conversation_id}
    if not echoes:
        return
    # A worker parks a reply that had no echo when the worker looked, and its echo is handled before the commit. The
    # lock of the queue waits for that commit. A reply in the call of its only attempt cannot be parked, so the usual
    # early echo locks nothing. test_an_echo_that_is_handled_while_its_reply_is_parked_reopens_it
    later = models.Attempt.objects.filter(reply=OuterRef("reply"), number__gt=OuterRef("number"))
    may_be_parked = Q(reply__state__in=[State.QUEUED, State.UNKNOWN, State.PARKED]) | (
        Q(reply__state=State.SENDING) & Exists(later)
    )
    attempts = models.Attempt.objects.filter(may_be_parked, token__in=list(echoes))
    found = attempts.values_list("token", "reply_id", "reply__conversation_id")
    conversations = {reply: made for token, reply, made in found if echoes[token] == made}
    queues = models.ConversationQueue.objects.lock(conversations.values(), Kind.OUT)
    _reopen({reply: queues[made] for reply, made in conversations.items()})


def reopen(reply: QueuedReply) -> None:
    """Change a parked reply to unknown and wake its queue, after the late result of an attempt was saved."""
    # A call was never made, and its result could not be saved during its lease. Another worker has parked the reply.
    # tests/faults/test_small_hosts.py, test_a_call_without_a_socket_is_unsent_however_long_files_are_missing
    with atomic():
        queues = models.ConversationQueue.objects.filter(conversation=reply.conversation_id, kind=Kind.OUT)
        # A forgotten person has none.
        queue = queues.select_for_update().first()
        if queue is not None:
            _reopen({reply.pk: queue.pk})


def _reopen(queues: Mapping[int, int]) -> None:
    """Change those of the replies that are parked to unknown, and wake their queues, which the caller has locked.

    ``queues`` maps reply id to queue id.
    """
    parked = models.Reply.objects.filter(pk__in=list(queues), state=State.PARKED)
    reopened = list(parked.values_list("pk", flat=True)) if queues else []
    if reopened:
        parked.update(state=State.UNKNOWN)
        models.ConversationQueue.objects.wake_locked([queues[pk] for pk in reopened])


def queue_again(reply: models.Reply, mid: str) -> None:
    """Queue a settled reply again, in the caller's transaction. The caller has locked the queue of the reply.

    ``mid`` is the message id from a late proof, or empty. If it is given or the reply has a message id already, the
    reply is settled as ``sent`` instead.
    """
    reply.error, reply.not_before, reply.is_over_limit = "", None, False
    reply.mid = reply.mid or mid or None
    reply.state = State.SENT if reply.mid else State.QUEUED
    reply.save(update_fields=["state", "error", "not_before", "is_over_limit", "mid"])
    if reply.state == State.QUEUED and reply.conversation_id is not None:
        models.ConversationQueue.objects.wake([reply.conversation_id], Kind.OUT)


def release_queues(queue_ids: Collection[int]) -> None:
    """Release queues that the caller has locked. Each is due when its first open reply is due."""
    failpoint("outbox_before_release")
    claims.release_many(Kind.OUT, queue_ids)


def _log(reply: QueuedReply, why: str = "") -> None:
    """Log the state of a reply, as a warning if there is a reason."""
    level = logging.WARNING if why else logging.INFO
    if not logger.isEnabledFor(level):
        return
    logger.log(
        level,
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
        announce(signal, models.Reply, reply=reply)


def storable(value: Any) -> Any:
    """Return external data without NUL and unpaired surrogates, which PostgreSQL or UTF-8 cannot store."""
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {storable(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(item) for item in value]
    return value
