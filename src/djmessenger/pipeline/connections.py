"""Database connections of the pipeline: reuse between jobs, time limits of statements, and idle transactions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from djmessenger.clock import seconds
from djmessenger.pipeline.threads import NAME
from djmessenger.settings import app_settings

_IDLE = 5.0
"""Seconds after which an idle connection is tested before it is used again."""

_used = threading.local()


@contextmanager
def reusable_connections() -> Iterator[None]:
    """Keep this thread's connections open from one job to the next, but use none that is broken."""
    idle = seconds() - getattr(_used, "at", 0.0) > _IDLE
    for connection in connections.all(initialized_only=True):
        if connection.connection is None or connection.in_atomic_block:
            continue
        if connection.errors_occurred or idle:
            if connection.is_usable():
                connection.errors_occurred = False
            else:
                connection.close()
    try:
        yield
    finally:
        _used.at = seconds()


@contextmanager
def no_connection() -> Iterator[None]:
    """Hold no connection of this thread before and after: for work that mostly waits for others."""
    connections.close_all()
    try:
        yield
    finally:
        connections.close_all()


def limit_idle_transactions(connection: Any, **kwargs: Any) -> None:
    """Have PostgreSQL end the transaction of a thread of the pipeline that is frozen in it, with its locks.

    Connected to ``connection_created``; the connections of requests are left alone.
    """
    if connection.vendor == "postgresql" and threading.current_thread().name.startswith(NAME):
        with connection.cursor() as cursor:
            milliseconds = int(app_settings.DJM_LEASE * 500)
            cursor.execute(
                "SELECT set_config('idle_in_transaction_session_timeout', %s, false)", [str(milliseconds)]
            )


def begin_as_writer(connection: Any, **kwargs: Any) -> None:
    """Let the transactions of a thread of the pipeline wait their turn: a receiver of ``connection_created``.

    Django's own way begins a transaction as a reader; when another thread writes meanwhile, SQLite refuses the first
    write at once, whatever its time-out. Connections of requests, and a mode that the project chose, are left alone.
    """
    ours = threading.current_thread().name.startswith(NAME)
    if ours and connection.vendor == "sqlite" and connection.transaction_mode is None:
        connection.transaction_mode = "IMMEDIATE"


@contextmanager
def statement_timeout(seconds: float) -> Iterator[None]:
    """Have statements of the block fail that take longer, or wait that long for a lock, with ``DatabaseError``.

    On PostgreSQL the block is a transaction. On SQLite only the wait for other writers is limited, and only outside
    a transaction, since one that is open has had its turn.
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
