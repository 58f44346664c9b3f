"""The road under a test: everything that waits is done in the test's own thread, when the test wants it."""

from __future__ import annotations

from collections.abc import Callable

from django.db import connections, router
from django.test import TestCase

from djmessenger import bot, models, settings
from djmessenger.pipeline.clock import Deadline
from djmessenger.pipeline.inbox import RunHere
from djmessenger.pipeline.road import Road

Kind = models.Lane.Kind
_MOST_ROUNDS = 10_000


class WaitingDispatcher:
    """Leaves all work to the kit, which does it after each act and before each look."""

    def __init__(self, road: Callable[[], Road]) -> None:
        """Take the road as any dispatcher does."""

    def callback_stored(self, callback_id: int) -> None:
        """Nothing: the row is found."""

    def replies_queued(self, conversation_id: int) -> None:
        """Nothing: the row is found."""

    def stop(self) -> None:
        """Nothing runs."""


def database() -> str:
    """Give the alias of the database that the road writes to."""
    return router.db_for_write(models.Reply)


def depth() -> int:
    """Give how many transactions are open in each other, those of the test case included."""
    connection = connections[database()]
    return connection.in_atomic_block + len(connection.savepoint_ids)


def drain() -> bool:
    """Split, handle and send what can be now; give whether there was anything.

    What was to run on commit runs after each step, as it would where each step's transaction is the outermost:
    in a test case the outermost one is the test's and is never committed.
    """
    road = bot.get_road()
    busy = False
    for _ in range(_MOST_ROUNDS):
        with TestCase.captureOnCommitCallbacks(using=database(), execute=True):
            worked = road.split_waiting() > 0
        worked = _work(road, Kind.IN) or worked
        worked = _work(road, Kind.OUT) or worked
        if not worked:
            return busy
        busy = True
    raise RuntimeError(f"the bot was still busy after {_MOST_ROUNDS} rounds")


def _work(road: Road, kind: str) -> bool:
    with TestCase.captureOnCommitCallbacks(using=database(), execute=True):
        leases = models.Lane.objects.claim(kind, seconds=settings.DJM_LEASE, limit=100)
        for lease in leases:
            road.work(lease, Deadline(settings.DJM_LEASE), RunHere())
    return bool(leases)
