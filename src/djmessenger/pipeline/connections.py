"""Database connections of the pipeline: reuse between jobs, and time limits of statements and transactions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connections

from djmessenger import sql
from djmessenger.clock import seconds
from djmessenger.pipeline.threads import THREAD_NAME_PREFIX
from djmessenger.settings import app_settings
from djmessenger.sql import atomic

_IDLE = 5.0
"""Seconds after which an idle connection is tested before it is used again. A test costs one round trip."""

_SQLITE_NORMAL = 1
"""Level of ``PRAGMA synchronous`` at which SQLite, with a WAL, waits for the disk at checkpoints only."""

_IDLE_LIMIT = "idle_in_transaction_session_timeout"

_LOCK_WAIT = 0.2
"""Longest wait of a split for the lock of another transaction, while all callbacks behind it wait too."""

_POOLER_TRIES = 20
"""Tries to see one session of PostgreSQL with two clients of a pooler."""

_last_use = threading.local()


def uses_pool(connection: Any) -> bool:
    """Return whether the connection is from Django's pool. ``close`` then gives it back to the pool."""
    return bool(connection.settings_dict["OPTIONS"].get("pool"))


def pool_size(options: Mapping[str, Any]) -> int | None:
    """Return the largest number of connections in Django's pool, or None without a pool.

    ``options`` are the ``OPTIONS`` of a database in the settings.
    """
    pool = options.get("pool")
    if not pool:
        return None
    given = pool if isinstance(pool, Mapping) else {}
    # The default of psycopg_pool: four connections, and never more than at the start.
    return int(given.get("max_size") or given.get("min_size", 4))


@contextmanager
def reusable_connections() -> Iterator[None]:
    """Close this thread's broken connections, run the block, and keep the other connections open for the next job.

    Connections of a pool are given back after the block.
    """
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
        with execute_wrappers_restored():
            yield
    finally:
        _last_use.at = seconds()
        # Guard: threads that keep a connection of a small pool between their jobs leave none for the other threads,
        # which then wait for ever.
        # Test (PostgreSQL): tests/test_deployments.py,
        # test_a_worker_answers_everyone_over_a_pool_that_is_smaller_than_its_threads.
        for connection in connections.all(initialized_only=True):
            if uses_pool(connection) and not connection.in_atomic_block:
                connection.close()


@contextmanager
def execute_wrappers_restored() -> Iterator[None]:
    """Run a block with code of authors, and restore ``execute_wrappers`` of this thread's connections after it.

    A connection that was opened in the block, and has new wrappers, is closed. Receivers of ``connection_created`` may
    have added them, and add them again to the next connection.
    """
    before = {
        connection.alias: (connection.connection, list(connection.execute_wrappers))
        for connection in connections.all(initialized_only=True)
    }
    try:
        yield
    finally:
        # Guard: a wrapper that a rule leaves would run with each later query of this thread, also those of the engine.
        # Test: tests/faults/test_attacks_rules.py, test_a_wrapper_that_a_rule_leaves_is_removed.
        for connection in connections.all(initialized_only=True):
            session, wrappers = before.get(connection.alias, (None, []))
            is_new = connection.connection is not session
            if is_new and _limit_this_transaction in connection.execute_wrappers:
                wrappers = [*wrappers, _limit_this_transaction]
            if connection.execute_wrappers != wrappers:
                connection.execute_wrappers[:] = wrappers
                if is_new and not connection.in_atomic_block:
                    connection.close()


_Result = TypeVar("_Result")


def over_live_connection(function: Callable[[], _Result]) -> _Result:
    """Call a function, and again over a new connection if the server had ended the old one.

    A restart of the database ends the connections that were kept, and the first statement of each fails. The function
    must be harmless if it runs twice. Inside a transaction it is called once. A connection that cannot be made is no
    reason to try again, because each try may be a long wait.
    """
    connection = sql.connection()
    # After a restart each connection in a pool is dead.
    tries = 1 + (pool_size(connection.settings_dict["OPTIONS"]) or 1)
    for left in reversed(range(tries)):
        was_kept = connection.connection is not None or uses_pool(connection)
        connection.ensure_connection()
        try:
            return function()
        except (InterfaceError, OperationalError):
            if not (left and was_kept and _close_if_dead(connection)):
                raise
    raise AssertionError("not reached: the last try returns or raises")


def _close_if_dead(connection: Any) -> bool:
    """Close a connection that the server has ended, unless a transaction is open. Return whether it was dead."""
    if connection.in_atomic_block or (connection.connection is not None and connection.is_usable()):
        return False
    connection.close()
    return True


@contextmanager
def no_connection() -> Iterator[None]:
    """Close this thread's connections before and after the block, for work that mostly waits for another service."""
    connections.close_all()
    try:
        yield
    finally:
        connections.close_all()


def close_before_fork() -> None:
    """Close this thread's connections and Django's pools, because a child process can use neither."""
    connection: Any
    for connection in connections.all(initialized_only=True):
        connection.close()
        if uses_pool(connection):
            connection.close_pool()


def own_connection() -> Any:
    """Return a new connection to the database of the app's models. It belongs to the caller and never to a pool."""
    connection = connections.create_connection(sql.alias())
    options = {key: value for key, value in connection.settings_dict["OPTIONS"].items() if key != "pool"}
    connection.settings_dict = {**connection.settings_dict, "OPTIONS": options}
    return connection


def sessions_are_shared() -> bool:
    """Return whether a pooler gives the same session of PostgreSQL to several clients in turn.

    A pooler such as pgbouncer does so in transaction mode, and does not in session mode. Opens two connections to find
    out. If other clients are busy at this moment, the result can be False although sessions are shared.
    """
    first, second = own_connection(), own_connection()
    try:
        # Guard: a pooler may not have taken back the session of the first transaction when the second one begins. One
        # try alone would then take the pooler for one in session mode, and LISTEN would stay in a shared session.
        # Test (PostgreSQL): tests/test_deployments.py, test_a_pooler_in_transaction_mode_is_known_each_time.
        return any(_is_shared(first, second) for _ in range(_POOLER_TRIES))
    finally:
        first.close()
        second.close()


def _is_shared(first: Any, second: Any) -> bool:
    before = _session(first)
    if before == first.connection.info.backend_pid:
        # Behind a pooler the client knows another process id than that of the session.
        return False
    with second.cursor() as cursor:
        cursor.execute("BEGIN")
        # A pooler that takes back a session after each transaction gives out the one that was used last.
        is_shared = _session(second) == before or _session(first) != before
        cursor.execute("ROLLBACK")
    return is_shared


def _session(connection: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def limit_idle_transactions(connection: Any, **kwargs: Any) -> None:
    """Set a time limit for idle transactions of pipeline threads on PostgreSQL: half of ``DJM_LEASE``.

    Receiver of ``connection_created``. Connections of other threads, such as those of requests, keep their setting.
    """
    # Guard: a worker that freezes inside a transaction keeps its row locks, so the next holder of the queue would
    # wait for ever. PostgreSQL ends such a session before the lease ends.
    # Test (PostgreSQL): tests/test_worker.py, test_a_transaction_of_a_frozen_thread_is_ended_by_the_database.
    if connection.vendor != "postgresql" or not threading.current_thread().name.startswith(
        THREAD_NAME_PREFIX
    ):
        return
    # Guard: a pool or a pooler gives the session to other clients, and PostgreSQL would end their transactions.
    # Behind a pooler the client knows another process id than that of the session.
    # Tests (PostgreSQL): tests/test_deployments.py, test_no_session_setting_of_a_worker_reaches_other_clients.
    if not uses_pool(connection):
        statement = "SELECT set_config(%s, %s, false) WHERE pg_backend_pid() = %s"
        with connection.cursor() as cursor:
            cursor.execute(statement, [_IDLE_LIMIT, _idle_limit(), connection.connection.info.backend_pid])
            if cursor.fetchone() is not None:
                return
    if _limit_this_transaction not in connection.execute_wrappers:
        connection.execute_wrappers.append(_limit_this_transaction)


def _limit_this_transaction(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Execute a statement. Before the first statement of a transaction, limit the transaction's idle time.

    Wrapper for Django's ``execute_wrappers``. The limit ends with the transaction.
    """
    session = context["connection"].connection
    # psycopg has begun nothing yet: this statement is the first one.
    if not session.autocommit and not session.info.transaction_status:
        with session.cursor() as cursor:
            # No query, because Django may still choose an isolation level.
            cursor.execute(f"SET LOCAL {_IDLE_LIMIT} = {_idle_limit()}")
    return execute(sql, params, many, context)


def _idle_limit() -> str:
    return str(int(app_settings.DJM_LEASE * 500))


def begin_as_writer(connection: Any, **kwargs: Any) -> None:
    """Make SQLite connections of pipeline threads begin each transaction with the write lock (``IMMEDIATE``).

    Receiver of ``connection_created``. Connections of other threads and a mode set by the project are not changed.
    """
    # Guard: by default a transaction begins as a reader. If another thread commits a write before the first write of
    # this one, SQLite fails that write at once, without waiting. Test: tests/test_sqlite.py.
    ours = threading.current_thread().name.startswith(THREAD_NAME_PREFIX)
    if ours and connection.vendor == "sqlite" and connection.transaction_mode is None:
        connection.transaction_mode = "IMMEDIATE"


@contextmanager
def lock_timeout_first() -> Iterator[None]:
    """Make a wait for a lock end slightly before ``statement_timeout``, with an error of its own.

    On PostgreSQL the block is a transaction. Does nothing without a ``statement_timeout``.
    """
    # A rule or a frozen process may hold the queue of a callback for a minute. The error of a statement that is too
    # slow would then count against the callback, which is sound.
    # Test (PostgreSQL): tests/test_intake.py, test_a_callback_that_waits_for_a_lock_is_not_quarantined.
    if sql.connection().vendor != "postgresql":
        yield
        return
    with atomic():
        sql.fetch(
            "SELECT set_config('lock_timeout', (setting::bigint * 9 / 10)::text, true) FROM pg_settings "
            "WHERE name = 'statement_timeout' AND setting <> '0'",
            [],
        )
        yield


def limit_lock_waits() -> None:
    """Limit each later wait for a lock in this transaction to ``_LOCK_WAIT`` seconds. Does nothing on SQLite.

    An insertion waits while another transaction has inserted or deleted the same key and is not committed yet.
    """
    if sql.connection().vendor == "postgresql":
        sql.fetch("SELECT set_config('lock_timeout', %s, true)", [str(int(_LOCK_WAIT * 1000))])


@contextmanager
def atomic_without_flush() -> Iterator[None]:
    """Open a transaction whose commit does not wait until the disk has it, on SQLite with a WAL; elsewhere ``atomic``.

    A crash of the host can undo the commit. It is never undone alone: all later commits are undone too, and a later
    commit that waits for the disk makes this one durable.
    """
    connection = sql.connection()
    # Guard: a server of PostgreSQL can crash while workers live. It would undo the claim of a split and later issue the
    # same fencing token and the same row ids again, while the first holder still has them in memory. A crash of the
    # host of SQLite ends all holders.
    if connection.in_atomic_block or connection.vendor != "sqlite":
        with atomic():
            yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT synchronous, journal_mode FROM pragma_synchronous, pragma_journal_mode")
        before, journal = cursor.fetchone()
        # With another journal than WAL a lower level could damage the file.
        if journal == "wal" and before > _SQLITE_NORMAL:
            # SQLite ignores a change of this level inside a transaction.
            cursor.execute(f"PRAGMA synchronous = {_SQLITE_NORMAL}")
    try:
        with atomic():
            yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA synchronous = {int(before)}")


@contextmanager
def statement_timeout(seconds: float) -> Iterator[None]:
    """Limit each statement of the block to ``seconds``, lock waits included; raises ``DatabaseError`` after that.

    On PostgreSQL the block is a transaction. On SQLite only the wait for the write lock is limited. Inside a
    transaction on SQLite no limit is set.
    """
    connection = sql.connection()
    milliseconds = int(seconds * 1000)
    if connection.vendor == "postgresql":
        with atomic():
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
