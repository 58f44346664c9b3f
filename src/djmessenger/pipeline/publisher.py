"""Publisher: the thread of a process that sends wake-ups, so that no request waits for a broker or a database."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable

from django.db import connections

from djmessenger.clock import Deadline
from djmessenger.pipeline.connections import reusable_connections
from djmessenger.pipeline.threads import THREAD_NAME_PREFIX
from djmessenger.settings import app_settings

logger = logging.getLogger(__name__)

_IDLE = 1.0
"""Seconds without a request after which the thread ends and closes its connections. The next request starts it again.

It is short, because a test runner cannot drop its database while a connection to it is open.
"""
_LAST = 0.5
"""Seconds for which the end of the process waits for a wake-up that is being sent."""


class Publisher:
    """Thread that calls ``publish`` with the payload of each requested wake-up.

    One wake-up of each payload is pending at most. Requests that come before it is sent are covered by it. ``publish``
    may fail or hang, because the sweep finds the work. After a failure none is sent for ``DJM_SWEEP`` seconds.

    The thread starts with the first request, and again after a fork.
    """

    def __init__(self, publish: Callable[[str], object]) -> None:
        self._publish = publish
        self._reset()
        reset = weakref.WeakMethod(self._reset)
        # Guard: a child forked while a thread holds `_changed` would wait for it forever, and its `_thread` would name
        # a thread that exists only in the parent.
        # Test: tests/test_publisher.py, test_a_forked_child_starts_a_thread_of_its_own.
        if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
            os.register_at_fork(after_in_child=lambda: (method := reset()) and method())
        stop = weakref.WeakMethod(self.stop)
        atexit.register(lambda: (method := stop()) and method())

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._pending: dict[str, None] = {}
        self._is_stopping = self._has_worked = False
        self._pause = Deadline(0)
        self._thread: threading.Thread | None = None

    def request(self, payload: str = "") -> None:
        """Request a wake-up and return at once. An error of the system is logged, and the sweep finds the work."""
        with self._changed:
            self._pending[payload] = None
            self._is_stopping = False
            self._changed.notify_all()
            if self._thread is None or not self._thread.is_alive():
                self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=f"{THREAD_NAME_PREFIX}-publisher", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # Guard: the system may refuse a thread, and the caller answers Meta or commits an event.
            # Test: tests/faults/test_hints.py, test_a_system_without_threads_fails_no_post.
            logger.error(
                "Wake-up not sent: the system refused a thread; the sweep finds the work",
                extra={"action": "wake_up_not_sent"},
            )
        else:
            self._thread = thread

    def stop(self, timeout: float = _LAST) -> None:
        """Send the pending wake-ups and end the thread. Wait up to ``timeout`` seconds, and not for a pause."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self) -> None:
        try:
            while (payload := self._next()) is not None:
                self._send(payload)
        finally:
            connections.close_all()

    def _next(self) -> str | None:
        """Wait for a request and return its payload, or None if the thread is to end."""
        with self._changed:
            idle = Deadline(_IDLE)
            while True:
                pause = self._pause.remaining()
                if self._pending and pause <= 0:
                    payload = next(iter(self._pending))
                    del self._pending[payload]
                    return payload
                if self._is_stopping or (not self._pending and idle.remaining() <= 0):
                    # Guard: a request between this decision and the end of the thread would start no other thread.
                    self._thread = None
                    return None
                self._changed.wait(pause if self._pending else idle.remaining())

    def _send(self, payload: str) -> None:
        # A connection that was kept since the last wake-up may be dead. A new one shows whether the engine is away.
        tries = 2 if self._has_worked else 1
        for left in reversed(range(tries)):
            try:
                with reusable_connections():
                    self._publish(payload)
                self._has_worked = True
                return
            except Exception as error:  # noqa: BLE001 - each broker has errors of its own, and none may end the thread
                if left:
                    continue
                self._has_worked = False
                self._pause = Deadline(app_settings.DJM_SWEEP)
                logger.error(
                    "Wake-up not sent (%s); the sweep finds the work, next wake-up in %s s",
                    type(error).__name__,
                    app_settings.DJM_SWEEP,
                    extra={"action": "wake_up_not_sent", "error": type(error).__name__},
                )
