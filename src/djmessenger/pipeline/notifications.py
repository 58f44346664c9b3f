"""Wake-ups between processes through PostgreSQL's ``LISTEN`` and ``NOTIFY``. On SQLite the worker only polls."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from djmessenger import sql
from djmessenger.pipeline.connections import own_connection, sessions_are_shared
from djmessenger.pipeline.threads import THREAD_NAME_PREFIX, started

logger = logging.getLogger(__name__)

CHANNEL = "djmessenger"
"""Name of the PostgreSQL channel for wake-ups."""
CALLBACK, QUEUES = "callback", "queues"
"""Payloads of a wake-up: a callback is to be split, or conversation queues are due."""
_STOP_CHECK_INTERVAL = 1.0
"""Seconds between two checks of the stop flag; ``stop`` waits twice that long."""
_RECONNECT = 5.0
"""Seconds before the next connection after a failure; polling finds work meanwhile."""


class Listener:
    """Thread with its own connection that calls ``on_wake_up`` with the payload of each wake-up.

    An empty payload means that work of any kind may wait. On SQLite no thread is started. Behind a pooler in
    transaction mode it ends, since no wake-up arrives; the worker finds work by polling, up to ``DJM_POLL`` seconds
    later.
    """

    def __init__(self, on_wake_up: Callable[[str], None]) -> None:
        self._on_wake_up = on_wake_up
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        if sql.connection().vendor == "postgresql":
            thread = threading.Thread(target=self._run, name=f"{THREAD_NAME_PREFIX}-listener", daemon=True)
            self._thread = thread if started(thread) else None

    def stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(2 * _STOP_CHECK_INTERVAL)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                # Guard: behind such a pooler LISTEN stays in a session that other clients get, and no wake-up
                # arrives here. Test (PostgreSQL): tests/test_deployments.py,
                # test_no_session_setting_of_a_worker_reaches_other_clients.
                if sessions_are_shared():
                    logger.info(
                        "Wake-ups of other processes are not received behind a pooler that shares sessions; this "
                        "worker looks for work every DJM_POLL seconds",
                        extra={"action": "listener_off"},
                    )
                    return
                self._listen()
            except Exception as error:  # noqa: BLE001 - by driver; polling goes on
                logger.warning(
                    "Wake-ups of other processes are not received (%s); connecting again in %s s, polling goes on",
                    type(error).__name__,
                    _RECONNECT,
                    extra={"action": "listener_away"},
                )
                self._ended.wait(_RECONNECT)

    def _listen(self) -> None:
        connection = own_connection()
        try:
            connection.ensure_connection()
            connection.set_autocommit(True)
            with connection.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL}")
            # Guard: wake-ups sent before LISTEN, or while the connection was down, are lost. One empty wake-up
            # makes the worker poll now instead of after DJM_POLL seconds.
            # Test (PostgreSQL): tests/test_worker.py, test_a_listener_wakes_once_when_it_begins_to_listen.
            self._on_wake_up("")
            while not self._ended.is_set():
                for notice in connection.connection.notifies(timeout=_STOP_CHECK_INTERVAL, stop_after=1):
                    self._on_wake_up(notice.payload)
        finally:
            connection.close()
