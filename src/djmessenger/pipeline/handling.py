"""Handle: apply the policy to the waiting events of a conversation queue, in order.

States of an event: ``new`` while it waits. Then ``done`` if its rules ran, or ``failed`` if its last try failed.
An event with ``not_before`` waits for its next try, and the later events of its queue wait behind it.

Order of the steps for one event, under the lease of its incoming queue:

1. Read the event from its row and decide which rules apply.
2. Run slow handlers, with no transaction open. Their queue stays leased; they may run again after a crash.
3. Open the transaction of the event: check the lease, and lock the queue and the row.
4. Run the other handlers and repliers.
5. Insert the replies; save the outcome, the state of the event and the state of the conversation.
6. Commit.

Steps 3 to 6 are one transaction, so an event has all its effects or none. A worker that lost its lease fails in
step 3, and another worker handles the event.

Step 5 also releases the queue. The transaction is lazy: step 3 runs before the first query that a rule makes
(``event_transaction.py``). If the rules make no query, ``handle`` returns a ``Handled`` and commits nothing.
``commit_handled`` then does steps 3, 5 and 6 for up to 100 events in one transaction.
"""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from django.db.models import F, QuerySet

from djmessenger import models, receiving
from djmessenger.clock import Deadline
from djmessenger.exceptions import DJMException, DJMInvalidConfigException
from djmessenger.graph.client import Client
from djmessenger.graph.context import bound as bound_client
from djmessenger.models.recording import limiting
from djmessenger.pipeline import claims, crashes, event_results, reads
from djmessenger.pipeline.claims import Lease, LeaseLost, give_back, log_lost
from djmessenger.pipeline.event_results import Handled
from djmessenger.pipeline.event_transaction import (
    EventTransaction,
    HandledAlready,
    commit_callbacks_logged,
)
from djmessenger.pipeline.failpoints import failpoint
from djmessenger.pipeline.reply_limits import ReplyLimits
from djmessenger.pipeline.rule_event import RuleEvent
from djmessenger.pipeline.slow import NoRoom, SlowJob, SlowPool
from djmessenger.pipeline.typing_mark import typing_mark
from djmessenger.project_code import ProjectCode, begin_event, language_restored
from djmessenger.replying.sending import use_language_of
from djmessenger.routing import Policy
from djmessenger.routing.decision import Decision
from djmessenger.routing.outcome import Outcome
from djmessenger.secret import without_frames
from djmessenger.settings import app_settings
from djmessenger.sql import Now, atomic

logger = logging.getLogger(__name__)

Kind = models.ConversationQueue.Kind
State = models.Messaging.State

_LEAST_LEASE_SHARE = 1 / 6
"""Share of ``DJM_LEASE``. An event begins only if more than this share of its lease remains."""
_MOST_GATHERED = 50
"""Most waiting events that one call of a rule with ``gather`` serves, besides the first event."""


def _waiting() -> QuerySet[models.Messaging]:
    # Meta may deliver events late or out of order. The row id alone would handle a later event first.
    # test_without_the_order_later_events_are_handled_first
    return models.Messaging.objects.filter(state=State.NEW).order_by(*models.Messaging.ORDER)


InsertReplies = Callable[[Sequence[models.Reply]], Callable[[], None]]
"""Function that inserts replies in the caller's transaction and returns a function to call after the commit.

The function of the worker also inserts attempts for replies that can be sent at once, as far as senders are free. The
function that it returns submits these replies to the senders.
"""


def _do_nothing() -> None:
    pass


def _insert(replies: Sequence[models.Reply]) -> Callable[[], None]:
    models.Reply.objects.insert(replies)
    return _do_nothing


class Inbox:
    """Handler of the waiting events of leased queues, with the policy and the Graph client of each Page.

    A failing event is tried ``tries`` times with growing pauses. Its queue waits meanwhile, so that no later event
    is handled first. In the last try each rule has a savepoint, so that one broken rule does not undo the others.
    """

    def __init__(
        self,
        policy_for: Callable[[models.Page | None], Policy],
        client_for: Callable[[models.Page | None], Client],
        *,
        tries: int,
    ) -> None:
        self._policy_for = policy_for
        self._client_for = client_for
        self._tries = tries

    def handle(
        self, lease: Lease, deadline: Deadline, slow: SlowPool, next_row: models.Messaging | None
    ) -> Handled | None:
        """Handle ``next_row``, the first event of a queue, and release the queue.

        If ``next_row`` is None or the lease is near its end, nothing is handled and the queue is released. If the rules
        made no query, nothing is committed and the queue stays leased. The result is then a ``Handled``, which the
        caller must pass to ``commit_handled``. If a slow rule runs in a thread of its own, the queue stays leased too.
        That thread passes the rest of the work to the pool ``slow``.
        """
        if next_row is None or not _has_time(deadline):
            event_results.release(lease)
            return None
        if next_row.crashes and not crashes.begin_alone(next_row, lease):
            give_back(lease)
            return None
        return self._handle(next_row, lease, slow)

    def next_rows(self, leases: Sequence[Lease]) -> dict[int, models.Messaging]:
        """Return the first waiting event of each queue, by queue id, without queues whose first event is not due.

        Counts the crashes of events whose lease was taken over. Those over the limit fail, and are not returned.
        """
        queue_ids = {lease.conversation_id: lease.queue_id for lease in leases}
        rows = reads.next_events([lease.queue_id for lease in leases])
        firsts = {row.queue_id or queue_ids[row.conversation_id]: row for row in rows}
        for queue_id in crashes.count(leases, firsts):
            del firsts[queue_id]
        return firsts

    def _seconds_until_due(self, lease: Lease) -> float | None:
        """Return the seconds until the first event of the queue is due, or None if the queue is empty."""
        next_row = _waiting().filter(claims.in_queue_of(lease)).annotate(now=Now())
        for not_before, now in next_row.values_list("not_before", "now")[:1]:
            return 0.0 if not_before is None else max(0.0, (not_before - now).total_seconds())
        return None

    def _handle(self, row: models.Messaging, lease: Lease, slow: SlowPool) -> Handled | None:
        """Apply the policy to one row, and release its queue. Return a ``Handled`` if the result is not committed."""
        failpoint("inbox_claimed")
        begin_event()
        try:
            event = _read_event(row)
            messaging = event.messaging
            client = self._client_or_reason(row.page)
            with contextlib.ExitStack() as stack:
                stack.enter_context(use_context_of(event, client))
                with event.used_by_rules(), ProjectCode(lambda: "the policy") as code:
                    decision = self._decide(row, messaging)
                    code.name = decision.examined
                    is_slow = decision.is_slow(messaging)
                # Before the slow handlers, whose changes are saved too.
                # test_the_state_that_a_slow_rule_sets_is_saved_with_its_event
                state_before = copy.deepcopy(row.conversation.state) if row.conversation else None
                # The rules go on in the same context. Behind slow handlers they may run in another thread.
                context = use_context_of(event, client) if is_slow else stack.pop_all()
        except Exception:  # noqa: BLE001 - what authors write may raise anything
            event_results.count_failed_try(row, lease, self._tries)
            event_results.release(lease)
            crashes.end_alone(lease)
            return None
        act = partial(self._act, event, lease, decision, context, state_before)
        if not is_slow:
            return act()
        gathered: list[models.Messaging] = []
        timeouts = [rule.timeout for rule in decision.applied if rule.slow and rule.timeout]
        job = SlowJob(
            prepare=lambda: gathered.extend(self._gather(event, lease, decision)),
            work=lambda: self._run_slow(event, lease, decision, client, partial(act, gathered)),
            only_calls_graph=decision.only_calls_graph(),
            timeout=min(timeouts, default=None),
            give_up=lambda: self._give_up(row, lease, min(timeouts), self._tries_for(decision)),
        )
        try:
            finish = slow.run(lease, job)
        except NoRoom:
            # Jobs that waited in memory would be lost in a crash until their leases end, and no other process
            # could take them. The queue waits in the database instead, marked for slow threads.
            # test_a_queue_that_waits_for_a_slow_thread_has_no_lease_and_any_worker_may_claim_it
            give_back(lease, is_slow=True)
            crashes.end_alone(lease)
            return None
        return None if finish is None else finish()

    def _decide(self, row: models.Messaging, messaging: receiving.Messaging) -> Decision:
        """Return the decision of the Page's policy; an echo of a message of this bot reaches no rule."""
        # A rule that answers echoes would otherwise answer itself without an end.
        # tests/faults/test_attacks_messages.py, test_an_echo_of_an_own_message_reaches_no_rule
        if row.echo_token:
            return Decision(Outcome(type=messaging.type.name, authored=False, is_own_echo=True), None, [])
        return self._policy_for(row.page).decide(messaging)

    def _client_or_reason(self, page: models.Page | None) -> Client | DJMInvalidConfigException:
        """Return the Graph client of a Page, or the exception if it has none, for example without a token.

        The rules run in either case. Their replies wait until the Page has a token.
        """
        try:
            return self._client_for(page)
        except DJMInvalidConfigException as error:
            return error

    def _tries_for(self, decision: Decision) -> int:
        """Return the number of tries of an event; a slow rule may have its own number."""
        return min((rule.tries for rule in decision.applied if rule.slow and rule.tries), default=self._tries)

    def _give_up(self, row: models.Messaging, lease: Lease, timeout: float, tries: int) -> None:
        """Count a try that takes too long as failed, and end the lease of the thread that still runs it."""
        # The slow handler returns after its timeout, and its thread still has this lease. A new fencing token makes
        # the commit of that thread fail; otherwise the event could be answered twice.
        # test_slow_work_over_its_timeout_is_given_up_and_its_result_discarded
        event_results.count_failed_try(
            row, lease, tries, error=f"a slow rule took longer than its {timeout} seconds"
        )
        with atomic():
            queue = claims.fence(lease)
            pause = self._seconds_until_due(lease)
            # This lease is not taken over by another holder, which would have counted a crash.
            models.ConversationQueue.objects.filter(pk=queue.pk).update(
                fencing_token=F("fencing_token") + 1, is_taken_over=False
            )
            claims.release(queue, after=pause)

    def _gather(self, event: RuleEvent, lease: Lease, decision: Decision) -> list[models.Messaging]:
        """Return the waiting rows behind this one that the same call of the rules serves, ``_MOST_GATHERED`` at most.

        The list ends before the first event that is not authored or to which other rules apply. It is empty if no rule
        that applies has ``gather``. Otherwise ``messaging.context["gathered"]`` is set to this event and the others.
        """
        if not any(rule.gather for rule in decision.applied):
            return []
        gathered = event.messaging.context["gathered"] = [event.messaging]
        if event.row.crashes:
            # Only one event at a time shows which of them ends the process.
            return []
        followers = []
        behind = _waiting().filter(claims.in_queue_of(lease)).exclude(pk=event.row.pk)
        for follower in behind.select_related("page", "conversation__person")[:_MOST_GATHERED]:
            try:
                messaging = _read_event(follower).messaging
                with ProjectCode(lambda: "the policy"):
                    is_alike = (
                        messaging.authored
                        and self._policy_for(follower.page).decide(messaging).applied == decision.applied
                    )
            except Exception:  # noqa: BLE001 - it fails again when it is the first event, and its own try is counted
                break
            if not is_alike:
                break
            followers.append(follower)
            gathered.append(messaging)
        return followers

    def _run_slow(
        self,
        event: RuleEvent,
        lease: Lease,
        decision: Decision,
        client: Client | DJMException,
        act: Callable[[], Handled | None],
    ) -> Callable[[], Handled | None]:
        """Run the slow handlers, without a transaction. Return the rest of the work on the event.

        An exception counts as a failed try. Raises ``LeaseLost``.
        """
        tries = self._tries_for(decision)
        try:
            with (
                use_context_of(event, client),
                typing_mark(event.messaging, decision),
                event.used_by_rules(),
            ):
                decision.run_slow(event.messaging, savepoints=event.row.tries + 1 >= tries)
        except Exception:  # noqa: BLE001 - what authors write may raise anything
            event_results.count_failed_try(event.row, lease, tries)
            crashes.end_alone(lease)
            return lambda: event_results.release(lease)
        return act

    def _act(
        self,
        event: RuleEvent,
        lease: Lease,
        decision: Decision,
        context: contextlib.AbstractContextManager[object],
        state_before: Any,
        gathered: Sequence[models.Messaging] = (),
    ) -> Handled | None:
        """Run the other handlers and the repliers in ``context``. Save the results, and release the queue with them.

        The transaction begins before the first query of the rules. If they made no query, it does not begin, and a
        ``Handled`` is returned. An exception of a rule counts as a failed try. Raises ``LeaseLost``.
        """
        try:
            handled = self._run_rules(event, lease, decision, context, state_before, gathered)
            if handled is None or not event.row.crashes:
                return handled
            # Its replies must not die with a neighbour.
            self.commit_handled([handled])
            return None
        finally:
            crashes.end_alone(lease)

    def _run_rules(
        self,
        event: RuleEvent,
        lease: Lease,
        decision: Decision,
        context: contextlib.AbstractContextManager[object],
        state_before: Any,
        gathered: Sequence[models.Messaging],
    ) -> Handled | None:
        """Do the work of ``_act``, but commit nothing if the rules made no query."""
        row, messaging = event.row, event.messaging
        tries = self._tries_for(decision)
        last = row.tries + 1 >= tries

        def lock_and_verify() -> bool:
            # It saves the profile that a handler has fetched.
            event.take_back()
            return event_results.lock_and_verify(row, lease)

        event_transaction = EventTransaction(lock_and_verify)
        try:
            with context:
                failpoint("inbox_in_handler")
                # A crash between effects and the state ``done`` would repeat the effects at the next try.
                # test_without_one_transaction_the_answer_is_queued_twice
                with atomic(), commit_callbacks_logged([row.pk]):
                    with event.used_by_rules(), event_transaction.begun_by_the_first_query():
                        decision.act(messaging, savepoints=last, buffer=event_transaction.buffer)
                    handled = Handled(
                        row=row,
                        lease=lease,
                        messaging=messaging,
                        decision=decision,
                        replies=event_transaction.buffer.replies,
                        state_before=state_before,
                        gathered=gathered,
                    )
                    if event_transaction.is_begun:
                        _insert(handled.replies)
                        event_results.finish([handled])
        except LeaseLost:
            # Another worker handles the event: this is no failed try, and none is logged.
            raise
        except HandledAlready:
            event_results.release(lease)
            return None
        except Exception:  # noqa: BLE001 - what authors write may raise anything
            is_of_engine = not event_transaction.is_error_of_rules
            event_results.count_failed_try(row, lease, tries, is_of_engine=is_of_engine)
            event_results.release(lease)
            return None
        if not event_transaction.is_begun:
            return handled
        decision.outcome.log(partial(event_results.log_fields, row))
        return None

    def commit_handled(self, handled: Sequence[Handled], insert: InsertReplies = _insert) -> None:
        """Commit handled events and release their queues: in one transaction, or one by one if that fails.

        ``insert`` inserts the replies. Must run outside a transaction. Never raises an ``Exception``: a failed commit
        counts as a failed try of its event, and lost leases are logged.
        """
        # One row that the database refuses must not undo the other events of its batch.
        # test_one_event_that_cannot_be_committed_leaves_the_rest_of_its_batch_alone
        if len(handled) > 1:
            try:
                self._commit(handled, insert)
                return
            except Exception:
                logger.exception(
                    "Commit of %s events failed; they are committed one by one",
                    len(handled),
                    extra={"action": "events_singly"},
                )
        for one in handled:
            try:
                self._commit([one], insert)
            except Exception:  # noqa: BLE001 - by driver
                self._count_failed_commit(one)

    def _commit(self, handled: Sequence[Handled], insert: InsertReplies) -> None:
        leases = {one.row.pk: one.lease for one in handled}
        afterwards = _do_nothing
        with atomic(), commit_callbacks_logged([one.row.pk for one in handled]):
            # A lease ends between the rules of its event and this commit, and another worker handles the event. Its
            # replies and state are dropped here. test_a_batch_commits_nothing_for_a_queue_whose_lease_is_lost
            still_leased = claims.lock_and_verify(leases)
            valid = [one for one in handled if one.row.pk in still_leased]
            if valid:
                event_results.save_profiles([one.row for one in valid])
                afterwards = insert([reply for one in valid for reply in one.replies])
                event_results.finish(valid)
        afterwards()
        for one in valid:
            one.decision.outcome.log(partial(event_results.log_fields, one.row))
        for pk in leases.keys() - still_leased:
            # Another worker has the queue, or had it and handled the event. In the second case this lease may still
            # be valid, and is released.
            try:
                event_results.release(leases[pk])
            except LeaseLost as lost:
                log_lost(lost)

    def _count_failed_commit(self, one: Handled) -> None:
        """Count a failed try of an event that could not be committed. If that fails too, the lease is given back."""
        try:
            tries = self._tries_for(one.decision)
            event_results.count_failed_try(one.row, one.lease, tries, is_of_engine=True)
            event_results.release(one.lease)
        except LeaseLost as lost:
            log_lost(lost)
        except Exception:
            logger.exception(
                "Event %s could not be committed, and the failed try could not be counted; it is handled again",
                one.row.pk,
                extra={"action": "event_waits"},
            )
            give_back(one.lease)


@contextlib.contextmanager
def use_context_of(event: RuleEvent, client: Client | DJMException) -> Iterator[None]:
    """Activate Page, language, time zone and the limits of replies for the rules of an event."""
    # Without a person no language is activated, and none would be restored after the rules.
    # tests/faults/test_project_code.py, TestLanguageAndTimeZone
    kept = language_restored() if event.person is None else contextlib.nullcontext()
    with (
        bound_client(client),
        kept,
        use_language_of(event.person, event.page),
        limiting(ReplyLimits(event.row)),
    ):
        yield


def _has_time(deadline: Deadline) -> bool:
    # An event that begins at the end of its lease would lose it before the commit, and its rules would run twice.
    # test_no_event_begins_under_a_lease_that_is_almost_over
    return deadline.remaining() > app_settings.DJM_LEASE * _LEAST_LEASE_SHARE


def _read_event(row: models.Messaging) -> RuleEvent:
    """Return the event of a row, bound to copies of its row, Page, conversation and person."""
    problem: Exception | None = None
    try:
        messaging = receiving.Messaging.from_row(row.body, row)
    except Exception as error:  # noqa: BLE001 - raised again below, without the frames that hold the body
        problem = without_frames(error)
    if problem is not None:
        raise problem
    return RuleEvent(row, messaging)
