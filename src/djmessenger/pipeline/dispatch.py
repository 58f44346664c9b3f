"""Who does the work that a stored callback or a queued reply makes, and when."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable
from typing import Protocol

from django.db import connection

from djmessenger.pipeline.engine import Engine
from djmessenger.pipeline.notifications import CALLBACK, QUEUES
from djmessenger.pipeline.worker import Worker

logger = logging.getLogger(__name__)


class Dispatcher(Protocol):
    """What ``DJM_DISPATCHER`` names: told of work after its commit. Both calls are hints and may repeat."""

    def __init__(self, engine: Callable[[], Engine]) -> None: ...

    def callback_stored(self, callback_id: int) -> None:
        """A callback was committed and is to be split."""

    def replies_queued(self, conversation_id: int) -> None:
        """Replies of a conversation were committed and are to be sent."""

    def stop(self) -> None:
        """Finish what is begun and let go."""


class InlineDispatcher:
    """Does the work at once, in the caller's thread: for tests, shells and commands."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    def callback_stored(self, callback_id: int) -> None:
        self._engine().callback(callback_id)

    def replies_queued(self, conversation_id: int) -> None:
        # Inside a transaction the work that follows the event's own commit finds the rows.
        if not connection.in_atomic_block:
            self._engine().send(conversation_id)

    def stop(self) -> None:
        """Nothing is ever left over."""


class EmbeddedDispatcher:
    """Does the work in threads of this process, started at the first need, and again after a fork."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._worker = Worker(engine, threads=4, slow_threads=8)
        atexit.register(self.stop)

    def callback_stored(self, callback_id: int) -> None:
        self._worker.wake_to_split()

    def replies_queued(self, conversation_id: int) -> None:
        self._worker.wake()

    def stop(self) -> None:
        self._worker.stop()


class WorkerDispatcher:
    """Leaves the work to processes of ``manage.py djmessenger worker``."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    def callback_stored(self, callback_id: int) -> None:
        self._engine().notify(CALLBACK)

    def replies_queued(self, conversation_id: int) -> None:
        self._engine().notify(QUEUES)

    def stop(self) -> None:
        """The workers stop by themselves."""


class OwnThreads:
    """Wakes the threads of a worker process for what its own rules queue; used by that process alone."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def callback_stored(self, callback_id: int) -> None:
        self._worker.wake_to_split()

    def replies_queued(self, conversation_id: int) -> None:
        self._worker.wake()

    def stop(self) -> None:
        self._worker.stop()
