"""What the threads of the road need of SQLite, whatever the project's options say."""

from __future__ import annotations

import threading
from typing import Any


def begin_as_writer(connection: Any, **kwargs: Any) -> None:
    """Let the transactions of a thread of the road wait their turn: a receiver of ``connection_created``.

    Django's own way begins a transaction as a reader; when another thread writes meanwhile, SQLite refuses the first
    write at once, whatever its time-out. Connections of requests, and a mode that the project chose, are left alone.
    """
    ours = threading.current_thread().name.startswith("djmessenger")
    if ours and connection.vendor == "sqlite" and connection.transaction_mode is None:
        connection.transaction_mode = "IMMEDIATE"
