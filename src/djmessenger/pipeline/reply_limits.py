"""Limits of the replies of rules: they end conversations that two programs would keep up without an end.

A rule that answers echoes or receipts causes the next echo or receipt itself. So at most ``DJM_MAX_UNASKED`` replies of
rules go to a person without an event between that the person authored. Another bot authors events. So after
``DJM_FAST_EXCHANGES`` exchanges in a row the answers wait, each twice as long as the one before.

The hot path, an answer to an authored event of a person who is no bot, costs no statement. ``Conversation`` has the
number of fast exchanges, which the split writes together with the time of the event.
"""

from __future__ import annotations

import datetime
import logging
from collections import Counter
from typing import Any

from djmessenger import models
from djmessenger.receiving import ReceivingType
from djmessenger.settings import app_settings
from djmessenger.sql import Now

logger = logging.getLogger(__name__)

FAST = 5.0
"""Seconds after an answer within which an event of the person continues a fast exchange."""
LONGEST_WAIT = 300.0
"""Longest wait of an answer in a fast exchange, in seconds."""
_MOST_COUNTED = 10_000
_AUTHORED = [name for name, kind in ReceivingType.get_members().items() if kind.authored]


def wait_of(exchanges: int) -> float:
    """Return the seconds that the next answer waits after this number of fast exchanges in a row."""
    over = exchanges - app_settings.DJM_FAST_EXCHANGES
    return 0.0 if over <= 0 else min(2.0 ** min(over - 1, 30), LONGEST_WAIT)


def exchanges_after(conversation: models.Conversation, moment: datetime.datetime) -> int:
    """Return the number of fast exchanges in a row, if the person authors an event at this moment.

    Only the times of the person's events are compared. ``ReplyLimits`` also looks at the last answer.
    """
    last = conversation.date_last_inbound
    if not app_settings.DJM_FAST_EXCHANGES or last is None:
        return 0
    is_fast = (moment - last).total_seconds() <= FAST + wait_of(conversation.fast_exchanges)
    return min(conversation.fast_exchanges + 1, _MOST_COUNTED) if is_fast else 0


class ReplyLimits:
    """Callable that applies the limits to each reply that the rules of one event queue."""

    def __init__(self, row: models.Messaging) -> None:
        self._row = row
        self._is_authored = ReceivingType.value_of(row.type).authored
        self._counts: Counter[int] = Counter()
        self._known: set[int] = set()

    def __call__(self, reply: Any) -> None:
        """Mark a reply that is over the limit, and set the wait of the first answer of a fast exchange."""
        conversation_id = reply.conversation_id
        is_own = conversation_id == self._row.conversation_id
        if self._is_authored and not is_own:
            # One person wrote, and the rule tells another one. A further message needs a further event of the person.
            return
        if conversation_id not in self._known:
            self._known.add(conversation_id)
            if self._is_authored:
                self._slow_down(reply)
            else:
                self._counts[conversation_id] = _count_unasked(conversation_id)
        self._counts[conversation_id] += 1
        most = app_settings.DJM_MAX_UNASKED
        reply.is_over_limit = bool(most) and self._counts[conversation_id] > most

    def _slow_down(self, reply: Any) -> None:
        conversation = self._row.conversation
        if conversation is None or not (wait := wait_of(conversation.fast_exchanges)):
            return
        sent = models.Reply.objects.filter(conversation=conversation, state=models.Reply.State.SENT)
        last = sent.order_by("-id").annotate(now=Now()).values("date_sent", "now").first()
        gap = -1.0 if last is None else (self._row.date_received - last["date_sent"]).total_seconds()
        if last is None or not 0 <= gap <= FAST:
            # The person wrote before the answer, or took more time. Several messages in a row are no exchange.
            conversation.fast_exchanges = 0
            models.Conversation.objects.filter(pk=conversation.pk).update(fast_exchanges=0)
            return
        reply.not_before = last["now"] + datetime.timedelta(seconds=wait)
        logger.warning(
            "Conversation %s is a fast exchange, as of two bots; the answer to event %s waits %s s",
            conversation.pk,
            self._row.pk,
            round(wait),
            extra={"action": "exchange_slowed", "event": self._row.pk, "waits": wait},
        )


def _count_unasked(conversation_id: int) -> int:
    """Return how many replies of rules followed the last event that the person authored; at most the limit."""
    events = models.Messaging.objects.filter(conversation_id=conversation_id, type__in=_AUTHORED)
    last = events.order_by("-id").values_list("date_received", flat=True).first()
    replies = models.Reply.objects.filter(conversation_id=conversation_id).exclude(rule="").order_by("-id")
    newest = replies.values_list("date_sent", flat=True)[: app_settings.DJM_MAX_UNASKED]
    return sum(last is None or moment > last for moment in newest)
