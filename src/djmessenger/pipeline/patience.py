"""How long a statement may wait for the database where somebody waits for the answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DEFAULT_DB_ALIAS, connections, transaction


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
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
