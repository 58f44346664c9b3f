"""Dispatchers: they learn of stored callbacks and queued replies, and wake a driver of the engine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from djmessenger import models, sql
from djmessenger.pipeline.engine import Engine
from djmessenger.pipeline.notifications import CALLBACK, QUEUES
from djmessenger.pipeline.process_end import ProcessEnd
from djmessenger.pipeline.publisher import Publisher
from djmessenger.pipeline.worker import Worker

logger = logging.getLogger(__name__)

EMBEDDED_THREADS, WORKER_THREADS = 4, 8
"""Conversations that an embedded worker handles at once, and the default of a worker process."""
EMBEDDED_SENDERS, WORKER_SENDERS = 32, 200
"""Calls of Graph that an embedded worker makes at once, and the default of a worker process.

A worker process answers 300 to 600 messages a second, by machine. If a call takes 150 ms, up to 90 are under way.
As many fetch profiles of new persons, which get half of the threads. The rest is for slower calls. A thread starts when
all others are busy, so a quiet worker has few.
"""

Kind = models.ConversationQueue.Kind


class Dispatcher(Protocol):
    """Interface of the class that ``DJM_DISPATCHER`` names; it is created with a function that returns the engine.

    ``callback_stored`` and ``replies_queued`` are called after the commit. A call that is lost or repeated does no
    harm, because the sweep finds the work and each step checks the rows. An exception is logged and does not reach the
    caller.
    """

    def __init__(self, engine: Callable[[], Engine]) -> None: ...

    def callback_stored(self, callback_id: int) -> None:
        """Wake a driver: a callback was committed and is to be split."""

    def replies_queued(self, conversation_id: int) -> None:
        """Wake a driver: replies of a conversation were committed and are to be sent."""

    def stop(self) -> None:
        """Finish the work that runs and release its leases."""


class InlineDispatcher:
    """Dispatcher that does all work at once in the caller's thread, for tests, shells and commands."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    def callback_stored(self, callback_id: int) -> None:
        self._engine().drain_callback(callback_id)

    def replies_queued(self, conversation_id: int) -> None:
        # Guard: inside a transaction the send would call Graph for rows that may still be rolled back. The send
        # that follows the commit of the event finds them.
        # Test: tests/test_dispatch.py, test_inline_does_not_send_inside_a_transaction.
        if not sql.connection().in_atomic_block:
            self._engine().drain_queue(Kind.OUT, conversation_id)

    def stop(self) -> None:
        """Do nothing, because no work is pending between calls."""


class EmbeddedDispatcher:
    """Dispatcher with a worker in this process. Its threads start with the first work, and again after a fork.

    Before the process ends, the threads finish their running jobs and release their leases.
    """

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._worker = Worker(
            engine,
            threads=EMBEDDED_THREADS,
            slow_threads=8,
            senders=EMBEDDED_SENDERS,
            on_start=self._watch_end,
        )
        self._end = ProcessEnd(self._worker.end)

    def callback_stored(self, callback_id: int) -> None:
        self._worker.wake_to_split()

    def replies_queued(self, conversation_id: int) -> None:
        self._worker.wake()

    def stop(self) -> None:
        self._worker.stop()

    def _watch_end(self) -> None:
        self._end.watch()


class WorkerDispatcher:
    """Dispatcher that notifies the processes of ``manage.py djmessenger worker`` and does no work itself.

    A thread with a connection of its own sends the notifications, because the server of the database may be away.
    Without PostgreSQL there are no notifications.
    """

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._publisher = Publisher(lambda payload: engine().notify(payload))

    def callback_stored(self, callback_id: int) -> None:
        self._notify(CALLBACK)

    def replies_queued(self, conversation_id: int) -> None:
        self._notify(QUEUES)

    def _notify(self, payload: str) -> None:
        if sql.connection().vendor == "postgresql":
            self._publisher.request(payload)

    def stop(self) -> None:
        """Send the notification that is pending. The workers are processes of their own."""
        self._publisher.stop()


class OwnWorkerDispatcher:
    """Dispatcher inside a worker process: replies that its own rules queue wake its own threads."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def callback_stored(self, callback_id: int) -> None:
        self._worker.wake_to_split()

    def replies_queued(self, conversation_id: int) -> None:
        self._worker.wake()

    def stop(self) -> None:
        self._worker.stop()
