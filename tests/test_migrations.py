"""Migrations keep the rows of earlier versions, and lead to one schema from any beginning."""

from __future__ import annotations

import datetime
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from djmessenger import migrations, models
from djmessenger.checks import check_history
from tests import pipeline_tools as tools

BEFORE = {"djmessenger": "tests.migrations_before"}
"""The three migrations that ``0001_squashed_0003`` replaces."""
RECEIVED = datetime.datetime(2026, 11, 20, 9, 30, tzinfo=datetime.UTC)


def schema() -> dict[str, tuple[set[str], set[str]]]:
    """Return the columns and the named constraints and indexes of each table of the app."""
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            if table.startswith("djmessenger_"):
                columns = connection.introspection.get_table_description(cursor, table)
                constraints = connection.introspection.get_constraints(cursor, table)
                found[table] = (
                    {column.name for column in columns},
                    {name for name in constraints if name.startswith("djm_")},
                )
    return found


def migrated_to(name: str) -> Any:
    """Migrate the app to a version, and return the models of that version."""
    call_command("migrate", "djmessenger", name, verbosity=0)
    return MigrationExecutor(connection).loader.project_state(("djmessenger", name)).apps


@pytest.fixture
def before(empty_database: None, settings: Any) -> Iterator[Any]:
    """A database of the version before, with a row in each table that the words rename."""
    settings.MIGRATION_MODULES = BEFORE
    call_command("migrate", verbosity=0)
    old = MigrationExecutor(connection).loader.project_state().apps
    page = old.get_model("djmessenger", "Page").objects.create(page_id="104233987650012", name="Shop")
    person = old.get_model("djmessenger", "FBUserProfile").objects.create(psid="7215540983316204", page=page)
    conversation = old.get_model("djmessenger", "Conversation").objects.create(
        page=page, person=person, state={"step": 2}
    )
    queue = old.get_model("djmessenger", "Lane")
    queue.objects.create(conversation=conversation, kind="in", epoch=7, ready_at=RECEIVED)
    queue.objects.create(conversation=conversation, kind="out", epoch=9, is_slow=True, owner="host:1")
    reply = old.get_model("djmessenger", "Reply").objects.create(
        conversation=conversation,
        recipient_id=person.psid,
        type="simple_text",
        data={"message": {"text": "Hello"}},
        state="unknown",
        vouched_wait=4.5,
    )
    old.get_model("djmessenger", "Attempt").objects.create(reply=reply, number=1, token="djm1.x.1", epoch=9)
    settings.MIGRATION_MODULES = {}
    return old


def test_rows_of_the_version_before_are_kept(before):
    call_command("migrate", verbosity=0)
    conversation = models.Conversation.objects.get()
    assert conversation.state == {"step": 2}
    incoming, outgoing = models.ConversationQueue.objects.order_by("kind")
    assert (incoming.conversation, incoming.fencing_token, incoming.ready_at) == (conversation, 7, RECEIVED)
    assert (outgoing.fencing_token, outgoing.is_slow, outgoing.owner) == (9, True, "host:1")
    assert models.Reply.objects.get().observed_wait == 4.5
    assert models.Attempt.objects.get().fencing_token == 9


def test_events_without_a_conversation_of_the_version_before_are_handled(empty_database):
    old = migrated_to("0003_order")
    page = old.get_model("djmessenger", "Page").objects.create(page_id=tools.PAGE)
    person = old.get_model("djmessenger", "FBUserProfile").objects.create(psid=tools.PSID, page=page)
    conversation = old.get_model("djmessenger", "Conversation").objects.create(page=page, person=person)
    old.get_model("djmessenger", "ConversationQueue").objects.create(conversation=conversation, kind="in")
    body = json.loads(tools.body(tools.comment("hi"), container="changes"))
    events = old.get_model("djmessenger", "Messaging").objects
    for number, state in enumerate(["new", "done", "new"]):
        events.create(key=f"{number}", type="CHANGE", page=page, body=body, timestamp=number, state=state)
    call_command("migrate", verbosity=0)
    kept = models.ConversationQueue.objects.get()
    assert (kept.conversation_id, kept.subject) == (conversation.pk, "")
    seen = []
    engine = tools.engine(lambda event: seen.append(event.row.key), kind="CHANGE")
    engine.sweep()
    assert list(models.Messaging.objects.order_by("key").values_list("queue__subject", flat=True)) == [
        f"{tools.PAGE}/post/{tools.PAGE}_1",
        None,
        f"{tools.PAGE}/post/{tools.PAGE}_1",
    ]
    engine.drain()
    assert seen == ["0", "2"]


def test_processes_of_the_version_before_still_insert_queues_and_events(empty_database):
    old = migrated_to("0003_order")
    call_command("migrate", verbosity=0)
    page = old.get_model("djmessenger", "Page").objects.create(page_id=tools.PAGE)
    for number in range(2):
        person = old.get_model("djmessenger", "FBUserProfile").objects.create(psid=f"70{number}", page=page)
        made = old.get_model("djmessenger", "Conversation").objects.create(page=page, person=person)
        old.get_model("djmessenger", "ConversationQueue").objects.create(conversation=made, kind="in")
        old.get_model("djmessenger", "Messaging").objects.create(
            key=f"{number}", type="X", page=page, conversation=made, body={}, timestamp=1
        )
        old.get_model("djmessenger", "Reply").objects.create(
            conversation=made, recipient=person, type="simple_text", data={}
        )
    assert set(models.Conversation.objects.values_list("fast_exchanges", flat=True)) == {0}
    assert set(models.Reply.objects.values_list("is_over_limit", flat=True)) == {False}
    assert set(models.ConversationQueue.objects.values_list("subject", flat=True)) == {""}


def test_nameless_persons_of_instagram_are_asked_for_again(empty_database, monkeypatch):
    module = importlib.import_module("djmessenger.migrations.0009_ask_for_instagram_names")
    monkeypatch.setattr(module, "PORTION", 2)
    old = migrated_to("0007_crashes")
    pages = old.get_model("djmessenger", "Page").objects
    people = old.get_model("djmessenger", "FBUserProfile").objects
    for channel in ("instagram", "messenger"):
        page = pages.create(page_id=f"17{len(people.all())}", channel=channel)
        for number, state in enumerate(["refused"] * 5 + ["fetched"]):
            people.create(psid=f"{channel}{number}", page=page, profile_state=state, date_profile=RECEIVED)
    call_command("migrate", verbosity=0)
    rows = models.FBUserProfile.objects
    assert set(rows.filter(profile_state="new").values_list("page__channel", "date_profile", "username")) == {
        ("instagram", None, "")
    }
    assert rows.filter(profile_state="new").count() == 5
    assert rows.filter(profile_state="refused", page__channel="messenger").count() == 5
    assert rows.filter(profile_state="fetched", date_profile=RECEIVED).count() == 2
    people.create(psid="70001")
    assert rows.get(pk="70001").username == ""


def test_open_conversations_get_the_end_of_their_window(empty_database, monkeypatch):
    module = importlib.import_module("djmessenger.migrations.0012_fill_window_until")
    monkeypatch.setattr(module, "PORTION", 2)
    old = migrated_to("0010_token_renewal")
    page = old.get_model("djmessenger", "Page").objects.create(page_id=tools.PAGE)
    now = timezone.now()

    def insert(number: int, last: datetime.datetime | None) -> None:
        person = old.get_model("djmessenger", "FBUserProfile").objects.create(psid=f"70{number}", page=page)
        conversations = old.get_model("djmessenger", "Conversation").objects
        conversations.create(page=page, person=person, date_last_inbound=last)

    hours = [1, 30, 5, 23, 24, 0, 2, None]
    for number, ago in enumerate(hours):
        insert(number, None if ago is None else now - datetime.timedelta(hours=ago))
    call_command("migrate", verbosity=0)
    for number, ago in enumerate(hours):
        row = models.Conversation.objects.get(person_id=f"70{number}")
        is_open = ago is not None and ago < 24
        expected = row.date_last_inbound + datetime.timedelta(hours=24) if is_open else None
        assert row.window_until == expected
    insert(99, now)
    assert models.Conversation.objects.get(person_id="7099").window_until is None


def test_profiles_that_were_refused_before_consent_are_asked_for_again(empty_database, monkeypatch):
    module = importlib.import_module("djmessenger.migrations.0013_ask_for_early_refusals")
    monkeypatch.setattr(module, "PORTION", 2)
    old = migrated_to("0012_fill_window_until")
    page = old.get_model("djmessenger", "Page").objects.create(page_id=tools.PAGE)
    second = datetime.timedelta(seconds=1)

    def insert(psid: str, state: str, *kinds: str) -> None:
        """Insert a person whose profile was requested with the first event."""
        person = old.get_model("djmessenger", "FBUserProfile").objects.create(
            psid=psid, page=page, profile_state=state, date_profile=RECEIVED + second
        )
        made = old.get_model("djmessenger", "Conversation").objects.create(page=page, person=person)
        for number, kind in enumerate(kinds):
            received = RECEIVED + number * 10 * second
            old.get_model("djmessenger", "Messaging").objects.create(
                key=f"{psid}/{number}",
                type=kind,
                page=page,
                conversation=made,
                body={},
                timestamp=1,
                date_received=received,
                date_handled=received + 2 * second,
            )

    for number in range(3):
        insert(f"1{number}", "refused", "REFERRAL", "SIMPLE_TEXT")
        insert(f"2{number}", "refused", "SIMPLE_TEXT", "REFERRAL")
    insert("30", "fetched", "REFERRAL")
    insert("40", "refused")
    call_command("migrate", verbosity=0)
    people = models.FBUserProfile.objects
    assert set(people.filter(profile_state="new", date_profile=None).values_list("pk", flat=True)) == {
        "10",
        "11",
        "12",
    }
    assert set(people.filter(profile_state="refused").values_list("pk", flat=True)) == {
        "20",
        "21",
        "22",
        "40",
    }
    assert people.get(pk="30").profile_state == "fetched"


def test_the_squashed_migration_counts_as_applied(before):
    call_command("migrate", verbosity=0)
    assert ("djmessenger", "0001_squashed_0003") in MigrationRecorder(connection).applied_migrations()


def test_both_beginnings_lead_to_one_schema(before):
    call_command("migrate", verbosity=0)
    updated = schema()
    call_command("migrate", "djmessenger", "zero", verbosity=0)
    assert not schema()
    call_command("migrate", verbosity=0)
    assert schema() == updated
    assert not any(
        "lane" in word for table, names in updated.items() for word in (table, *names[0], *names[1])
    )


def test_no_file_bears_the_name_that_the_package_of_2016_recorded():
    names = {path.stem for path in Path(str(migrations.__file__)).parent.glob("*.py")}
    assert "0001_initial" not in names


def test_a_process_of_the_version_before_still_stores_callbacks(before):
    call_command("migrate", verbosity=0)
    before.get_model("djmessenger", "Callback").objects.create(sha256="a" * 64, body=b"{}")
    stored = models.Callback.objects.get()
    assert (stored.state, stored.after_id, stored.tries) == ("new", 0, 0)


@pytest.mark.parametrize("recorded", [["0001_initial"], ["0001_initial", "0002_sweep"]])
def test_records_of_2016_or_of_a_part_are_named_before_django_fails(empty_database, recorded):
    recorder = MigrationRecorder(connection)
    recorder.ensure_schema()
    for name in recorded:
        recorder.record_applied("djmessenger", name)
    with pytest.raises(SystemCheckError, match=f"records {' and '.join(recorded)} of djmessenger") as caught:
        call_command("migrate", verbosity=0, skip_checks=False)
    assert "djmessenger.E049" in str(caught.value)
    for name in recorded:
        recorder.record_unapplied("djmessenger", name)
    call_command("migrate", verbosity=0, skip_checks=False)
    assert models.Callback.objects.count() == 0


def test_migrations_that_are_complete_or_missing_are_no_finding(before):
    assert check_history(databases=["default"]) == []
    call_command("migrate", verbosity=0, skip_checks=False)
    assert check_history(databases=["default"]) == []


def test_the_demo_depends_on_a_file_that_exists():
    # Django resolves the names that a squashed migration replaces, except in ``sqlmigrate``.
    demo = importlib.import_module("djmessenger.demo.migrations.0001_initial").Migration
    files = {path.stem for path in Path(str(migrations.__file__)).parent.glob("0*.py")}
    assert {name for app, name in demo.dependencies if app == "djmessenger"} <= files


def test_no_index_repeats_another(db):
    """Each index costs time at each insert, and at each update that is not limited to columns without an index."""
    repeats = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            if not table.startswith("djmessenger_"):
                continue
            found = connection.introspection.get_constraints(cursor, table)
            for name, index in found.items():
                # The names of indexes that a model declares begin with ``djm_``; the others belong to one field.
                if not index["index"] or index["unique"] or name.startswith("djm_"):
                    continue
                others = [other for key, other in found.items() if key != name]
                if any(
                    other["columns"][:1] == index["columns"]
                    for other in others
                    if other["index"] or other["unique"]
                ):
                    repeats.append(name)
    assert repeats == []


def test_a_worker_refuses_a_database_that_is_not_migrated(empty_database):
    with pytest.raises(CommandError, match=r"0001_squashed_0003, .* Run manage.py migrate") as refused:
        call_command("djmessenger", "worker", skip_checks=True)
    assert refused.value.returncode == 2
