"""The engine under a test: everything that waits is done in the test's own thread, when the test wants it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from django.db import connections, router
from django.test import TestCase

from djmessenger import bot, models
from djmessenger.clock import Deadline
from djmessenger.pipeline import intake
from djmessenger.pipeline.engine import Engine
from djmessenger.pipeline.inbox import RunHere
from djmessenger.settings import app_settings

Kind = models.ConversationQueue.Kind


class WaitingDispatcher:
    """Leaves all work to the kit, which does it after each act and before each look."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        """Take the engine as any dispatcher does."""
        self._stored: list[int] = []

    def callback_stored(self, callback_id: int) -> None:
        self._stored.append(callback_id)

    def replies_queued(self, conversation_id: int) -> None:
        """Nothing: in a test case no transaction is committed, so the kit sees the rows by itself."""

    def take(self) -> list[int]:
        """Give the callbacks that came since the last call."""
        stored, self._stored = self._stored, []
        return stored

    def stop(self) -> None:
        """Nothing runs."""


def database() -> str:
    """Give the alias of the database that the engine writes to."""
    return router.db_for_write(models.Reply)


def depth() -> int:
    """Give how many transactions are open in each other, those of the test case included."""
    connection = connections[database()]
    return connection.in_atomic_block + len(connection.savepoint_ids)


def handle(callback_id: int) -> None:
    """Split a stored callback and handle its events."""
    engine = bot.get_engine()
    with _committing():
        todo = intake.split(callback_id)
        engine.handle_without_conversation(todo)
    for conversation_id in todo.conversations:
        while work(Kind.IN, conversation_id):
            pass


def work(kind: str, conversation_id: int | None = None) -> bool:
    """Do what is first in one direction of a conversation, or of all; give whether there was anything."""
    engine, deadline = bot.get_engine(), Deadline(app_settings.DJM_LEASE)
    with _committing():
        leases = models.ConversationQueue.objects.claim(
            kind, seconds=app_settings.DJM_LEASE, limit=1000, conversation_id=conversation_id
        )
        if leases and kind == Kind.IN:
            next_rows = engine.inbox.next_rows(leases)
            for lease in leases:
                if handled := engine.handle(lease, deadline, RunHere(), next_rows.get(lease.queue_id)):
                    engine.inbox.write_down([handled])
        elif leases:
            pending_sends, others = engine.outbox.begin(leases, deadline)
            engine.outbox.end([engine.outbox.call(pending) for pending in pending_sends])
            for lease in others:
                engine.process_next(lease, deadline)
    return bool(leases)


def drain() -> bool:
    """Do all that waits, whoever made it wait; give whether there was anything."""
    engine = bot.get_engine()
    with _committing():
        todo = engine.split_waiting()
        for row_id in (events_without_conversation := engine.waiting_without_conversation()):
            engine.inbox.handle_event_without_conversation(row_id)
        engine.sweep()
    return any([todo.conversations, events_without_conversation, work(Kind.IN), work(Kind.OUT)])


def _committing() -> contextlib.AbstractContextManager[object]:
    """Run afterwards what was to run on commit, as it would where the engine's transactions are the outermost.

    In a test case the outermost one is the test's, and is never committed.
    """
    return TestCase.captureOnCommitCallbacks(using=database(), execute=True)
