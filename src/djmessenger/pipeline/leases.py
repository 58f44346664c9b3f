"""What is done with leases that are lost, and with queues whose work broke off."""

from __future__ import annotations

import logging

from django.db import DatabaseError

from djmessenger import models

logger = logging.getLogger(__name__)

_RETRY_DELAY = 1.0
"""Seconds before work that broke off is begun again."""


def log_lost(lost: models.LeaseLost) -> None:
    """Say that another has the queue by now; what was not committed before has no effect."""
    logger.warning(
        "Work was given up: %s", lost, extra={"action": "lease_lost", "queue": lost.lease.queue_id}
    )


def give_back(lease: models.Lease, *, is_slow: bool = False) -> None:
    """Let go of a queue after a failure, so that it need not wait for the end of the lease.

    With ``is_slow`` nothing failed: whoever has a thread for slow work may have it at once.
    """
    try:
        models.ConversationQueue.objects.give_back(
            lease, after=0.0 if is_slow else _RETRY_DELAY, is_slow=is_slow
        )
    except DatabaseError:
        logger.warning("A queue waits for the end of its lease", extra={"action": "lane_waits"})
