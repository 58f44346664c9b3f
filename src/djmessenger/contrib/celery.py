"""``DJM_DISPATCHER = "celery"``: workers of Celery do the work, and a beat task sweeps.

Tasks carry no work, only the news that there is some: the database is the queue. A task that is lost costs time
until the next sweep, one that is repeated finds nothing to do.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import current_app, shared_task
from celery.signals import worker_process_shutdown, worker_shutdown
from django.core.checks import CheckMessage, Warning  # noqa: A004
from django.db.models import Min
from django.utils import timezone

from djmessenger import bot, models
from djmessenger.clock import Deadline
from djmessenger.models.queues import Lease
from djmessenger.pipeline.engine import Engine
from djmessenger.pipeline.pools import SlowThreads
from djmessenger.settings import app_settings

logger = logging.getLogger(__name__)

Kind = models.ConversationQueue.Kind

WORK = "djmessenger.work"
SWEEP = "djmessenger.sweep"

SLICE = 10.0
"""Seconds after which a task begins nothing more and sends another in its place: others have their turn."""
SLOW_THREADS = 16
"""Slow handlers at once in each process of a Celery worker."""
_EXPIRES = 60
"""Seconds after which a wake-up is not worth a task any more: the sweep has been there."""


class CeleryDispatcher:
    """Sends a task for what was committed; a broker that is away costs the request nothing but one try a sweep."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._again = Deadline(0)

    def callback_stored(self, callback_id: int) -> None:
        self.wake()

    def replies_queued(self, conversation_id: int) -> None:
        # The task that queued it looks for replies itself before it ends.
        if not getattr(_this_thread, "is_at_work", False):
            self.wake()

    def wake(self) -> None:
        if self._again.remaining() > 0:
            return
        try:
            work.apply_async(retry=False, expires=_EXPIRES, ignore_result=True)
        except Exception as error:  # noqa: BLE001 - each broker has errors of its own, and none may reach the request
            self._again = Deadline(app_settings.DJM_SWEEP)
            logger.error(
                "The broker did not take a task (%s); the sweep finds what waits",
                type(error).__name__,
                extra={"action": "broker_away", "error": type(error).__name__},
            )

    def stop(self) -> None:
        """The workers of Celery stop by themselves."""

    @classmethod
    def check(cls) -> list[CheckMessage]:
        """Give what ``manage.py check`` should say about Celery's own settings."""
        conf = current_app.conf
        found = []
        if conf.task_always_eager:
            found.append(
                _warning(
                    "W045",
                    "Celery runs tasks at once (task_always_eager), so rules and calls to Graph run inside Meta's "
                    "request.",
                    "Remove the setting; tests use DJM_DISPATCHER = 'inline' instead.",
                )
            )
        if not conf.broker_url and "CELERY_BROKER_URL" not in os.environ:
            found.append(
                _warning(
                    "W046",
                    "Celery knows no broker, so no wake-up reaches a worker.",
                    "Set its broker_url, and import the project's Celery app in the project's __init__.py.",
                )
            )
        tasks = {entry.get("task") for entry in (conf.beat_schedule or {}).values()}
        if SWEEP not in tasks and "DatabaseScheduler" not in str(conf.beat_scheduler):
            found.append(
                _warning(
                    "W047",
                    f"No beat schedule runs {SWEEP}, so what a lost wake-up leaves waits for ever, and so does each "
                    "second try.",
                    f"Add {{'task': '{SWEEP}', 'schedule': 10.0}} to CELERY_BEAT_SCHEDULE, and run one celery beat.",
                )
            )
        return found


@shared_task(name=WORK, ignore_result=True)
def work() -> None:
    """Do what waits, as a worker does, for a slice of time."""
    if _work(Deadline(SLICE)):
        _wake()


@shared_task(name=SWEEP, ignore_result=True)
def sweep() -> None:
    """Find what no wake-up announced, and stay for what is due soon: pauses end, and echoes are looked for.

    For the beat, every few seconds; it ends before ``DJM_SWEEP`` is over, and two at once do no harm.
    """
    engine, end = bot.get_engine(), Deadline(app_settings.DJM_SWEEP * 0.8)
    engine.sweep()
    for row_id in engine.waiting_without_conversation():
        engine.inbox.handle_event_without_conversation(row_id)
    while _work(end) or _soon(end):
        if end.remaining() <= 0:
            break


def _work(end: Deadline) -> bool:
    """Split, handle and send until nothing is left or the time is over; true when something may be left."""
    engine, slow = bot.get_engine(), _slow()
    with _at_work():
        while end.remaining() > 0:
            todo = engine.split_waiting()
            for row_id in todo.events_without_conversation:
                engine.inbox.handle_event_without_conversation(row_id)
            busy = bool(todo)
            for kind in (Kind.OUT, Kind.IN):
                deadline = Deadline(app_settings.DJM_LEASE)
                for lease in _claim(kind, slow):
                    busy = True
                    try:
                        engine.work(lease, deadline, slow)
                    except Exception:
                        # The queue was given back, and comes up again in a moment.
                        logger.exception("Work was interrupted", extra={"action": "work_interrupted"})
                    finally:
                        slow.drop_reservation(lease)
            if not busy:
                return False
    return True


def _claim(kind: str, slow: SlowThreads) -> list[Lease]:
    """Claim a conversation queue; and one that waits for a thread for slow work, where one is free."""
    leases = models.ConversationQueue.objects.claim(kind, seconds=app_settings.DJM_LEASE)
    if kind == Kind.IN and slow.free_slots():
        waited = models.ConversationQueue.objects.claim(kind, seconds=app_settings.DJM_LEASE, is_slow=True)
        slow.reserve(waited, more=bool(waited))
        # Those first: handing them on takes a moment.
        return waited + leases
    return leases


def _soon(end: Deadline) -> bool:
    """Wait until a conversation queue is due, if one is before the end; false when none is."""
    # Slow work that ends says itself that a thread is free.
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
    """Give this process's pool for slow handlers: thirty that wait for a language model delay nobody else."""
    with _lock:
        if os.getpid() not in _pools:
            # A forked child has the parent's memory, not its threads.
            _pools.clear()
            _pools[os.getpid()] = SlowThreads(SLOW_THREADS, _wake)
        return _pools[os.getpid()]


def _wake() -> None:
    dispatcher = bot.get_dispatcher()
    if isinstance(dispatcher, CeleryDispatcher):
        dispatcher.wake()


def _stop(**kwargs: Any) -> None:
    """Begin no slow handler any more and wait a while for those that run."""
    with _lock:
        pool = _pools.pop(os.getpid(), None)
    if pool is not None:
        pool.stop(app_settings.DJM_GRAPH_TIMEOUT)


worker_process_shutdown.connect(_stop, dispatch_uid="djmessenger.contrib.celery")
worker_shutdown.connect(_stop, dispatch_uid="djmessenger.contrib.celery")


def _warning(number: str, message: str, hint: str) -> CheckMessage:
    return Warning(message, hint=f"{hint} See docs/deployment.md", id=f"djmessenger.{number}")
