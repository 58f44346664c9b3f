"""A database of the app's own beside ``default``, by a router: every step of the engine is there. Nothing is mocked."""

from __future__ import annotations

import contextlib
import functools
import io
import os

import pytest
from django.conf import settings as django_settings
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.core import checks as django_checks
from django.core.management import call_command
from django.db import connections, transaction
from django.test import Client, override_settings
from django.urls import path, reverse

from djmessenger import bot, database_checks, models, sql
from djmessenger.operations.doctor_local import LocalDoctor
from djmessenger.operations.status import read_status
from djmessenger.pipeline import split, store
from djmessenger.pipeline.connections import own_connection, statement_timeout
from djmessenger.pipeline.notifications import CALLBACK, Listener
from djmessenger.pipeline.worker import Worker
from djmessenger.testing import Messenger
from djmessenger.views import DJMBotView
from tests import pipeline_tools as tools
from tests.conftest import use_database
from tests.pipeline_tools import LONG, post, until
from tests.settings import postgresql_database, sqlite_file_database

BOTH_ARE_POSTGRESQL = "postgresql postgresql"
POLICY = {
    "rules": [
        {
            "type": "SIMPLE_TEXT",
            "name": "answer",
            "repliers": [{"name": "djmessenger.replying.DefaultMessageReplier"}],
        }
    ]
}
urlpatterns = [path("admin/", admin.site.urls)]
SETUPS = [
    pytest.param("sqlite sqlite", marks=pytest.mark.sqlite("the others have a PostgreSQL")),
    pytest.param("sqlite postgresql", marks=pytest.mark.postgresql("the app is in it")),
    pytest.param("postgresql sqlite", marks=pytest.mark.postgresql("the project is in it")),
    pytest.param(BOTH_ARE_POSTGRESQL, marks=pytest.mark.postgresql("the project and the app are in it")),
]
"""Kinds of the databases ``default`` and ``bot``."""


class OwnDatabase:
    """The router of docs/deployment.md."""

    def db_for_read(self, model, **hints):
        return "bot" if model._meta.app_label == "djmessenger" else None

    db_for_write = db_for_read

    def allow_migrate(self, alias, app_label, **hints):
        return (alias == "bot") == (app_label == "djmessenger")


ROUTER = f"{__name__}.{OwnDatabase.__qualname__}"


@contextlib.contextmanager
def using(databases):
    before, its_connection = django_settings.DATABASES["default"], connections["default"]
    use_database(databases["default"], bot=databases["bot"])
    try:
        with override_settings(DATABASE_ROUTERS=[ROUTER]):
            yield
    finally:
        connections.close_all()
        use_database(before)
        connections["default"] = its_connection


@pytest.fixture(scope="module")
def migrated(tmp_path_factory, django_db_setup, django_db_blocker):
    """Make and migrate the databases of a set-up once; gives their settings."""
    made = []

    @functools.cache
    def make(setup):
        databases = {}
        for alias, kind in zip(["default", "bot"], setup.split(), strict=True):
            name = f"{alias}_{os.getpid()}_{setup.replace(' ', '_')}"
            if kind == "sqlite":
                databases[alias] = sqlite_file_database(tmp_path_factory.mktemp(name) / "db.sqlite3")
            else:
                databases[alias] = postgresql_database(os.environ["DJM_TEST_POSTGRESQL"]) | {"NAME": name}
                made.append(name)
                with connections["default"].cursor() as cursor:
                    cursor.execute(f'CREATE DATABASE "{name}"')
        with using(databases):
            call_command("migrate", verbosity=0)
            call_command("migrate", database="bot", verbosity=0)
        return databases

    yield make
    tools.wait_for_publishers()
    with django_db_blocker.unblock(), connections["default"].cursor() as cursor:
        for name in made:
            cursor.execute(f'DROP DATABASE "{name}"')


@pytest.fixture(params=SETUPS)
def two_databases(request, migrated, django_db_blocker):
    """The project with an empty database ``default`` and an empty one of the app; gives the kinds."""
    with django_db_blocker.unblock(), using(migrated(request.param)):
        for alias in ("default", "bot"):
            call_command("flush", database=alias, interactive=False, verbosity=0)
        yield request.param


@pytest.fixture
def person(two_databases, emulator):
    return tools.someone(emulator)


def rows():
    """Count the rows of events, replies and conversations."""
    return [model.objects.count() for model in (models.Messaging, models.Reply, models.Conversation)]


@contextlib.contextmanager
def at_once():
    yield


@contextlib.contextmanager
def threads():
    yield
    until(lambda: models.Reply.objects.filter(state="sent").exists(), "the answer")
    bot.get_dispatcher().stop()


@contextlib.contextmanager
def worker():
    made = Worker(bot.get_engine, threads=2, slow_threads=2, senders=32, listen=True)
    made.start()
    yield
    until(lambda: models.Reply.objects.filter(state="sent").exists(), "the answer")
    assert made.stop(LONG)


@contextlib.contextmanager
def tasks():
    yield
    bot.get_engine().sweep()
    bot.get_engine().drain()


@pytest.mark.parametrize(
    ("dispatcher", "runs"),
    [("inline", at_once), ("embedded", threads), ("worker", worker), ("worker", tasks)],
)
def test_each_driver_answers_a_person(dispatcher, runs, person, settings):
    settings.DJM_DISPATCHER, settings.DJM_ROUTING_POLICY = dispatcher, POLICY
    with runs():
        assert post(tools.text("m_1")) == 200
    assert len(person.received) == 1
    assert rows() == [1, 1, 1]
    assert not models.ConversationQueue.objects.exclude(leased_until=None).exists()


def test_a_split_that_fails_leaves_no_row(person, monkeypatch):
    def fails(errors):
        raise RuntimeError("after the inserts")

    monkeypatch.setattr(split, "_mark_split", fails)
    pk = store.store(tools.body(tools.text("m_1")))
    with pytest.raises(RuntimeError, match="after the inserts"):
        split.split(pk)
    assert rows() == [0, 0, 0]
    monkeypatch.undo()
    split.split(pk)
    assert rows() == [1, 0, 1]


def test_a_rule_that_fails_leaves_its_rows_elsewhere_and_no_answer(person):
    called = []

    def fails(event):
        for alias in ("default", "bot"):
            transaction.on_commit(functools.partial(called.append, alias), using=alias)
        Group.objects.create(name=event.text)
        event.conversation.send("an answer")
        raise ValueError("after its effects")

    tools.receive(tools.text("m_1"))
    tools.handle(tools.engine(fails, tries=1), tools.conversation())
    assert models.Messaging.objects.get().state == "failed"
    assert (models.Reply.objects.count(), Group.objects.count(), called) == (0, 1, ["default"])


def test_a_rule_writes_to_no_database_after_its_lease_is_lost(person):
    engine = tools.engine(lambda event: Group.objects.create(name="twice") and None)
    tools.receive(tools.text("m_1"))
    lost = tools.claim(tools.conversation())
    tools.steal(tools.conversation())
    tools.work(engine, lost)
    assert Group.objects.count() == 0


def test_a_message_is_queued_by_the_transaction_of_the_own_database(person, settings):
    settings.DJM_DISPATCHER = "inline"
    made = tools.conversation()
    with contextlib.suppress(KeyError), transaction.atomic(using="bot"):
        made.send("rolled back")
        assert len(person.received) == 0
        raise KeyError
    assert models.Reply.objects.count() == 0
    with transaction.atomic(using="bot"):
        made.send("sent after the commit")
        assert len(person.received) == 0
    tools.send(bot.get_engine(), made)
    assert [message.text for message in person.received] == ["sent after the commit"]


def test_a_wake_up_reaches_the_listener_of_the_own_database(two_databases):
    if connections["bot"].vendor != "postgresql":
        pytest.skip("SQLite has no notifications")
    heard = []
    listener = Listener(heard.append)
    until(lambda: heard == [""], "the first wake-up")
    if two_databases == BOTH_ARE_POSTGRESQL:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT pg_notify('djmessenger', 'from elsewhere')")
    bot.get_engine().notify(CALLBACK)
    until(lambda: len(heard) > 1, "the second wake-up")
    listener.stop()
    assert heard == ["", CALLBACK]


def test_own_connections_and_time_limits_are_of_the_own_database(two_databases):
    connection = own_connection()
    assert connection.settings_dict["NAME"] == connections["bot"].settings_dict["NAME"]
    with statement_timeout(1.5), connections["bot"].cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout" if connection.vendor == "sqlite" else "SHOW statement_timeout")
        assert str(cursor.fetchone()[0]) in {"1500", "1500ms"}


def test_the_view_runs_outside_of_atomic_requests_of_each_database(two_databases):
    assert DJMBotView.as_view()._non_atomic_requests == {"default", "bot"}


def test_the_kit_works_inside_a_transaction_of_the_test(two_databases, settings):
    settings.DJM_ROUTING_POLICY = POLICY
    with transaction.atomic(using="bot"), Messenger(settings) as messenger:
        person = messenger.person("Ana")
        person.says("hello")
        person.sees(...)
        transaction.set_rollback(True, using="bot")
    assert rows() == [0, 0, 0]


@pytest.mark.urls(__name__)
def test_the_pages_of_the_admin_load(two_databases):
    tools.receive(tools.text("m_1"))
    tools.queue(tools.conversation())
    staff = Client()
    staff.force_login(User.objects.create_superuser("staff"))
    for model in (
        models.Callback, models.Conversation, models.FBUserProfile, models.Messaging, models.Page, models.Reply,
    ):  # fmt: skip
        listing = reverse(f"admin:djmessenger_{model._meta.model_name}_changelist")
        assert staff.get(listing).status_code == 200
        change = reverse(
            f"admin:djmessenger_{model._meta.model_name}_change", args=[model.objects.first().pk]
        )
        assert staff.get(change).status_code == 200


def test_commands_and_the_health_page_read_the_own_database(person, settings):
    settings.DJM_DISPATCHER, settings.DJM_HEALTH_TOKEN = "worker", "made-up-health-token"
    post(tools.text("m_1"))
    assert read_status().callbacks_waiting == 1
    answer = Client().get("/messenger/health", headers={"Authorization": "Bearer made-up-health-token"})
    assert answer.json()["callbacks_waiting"] == 1
    (finding,) = [finding for finding in LocalDoctor().findings() if finding.link == "database"]
    assert finding.status == "ok"
    call_command("migrate", "djmessenger", "zero", database="bot", verbosity=0)
    try:
        (finding,) = [finding for finding in LocalDoctor().findings() if finding.link == "database"]
        assert (finding.status, finding.cure) == ("fail", "Run manage.py migrate --database=bot.")
    finally:
        call_command("migrate", database="bot", verbosity=0)


def test_the_tables_are_in_the_own_database_only(two_databases):
    tables = {alias: set(connections[alias].introspection.table_names()) for alias in ("default", "bot")}
    ours = {model._meta.db_table for model in sql.apps.get_app_config("djmessenger").get_models()}
    assert ours & tables["default"] == set()
    assert tables["bot"] == ours | {"django_migrations"}


def test_the_checks_find_no_error(two_databases):
    assert database_checks.check_database() == []
    output = io.StringIO()
    call_command("check", databases=["default", "bot"], fail_level="ERROR", stdout=output, stderr=output)
    messages = [message.id for message in django_checks.run_checks(databases=["default", "bot"])]
    assert "djmessenger.E051" not in messages


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("alias", ["default", "bot"])
@pytest.mark.parametrize("how", ["enter", "autocommit"])
def test_a_transaction_that_a_rule_leaves_open_on_another_database_is_rolled_back(
    how, alias, slow, two_databases, caplog
):
    def leave(event):
        if how == "enter":
            transaction.atomic(using=alias).__enter__()
        else:
            # Django refuses it itself inside the transaction of the event.
            transaction.set_autocommit(False, using=alias)
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")

    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    tools.handle(tools.engine(leave, slow=slow), made)
    assert models.Messaging.objects.values_list("state", "tries").get() == ("new", 1)
    is_refused = (how, alias, slow) == ("autocommit", "bot", False)
    assert (
        "TransactionManagementError" if is_refused else "rule 'rule 1' left a transaction open"
    ) in caplog.text
    assert [
        each.alias for each in connections.all() if each.in_atomic_block or not each.get_autocommit()
    ] == []
