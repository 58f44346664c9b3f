"""Dispatcher for Django Tasks (``DJM_DISPATCHER = "tasks"``): a task drives the engine.

It needs a backend whose tasks run in other processes, such as ``django_tasks_db.DatabaseBackend``. A task has no
arguments. It is a wake-up, and the queues are in the database: a repeated task finds no work.

Django Tasks has no schedule. The last task of a process enqueues the next one for the time when a row is due. That is
after ``DJM_SWEEP`` seconds at the latest.

It is also the example of a dispatcher of one's own: a class of three methods, and ``Engine.drain``.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable
from typing import Any

from django.core.checks import CheckMessage, Warning  # noqa: A004
from django.db.models import Min
from django.utils import timezone

from djmessenger import bot, models
from djmessenger.clock import Deadline
from djmessenger.pipeline.engine import Engine
from djmessenger.pipeline.publisher import Publisher
from djmessenger.settings import app_settings

try:
    from django.tasks import default_task_backend, task, task_backends
except ImportError:  # Django before 6.0
    from django_tasks import (  # type: ignore[no-redef,assignment,unused-ignore]
        default_task_backend,
        task,
        task_backends,
    )

SLICE = 10.0
"""Seconds after which a task begins no further work and enqueues a new task, so that other tasks get their turn."""

_this_thread = threading.local()
_lock = threading.Lock()
_next_at: datetime.datetime | None = None
"""Time of the next task that this process has enqueued, otherwise None."""


class TasksDispatcher:
    """Dispatcher that enqueues a task after each commit. A thread enqueues it, because the backend may be away.

    Work that is announced meanwhile is covered by one task.
    """

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._publisher = Publisher(lambda payload: work.enqueue())

    def callback_stored(self, callback_id: int) -> None:
        self._publisher.request()

    def replies_queued(self, conversation_id: int) -> None:
        # A task that queues replies sends them itself before it ends.
        if not getattr(_this_thread, "is_at_work", False):
            self._publisher.request()

    def stop(self) -> None:
        """Enqueue the task that is pending. The backend stops its own workers."""
        self._publisher.stop()

    @classmethod
    def check(cls) -> list[CheckMessage]:
        """Return a warning of ``manage.py check`` if the backend has no worker that runs tasks later."""
        name = type(task_backends["default"]).__name__
        if name not in {"ImmediateBackend", "DummyBackend"} and default_task_backend.supports_defer:
            return []
        return [
            Warning(
                f"The backend of Django Tasks is {name}, which runs no task later: rules run in Meta's request or not "
                "at all, and failed work is not tried again.",
                hint="Set TASKS to a backend with a worker, such as django_tasks_db.DatabaseBackend. See "
                "docs/deployment.md",
                id="djmessenger.W048",
            )
        ]


@task()
def work() -> None:
    """Sweep if it is time, then split, handle and send for up to ``SLICE`` seconds; enqueue the next task."""
    engine, end = bot.get_engine(), Deadline(SLICE)
    _this_thread.is_at_work = True
    try:
        if models.Sweep.objects.claim(app_settings.DJM_SWEEP / 2):
            engine.sweep()
        is_more = engine.drain(lambda: end.remaining() <= 0)
    finally:
        _this_thread.is_at_work = False
    if is_more:
        work.enqueue()
    elif default_task_backend.supports_defer:
        _enqueue_at(_next_due())


def _next_due() -> datetime.datetime:
    """Return the time when the next queue is due, and the time of the next sweep if that is earlier."""
    now = timezone.now()
    due = models.ConversationQueue.objects.filter(ready_at__gt=now).aggregate(at=Min("ready_at"))["at"]
    sweep = now + datetime.timedelta(seconds=app_settings.DJM_SWEEP)
    return min(due, sweep) if due is not None else sweep


def _enqueue_at(moment: datetime.datetime) -> None:
    """Enqueue a task for a later time, unless this process has enqueued one for that time or an earlier one."""
    global _next_at  # noqa: PLW0603
    with _lock:
        # Guard: without it, each of many tasks would enqueue a later one, and the number of tasks would never fall.
        # Test: tests/test_contrib_tasks.py, test_idle_tasks_leave_one_task_for_later.
        if _next_at is not None and timezone.now() < _next_at <= moment:
            return
        _next_at = moment
    later: Any = work.using(run_after=moment)
    later.enqueue()
