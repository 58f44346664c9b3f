"""PostgreSQL tells a worker at once that something waits; everywhere else the worker finds it by looking."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from django.db import DEFAULT_DB_ALIAS, connections

from djmessenger.pipeline.threads import NAME

logger = logging.getLogger(__name__)

CHANNEL = "djmessenger"
"""PostgreSQL channel on which work is announced."""
CALLBACK, QUEUES = "callback", "queues"
"""What is announced: that a callback is to be split, or that something waits in queues."""
_LOOK = 1.0
"""Seconds between two looks whether to stop."""
_RECONNECT = 5.0


class Listener:
    """A thread with a connection of its own that calls ``heard`` with what is announced; empty: it may be anything.

    Behind a pooler that shares connections between transactions it hears nothing, which costs latency only.
    """

    def __init__(self, heard: Callable[[str], None]) -> None:
        self._heard = heard
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        if connections[DEFAULT_DB_ALIAS].vendor == "postgresql":
            self._thread = threading.Thread(target=self._run, name=f"{NAME}-listener", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(2 * _LOOK)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._listen()
            except Exception as error:  # noqa: BLE001 - by driver; polling goes on
                logger.warning(
                    "Announcements of work are not heard for now: %s",
                    type(error).__name__,
                    extra={"action": "listener_away"},
                )
                self._ended.wait(_RECONNECT)

    def _listen(self) -> None:
        connection = connections.create_connection(DEFAULT_DB_ALIAS)
        try:
            connection.ensure_connection()
            connection.set_autocommit(True)
            with connection.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL}")
            # What was announced before this moment was not heard.
            self._heard("")
            while not self._ended.is_set():
                for notice in connection.connection.notifies(timeout=_LOOK, stop_after=1):
                    self._heard(notice.payload)
        finally:
            connection.close()
