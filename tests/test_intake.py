"""Bytes to rows: stored once, split once, in any batching and any order; nothing signed is lost."""

from __future__ import annotations

import datetime
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import DatabaseError, DataError, InterfaceError, OperationalError, connection, transaction
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from djmessenger import bot, models
from djmessenger.pipeline import split, store
from djmessenger.pipeline.connections import statement_timeout
from djmessenger.pipeline.engine import MOST_CALLBACKS
from tests import pipeline_tools as tools
from tests.faults import hostile

pytestmark = pytest.mark.django_db

START = tools.now_ms()


def some_events() -> list[dict]:
    people = [f"70000000000000{number:02}" for number in range(4)]
    events = [
        tools.text(f"m_{number}", f"text {number}", psid=people[number % 4], at=START + number % 3)
        for number in range(9)
    ]
    events += [tools.read(START + number, psid=people[number]) | {"timestamp": START} for number in range(2)]
    events += [tools.echo(f"m_{number}", "", psid=people[number], at=START) for number in range(2)]
    events.append({"timestamp": START, "sender": {"id": "x"}, "surprise": {"a": 1}})
    return events


EVENTS = some_events()


def rows() -> set[tuple]:
    found = models.Messaging.objects.values_list(
        "key", "type", "mid", "timestamp", "state", "conversation__person_id", "page__page_id"
    )
    return set(found)


@st.composite
def deliveries(draw):
    """The events in any order, some of them repeated, cut into bodies at any place."""
    order = draw(st.permutations(range(len(EVENTS))))
    again = draw(st.lists(st.sampled_from(range(len(EVENTS))), max_size=8))
    sequence = [EVENTS[number] for number in [*order, *again]]
    cuts = sorted(draw(st.sets(st.integers(1, len(sequence) - 1), max_size=6)))
    return [sequence[start:end] for start, end in zip([0, *cuts], [*cuts, len(sequence)], strict=True)]


@hypothesis_settings(max_examples=25)
@given(bodies=deliveries(), data=st.data())
def test_any_batching_order_and_repetition_leaves_the_same_rows(bodies, data):
    with transaction.atomic():
        tools.receive(*EVENTS)
        wanted = rows()
        transaction.set_rollback(True)
    with transaction.atomic():
        stored = [store.store(tools.body(*items)) for items in bodies]
        for callback_id in data.draw(st.permutations([*stored, *stored[:2]])):
            split.split(callback_id)
        found = rows()
        count = models.Messaging.objects.count()
        transaction.set_rollback(True)
    assert found == wanted
    assert count == len(EVENTS)


CORPUS = [content for _name, content in hostile.corpus()]


@hypothesis_settings(max_examples=40)
@given(content=st.one_of(st.binary(max_size=300), st.sampled_from(CORPUS)), cut=st.integers(0, 40))
def test_a_signed_body_is_stored_with_200_and_an_unsigned_one_refused_with_403(content, cut):
    content = content[: len(content) - cut] if cut < len(content) else content
    with transaction.atomic():
        post = Client().post
        headers = tools.signed(content)
        options = {"content_type": "application/json"}
        assert post("/messenger", content, headers=headers, **options).status_code == 200
        assert bytes(models.Callback.objects.get().body) == content
        bad = {"X-Hub-Signature-256": headers["X-Hub-Signature-256"][:-1] + "g"}
        wrong = tools.signed(content + b" ")
        for refused in ({}, bad, wrong):
            assert post("/messenger", content + b"", headers=refused, **options).status_code == 403
        assert models.Callback.objects.count() == 1
        transaction.set_rollback(True)


def test_a_content_length_that_is_no_number_is_no_error():
    answer = Client().post(
        "/messenger", b"", content_type="application/json", headers=tools.signed(b""), CONTENT_LENGTH="many"
    )
    assert answer.status_code == 200


def test_events_without_a_time_get_one_and_stay_apart_from_their_repeats():
    item = tools.text("m_1")
    del item["timestamp"]
    tools.receive(item)
    split.split(store.store(tools.body(item, tools.text("m_2"))))
    assert models.Messaging.objects.filter(mid="m_1").count() == 1


def test_a_callback_that_breaks_its_split_is_quarantined_and_later_ones_are_split(monkeypatch):
    broken = store.store(tools.body(tools.text("m_1")))
    fine = store.store(tools.body(tools.text("m_2")))
    split_many = split.split_many

    def stumble(callback_ids, claim_limit=0, **options):
        if broken in callback_ids:
            raise RuntimeError("a bug of ours\0")
        return split_many(callback_ids, **options)

    monkeypatch.setattr(split, "split_many", stumble)
    todo = bot.get_engine().split()
    assert len(todo.queues) == 1
    rows = models.Callback.objects.in_bulk([broken, fine])
    assert (rows[broken].state, rows[fine].state) == ("quarantined", "split")
    assert "a bug of ours" in rows[broken].error


def test_a_refused_event_leaves_its_neighbours_and_their_repeats_alone(monkeypatch):
    insert = split.insert_each

    def refuse(rows, by, **options):
        if any(row.mid == "m_2" for row in rows):
            raise DataError("it does not fit")
        insert(rows, by, **options)

    monkeypatch.setattr(split, "insert_each", refuse)
    items = [tools.text("m_1"), tools.text("m_1"), tools.text("m_2"), tools.text("m_3")]
    todo = split.split(store.store(tools.body(*items)))
    refused, *kept = models.Messaging.objects.order_by("mid")
    assert [row.mid for row in kept] == ["m_1", "m_3"]
    assert (refused.state, refused.body) == (models.Messaging.State.IGNORED, {})
    assert refused.reason == "not understood: the database refused it (DataError)"
    assert len(todo.queues) == 1
    assert "it does not fit" in models.Callback.objects.get().error


def test_of_one_key_twice_the_row_that_is_stored_is_the_one_that_is_woken():
    """Meta repeats an item, and one of the two copies names no person."""
    nobody = tools.text("m_1")
    nobody["sender"]["id"] = "no id"
    todo = split.split(store.store(tools.body(nobody, tools.text("m_1"))))
    row = models.Messaging.objects.get(key__contains="m_1")
    assert list(todo.queues.values()) == [row.conversation_id] != [None]


def test_a_busy_database_is_no_reason_to_begin_anew_at_once(monkeypatch):
    asked = []

    def busy(*args, **options):
        asked.append(1)
        raise OperationalError("lock timeout")

    monkeypatch.setattr(split, "insert_each", busy)
    callback = store.store(tools.body(tools.text("m_1")))
    with pytest.raises(OperationalError):
        split.split(callback)
    assert len(asked) == 1
    assert models.Callback.objects.get().state == "new"


def test_split_callbacks_are_counted_so_that_garbage_is_not_taken_for_the_end():
    store.store(b"no json")
    assert bot.get_engine().split()
    assert not bot.get_engine().split()


def test_a_full_batch_that_another_process_is_splitting_is_no_reason_to_look_again_at_once(monkeypatch):
    rows = [store.store(tools.body(tools.text(f"m_{number}"))) for number in range(MOST_CALLBACKS)]
    # To this process they are locked: it finds them waiting, and can split none.
    monkeypatch.setattr(split, "split_many", lambda *arguments, **options: split.Split())
    assert not bot.get_engine().split()
    monkeypatch.undo()
    todo = bot.get_engine().split()
    assert (todo.callbacks, todo.more) == (len(rows), True)


@pytest.fixture
def unlucky(monkeypatch):
    """A stored callback whose split the database refuses, before another one."""
    unlucky = store.store(tools.body(tools.text("m_1")))
    store.store(tools.body(tools.text("m_2")))
    split_many = split.split_many

    def deadlock(callback_ids, claim_limit=0, **options):
        if unlucky in callback_ids:
            raise DatabaseError("deadlock detected")
        return split_many(callback_ids, **options)

    monkeypatch.setattr(split, "split_many", deadlock)
    return unlucky


def test_a_callback_whose_split_fails_in_the_database_stays_new_and_later_ones_wait(unlucky, monkeypatch):
    bot.get_engine().split()
    assert models.Callback.objects.filter(state="new").count() == 2
    monkeypatch.undo()
    bot.get_engine().split()
    assert list(models.Messaging.objects.order_by("id").values_list("mid", flat=True)) == ["m_1", "m_2"]


def test_a_callback_whose_split_always_fails_in_the_database_is_quarantined(unlucky, settings):
    settings.DJM_TRIES = 3
    for _ in range(3):
        assert not models.Messaging.objects.exists()
        bot.get_engine().split()
    callback = models.Callback.objects.get(state="quarantined")
    assert (callback.pk, callback.tries) == (unlucky, 3)
    assert "deadlock detected" in callback.error
    assert models.Messaging.objects.get().mid == "m_2"


@pytest.mark.parametrize(
    "error",
    [OperationalError("disk full"), InterfaceError("connection already closed")],
    ids=["full", "closed"],
)
def test_an_outage_of_the_database_quarantines_no_callback(error, settings, monkeypatch):
    """On a full disk PostgreSQL refuses new rows, and the count of tries still fits into its page."""
    settings.DJM_TRIES = 2
    for mid in ("m_1", "m_2"):
        store.store(tools.body(tools.text(mid)))

    def fail(*args, **options):
        raise error

    monkeypatch.setattr(split, "insert_each", fail)
    for _ in range(3):
        bot.get_engine().split()
    monkeypatch.undo()
    bot.get_engine().split()
    assert list(models.Messaging.objects.order_by("id").values_list("mid", flat=True)) == ["m_1", "m_2"]


def test_a_flood_is_stored_and_ignored_with_the_reason_and_other_people_are_served(settings):
    settings.DJM_MAX_PENDING = 3
    tools.receive(tools.text("m_a"), tools.text("m_b"))
    tools.receive(*[tools.text(f"m_{number}") for number in range(5)], tools.text("m_x", psid="701"))
    waiting = models.Messaging.objects.filter(state="new")
    assert set(waiting.values_list("mid", flat=True)) == {"m_a", "m_b", "m_0", "m_x"}
    ignored = models.Messaging.objects.filter(state="ignored")
    assert ignored.count() == 4
    assert "3 events" in ignored[0].reason


def test_an_older_event_does_not_move_the_window_back():
    at = tools.now_ms()
    tools.receive(tools.text("m_new", at=at))
    before = models.Conversation.objects.get().date_last_inbound
    tools.receive(tools.text("m_old", at=at - 60_000))
    assert models.Conversation.objects.get().date_last_inbound == before is not None


def test_the_time_of_the_last_callback_is_written_once_a_minute():
    tools.receive(tools.text("m_1"))
    first = models.Page.objects.get().date_last_callback
    tools.receive(tools.text("m_2"))
    assert models.Page.objects.get().date_last_callback == first is not None
    models.Page.objects.update(date_last_callback=first - datetime.timedelta(minutes=2))
    tools.receive(tools.text("m_3"))
    assert models.Page.objects.get().date_last_callback > first


def test_a_repeated_echo_does_not_change_the_lag_of_echoes():
    old = tools.echo("m_e", "djm1.x.1", at=tools.now_ms() - 3_600_000)
    tools.receive(old)
    page = models.Page.objects.get()
    models.Page.objects.update(echo_lag=1.0, date_last_echo=None)
    split.split(store.store(tools.body(old, tools.text("m_1"))))
    page.refresh_from_db()
    assert (page.echo_lag, page.date_last_echo) == (1.0, None)


def test_the_lag_of_echoes_is_a_slow_maximum():
    for lag in (2.0, 0.1):
        tools.receive(tools.echo(f"m_{lag}", "djm1.x.1", at=tools.now_ms() - int(lag * 1000)))
    assert 1.7 < models.Page.objects.get().echo_lag < 10


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_times_of_echoes_are_those_of_the_database(hours, monkeypatch):
    """With a clock that is an hour behind, the sends of that hour would seem to have no echo."""
    now, shift = timezone.now, datetime.timedelta(hours=hours)
    monkeypatch.setattr(timezone, "now", lambda: now() + shift)
    tools.receive(tools.echo("m_1", "djm1.x.1", at=int(now().timestamp() * 1000)))
    page = models.Page.objects.get()
    assert abs(page.date_last_echo - now()) < abs(shift) / 2
    assert page.echo_lag < abs(shift.total_seconds()) / 2


@pytest.mark.parametrize(
    ("item", "container", "counts"),
    [
        ({}, "messaging", True),
        ({}, "standby", True),
        ({"app_id": int(tools.APP)}, "messaging", True),
        ({"app_id": "999"}, "messaging", False),
        ({"app_id": None}, "messaging", False),
        ({"sender": tools.PSID}, "messaging", False),
        ({"metadata": "of the author"}, "messaging", False),
        ({"metadata": "djm1." + "x" * 80}, "messaging", False),
    ],
)
def test_only_an_echo_of_our_app_from_the_page_proves_an_attempt(item, container, counts, settings):
    settings.DJM_APP_ID = tools.APP
    options = {"metadata": "djm1.abc.1 mine", **item}
    tools.receive(tools.echo("m_e", **options), container=container)
    (found,) = models.Messaging.objects.values_list("echo_token", flat=True)
    assert found == ("djm1.abc.1" if counts else None)


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgresql("SQLite has one writer, who waits for nobody")
def test_batches_with_the_same_people_and_events_in_any_order_never_deadlock(file_database):
    events = [tools.text(f"m_{number}", psid=f"70{number % 25:03}", at=START) for number in range(100)]
    events_without_conversation = [
        {"timestamp": START, "sender": {"id": f"?{number % 5}"}, "surprise": {"number": number}}
        for number in range(20)
    ]
    for seed in range(6):
        everything = events + events_without_conversation
        shuffled = [random.Random(seed * 10 + n).sample(everything, 120) for n in range(3)]  # noqa: S311
        stored = [store.store(tools.body(*items)) for items in shuffled]
        barrier = threading.Barrier(3)

        def work(callback_id, barrier=barrier):
            barrier.wait()
            split.split(callback_id)

        assert tools.threads(*[lambda pk=pk, work=work: work(pk) for pk in stored]) == []
        assert models.Messaging.objects.count() == 120
        models.Messaging.objects.all().delete()


def test_an_event_for_a_known_person_wakes_the_queue_in_the_same_transaction():
    made = tools.conversation()
    assert tools.queue_of(made).ready_at is None
    with transaction.atomic():
        tools.receive(tools.text("m_1"))
        transaction.set_rollback(True)
    assert tools.queue_of(made).ready_at is None
    tools.receive(tools.text("m_1"))
    assert tools.queue_of(made).ready_at is not None


@pytest.mark.parametrize(
    "name", ["dashboard_test_as_messaging", "dashboard_test_as_change", "dashboard_test_without_event"]
)
def test_the_test_button_of_the_app_dashboard_is_explained_and_makes_no_page(name, caplog):
    sample = Path(__file__).parent / "wire" / "others" / f"{name}.json"
    with caplog.at_level("INFO", "djmessenger"):
        split.split(store.store(sample.read_bytes()))
    assert not models.Page.objects.exists()
    assert not models.Conversation.objects.exists()
    row = models.Messaging.objects.get()
    assert (row.state, row.reason) == ("ignored", "a test of the App Dashboard; it belongs to no Page")
    (line,) = [record for record in caplog.records if getattr(record, "action", "") == "dashboard_test"]
    assert "valid signature" in line.getMessage()


def level_of_flush() -> object:
    """Return the setting of this connection that decides whether a commit waits for the disk."""
    name = "SHOW synchronous_commit" if connection.vendor == "postgresql" else "PRAGMA synchronous"
    with connection.cursor() as cursor:
        cursor.execute(name)
        return cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)
def test_only_sqlite_splits_without_waiting_for_the_disk(file_database):
    """A server of PostgreSQL could lose the claim of a split, and issue its fencing token again to a second worker."""
    levels = []

    def note(execute, sql, params, many, context):
        if sql.startswith('INSERT INTO "djmessenger_messaging"'):
            levels.append(level_of_flush())
        return execute(sql, params, many, context)

    callback_id = store.store(tools.body(tools.text("m_1", "Hello")))
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            # The server of the tests has it off.
            cursor.execute("SET synchronous_commit = on")
    before = level_of_flush()
    with connection.execute_wrapper(note):
        split.split(callback_id)
    assert levels == (["on"] if connection.vendor == "postgresql" else [1])
    assert level_of_flush() == before
    connection.close()


@pytest.mark.postgresql("SQLite has no locks of rows")
def test_a_repeat_of_a_locked_callback_delays_no_answer(file_database):
    """A process that freezes in a split holds the lock of its callback."""
    repeat, other = tools.body(tools.text("m_1")), tools.body(tools.text("m_2"))
    callback_id = store.store(repeat)

    def post_all():
        with statement_timeout(1.0):
            assert tools.post_body(repeat) == 200
        with statement_timeout(1.0):
            assert store.store_each([store.Signed(repeat), store.Signed(other)])[0] == callback_id

    with transaction.atomic():
        models.Callback.objects.select_for_update().get()
        assert tools.threads(post_all) == []
    assert models.Callback.objects.count() == 2
    store.store_many([store.Signed(repeat), store.Signed(other), store.Signed(repeat)])
    assert models.Callback.objects.get(pk=callback_id).copies == 3


@contextmanager
def refused(error: str) -> Iterator[None]:
    """Make the database refuse each event whose text is ``bad`` with an error, which is a SQLSTATE on PostgreSQL."""
    table = models.Messaging._meta.db_table
    is_postgresql = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        if is_postgresql:
            cursor.execute(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "IF new.body::text LIKE '%%\"bad\"%%' THEN RAISE EXCEPTION 'refused' USING ERRCODE = %s; END IF; "
                f"RETURN new; END $$; CREATE TRIGGER refuse BEFORE INSERT ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION refuse()",
                [error],
            )
        else:
            # Malformed JSON is an ``OperationalError`` of SQLite.
            cursor.execute(
                f"CREATE TRIGGER refuse BEFORE INSERT ON {table} WHEN new.body LIKE '%%\"bad\"%%' "
                "BEGIN SELECT json('refused'); END",
                [],
            )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION refuse() CASCADE" if is_postgresql else "DROP TRIGGER refuse")


def split_often(times: int) -> list[tuple[str, int]]:
    """Split that many times; give the state and the failed splits of each callback."""
    for _ in range(times):
        bot.get_engine().split()
    return list(models.Callback.objects.order_by("id").values_list("state", "tries"))


@pytest.mark.parametrize("error", ["54000", "57014"])
def test_a_callback_that_a_limit_of_the_database_refuses_is_quarantined(error, file_database, settings):
    """Program limits and timeouts are of the same class of Django as a lost connection."""
    settings.DJM_TRIES = 2
    for words in ("bad", "good"):
        store.store(tools.body(tools.text(f"m_{words}", words)))
    with refused(error):
        assert split_often(1) == [("new", 1), ("new", 0)]
        assert split_often(2) == [("quarantined", 2), ("split", 0)]
    assert "OperationalError" in models.Callback.objects.get(state="quarantined").error
    assert models.Messaging.objects.get().mid == "m_good"


@pytest.mark.postgresql("the errors of a trigger of SQLite have no code of their own")
@pytest.mark.parametrize("error", ["53100", "40001", "57P01", "08006", "58030"])
def test_an_error_of_the_whole_database_does_not_count(error, file_database, settings):
    settings.DJM_TRIES = 2
    store.store(tools.body(tools.text("m_1", "bad")))
    with refused(error):
        assert split_often(3) == [("new", 0)]
    assert split_often(1) == [("split", 0)]


@pytest.mark.sqlite("PostgreSQL has no limit for the size of a database")
def test_a_full_disk_does_not_count(file_database, settings):
    settings.DJM_TRIES = 2
    store.store(tools.body(*[tools.text(f"m_{number}", "x" * 2000) for number in range(20)]))
    with connection.cursor() as cursor:
        (pages,) = cursor.execute("PRAGMA page_count").fetchone()
        cursor.execute(f"PRAGMA max_page_count = {pages}")
        assert split_often(3) == [("new", 0)]
        cursor.execute(f"PRAGMA max_page_count = {pages + 1000}")
    assert split_often(1) == [("split", 0)]


@pytest.mark.postgresql("SQLite has no locks of rows")
def test_a_callback_that_waits_for_a_lock_is_not_quarantined(file_database, settings):
    """A rule that works for a minute holds the queue, and the project limits the time of each statement."""
    settings.DJM_TRIES = 1
    made = tools.conversation()
    store.store(tools.body(tools.text("m_1")))
    states = []

    def split_with_a_limit():
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 300")
        states.append(split_often(2))

    with transaction.atomic():
        models.ConversationQueue.objects.lock([made.pk], tools.IN)
        assert tools.threads(split_with_a_limit) == []
    assert states == [[("new", 0)]]
