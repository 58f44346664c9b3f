"""Order of events: a callback that was answered 200 is handled before each callback that Meta posted after it."""

from __future__ import annotations

import datetime
import threading
from types import SimpleNamespace

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from djmessenger import bot, models
from djmessenger.pipeline import positions, reads, split
from djmessenger.pipeline import store as storing
from tests import pipeline_tools as tools

START = 1_790_000_000_000


def next_mids() -> list[str]:
    """Return the message ids of the waiting events in the order in which they would be handled."""
    return list(models.Messaging.objects.order_by(*models.Messaging.ORDER).values_list("mid", flat=True))


def store(*items, after: int | None = None) -> int:
    """Store a callback; ``after`` is the last callback that Meta had an answer for when it posted this one."""
    callback_id = storing.store(tools.body(*items))
    if after is not None:
        models.Callback.objects.filter(pk=callback_id).update(after_id=after)
    return callback_id


@pytest.mark.django_db
@pytest.mark.parametrize("apart", [False, True], ids=["one batch", "two batches"])
def test_an_event_with_an_earlier_timestamp_does_not_overtake_a_callback_that_was_answered_before(apart):
    now = tools.now_ms()
    store(tools.text("m_1", at=now))
    if apart:
        bot.get_engine().split()
    store(tools.text("m_2", at=now - 5000), tools.text("m_3", at=now - 9000))
    bot.get_engine().split()
    assert next_mids() == ["m_1", "m_3", "m_2"]


@pytest.mark.django_db
@pytest.mark.parametrize("apart", [False, True], ids=["one batch", "two batches"])
def test_callbacks_whose_posts_overlapped_are_handled_by_timestamp(apart):
    now = tools.now_ms()
    store(tools.text("m_1", at=now))
    if apart:
        bot.get_engine().split()
    store(tools.text("m_2", at=now - 5000), after=0)
    bot.get_engine().split()
    assert next_mids() == ["m_2", "m_1"]


@pytest.mark.django_db
def test_an_event_from_the_future_delays_no_later_event():
    store(tools.text("m_1", at=2**62))
    store(tools.text("m_2"))
    bot.get_engine().split()
    first, second = models.Messaging.objects.order_by("id")
    assert next_mids() == ["m_1", "m_2"]
    assert second.position - first.position < 60_000


@pytest.mark.django_db
def test_a_callback_names_the_newest_one_that_was_stored_before_it():
    first = store(tools.text("m_1"))
    second = store(tools.text("m_2"))
    assert models.Callback.objects.get(pk=second).after_id == first


posts = st.lists(
    st.tuples(
        st.integers(0, 5),  # callbacks back that had no answer yet
        st.lists(st.integers(0, 20), min_size=1, max_size=3),  # timestamps
        st.booleans(),  # whether the split so far is committed before this one
    ),
    max_size=8,
)


@given(posts)
def test_positions_keep_the_order_of_answered_callbacks_and_else_follow_the_timestamps(posts):
    rows, batch, waiting = [], [], {}

    def place():
        positions.set_positions(batch, waiting)
        for row in batch:
            waiting.setdefault(1, []).append((row.callback.pk, 1, row.position))
        batch.clear()

    for number, (open_posts, timestamps, split_before) in enumerate(posts, 1):
        if split_before:
            place()
        callback = SimpleNamespace(
            pk=number,
            after_id=max(0, number - 1 - open_posts),
            date_received=datetime.datetime.fromtimestamp(START / 1000 + 60, tz=datetime.UTC),
        )
        for timestamp in timestamps:
            row = SimpleNamespace(
                waits_in=1, callback=callback, timestamp=START + timestamp, position=0, state="new"
            )
            rows.append(row)
            batch.append(row)
    place()
    for one in rows:
        for other in rows:
            if one.callback.pk <= other.callback.after_id:
                assert one.position < other.position
            if one.callback is other.callback and one.timestamp < other.timestamp:
                assert (one.position, one.timestamp) < (other.position, other.timestamp)
    if all(row.callback.after_id == 0 for row in rows):
        assert all(row.position == row.timestamp for row in rows)


# The wait for a split of another process (invariant 3).


def is_overtaken(monkeypatch) -> bool:
    """Store and split two callbacks in two processes, of which the first is frozen inside its split.

    Return whether the events of the second are committed meanwhile.
    """
    frozen, resumed = threading.Event(), threading.Event()

    decode = split.decode

    def freeze(body: bytes) -> object:
        if threading.current_thread().name == "frozen":
            frozen.set()
            assert resumed.wait(60)
        return decode(body)

    # Here the process has locked its callbacks, and no conversation queue yet.
    monkeypatch.setattr(split, "decode", freeze)
    engine = bot.get_engine()

    def split_first() -> None:
        engine.split()
        connection.close()

    storing.store(tools.body(tools.text("m_1")))
    first = threading.Thread(target=split_first, name="frozen")
    first.start()
    assert frozen.wait(60)
    storing.store(tools.body(tools.text("m_2")))
    second = threading.Thread(target=split_first)
    second.start()
    try:
        tools.until(lambda: not second.is_alive() or tools.is_anybody_waiting(), "the second split")
        return models.Messaging.objects.filter(mid="m_2").exists()
    finally:
        resumed.set()
        first.join()
        second.join()


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgresql("a transaction of SQLite that writes is alone")
def test_a_split_waits_for_a_process_that_is_frozen_inside_an_earlier_one(file_database, monkeypatch):
    assert not is_overtaken(monkeypatch)
    assert next_mids() == ["m_1", "m_2"]
    assert list(models.Messaging.objects.order_by("id").values_list("mid", flat=True)) == ["m_1", "m_2"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgresql("a transaction of SQLite that writes is alone")
def test_without_the_wait_a_later_callback_overtakes_one_that_is_being_split(file_database, monkeypatch):
    def skipping(callback_ids):
        waiting = models.Callback.objects.filter(pk__in=callback_ids, state="new").order_by("pk")
        return list(waiting.select_for_update(skip_locked=True))

    monkeypatch.setattr(reads, "new_callbacks", skipping)
    assert is_overtaken(monkeypatch)
