"""Results of an event: save them, or a failed try, and release the queue. ``handling.py`` runs the rules."""

from __future__ import annotations

import datetime
import logging
import sys
import traceback
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from djmessenger import models, receiving
from djmessenger.database_errors import is_outage_of_engine, is_own_outage
from djmessenger.exceptions import DJMException
from djmessenger.logs import hidden
from djmessenger.pipeline import claims, settling
from djmessenger.pipeline.claims import Lease
from djmessenger.pipeline.failpoints import failpoint
from djmessenger.pipeline.receipts import note_receipts
from djmessenger.project_code import announce, is_early_interruption, is_interruption
from djmessenger.receiving.decoding import cleaned
from djmessenger.routing.decision import Decision
from djmessenger.signals import messaging_failed
from djmessenger.sql import Now, atomic, on_commit, update_each

logger = logging.getLogger(__name__)

Kind = models.ConversationQueue.Kind
State = models.Messaging.State

_LONGEST_PAUSE = 300.0
"""Most seconds between two tries of an event."""
_PAUSE_WITHOUT_TRY = datetime.timedelta(seconds=1)
"""Time after which an event is handled again after an outage of the database or an interruption."""


@dataclass(frozen=True, kw_only=True)
class Handled:
    """Event whose rules have run, with the results to commit."""

    row: models.Messaging
    lease: Lease
    messaging: receiving.Messaging
    decision: Decision
    replies: Sequence[models.Reply]
    """Replies that are not inserted yet."""
    state_before: Any
    """State of the conversation before the rules."""
    gathered: Sequence[models.Messaging]
    """Waiting events that the same call of a rule has served."""


def lock_and_verify(row: models.Messaging, lease: Lease) -> bool:
    """Lock queue and row until the transaction ends, and write the profile that a handler fetched.

    Returns false if the event is handled already. Raises ``LeaseLost`` if another worker claimed the queue.
    """
    # A worker is frozen longer than its lease. A second worker claims the queue and answers. The first wakes up
    # and would answer too. test_without_the_fence_a_worker_whose_lease_expired_answers_too
    if claims.lock_and_verify({row.pk: lease}):
        save_profiles([row])
        return True
    claims.fence(lease)
    return False


def finish(handled: Sequence[Handled]) -> None:
    """Save the results of events whose queues and rows the caller's transaction has locked; release the queues."""
    settling.reopen_parked(one.row for one in handled)
    for one in handled:
        note_receipts(one.row, one.messaging)
        row, outcome = one.row, one.decision.outcome
        row.outcome = cleaned(outcome.json())
        row.error = cleaned(outcome.error)
        row.state = State.FAILED if outcome.error else State.DONE
        row.date_handled = timezone.now()
        if outcome.error:
            signal_failed(row)
        conversation = row.conversation
        if conversation is not None and conversation.state != one.state_before:
            # A view or the admin changes the state while the rules run. Rules that did not change it must not
            # overwrite it with the old value. test_state_that_no_rule_changed_is_not_written_over
            conversation.save(update_fields=["state"])
    names = ["outcome", "error", "state", "date_handled", "is_kept"]
    rows = (one.row for one in handled)
    update_each(models.Messaging, names, [(row.pk, *(getattr(row, name) for name in names)) for row in rows])
    for one in handled:
        _finish_gathered(one)
    _release([one.lease for one in handled])
    failpoint("inbox_before_commit")


def _finish_gathered(one: Handled) -> None:
    if one.gathered:
        # Only after the call for all of them succeeded, and in its transaction: a failed call leaves them waiting.
        # test_events_gathered_for_a_call_that_failed_are_not_lost
        models.Messaging.objects.filter(
            pk__in=[follower.pk for follower in one.gathered], state=State.NEW
        ).update(
            state=State.DONE,
            reason=f"gathered into event {one.row.pk}",
            outcome={"gathered_into": one.row.pk},
            date_handled=one.row.date_handled,
        )


def count_failed_try(
    row: models.Messaging, lease: Lease, tries: int, error: str = "", *, is_of_engine: bool = False
) -> None:
    """Save a failed try. The event waits for its next try, or fails after the last one. Raises ``LeaseLost``.

    After an outage of the database, and after an early interruption by the host, the event waits too. No try is counted
    then. Must be called in an ``except`` block unless ``error`` is given. ``is_of_engine`` is True if a statement of
    the engine has raised the exception.
    """
    raised = None if error else sys.exception()
    if is_outage_of_engine(raised) if is_of_engine else is_own_outage(raised):
        # Each event that is handled while the database restarts would lose a try, and some would fail.
        # test_an_outage_of_the_database_is_no_try_of_a_rule
        _wait_without_try(row, lease, "event_waits", "the database failed")
        return
    if is_interruption(raised) if is_of_engine else is_early_interruption(raised):
        # The last event of a task would pay for the time of all events before it.
        # tests/test_contrib_celery.py, test_the_time_limit_of_a_task_is_no_try_of_the_rule_that_it_interrupts
        _wait_without_try(row, lease, "event_interrupted", "its task was over its time limit")
        return
    is_final = isinstance(raised, DJMException) and raised.is_final
    # A message over a limit is refused at each try, and the person would wait for all of them. The next try is the
    # last one, in which each rule has a savepoint, so that the other rules of the event have their effect.
    # test_a_mistake_that_no_try_cures_fails_at_once
    row.tries = max(row.tries + 1, tries - 1) if is_final else row.tries + 1
    row.error = error or cleaned(traceback.format_exc())
    last = row.tries >= tries
    logger.exception(  # noqa: LOG004 - called while one is handled
        "Try %s of %s to handle event %s failed; %s",
        row.tries,
        tries,
        row.pk,
        "it is not tried again"
        if last
        else "the last try follows, as no repetition cures this error"
        if is_final
        else "its queue waits for the next try",
        extra={"action": "event_failed", **log_fields(row), "last": last},
    )
    pause = datetime.timedelta(seconds=min(2.0**row.tries, _LONGEST_PAUSE))
    with atomic():
        if not lock_and_verify(row, lease):
            return
        models.Messaging.objects.filter(pk=row.pk).update(
            tries=row.tries,
            error=row.error,
            not_before=None if last or is_final else Now() + pause,
            state=State.FAILED if last else State.NEW,
            date_handled=timezone.now() if last else None,
        )
        if last:
            row.state = State.FAILED
            signal_failed(row)


def _wait_without_try(row: models.Messaging, lease: Lease, action: str, reason: str) -> None:
    logger.exception(  # noqa: LOG004 - called while one is handled
        "Event %s could not be handled because %s; it is handled again, and no try is counted",
        row.pk,
        reason,
        extra={"action": action, **log_fields(row)},
    )
    with atomic():
        if lock_and_verify(row, lease):
            models.Messaging.objects.filter(pk=row.pk).update(not_before=Now() + _PAUSE_WITHOUT_TRY)


def release(lease: Lease) -> None:
    """Release the queue. It is due again if an event waits in it. Raises ``LeaseLost``."""
    # A split inserts an event after this worker saw an empty queue, and before the release. The release reads the
    # waiting events again under the lock of the queue, which the split needs too. Otherwise the event would wait
    # for a sweep. test_an_event_that_arrives_during_the_release_of_its_queue_is_handled
    with atomic():
        claims.fence(lease)
        _release([lease])


def _release(leases: Collection[Lease]) -> None:
    failpoint("inbox_before_release")
    claims.release_many(Kind.IN, [lease.queue_id for lease in leases])


def save_profiles(rows: Sequence[models.Messaging]) -> None:
    """Write the profiles that the handlers of these events have fetched."""
    models.FBUserProfile.objects.save_profiles(row.conversation.person for row in rows if row.conversation)


def signal_failed(row: models.Messaging) -> None:
    """Send ``messaging_failed`` after the commit of the caller's transaction."""
    on_commit(lambda: announce(messaging_failed, models.Messaging, messaging=row))


def log_fields(row: models.Messaging) -> dict[str, Any]:
    """Return the fields of each log line about an event."""
    return {
        "event": row.pk,
        "page": hidden(row.page.page_id if row.page else ""),
        "person": hidden(row.conversation.person_id if row.conversation else ""),
        "tries": row.tries,
        "waited": round((timezone.now() - row.date_received).total_seconds(), 3),
    }
