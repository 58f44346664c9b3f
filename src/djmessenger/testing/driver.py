"""Driver of the engine in a test: it does all waiting work in the thread of the test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from django.test import TestCase

from djmessenger import bot, models, sql
from djmessenger.pipeline import split
from djmessenger.pipeline.engine import Engine

Kind = models.ConversationQueue.Kind

_MOST_QUEUES = 1000
"""Queues of one step, more than one test has."""


class WaitingDispatcher:
    """Dispatcher that only collects wake-ups; the kit does the work after each act and before each expectation."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        """Accept the engine, as each dispatcher must; it is not used."""
        self._stored: list[int] = []

    def callback_stored(self, callback_id: int) -> None:
        self._stored.append(callback_id)

    def replies_queued(self, conversation_id: int) -> None:
        """Do nothing. A test case never commits, so the kit reads the new rows from a signal instead."""

    def take(self) -> list[int]:
        """Return the ids of the callbacks stored since the last call."""
        stored, self._stored = self._stored, []
        return stored

    def stop(self) -> None:
        """Do nothing, because no thread runs."""


def depth() -> int:
    """Return the number of nested transactions and savepoints, including those of the test case."""
    connection = sql.connection()
    return int(connection.in_atomic_block) + len(connection.savepoint_ids)


def handle(callback_id: int) -> None:
    """Split a stored callback and handle all events of its queues."""
    with _committing():
        todo = split.split(callback_id)
    for queue_id in todo.queues:
        while work(Kind.IN, queue_id=queue_id):
            pass


def work(kind: str, conversation_id: int | None = None, *, queue_id: int | None = None) -> bool:
    """Process the next row of each due queue of a direction; return whether a queue was due.

    With ``conversation_id`` or ``queue_id``, only the queue of that conversation, or the queue with that id.
    """
    with _committing():
        return bot.get_engine().run_once(kind, _MOST_QUEUES, conversation_id, queue_id=queue_id) > 0


def drain() -> bool:
    """Run one sweep and one step of all due work; return whether there was any.

    It also finds work without a wake-up, such as rows that the test inserted itself.
    """
    engine = bot.get_engine()
    with _committing():
        todo = engine.split()
        engine.sweep()
    return any([todo.queues, work(Kind.IN), work(Kind.OUT)])


def _committing() -> contextlib.AbstractContextManager[object]:
    """Run ``on_commit`` callbacks at the end of the block, as if the transaction of the engine were the outermost.

    In a test case the outermost transaction belongs to the test and is never committed.
    """
    return TestCase.captureOnCommitCallbacks(using=sql.alias(), execute=True)
