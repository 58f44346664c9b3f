"""Threads of the engine on SQLite, in a project that says nothing about transactions."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connections
from django.db.transaction import Atomic

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite("PostgreSQL locks rows")]


def begun_in(name: str, options: dict[str, Any]) -> str:
    """Begin a transaction in a thread of this name, and give the statement that began it."""
    found: list[str] = []
    beside = connections["default"].copy()
    beside.settings_dict["OPTIONS"] = options

    def run() -> None:
        beside.inc_thread_sharing()
        beside.force_debug_cursor = True
        connections["beside"] = beside
        try:
            with Atomic("beside", savepoint=True, durable=False):
                found.append(beside.queries_log[-1]["sql"])
        finally:
            # close() leaves a database in memory open.
            beside.connection.close()

    thread = threading.Thread(target=run, name=name)
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_of_the_engine_begins_as_a_writer():
    assert begun_in("djmessenger-queue_0", {}) == "BEGIN IMMEDIATE"


def test_requests_and_a_mode_of_the_project_are_left_alone():
    assert begun_in("Thread-1", {}) == "BEGIN"
    assert begun_in("djmessenger-queue_0", {"transaction_mode": "EXCLUSIVE"}) == "BEGIN EXCLUSIVE"
