"""Outages of the database while an event is handled: no fault of its rules."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest
from django.db import OperationalError, connection, transaction

from djmessenger import models
from djmessenger.clock import Deadline
from djmessenger.pipeline import claims
from tests import pipeline_tools as tools

pytestmark = pytest.mark.django_db

PASSES = """
CREATE FUNCTION passes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001'; END $$;
CREATE TRIGGER passes BEFORE UPDATE OF outcome ON djmessenger_messaging FOR EACH ROW EXECUTE FUNCTION passes()
"""


def note(event):
    models.UserLocation.objects.create(user=event.person, latitude=0, longitude=0, mid=event.mid)


def break_database() -> None:
    """Make the next query of this thread's transaction fail as in an outage that is over at once."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return
    # Another process commits after this transaction has read: its write finds the database busy.
    models.Page.objects.count()
    other = sqlite3.connect(connection.settings_dict["NAME"])
    other.execute("UPDATE djmessenger_page SET name = 'changed'")
    other.commit()
    other.close()
    models.Page.objects.update(name="mine")


class Unlucky:
    """A handler with an effect, in whose first call the database fails."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, event):
        self.calls += 1
        with transaction.atomic():
            note(event) if connection.vendor == "postgresql" else models.Page.objects.count()
            if self.calls == 1:
                break_database()
            elif connection.vendor != "postgresql":
                note(event)


def states() -> list[tuple[str, int]]:
    return list(models.Messaging.objects.order_by("id").values_list("state", "tries"))


@pytest.mark.parametrize("tries", [1, 3], ids=["last", "first"])
@pytest.mark.parametrize("slow", [False, True], ids=["rule", "slow"])
def test_an_outage_of_the_database_is_no_try_of_a_rule(slow, tries, file_database, caplog):
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    engine = tools.engine(Unlucky(), slow=slow, tries=tries)
    if connection.vendor == "sqlite":
        connection.transaction_mode = None
    tools.handle(engine, made)
    assert states() == [("new", 0)]
    assert "no try is counted" in caplog.text
    tools.pass_time(60)
    tools.handle(engine, made)
    assert states() == [("done", 0)]
    assert models.UserLocation.objects.count() == 1


@pytest.mark.postgresql("SQLite has one isolation level")
@pytest.mark.parametrize("tries", [1, 3], ids=["last", "first"])
def test_a_serialization_failure_is_no_try_of_a_rule(tries, file_database):
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    calls = []

    def rename():
        models.Page.objects.update(name="theirs")

    def work(event):
        calls.append(event.mid)
        models.Page.objects.count()
        if len(calls) == 1:
            assert tools.threads(rename) == []
        models.Page.objects.update(name="mine")

    engine = tools.engine(work, tries=tries)
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_isolation = 'serializable'")
    tools.handle(engine, made)
    assert states() == [("new", 0)]
    tools.pass_time(60)
    tools.handle(engine, made)
    assert states() == [("done", 0)]
    assert models.Page.objects.get().name == "mine"


def break_commits(code: str) -> str:
    return PASSES.replace("40001", code)


@pytest.mark.postgresql("a trigger of SQLite raises no such failure")
@pytest.mark.parametrize("code", ["40001", "57014"], ids=["serialization", "statement_timeout"])
@pytest.mark.parametrize("is_begun", [False, True], ids=["batch", "transaction"])
def test_a_statement_of_the_engine_that_fails_is_no_try_of_a_rule(is_begun, code, file_database):
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    engine = tools.engine(note if is_begun else lambda event: "hi", tries=1)
    with connection.cursor() as cursor:
        cursor.execute(break_commits(code))
        tools.handle(engine, made)
        cursor.execute("DROP FUNCTION passes() CASCADE")
    assert states() == [("new", 0)]
    tools.pass_time(60)
    tools.handle(engine, made)
    assert states() == [("done", 0)]


def swallow(event):
    with contextlib.suppress(OperationalError):
        note(event)


def replace(event):
    try:
        note(event)
    except OperationalError as error:
        raise ValueError("no note") from error


@pytest.mark.postgresql("locks of rows")
@pytest.mark.parametrize("rule", [note, swallow, replace, lambda event: "hi"])
@pytest.mark.parametrize("tries", [1, 3], ids=["last", "first"])
def test_a_rule_cannot_make_a_try_of_a_refused_lock(tries, rule, file_database, caplog):
    """The queue of the event is locked, and the project limits the time of each statement."""
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    engine = tools.engine(rule, tries=tries)
    lease = tools.claim(made)

    def handle() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 100")
        next_rows = engine.inbox.next_rows([lease])
        lock = tools.Session(lambda: models.ConversationQueue.objects.lock([made.pk], tools.IN), holds=True)
        try:
            with claims.released_on_error([lease]):
                done = engine.inbox.handle(lease, Deadline(60), engine.slow, next_rows[lease.queue_id])
                engine.inbox.commit_handled([done])
        finally:
            assert lock.finish() == []

    tools.threads(handle)
    assert "event_failed" not in {getattr(record, "action", "") for record in caplog.records}
    assert states() == [("new", 0)]
    tools.pass_time(60)
    tools.handle(engine, made)
    assert states() == [("done", 0)]


@pytest.mark.postgresql("statement_timeout")
def test_a_statement_of_a_rule_that_is_cancelled_is_a_try(file_database):
    made = tools.conversation()
    tools.receive(tools.text("m_1"))

    def sleep(event):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 10")
            cursor.execute("SELECT pg_sleep(30)")

    tools.handle(tools.engine(sleep), made)
    assert states() == [("new", 1)]
