"""Database connections of the pipeline: reuse between jobs, and time limits of statements and transactions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from djmessenger.clock import seconds
from djmessenger.pipeline.threads import THREAD_NAME_PREFIX
from djmessenger.settings import app_settings

_IDLE = 5.0
"""Seconds after which an idle connection is tested before it is used again. A test costs one round trip."""

_last_use = threading.local()


@contextmanager
def reusable_connections() -> Iterator[None]:
    """Close this thread's broken connections, run the block, and keep the other connections open for the next job."""
    idle = seconds() - getattr(_last_use, "at", 0.0) > _IDLE
    for connection in connections.all(initialized_only=True):
        if connection.connection is None or connection.in_atomic_block:
            continue
        # Guard: the server may close a connection between two jobs of this thread. Django tests connections at the
        # borders of a request only, so each later job of the thread would fail.
        # Test: tests/test_worker.py, test_a_broken_connection_is_not_used_again (PostgreSQL).
        if connection.errors_occurred or idle:
            if connection.is_usable():
                connection.errors_occurred = False
            else:
                connection.close()
    try:
        yield
    finally:
        _last_use.at = seconds()


@contextmanager
def no_connection() -> Iterator[None]:
    """Close this thread's connections before and after the block, for work that mostly waits for another service."""
    connections.close_all()
    try:
        yield
    finally:
        connections.close_all()


def limit_idle_transactions(connection: Any, **kwargs: Any) -> None:
    """Set a time limit for idle transactions of pipeline threads on PostgreSQL: half of ``DJM_LEASE``.

    Receiver of ``connection_created``. Connections of other threads, such as those of requests, keep their setting.
    """
    # Guard: a worker that freezes inside a transaction keeps its row locks, so the next holder of the queue would
    # wait for ever. PostgreSQL ends such a session before the lease ends.
    # Test (PostgreSQL): tests/test_worker.py, test_a_transaction_of_a_frozen_thread_is_ended_by_the_database.
    if connection.vendor == "postgresql" and threading.current_thread().name.startswith(THREAD_NAME_PREFIX):
        with connection.cursor() as cursor:
            milliseconds = int(app_settings.DJM_LEASE * 500)
            cursor.execute(
                "SELECT set_config('idle_in_transaction_session_timeout', %s, false)", [str(milliseconds)]
            )


def begin_as_writer(connection: Any, **kwargs: Any) -> None:
    """Begin SQLite transactions of pipeline threads with the write lock (``IMMEDIATE``).

    Receiver of ``connection_created``. Connections of other threads and a mode set by the project are not changed.
    """
    # Guard: by default a transaction begins as a reader. If another thread commits a write before the first write of
    # this one, SQLite fails that write at once, without waiting. Test: tests/test_sqlite.py.
    ours = threading.current_thread().name.startswith(THREAD_NAME_PREFIX)
    if ours and connection.vendor == "sqlite" and connection.transaction_mode is None:
        connection.transaction_mode = "IMMEDIATE"


@contextmanager
def statement_timeout(seconds: float) -> Iterator[None]:
    """Limit each statement of the block to ``seconds``, lock waits included; raises ``DatabaseError`` after that.

    On PostgreSQL the block is a transaction. On SQLite only the wait for the write lock is limited. Inside a
    transaction on SQLite no limit is set.
    """
    connection = connections[DEFAULT_DB_ALIAS]
    milliseconds = int(seconds * 1000)
    if connection.vendor == "postgresql":
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true)",
                    [str(milliseconds)] * 2,
                )
            yield
    elif connection.vendor == "sqlite" and not connection.in_atomic_block:
        with connection.cursor() as cursor:
            (before,) = cursor.execute("PRAGMA busy_timeout").fetchone()
            cursor.execute(f"PRAGMA busy_timeout = {milliseconds}")
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f"PRAGMA busy_timeout = {int(before)}")
    else:
        yield
