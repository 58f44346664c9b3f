"""Deployments of the database: Django's pool, a pooler in front of PostgreSQL, local times. Real worker processes."""

from __future__ import annotations

import contextlib
import datetime
import threading
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.db import DatabaseError, connection, connections, transaction
from django.db.backends.signals import connection_created
from django.utils import timezone

from djmessenger import database_checks, models
from djmessenger.clock import as_stored
from djmessenger.operations import erasure
from djmessenger.pipeline import store
from djmessenger.pipeline.connections import (
    close_before_fork,
    limit_idle_transactions,
    reusable_connections,
    sessions_are_shared,
)
from djmessenger.pipeline.threads import THREAD_NAME_PREFIX
from tests import pipeline_tools as tools
from tests import postgresql
from tests.conftest import use_database
from tests.pipeline_tools import LONG, post, until
from tests.settings import LOCAL_TIMES

psycopg = pytest.importorskip("psycopg", reason="no psycopg: NO DEPLOYMENT WITH POSTGRESQL IS TESTED")

pytestmark = pytest.mark.django_db

SESSIONS = 3
"""Sessions of PostgreSQL that all clients of the pooler share."""


def sent() -> int:
    return models.Reply.objects.filter(state="sent").count()


@pytest.mark.postgresql("Django has a pool for PostgreSQL only")
def test_a_worker_answers_everyone_over_a_pool_that_is_smaller_than_its_threads(command, emulator):
    people = [emulator.add_person(tools.PAGE, person_id=f"{tools.PSID}{number}") for number in range(20)]
    command("--threads", "4", database={"OPTIONS": {"pool": True}})
    for item in range(3):
        for someone in people:
            post(tools.text(f"m_{someone.id}_{item}", psid=someone.id))
    until(lambda: sent() == 60, "every answer", lambda: f"{sent()} sent\n{command.log.read_text()}")
    assert "has 4 connections, and a worker of 4 threads uses 8" in command.log.read_text()


@pytest.mark.postgresql("Django has a pool for PostgreSQL only")
def test_processes_of_a_worker_do_not_share_a_pool(command, emulator):
    someone = emulator.add_person(tools.PAGE, person_id=tools.PSID)
    queries_first = (
        "import sys, django; django.setup(); from django.core.management import call_command; "
        "from django.db import connection; connection.ensure_connection(); connection.close(); "
        "call_command('djmessenger', 'worker', *sys.argv[1:])"
    )
    command(
        "--processes", "2", program=["-c", queries_first], database={"OPTIONS": {"pool": {"max_size": 12}}}
    )
    post(tools.text("m_1", psid=someone.id))
    until(lambda: sent() == 1, "the answer", command.log.read_text)


@pytest.fixture
def pooler(file_database):
    """Pgbouncer in transaction mode with few sessions; gives the folder of its socket."""
    try:
        with postgresql.pooler(Path(file_database["HOST"]), sessions=SESSIONS) as home:
            yield home
    except postgresql.NoPooler as error:
        pytest.skip(f"no pgbouncer ({error}): NO POOLER IS TESTED")


@pytest.fixture
def connects(request, file_database):
    """Connect this process in another way while the test runs; gives the name of the way."""
    ways = {"itself": {}, "pool": {"OPTIONS": {"pool": {"min_size": 1, "max_size": 1}}}}
    changes = (
        {"HOST": str(request.getfixturevalue("pooler"))} if request.param == "pooler" else ways[request.param]
    )
    before, its_connection = django_settings.DATABASES["default"], connections["default"]
    use_database({**file_database, **changes})
    try:
        yield request.param
    finally:
        close_before_fork()
        use_database(before)
        connections["default"] = its_connection


def in_each_session(home, name, *queries):
    """Run queries in each session of the pooler, and give the answers without repetition."""
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(psycopg.connect(host=str(home), dbname=name, user="postgres"))
            for _ in range(SESSIONS)
        ]
        # A transaction that stays open keeps its session, so each client has another one.
        assert len({client.execute("SELECT pg_backend_pid()").fetchone() for client in clients}) == SESSIONS
        return {
            (query, client.execute(query).fetchone() or "none") for client in clients for query in queries
        }


@pytest.mark.postgresql("a pooler is in front of PostgreSQL only")
def test_no_session_setting_of_a_worker_reaches_other_clients(command, emulator, file_database, pooler):
    people = [emulator.add_person(tools.PAGE, person_id=f"{tools.PSID}{number}") for number in range(20)]
    limit, listening = "SHOW idle_in_transaction_session_timeout", "SELECT pg_listening_channels()"
    before = in_each_session(pooler, file_database["NAME"], limit, listening)
    command("--threads", "4", database={"HOST": str(pooler)})
    for someone in people:
        post(tools.text(f"m_{someone.id}", psid=someone.id))
    until(lambda: sent() == 20, "every answer", lambda: f"{sent()} sent\n{command.log.read_text()}")
    assert in_each_session(pooler, file_database["NAME"], limit, listening) == before


def limit_of_this_session():
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        return cursor.fetchone()[0]


@pytest.mark.postgresql("SQLite knows no such limit")
@pytest.mark.parametrize("connects", ["itself", "pool", "pooler"], indirect=True)
def test_only_transactions_of_the_engine_have_a_time_limit(connects):
    found = {}

    def engine():
        with reusable_connections():
            with transaction.atomic():
                found["first transaction"] = limit_of_this_session()
            found["between"] = limit_of_this_session()
            with transaction.atomic():
                models.Page.objects.count()
                with transaction.atomic():
                    found["second transaction"] = limit_of_this_session()
        connections.close_all()

    connection_created.connect(limit_idle_transactions, dispatch_uid="djmessenger.worker")
    thread = threading.Thread(target=engine, name=f"{THREAD_NAME_PREFIX}-test")
    thread.start()
    thread.join()
    assert found.pop("between") == ("30s" if connects == "itself" else "0")
    assert found == {"first transaction": "30s", "second transaction": "30s"}
    with transaction.atomic():
        assert limit_of_this_session() == "0"


@pytest.mark.postgresql("SQLite's only lock is the file's")
@pytest.mark.parametrize("connects", ["itself", "pool", "pooler"], indirect=True)
def test_the_database_ends_a_transaction_of_a_frozen_thread(connects, file_database, settings):
    settings.DJM_LEASE = 0.2
    page = models.Page.objects.create(page_id="1")
    locked, gone = threading.Event(), threading.Event()
    errors = []

    def freezes():
        try:
            with reusable_connections(), transaction.atomic():
                models.Page.objects.select_for_update().get(pk=page.pk)
                locked.set()
                assert gone.wait(LONG)
                page.save()
        except DatabaseError as error:
            errors.append(error)
        finally:
            connections.close_all()

    connection_created.connect(limit_idle_transactions, dispatch_uid="djmessenger.worker")
    thread = threading.Thread(target=freezes, name=f"{THREAD_NAME_PREFIX}-test")
    connections.close_all()
    thread.start()
    assert locked.wait(LONG)
    with psycopg.connect(
        host=file_database["HOST"], dbname=file_database["NAME"], user="postgres"
    ) as another:
        # It waits for the lock of the frozen thread, which only the end of that transaction releases.
        another.execute("UPDATE djmessenger_page SET name = 'theirs'")
    gone.set()
    thread.join()
    assert len(errors) == 1


@pytest.mark.postgresql("a pooler is in front of PostgreSQL only")
@pytest.mark.parametrize("connects", ["pooler"], indirect=True)
def test_a_person_is_forgotten_behind_a_pooler(connects, pooler, file_database, monkeypatch):
    monkeypatch.setattr(erasure, "_CHUNK", 1)
    for number in range(3):
        store.store(tools.body(tools.text(f"m_{number}")))
    found = erasure._callbacks_about(tools.PSID)
    keys = [next(iter(found))]
    with psycopg.connect(host=str(pooler), dbname=file_database["NAME"], user="postgres") as another:
        another.execute("SELECT 1")  # the session that was used last is this client's now
        keys += found
    assert len(keys) == 3


@pytest.mark.postgresql("a pooler is in front of PostgreSQL only")
@pytest.mark.parametrize(
    ("connects", "expected"),
    [("itself", []), ("pool", []), ("pooler", ["djmessenger.W052"])],
    indirect=["connects"],
)
def test_the_check_of_the_database_knows_a_pooler(connects, expected, monkeypatch):
    connections.close_all()
    assert [message.id for message in database_checks.check_pooler(databases=["default"])] == expected
    assert database_checks.check_pooler(databases=[]) == []
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)
    assert database_checks.check_pooler(databases=["default"]) == []


@pytest.mark.postgresql("a pooler is in front of PostgreSQL only")
@pytest.mark.parametrize("connects", ["pooler"], indirect=True)
def test_a_pooler_in_transaction_mode_is_known_each_time(connects):
    connections.close_all()
    assert [sessions_are_shared() for _ in range(50)] == [True] * 50


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/New_York"])
def test_a_project_without_time_zones_answers_everyone(command, emulator, zone):
    """The project is east or west of UTC, so a time of UTC would be far in the past or in the future."""
    people = [emulator.add_person(tools.PAGE, person_id=f"{tools.PSID}{number}") for number in range(4)]
    command(variables={LOCAL_TIMES: zone})
    for item in range(3):
        for someone in people:
            post(tools.text(f"m_{someone.id}_{item}", psid=someone.id))
    until(lambda: sent() == 12, "every answer", lambda: f"{sent()} sent\n{command.log.read_text()}")


def test_a_time_is_stored_as_the_project_stores_times(settings):
    moment = datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC)
    assert as_stored(moment) is moment
    settings.USE_TZ, settings.TIME_ZONE = False, "Asia/Kathmandu"
    with timezone.override("Europe/Vienna"):
        assert as_stored(moment) == datetime.datetime(2026, 7, 1, 17, 45)  # noqa: DTZ001 - as it is stored
