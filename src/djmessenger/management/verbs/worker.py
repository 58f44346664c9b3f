"""``manage.py djmessenger worker``."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connections

from djmessenger import bot
from djmessenger.management.options import at_least_one
from djmessenger.pipeline.dispatch import OwnThreads
from djmessenger.pipeline.worker import Worker

GRACE = 25
"""Seconds from the first signal to the hard end; containers get 30."""
_LOOK = 0.5
_STOPPING = (signal.SIGTERM, signal.SIGINT)

help = (  # noqa: A001 - as every verb names it
    "Handle what is stored and send what is queued, until told to stop. Any number of workers on any number "
    "of machines share the work; the database is the queue. SIGTERM and SIGINT end it in order: what is begun "
    "is finished, the rest is left to others. A second signal, or 25 seconds, end it hard, which costs time "
    "only: the conversations at hand come back when their leases end."
)


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--processes", type=at_least_one, default=1, help="processes to start (1)")
    parser.add_argument(
        "--threads",
        type=at_least_one,
        default=8,
        help="conversations handled at once, each with a database connection, in each process (8)",
    )
    parser.add_argument(
        "--senders",
        type=at_least_one,
        default=100,
        help="calls of Graph under way at once, in each process (100)",
    )
    parser.add_argument(
        "--slow-threads", type=at_least_one, default=32, help="slow rules at once, in each process (32)"
    )


def handle(command: BaseCommand, **options: Any) -> None:
    counts = options["threads"], options["slow_threads"], options["senders"]
    if options["processes"] <= 1:
        sys.exit(_work(*counts))
    sys.exit(_supervise(options["processes"], *counts))


def _work(threads: int, slow_threads: int, senders: int) -> int:
    """Work in this process until a signal comes."""
    worker = Worker(bot.get_engine, threads=threads, slow_threads=slow_threads, senders=senders, listen=True)
    bot.use_dispatcher(OwnThreads(worker))
    asked = 0

    def stop(number: int, frame: Any) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            os._exit(1)
        worker.stop_soon()
        signal.alarm(GRACE)

    signal.signal(signal.SIGALRM, lambda number, frame: os._exit(1))
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    # What is there by now stays; collecting garbage need not look at it again.
    gc.collect()
    gc.freeze()
    worker.start()
    while not worker.wait(_LOOK):
        pass
    return 0


def _supervise(processes: int, threads: int, slow_threads: int, senders: int) -> int:
    """Keep so many processes at work; one that dies is started again."""
    stopping = False

    def stop(number: int, frame: Any) -> None:
        nonlocal stopping
        stopping = True
        for pid in list(children):
            os.kill(pid, signal.SIGTERM)

    children: set[int] = set()
    connections.close_all()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while children or not stopping:
        # A signal that comes meanwhile waits, or it would miss the child that is being made.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        while not stopping and len(children) < processes:
            children.add(_fork(threads, slow_threads, senders))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pid = 0
            children.clear()
        children.discard(pid)
        time.sleep(_LOOK)
    return 0


def _fork(threads: int, slow_threads: int, senders: int) -> int:
    pid = os.fork()
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
