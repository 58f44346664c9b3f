"""Celery as the dispatcher: ``DJM_DISPATCHER = "celery"``, on Redis or RabbitMQ.

A task is a wake-up and carries a key; all state is in the database, so a lost or repeated task costs time only. The
sweep finds what no task told of; let beat run it::

    app.conf.beat_schedule = {
        "djmessenger": {"task": "djmessenger.sweep", "schedule": 20.0},
    }
"""

from __future__ import annotations

from collections.abc import Callable

from celery import shared_task

from djmessenger import bot, models
from djmessenger.pipeline.road import Road

Kind = models.Lane.Kind

_SWEEP_MOST = 1000
_SOONEST = 0.5


class CeleryDispatcher:
    """Announces work by tasks; a broker that is away loses nothing."""

    def __init__(self, road: Callable[[], Road]) -> None:
        self._road = road

    def callback_stored(self, callback_id: int) -> None:
        split_callback.delay(callback_id)

    def replies_queued(self, conversation_id: int) -> None:
        send_replies.delay(conversation_id)

    def stop(self) -> None:
        """Celery's workers stop by themselves."""


@shared_task(name="djmessenger.split", ignore_result=True)
def split_callback(callback_id: int) -> None:
    """Split a stored callback, and have each of its conversations worked on by a task of its own."""
    road = bot.get_road()
    todo = road.split(callback_id)
    road.loose(todo)
    for conversation_id in todo.conversations:
        handle_events.delay(conversation_id)


@shared_task(name="djmessenger.handle", ignore_result=True)
def handle_events(conversation_id: int) -> None:
    """Handle what waits in a conversation; what it has to wait for, another task looks at then."""
    _work(Kind.IN, conversation_id)


@shared_task(name="djmessenger.send", ignore_result=True)
def send_replies(conversation_id: int) -> None:
    """Send what waits in a conversation."""
    _work(Kind.OUT, conversation_id)


@shared_task(name="djmessenger.sweep", ignore_result=True)
def sweep() -> None:
    """Find what no task told of, and have it worked on."""
    road = bot.get_road()
    while todo := road.split_waiting():
        road.loose(todo)
    road.sweep()
    for row_id in road.loose_waiting():
        road.inbox.handle_loose(row_id)
    for kind, conversation_id in models.Lane.objects.due(_SWEEP_MOST):
        _TASKS[kind].delay(conversation_id)


_TASKS = {Kind.IN.value: handle_events, Kind.OUT.value: send_replies}


def _work(kind: str, conversation_id: int) -> None:
    bot.get_road().work_on(kind, conversation_id)
    wait = models.Lane.objects.seconds_until_due(conversation_id, kind)
    if wait is not None:
        # Somebody else holds it, or it waits out a pause; whoever comes too early finds nothing.
        _TASKS[kind].apply_async((conversation_id,), countdown=max(wait, _SOONEST))
