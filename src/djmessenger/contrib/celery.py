"""Dispatcher for Celery (``DJM_DISPATCHER = "celery"``): tasks drive the engine, and a beat task sweeps.

A task has no arguments. It is a wake-up, and the queues are in the database. After a lost task the next sweep finds the
work; a repeated task finds none.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import current_app, shared_task
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import worker_init, worker_process_shutdown, worker_shutdown
from django.core.checks import CheckMessage, Warning  # noqa: A004
from django.db.models import Min
from django.utils import timezone

from djmessenger import bot, models
from djmessenger.clock import Deadline
from djmessenger.pipeline import claims
from djmessenger.pipeline.claims import Lease
from djmessenger.pipeline.engine import Engine
from djmessenger.pipeline.event_results import Handled
from djmessenger.pipeline.publisher import Publisher
from djmessenger.pipeline.slow import Finish, SlowThreads
from djmessenger.project_code import interrupted_by
from djmessenger.settings import app_settings

logger = logging.getLogger(__name__)

Kind = models.ConversationQueue.Kind

WORK = "djmessenger.work"
SWEEP = "djmessenger.sweep"

SLICE = 10.0
"""Seconds after which a task begins no further work and sends a new task, so that other tasks get their turn.

With a short time limit it is half of the limit. The other half is left to the last event.
"""
SLOW_THREADS = 16
"""Slow rules that run at once in each process of a Celery worker. They wait for services, so threads are cheap."""
_EXPIRES = 60
"""Seconds after which the broker drops a task that no worker took; a sweep has found the work by then."""
_TIMEOUT = 3.0
"""Seconds for a connection to the broker, and for each read and write, unless the project has limits of its own."""
_LIMITS = {
    "redis": {"socket_connect_timeout": _TIMEOUT, "socket_timeout": _TIMEOUT},
    "py-amqp": {"read_timeout": _TIMEOUT, "write_timeout": _TIMEOUT},
}
"""Options with these limits, by the driver of the transport."""


class CeleryDispatcher:
    """Dispatcher that sends a task after each commit. A thread sends it, so that no request waits for the broker.

    Work that is announced meanwhile is covered by one task. If the broker fails, no task is sent for ``DJM_SWEEP``
    seconds.
    """

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._publisher = Publisher(self._send)
        self._connection: Any = None
        self._pid = 0

    def callback_stored(self, callback_id: int) -> None:
        self.wake()

    def replies_queued(self, conversation_id: int) -> None:
        # A task that queues replies claims their outboxes itself before it ends.
        if not getattr(_this_thread, "is_at_work", False):
            self.wake()

    def wake(self) -> None:
        self._publisher.request()

    def _send(self, payload: str) -> None:
        # A connection of its own, because the pool of the project may have no limits, and may be used up.
        # A socket of the parent belongs to the parent, so a forked child connects again.
        if self._connection is None or self._pid != os.getpid():
            self._connection, self._pid = _connection(), os.getpid()
        try:
            work.apply_async(connection=self._connection, retry=False, expires=_EXPIRES, ignore_result=True)
        except BaseException:
            connection, self._connection = self._connection, None
            connection.release()
            raise

    def stop(self) -> None:
        """Send the task that is pending. Celery stops its own workers."""
        self._publisher.stop()

    @classmethod
    def check(cls) -> list[CheckMessage]:
        """Return the warnings of ``manage.py check`` about the settings of Celery."""
        conf = current_app.conf
        found = []
        if conf.task_always_eager:
            found.append(
                _warning(
                    "W045",
                    "Celery runs tasks in the caller (task_always_eager), so rules and calls to Graph run inside "
                    "Meta's request.",
                    "Remove the setting. In tests set DJM_DISPATCHER = 'inline' instead.",
                )
            )
        if not conf.broker_url and "CELERY_BROKER_URL" not in os.environ:
            found.append(
                _warning(
                    "W046",
                    "Celery has no broker, so no wake-up reaches a worker.",
                    "Set broker_url of the Celery app, and import that app in the project's __init__.py.",
                )
            )
        tasks = {entry.get("task") for entry in (conf.beat_schedule or {}).values()}
        if SWEEP not in tasks and "DatabaseScheduler" not in str(conf.beat_scheduler):
            found.append(
                _warning(
                    "W047",
                    f"No beat schedule runs {SWEEP}, so nothing finds work after a lost task, and no failed event or "
                    "reply is tried again.",
                    f"Add {{'task': '{SWEEP}', 'schedule': 10.0}} to CELERY_BEAT_SCHEDULE, and run one celery beat.",
                )
            )
        limit, least = _time_limit(work), SLICE + app_settings.DJM_LEASE
        if limit < least:
            found.append(
                _warning(
                    "W066",
                    f"Celery ends {WORK} after {limit:g} seconds, but a rule may take {app_settings.DJM_LEASE:g} "
                    "seconds (DJM_LEASE).",
                    f"Raise task_time_limit and task_soft_time_limit to {least:g} seconds, for the tasks {WORK} and "
                    f"{SWEEP} alone with task_annotations.",
                )
            )
        return found


_worker_limits: dict[str, float] = {}
"""Limits in the options of the worker, which its processes inherit."""


def _note_limits(sender: Any, **kwargs: Any) -> None:
    _worker_limits.update(
        time_limit=sender.time_limit or math.inf, soft_time_limit=sender.soft_time_limit or math.inf
    )


worker_init.connect(_note_limits, dispatch_uid="djmessenger.contrib.celery")


def _time_limit(task: Any) -> float:
    """Return the seconds after which Celery interrupts or ends the process of a task: the shorter one of its limits."""
    given = task.request.timelimit or (None, None)
    limits = []
    for name, of_message in zip(("time_limit", "soft_time_limit"), given, strict=True):
        of_project = getattr(current_app.conf, f"task_{name}") or math.inf
        limits.append(of_message or getattr(task, name) or _worker_limits.get(name, of_project))
    return min(limits)


def _connection() -> Any:
    """Return a new connection to the broker, with limits for the connect, for reads and for writes."""
    connection = current_app.connection_for_write(connect_timeout=_TIMEOUT)
    limits = _LIMITS.get(connection.transport.driver_name, {})
    connection.transport_options = {**limits, **connection.transport_options}
    return connection


@shared_task(name=WORK, ignore_result=True, bind=True)
def work(self: Any) -> None:
    """Split, handle and send for up to ``SLICE`` seconds. If work may be left, send another task."""
    with _limited(self, SLICE) as end:
        if _work(end):
            _wake()


@shared_task(name=SWEEP, ignore_result=True, bind=True)
def sweep(self: Any) -> None:
    """Sweep, then work on due queues and on those that are due soon, such as after a pause or for an echo.

    The beat starts it every few seconds. It ends before ``DJM_SWEEP`` seconds are over. Two at once do no harm, because
    each step claims its queue.
    """
    with _limited(self, app_settings.DJM_SWEEP * 0.8) as end:
        bot.get_engine().sweep()
        while _work(end) or _soon(end):
            if end.remaining() <= 0:
                break


@contextmanager
def _limited(task: Any, seconds: float) -> Iterator[Deadline]:
    """Yield the end of a task's work: ``seconds`` from now, or half of its time limit if that is earlier."""
    # Guard: a task that works until its limit is interrupted in the event that it has just begun.
    # Test: tests/test_contrib_celery.py, test_a_slice_ends_at_half_of_the_time_limit.
    limit = _time_limit(task)
    seconds = min(seconds, limit / 2)
    with interrupted_by(SoftTimeLimitExceeded, min(limit - seconds, app_settings.DJM_LEASE)):
        yield Deadline(seconds)


def _work(end: Deadline) -> bool:
    """Split, handle and send until nothing is due or ``end`` has passed. Return whether work may be left."""
    try:
        with _at_work():
            return dataclasses.replace(bot.get_engine(), slow=_slow()).drain(lambda: end.remaining() <= 0)
    except SoftTimeLimitExceeded:
        logger.warning(
            "Time limit of a task of Celery is over; another task goes on. Raise task_soft_time_limit",
            extra={"action": "task_interrupted"},
        )
        end.expire()
        return True


def _soon(end: Deadline) -> bool:
    """Sleep until the next queue is due, and return True. If none is due before ``end``, return False at once."""
    # Queues that wait for a slow thread are left out: a slow rule that ends sends a task of its own.
    waiting = models.ConversationQueue.objects.filter(ready_at__isnull=False, is_slow=False)
    ready = waiting.aggregate(at=Min("ready_at"))["at"]
    if ready is None:
        return False
    seconds = (ready - timezone.now()).total_seconds()
    if seconds > end.remaining():
        return False
    time.sleep(min(max(seconds, 0.05), max(end.remaining(), 0.0)))
    return True


_this_thread = threading.local()


@contextmanager
def _at_work() -> Iterator[None]:
    _this_thread.is_at_work = True
    try:
        yield
    finally:
        _this_thread.is_at_work = False


_lock = threading.Lock()
_pools: dict[int, SlowThreads] = {}


def _slow() -> SlowThreads:
    """Return the pool for slow rules of this process, so that slow rules delay no other conversation."""
    with _lock:
        if os.getpid() not in _pools:
            # Guard: Celery forks its workers. A forked child has the parent's pool object without its threads, so
            # jobs submitted to that pool would never run.
            _pools.clear()
            _pools[os.getpid()] = SlowThreads(SLOW_THREADS, _wake, _finish)
        return _pools[os.getpid()]


def _finish(lease: Lease, finish: Finish) -> None:
    """Run the rest of the work on an event in the thread of its slow handlers, and commit the result."""
    handled: Handled | None = finish()
    if handled is not None:
        bot.get_engine().inbox.commit_handled([handled])


def _wake() -> None:
    dispatcher = bot.get_dispatcher()
    if isinstance(dispatcher, CeleryDispatcher):
        dispatcher.wake()


def _stop(**kwargs: Any) -> None:
    """Close the pool for slow rules and wait up to ``DJM_GRAPH_TIMEOUT`` seconds for those that run."""
    with _lock:
        pool = _pools.pop(os.getpid(), None)
    if pool is not None:
        pool.stop(app_settings.DJM_GRAPH_TIMEOUT)
    claims.release_remembered()
    dispatcher = bot.get_dispatcher()
    if isinstance(dispatcher, CeleryDispatcher):
        # A child of Celery ends without the exit functions of Python.
        dispatcher.stop()


worker_process_shutdown.connect(_stop, dispatch_uid="djmessenger.contrib.celery")
worker_shutdown.connect(_stop, dispatch_uid="djmessenger.contrib.celery")


def _warning(number: str, message: str, hint: str) -> CheckMessage:
    return Warning(message, hint=f"{hint} See docs/deployment.md", id=f"djmessenger.{number}")
