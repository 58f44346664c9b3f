"""Who does the work that a stored callback or a queued reply makes, and when."""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from django.db import close_old_connections, connection

from djmessenger import models
from djmessenger.pipeline import intake
from djmessenger.pipeline.inbox import Inbox
from djmessenger.pipeline.outbox import Outbox

logger = logging.getLogger(__name__)

_SWEEP_EVERY = 30.0
"""Seconds that an idle thread waits before it looks for work that no wake-up announced."""


@dataclass(frozen=True, kw_only=True)
class Road:
    """The stations of a message, in the order it passes them; each may be run again at any time."""

    inbox: Inbox
    outbox: Outbox

    def callback(self, callback_id: int) -> None:
        """Split a stored callback and do all that follows from it."""
        todo = intake.split(callback_id)
        for row_id in todo.loose:
            self.inbox.handle_loose(row_id)
        for conversation_id in todo.conversations:
            self.conversation(conversation_id)

    def conversation(self, conversation_id: int) -> None:
        """Handle the waiting events of a conversation, then send its replies."""
        self.inbox.drain(conversation_id)
        self.outbox.drain(conversation_id)

    def sweep(self) -> None:
        """Do what waits although nobody announced it: after a restart, or a lost wake-up."""
        new = models.Callback.objects.filter(state=models.Callback.State.NEW).order_by("id")
        for callback_id in list(new.values_list("id", flat=True)):
            self.callback(callback_id)
        waiting = models.Messaging.objects.filter(state=models.Messaging.State.NEW)
        for row_id in list(waiting.filter(conversation=None).order_by("id").values_list("id", flat=True)):
            self.inbox.handle_loose(row_id)
        unsent = models.Reply.objects.filter(state=models.Reply.State.QUEUED)
        conversations = set(waiting.exclude(conversation=None).values_list("conversation_id", flat=True))
        conversations |= set(unsent.exclude(conversation=None).values_list("conversation_id", flat=True))
        for conversation_id in sorted(conversations):
            self.conversation(conversation_id)


class Dispatcher(Protocol):
    """What ``DJM_DISPATCHER`` names: told of work after its commit. Both calls are hints and may repeat."""

    def __init__(self, road: Road) -> None: ...

    def callback_stored(self, callback_id: int) -> None:
        """A callback was committed and is to be split."""

    def replies_queued(self, conversation_id: int) -> None:
        """Replies of a conversation were committed and are to be sent."""


class InlineDispatcher:
    """Does the work at once, in the caller's thread: for tests, shells and commands."""

    def __init__(self, road: Road) -> None:
        self._road = road

    def callback_stored(self, callback_id: int) -> None:
        self._road.callback(callback_id)

    def replies_queued(self, conversation_id: int) -> None:
        # Inside a transaction the drain that follows the event's own commit finds the rows.
        if not connection.in_atomic_block:
            self._road.outbox.drain(conversation_id)


class EmbeddedDispatcher:
    """Does the work in one thread of this process, started at the first need and again after a fork."""

    def __init__(self, road: Road) -> None:
        self._road = road
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pid = 0

    def callback_stored(self, callback_id: int) -> None:
        self._put(lambda: self._road.callback(callback_id))

    def replies_queued(self, conversation_id: int) -> None:
        self._put(lambda: self._road.outbox.drain(conversation_id) and None)

    def _put(self, job: Callable[[], None]) -> None:
        with self._lock:
            if self._thread is None or self._pid != os.getpid() or not self._thread.is_alive():
                # A forked child has the memory of the parent's thread, not the thread.
                self._jobs = queue.SimpleQueue()
                self._jobs.put(self._road.sweep)
                self._thread = threading.Thread(target=self._run, name="djmessenger", daemon=True)
                self._pid = os.getpid()
                self._thread.start()
                atexit.register(self.stop)
            self._jobs.put(job)

    def stop(self, timeout: float = 10.0) -> None:
        """Finish what is queued, then end the thread; ``timeout`` in seconds."""
        thread = self._thread
        if thread is not None and self._pid == os.getpid() and thread.is_alive():
            self._jobs.put(None)
            thread.join(timeout)

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_SWEEP_EVERY)
            except queue.Empty:
                job = self._road.sweep
            if job is None:
                return
            close_old_connections()
            try:
                job()
            except Exception:
                # The rows are where they were; the next wake-up or sweep finds them.
                logger.exception("Work was interrupted", extra={"action": "dispatch_failed"})
            finally:
                close_old_connections()
