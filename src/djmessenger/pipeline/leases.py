"""Log lines and releases for leases that were lost or whose work raised an exception."""

from __future__ import annotations

import logging

from django.db import DatabaseError

from djmessenger import models
from djmessenger.models.queues import Lease, LeaseLost

logger = logging.getLogger(__name__)

_RETRY_DELAY = 1.0
"""Seconds before a queue whose work raised an exception is due again."""


def log_lost(lost: LeaseLost) -> None:
    """Log that another worker has the queue. Uncommitted results have no effect."""
    logger.warning(
        "Uncommitted results for queue %s are discarded: %s",
        lost.lease.queue_id,
        lost,
        extra={"action": "lease_lost", "queue": lost.lease.queue_id},
    )


def give_back(lease: Lease, *, is_slow: bool = False) -> None:
    """Release a queue whose work was not done. Never raises ``DatabaseError``.

    The queue is due again in a second. With ``is_slow`` it is due at once, for a worker with a free slow thread.
    """
    try:
        models.ConversationQueue.objects.give_back(
            lease, after=0.0 if is_slow else _RETRY_DELAY, is_slow=is_slow
        )
    except DatabaseError:
        logger.warning(
            "Queue %s could not be released; it is due again when its lease ends",
            lease.queue_id,
            extra={"action": "lane_waits"},
        )
