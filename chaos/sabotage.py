"""Removal of one guard of the engine. A pass without a guard has to fail; otherwise it proves nothing."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable

from djmessenger import models
from djmessenger.pipeline import claims, reads, sending, unknown_fate
from djmessenger.receiving import Messaging


def no_fence() -> None:
    claims.fence = lambda lease: models.ConversationQueue.objects.select_for_update().get(  # type: ignore[assignment]
        pk=lease.queue_id
    )
    claims.fence_many = lambda leases: {lease.queue_id for lease in leases}  # type: ignore[assignment]
    claims.lock_and_verify = lambda leases: set(  # type: ignore[assignment]
        models.Messaging.objects.filter(pk__in=list(leases)).values_list("pk", flat=True)
    )


def no_key() -> None:
    Messaging.key = lambda self: uuid.uuid4().hex  # type: ignore[method-assign]


def no_wait() -> None:
    unknown_fate.echo_wait = lambda page: 0.0  # type: ignore[assignment]


def no_token() -> None:
    sending.with_token = lambda data, token: {  # type: ignore[attr-defined]
        **data,
        "message": {**data["message"], "metadata": f"not-{token}"},
    }


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
    "token": no_token,
    "wait": no_wait,
}
