"""What is done with leases that are lost, and with lanes whose work broke off."""

from __future__ import annotations

import logging

from django.db import DatabaseError

from djmessenger import models

logger = logging.getLogger(__name__)

_BREATH = 1.0
"""Seconds before work that broke off is begun again."""


def log_lost(lost: models.LeaseLost) -> None:
    """Say that another has the lane by now; what was not committed before has no effect."""
    logger.warning("Work was given up: %s", lost, extra={"action": "lease_lost", "lane": lost.lease.lane_id})


def give_back(lease: models.Lease, *, is_slow: bool = False) -> None:
    """Let go of a lane after a failure, so that it need not wait for the end of the lease.

    With ``is_slow`` nothing failed: whoever has a thread for slow work may have it at once.
    """
    try:
        models.Lane.objects.give_back(lease, after=0.0 if is_slow else _BREATH, is_slow=is_slow)
    except DatabaseError:
        logger.warning("A lane waits for the end of its lease", extra={"action": "lane_waits"})
