"""Removal of one guard of the engine. A pass without a guard has to fail; otherwise it proves nothing."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping

from djmessenger import models
from djmessenger.pipeline import claims, reads, split, unknown_fate
from djmessenger.pipeline.claims import Lease
from djmessenger.receiving import Messaging


def no_fence() -> None:
    """Remove the check of the fencing token from commits, renewals and releases. The rows are locked still."""

    def fence_many(leases: Iterable[Lease]) -> set[int]:
        return {pk for pk, _ in reads.fenced_queues([lease.queue_id for lease in leases])}

    def lock_and_verify(leases: Mapping[int, Lease]) -> set[int]:
        fence_many(leases.values())
        return set(models.Messaging.objects.filter(pk__in=leases, state="new").values_list("pk", flat=True))

    claims._queue_of = lambda lease: models.ConversationQueue.objects.filter(pk=lease.queue_id)
    claims.fence_many = fence_many
    claims.lock_and_verify = lock_and_verify


def no_state() -> None:
    """Remove the check that an event still waits when it is committed. The rows are locked still."""

    def lock_and_verify(leases: Mapping[int, Lease]) -> set[int]:
        valid = claims.fence_many(leases.values())
        return {pk for pk, lease in leases.items() if lease.queue_id in valid}

    claims.lock_and_verify = lock_and_verify


def no_key() -> None:
    Messaging.key = lambda self: uuid.uuid4().hex  # type: ignore[method-assign]


def no_wait() -> None:
    unknown_fate.echo_wait = lambda page: 0.0  # type: ignore[assignment]


def no_token() -> None:
    """Read no send token from an echo. The log of Graph keeps the tokens, so that the judge can count copies."""
    split.split_token = lambda metadata: ("", metadata)  # type: ignore[attr-defined]


def no_order() -> None:
    def skipping(callback_ids: Iterable[int]) -> list[models.Callback]:
        waiting = models.Callback.objects.filter(pk__in=callback_ids, state="new").order_by("pk")
        return list(waiting.select_for_update(skip_locked=True))

    reads.new_callbacks = skipping
    models.Messaging.ORDER = ("timestamp", "id")


GUARDS: dict[str, Callable[[], None]] = {
    "fence": no_fence,
    "key": no_key,
    "order": no_order,
    "state": no_state,
    "token": no_token,
    "wait": no_wait,
}
