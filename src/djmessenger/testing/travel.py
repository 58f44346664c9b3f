"""Time that passes: what is stored gets older, and now stays now.

The engine goes by the database's clock, which no test can move; so the past moves instead.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable

from django.apps import apps
from django.db.models import DateTimeField, F, Min, Model

from djmessenger import models
from messenger_emulator import Emulator


class Clock:
    """The clock of the persons and of Meta: the machine's, but for events that a test dates itself."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def age(emulator: Emulator, seconds: float, others: Iterable[type[Model]] = ()) -> None:
    """Let everything that the bot and Meta remember have happened that much earlier."""
    emulator.age(seconds)
    span = datetime.timedelta(seconds=seconds)
    for model in [*apps.get_app_config("djmessenger").get_models(), *others]:
        changes = {
            field.attname: F(field.attname) - span
            for field in model._meta.concrete_fields
            if isinstance(field, DateTimeField)
        }
        if model is models.Messaging:
            changes["timestamp"] = F("timestamp") - int(seconds * 1000)
        if changes:
            model._base_manager.update(**changes)


def next_due(emulator: Emulator) -> float | None:
    """Give the seconds until something is to happen by itself, None when nothing is."""
    moments = [emulator.next_due()]
    queue = models.ConversationQueue.objects.aggregate(first=Min("ready_at"))["first"]
    moments.append(None if queue is None else queue.timestamp())
    known = [moment for moment in moments if moment is not None]
    return max(0.0, min(known) - time.time()) if known else None
