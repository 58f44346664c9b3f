"""Time travel: stored times move back, and the present stays.

The engine uses the clock of the database, which a test cannot move.
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
    """Clock of the persons and of Meta: that of the machine, plus the seconds ``ahead`` inside ``Messenger.at``."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def age(emulator: Emulator, seconds: float, more_models: Iterable[type[Model]] = ()) -> None:
    """Move all times of the bot, of the emulator and of ``more_models`` back by ``seconds``."""
    emulator.age(seconds)
    span = datetime.timedelta(seconds=seconds)
    for model in [*apps.get_app_config("djmessenger").get_models(), *more_models]:
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
    """Return the seconds until a queue or a callback of the emulator is due; None if there is none."""
    moments = [emulator.next_due()]
    queue = models.ConversationQueue.objects.aggregate(first=Min("ready_at"))["first"]
    moments.append(None if queue is None else queue.timestamp())
    due = [moment for moment in moments if moment is not None]
    return max(0.0, min(due) - time.time()) if due else None
