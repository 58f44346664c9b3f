"""``manage.py djmessenger worker``: split, handle and send in processes of their own, until a signal."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error
from django.db.migrations.executor import MigrationExecutor

from djmessenger import bot, sql
from djmessenger.database_errors import is_outage
from djmessenger.management.options import at_least_one
from djmessenger.management.targets import NO_RESULT
from djmessenger.pipeline.connections import close_before_fork, pool_size
from djmessenger.pipeline.dispatch import WORKER_SENDERS, WORKER_THREADS, OwnWorkerDispatcher
from djmessenger.pipeline.worker import Worker, connections_needed

logger = logging.getLogger(__name__)

GRACE = 25
"""Seconds from the first signal to the exit without finishing. Container runtimes usually wait 30 before they kill."""
_CHECK_INTERVAL = 0.5
"""Seconds between two checks of the threads or of the child processes."""
_STOPPING = (signal.SIGTERM, signal.SIGINT)
"""Signals that stop the worker."""

help = (  # noqa: A001 - as every verb names it
    "Handle stored callbacks and send queued replies, until a signal stops it. Run one or more workers on one or more "
    "machines: they share the work, and the database is the queue. After SIGTERM or SIGINT, a worker finishes the work "
    "that it has begun and leaves the rest to the next worker. After a second signal, or 25 seconds, it exits at once. "
    "Nothing is lost then, but its conversations wait until their leases end."
)


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--processes", type=at_least_one, default=1, help="number of processes to start (1)")
    parser.add_argument(
        "--threads",
        type=at_least_one,
        default=WORKER_THREADS,
        help="conversations that each process handles at once, each with a database connection (8)",
    )
    parser.add_argument(
        "--senders",
        type=at_least_one,
        default=WORKER_SENDERS,
        help="calls of Graph that each process makes at once (200)",
    )
    parser.add_argument(
        "--slow-threads", type=at_least_one, default=32, help="slow rules that each process runs at once (32)"
    )


def handle(command: BaseCommand, **options: Any) -> None:
    _check_migrations()
    counts = options["threads"], options["slow_threads"], options["senders"]
    if options["processes"] <= 1:
        sys.exit(_work(*counts))
    sys.exit(_supervise(options["processes"], *counts))


def _check_migrations() -> None:
    """Raise ``CommandError`` with exit code 2 if a migration of the app is not applied.

    Does nothing if the database is away, because a worker waits for it.
    """
    try:
        executor = MigrationExecutor(sql.connection())
        targets = executor.loader.graph.leaf_nodes("djmessenger")
        waiting = [migration.name for migration, _ in executor.migration_plan(targets)]
    except Error as error:
        if is_outage(error):
            return
        raise
    if waiting:
        raise CommandError(
            f"Migrations of djmessenger are not applied: {', '.join(waiting)}. Run manage.py migrate.",
            returncode=NO_RESULT,
        )


def _work(threads: int, slow_threads: int, senders: int) -> int:
    """Run a worker in this process until a signal stops it, and return the exit code."""
    size = pool_size(sql.connection().settings_dict["OPTIONS"])
    if size is not None and size < connections_needed(threads):
        logger.warning(
            "The pool of the database has %s connections, and a worker of %s threads uses %s at once: threads wait "
            "for each other",
            size,
            threads,
            connections_needed(threads),
            extra={"action": "pool_too_small"},
        )
    worker = Worker(bot.get_engine, threads=threads, slow_threads=slow_threads, senders=senders, listen=True)
    bot.use_dispatcher(OwnWorkerDispatcher(worker))
    signals = 0

    def stop(number: int, frame: Any) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            os._exit(1)
        worker.stop_soon()
        signal.alarm(GRACE)

    signal.signal(signal.SIGALRM, lambda number, frame: os._exit(1))
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    # The objects that exist now stay until the end, so the garbage collector need not examine them again.
    gc.collect()
    gc.freeze()
    worker.start()
    while not worker.wait(_CHECK_INTERVAL):
        pass
    return 0


def _supervise(processes: int, threads: int, slow_threads: int, senders: int) -> int:
    """Run this number of worker processes until a signal stops them. A process that dies is started again."""
    stopping = False

    def stop(number: int, frame: Any) -> None:
        nonlocal stopping
        stopping = True
        for pid in list(children):
            os.kill(pid, signal.SIGTERM)

    children: set[int] = set()
    # Guard: a pool that the project has used before would give the children no connection.
    # Test (PostgreSQL): tests/test_deployments.py, test_processes_of_a_worker_do_not_share_a_pool.
    close_before_fork()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while children or not stopping:
        # Guard: a signal between fork and add() would stop all children except the new one, and the loop would wait
        # for that child without an end. So signals are blocked during the fork.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        while not stopping and len(children) < processes:
            if not (child := _fork(threads, slow_threads, senders)):
                break
            children.add(child)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pid = 0
            children.clear()
        children.discard(pid)
        time.sleep(_CHECK_INTERVAL)
    return 0


def _fork(threads: int, slow_threads: int, senders: int) -> int:
    """Start a worker process and return its id, or 0 if the system refuses one now."""
    try:
        pid = os.fork()
    except OSError as error:
        # Without this process its children would go on, and no signal would reach them.
        # Test: tests/faults/test_small_hosts.py, test_processes_that_the_system_refuses_are_started_later.
        logger.warning(
            "The system refuses a worker process (%s); it is started when it can be",
            error,
            extra={"action": "thread_refused"},
        )
        return 0
    if pid:
        return pid
    status = 1
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    try:
        status = _work(threads, slow_threads, senders)
    finally:
        os._exit(status)
