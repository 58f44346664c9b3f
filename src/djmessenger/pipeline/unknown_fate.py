"""Unknown fate: find out whether Meta has a message whose call ended without an answer.

A reply of unknown fate is resolved by the first of these that happens (``UnknownFate.resolve``):

1. An answer or an echo proves that Meta has the message: ``sent``.
2. The process that made the last call commits its result late, and no attempt can be at Meta: ``queued`` again.
3. The time in which an echo would have been noticed, the *observed wait*, reaches its limit. If
   ``DJM_LOOK_UP_UNSURE`` is set, Meta's list of recent messages is read. If it contains the message: ``sent``.
4. Otherwise the reply is ``queued`` again or ``parked``. The field ``is_parked_when_unsure`` of the reply decides. If
   the field is None, ``DJM_WHEN_UNSURE`` decides, but a reply is always parked if the Page receives no echoes and the
   look-up had no result. After three attempts of unknown fate a reply is parked in any case.

A parked reply becomes ``unknown`` again if its echo comes after all.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from djmessenger import models
from djmessenger.channels import channel_of
from djmessenger.clock import Deadline
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.graph import errors
from djmessenger.models.queues import seconds_from_now
from djmessenger.pipeline import claims, settling
from djmessenger.pipeline.claims import Lease, LeaseLost, log_lost
from djmessenger.pipeline.delivery_lookup import look_up_delivery
from djmessenger.pipeline.evidence import evidence_of
from djmessenger.pipeline.failpoints import failpoint
from djmessenger.pipeline.page_pauses import ClientFor
from djmessenger.pipeline.settling import Outcome, State, Wait
from djmessenger.settings import app_settings
from djmessenger.sql import atomic, update_each

if TYPE_CHECKING:
    from djmessenger.pipeline.settling import NextReply, QueuedReply

logger = logging.getLogger(__name__)

_CHECK_INTERVAL = 0.5
"""Seconds between two checks for an echo, and the most that one check adds to the observed wait."""


_LOOK_UP_INTERVAL, _MOST_LOOK_UPS = 5.0, 6
"""Seconds of observed wait between two look-ups at Meta, and the most look-ups before the reply is decided."""


_MOST_SILENT_SENDS = 20
"""Accepted sends in a row without an echo, after which the Page counts as one without echoes."""


_MOST_UNSURE = 3
"""Attempts of unknown fate after which a reply is parked, whatever ``DJM_WHEN_UNSURE`` is."""


class UnknownFate:
    """Resolver of replies of unknown fate, with the Graph client of each Page."""

    def __init__(self, client_for: ClientFor) -> None:
        self._client_for = client_for

    def resolve(self, lease: Lease, reply: NextReply, deadline: Deadline) -> Wait | None:
        """Settle a reply of unknown fate and return None, or return the ``Wait`` until its next check.

        The docstring of the module has the rules. Raises ``LeaseLost``.
        """
        evidence = evidence_of([reply])[reply.pk]
        if evidence.mid:
            failpoint("outbox_resolving")
            settling.settle(lease, reply, State.SENT, mid=evidence.mid)
            return None
        if evidence.is_not_at_meta:
            settling.settle(lease, reply, State.QUEUED, not_before=None)
            return None
        page = reply.conversation.page
        limit = observed_wait_limit(page)
        # An echo comes some seconds after its message. Without the wait, a reply whose echo is on its way would be sent
        # again, and the person would get both messages.
        # test_without_the_wait_a_reply_is_sent_twice
        # After that wait, only the look-up at Meta can delay the decision.
        over_limit = reply.observed_wait - limit
        known_mid = self._look_up_delivery(reply, over_limit, deadline) if over_limit >= 0 else None
        if over_limit < 0 or isinstance(known_mid, Wait):
            with atomic():
                claims.fence(lease)
                _count_observed_time([reply])
            return Wait(seconds=((reply.not_before or reply.now) - reply.now).total_seconds())
        if known_mid:
            settling.settle(lease, reply, State.SENT, mid=known_mid)
            return None
        parks = reply.is_parked_when_unsure
        if parks is None:
            # Without echoes and without a result of the look-up, a second send would be a guess.
            # test_if_echoes_never_come_a_reply_is_parked_at_once_with_a_warning
            parks = app_settings.DJM_WHEN_UNSURE == "park" or (known_mid is None and not echoes_come(page))
        unsure = reply.attempts.filter(outcome__in=[Outcome.OPEN, Outcome.UNKNOWN]).count()
        # A reply that ends its call without an answer each time would be sent for ever.
        # test_a_reply_is_parked_after_three_attempts_of_unknown_fate
        if parks or unsure >= _MOST_UNSURE:
            settling.settle(
                lease, reply, State.PARKED, error="Meta may have the message: no answer and no echo came"
            )
        else:
            settling.settle(lease, reply, State.QUEUED, not_before=None)
        return None

    def _look_up_delivery(
        self, reply: QueuedReply, over_limit: float, deadline: Deadline
    ) -> str | Wait | None:
        """Return the message id that Meta has for the reply, or an empty text if Meta does not have the message.

        Returns None if the fate stays unknown or ``DJM_LOOK_UP_UNSURE`` is off, and a ``Wait`` until there is a result.
        ``over_limit`` is the number of seconds by which the observed wait exceeds its limit. Each ``_LOOK_UP_INTERVAL``
        seconds of it there is one look-up, at most ``_MOST_LOOK_UPS`` in all.
        """
        # Meta's list of messages may be a few seconds old. The first look-up without the message does not count.
        # test_that_meta_has_none_counts_when_it_says_so_again
        if not app_settings.DJM_LOOK_UP_UNSURE:
            return None
        if (
            over_limit % _LOOK_UP_INTERVAL >= _CHECK_INTERVAL
            or deadline.remaining() < app_settings.DJM_GRAPH_TIMEOUT
        ):
            return Wait(seconds=_CHECK_INTERVAL)
        look_ups = over_limit // _LOOK_UP_INTERVAL + 1
        page = reply.conversation.page
        platform = channel_of(page.configured("channel")).name
        try:
            mid = look_up_delivery(self._client_for(page), reply, platform)
        except DJMInvalidConfigException:
            return None
        except (errors.RetryLater, errors.NotSent, errors.UnknownFate):
            return None if look_ups >= _MOST_LOOK_UPS else Wait(seconds=_CHECK_INTERVAL)
        return Wait(seconds=_CHECK_INTERVAL) if mid == "" and look_ups == 1 else mid

    def release_waiting(self, pairs: Sequence[tuple[Lease, NextReply]]) -> set[int]:
        """Release the queues whose first reply must still wait for its echo, in one transaction; return their ids.

        Adds one interval to the observed wait of each reply whose check is due. Lost leases are logged.
        """
        evidence = evidence_of([reply for _, reply in pairs])
        pages = {reply.conversation.page_id: reply.conversation.page for _, reply in pairs}
        limits = {pk: observed_wait_limit(page) for pk, page in pages.items()}
        waiting = {
            lease.queue_id: (lease, reply)
            for lease, reply in pairs
            if not (evidence[reply.pk].mid or evidence[reply.pk].is_not_at_meta)
            and reply.observed_wait < limits[reply.conversation.page_id]
        }
        if not waiting:
            return set()
        with atomic():
            still_leased = claims.fence_many([lease for lease, _ in waiting.values()])
            _count_observed_time([waiting[queue_id][1] for queue_id in sorted(still_leased)])
            settling.release_queues(still_leased)
        for queue_id in waiting.keys() - still_leased:
            log_lost(LeaseLost(waiting[queue_id][0]))
        return set(waiting)


def _count_observed_time(replies: Sequence[NextReply]) -> None:
    """Add ``_CHECK_INTERVAL`` to the observed wait of each reply whose check is due, and set its next check.

    The first check adds nothing. A late check, as after an outage, adds one interval only. While a callback older than
    one interval is unsplit, no check adds anything. Must run in a transaction in which the queues are locked.
    """
    # The database is away for a minute, and echoes of that minute are not stored yet. By the clock the wait would
    # be over. test_a_long_gap_between_two_checks_adds_one_interval_to_the_observed_wait
    # The echo is stored but not split. test_time_in_which_an_echo_could_be_unsplit_is_not_observed
    interval = datetime.timedelta(seconds=_CHECK_INTERVAL)
    unseen = models.Callback.objects.filter(
        state=models.Callback.State.NEW, date_received__lt=seconds_from_now(-_CHECK_INTERVAL)
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


def observed_wait_limit(page: models.Page) -> float:
    """Return the seconds of observed wait after which a reply of unknown fate is decided.

    Returns 0 if the Page receives no echoes and ``DJM_LOOK_UP_UNSURE`` is off.
    """
    return echo_wait(page) if app_settings.DJM_LOOK_UP_UNSURE or echoes_come(page) else 0.0


def echo_wait(page: models.Page) -> float:
    """Return the seconds in which an echo may still come: four times ``Page.echo_lag``.

    The result is at least two thirds of ``DJM_ECHO_WAIT``, and at most eight times it. If no lag was measured yet, it
    is ``DJM_ECHO_WAIT``.
    """
    usual = float(app_settings.DJM_ECHO_WAIT)
    if page.echo_lag is None:
        return usual
    return min(max(4 * page.echo_lag, usual * 2 / 3), usual * 8)


def echoes_come(page: models.Page) -> bool:
    """Return whether the Page's own echoes reach the bot: false if none came for the last 20 accepted sends."""
    # In a burst the first echoes come after the twentieth send. Sends whose echo may still come are not counted.
    # test_a_burst_whose_echoes_are_due_is_no_sign_of_missing_echoes
    silent = models.Attempt.objects.filter(
        reply__conversation__page=page,
        outcome=Outcome.ACCEPTED,
        date_ended__gt=page.date_last_echo or page.date_created,
        date_ended__lt=seconds_from_now(-echo_wait(page)),
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
