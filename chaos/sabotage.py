"""Removal of one guard of the engine. A pass without a guard has to fail; otherwise it proves nothing."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from djmessenger import models
from djmessenger.pipeline import intake, outbox
from djmessenger.receiving import Messaging
from djmessenger.sql import Among, Prepared, Several


def no_fence() -> None:
    queues: Any = type(models.ConversationQueue.objects)
    queues.fence = lambda self, lease: self.select_for_update().get(pk=lease.queue_id)
    queues.fence_many = lambda self, leases: {lease.queue_id for lease in leases}
    events: Any = type(models.Messaging.objects)
    events.lock_and_verify = lambda self, leases: set(
        self.filter(pk__in=list(leases)).values_list("pk", flat=True)
    )


def no_key() -> None:
    Messaging.key = lambda self: uuid.uuid4().hex  # type: ignore[method-assign]


def no_wait() -> None:
    outbox.Outbox._wait = staticmethod(lambda page: 0.0)  # type: ignore[method-assign]


def no_token() -> None:
    outbox.with_token = lambda data, token: {  # type: ignore[attr-defined]
        **data,
        "message": {**data["message"], "metadata": f"not-{token}"},
    }


def no_order() -> None:
    skipping = models.Callback.objects.filter(Among("pk", Several("callbacks")), state="new").order_by("pk")
    intake._CALLBACKS = Prepared(  # type: ignore[attr-defined]
        models.Callback, lambda: skipping.select_for_update(skip_locked=True)
    )
    models.Messaging.ORDER = ("timestamp", "id")


GUARDS: dict[str, Callable[[], None]] = {
    "fence": no_fence,
    "key": no_key,
    "order": no_order,
    "token": no_token,
    "wait": no_wait,
}
