"""Callbacks for which another transaction has locked a row stay new, and delay only those that would overtake them."""

from __future__ import annotations

import datetime
import threading
from functools import partial

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from djmessenger import bot, models
from djmessenger.operations.erasure import forget
from djmessenger.pipeline import engine as engine_module
from djmessenger.pipeline import held as held_module
from djmessenger.pipeline import split, store
from djmessenger.pipeline.held import Held, HeldWait
from djmessenger.pipeline.worker import Worker
from tests import pipeline_tools as tools

pytestmark = pytest.mark.postgresql("SQLite has no locks of rows")

A, B, C, D = tools.PSID, "7012345678909991", "7012345678909992", "7012345678909993"


@pytest.fixture(autouse=True)
def _database(file_database):
    pass


def written(*names: str) -> int:
    """Store one callback with an event of each named person. Its events have the names and the next number."""
    number = models.Callback.objects.count() + 1
    people = {"A": A, "B": B, "C": C, "D": D}
    return store.store(tools.body(*[tools.text(f"{name}{number}", psid=people[name]) for name in names]))


def without_a_wait(work) -> None:
    """Run a function in another session, in which each wait for a lock is an error."""

    def run():
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = 3000")
        work()

    assert tools.threads(run) == []


def split_all(held: Held | None = None) -> None:
    held = held or Held()

    def run():
        engine = bot.get_engine()
        while engine.split(held=held):
            pass

    without_a_wait(run)


def mids() -> set[str]:
    return set(models.Messaging.objects.values_list("mid", flat=True))


def lock_queue() -> None:
    made = models.Conversation.objects.get(person_id=A)
    models.ConversationQueue.objects.lock([made.pk], tools.IN)


LOCKS = {
    "queue": lock_queue,
    "conversation": lambda: models.Conversation.objects.select_for_update().get(person_id=A),
    "changed conversation": lambda: models.Conversation.objects.filter(person_id=A).update(state={"x": 1}),
    "deleted person": lambda: models.FBUserProfile.objects.filter(psid=A).delete(),
    "inserted person": lambda: models.Conversation.objects.between(tools.PAGE, A),
}


@pytest.mark.parametrize("name", LOCKS)
def test_a_locked_row_delays_no_other_person(name):
    lock = LOCKS[name]
    if name != "inserted person":
        tools.conversation(A)
    tools.conversation(B)
    session = tools.Session(lock, holds=True)
    written("A")
    written("B")
    written("C")
    split_all()
    assert mids() == {"B2", "C3"}
    assert session.finish() == []
    split_all()
    assert mids() == {"A1", "B2", "C3"}


def test_a_page_that_a_view_changes_delays_nobody():
    tools.conversation(A)
    change = partial(models.Page.objects.update, pause_reason="x")
    session = tools.Session(change, holds=True)
    written("A")
    written("B")
    split_all()
    assert mids() == {"A1", "B2"}
    assert session.finish() == []
    assert models.Page.objects.get().date_last_callback is None
    written("C")
    split_all()
    assert models.Page.objects.get().date_last_callback is not None


def test_a_locked_page_delays_no_person_of_another_page():
    tools.conversation(A)
    session = tools.Session(lambda: models.Page.objects.select_for_update().get(), holds=True)
    written("A")
    store.store(tools.body(tools.comment("hi"), container="changes"))
    other = {**tools.text("other"), "recipient": {"id": "104233987650099"}}
    store.store(tools.body(other, page="104233987650099"))
    split_all()
    assert mids() == {"other"}
    assert session.finish() == []
    split_all()
    assert models.Messaging.objects.count() == 3


def test_a_locked_subject_delays_no_other_subject():
    first, second = f"{tools.PAGE}_1", f"{tools.PAGE}_2"
    tools.receive(tools.comment("before", post=first), container="changes")
    queue = models.ConversationQueue.objects.get()
    session = tools.Session(
        lambda: models.ConversationQueue.objects.lock_subjects([queue.subject]), holds=True
    )
    for post in (first, second):
        store.store(tools.body(tools.comment("hi", post=post), container="changes"))
    split_all()
    assert models.Messaging.objects.count() == 2
    assert session.finish() == []
    split_all()
    assert models.Messaging.objects.count() == 3


def test_no_callback_overtakes_a_held_one_in_any_queue_of_it():
    """A is locked. B has an event in a callback of A, and C has one in a callback of B. The lock ends meanwhile."""
    tools.conversation(A)
    session = tools.Session(lock_queue, holds=True)
    for names in ("C", "AB", "BC", "C", "A", "D"):
        written(*names)
    held = Held()
    split_all(held)
    assert mids() == {"C1", "D6"}
    # The split of D has not inserted anything for the callbacks that stay.
    assert not models.Conversation.objects.filter(person_id=B).exists()
    assert session.finish() == []
    for names in ("A", "B", "D"):
        written(*names)
    split_all(held)
    assert mids() == {"C1", "D6", "D9"}
    split_all(held.again())
    order = models.Messaging.objects.order_by("id").values_list("callback_id", flat=True)
    assert [*order][3:] == sorted([*order][3:]) != []
    assert models.Callback.objects.filter(state="new").count() == 0


def test_more_held_callbacks_than_a_batch_delay_no_other_person(monkeypatch):
    monkeypatch.setattr(engine_module, "MOST_CALLBACKS", 2)
    tools.conversation(A)
    session = tools.Session(lock_queue, holds=True)
    for name in "AAAAABAAC":
        written(name)
    split_all()
    assert mids() == {"B6", "C9"}
    assert session.finish() == []
    split_all()
    assert models.Messaging.objects.count() == 9


def test_a_lower_id_that_is_committed_late_is_split_before_a_higher_one():
    """The POST of the lower id is answered after the first batch was read, and before the last POST begins."""
    tools.conversation(A)
    session = tools.Session(lock_queue, holds=True)
    written("A")
    late = tools.Session(partial(store.store, tools.body(tools.text("late", psid=B))), holds=True)
    written("A")
    held = Held()
    split_all(held)
    assert len(held.callback_ids) == 2
    assert late.finish() == []
    written("B")
    split_all(held)
    order = [*models.Messaging.objects.order_by("id").values_list("mid", flat=True)]
    assert order == ["late", "B4"]
    assert session.finish() == []


def test_a_held_callback_costs_no_try_and_no_crash(settings):
    settings.DJM_TRIES = settings.DJM_CRASHES = 1
    tools.conversation(A)
    session = tools.Session(lock_queue, holds=True)
    written("A")
    models.Callback.objects.update(date_received=timezone.now() - datetime.timedelta(minutes=1))
    held = Held()
    statements = []

    def often():
        nonlocal held
        engine = bot.get_engine()
        assert not engine.split(held=held)
        for _ in range(3):
            held = held.again()
            with CaptureQueriesContext(connection) as queries:
                assert not engine.split(held=held)
            statements.extend(query["sql"] for query in queries)

    without_a_wait(often)
    assert not [statement for statement in statements if "crashes" in statement and "UPDATE" in statement[:9]]
    callback = models.Callback.objects.get()
    assert (callback.state, callback.tries, callback.crashes) == ("new", 0, 0)
    assert session.finish() == []
    split_all()
    assert mids() == {"A1"}


def test_an_unused_lock_of_one_batch_is_given_up():
    """The callback of A and B stays new. It must not keep the queue of B locked."""
    tools.conversation(A)
    made = tools.conversation(B)
    session = tools.Session(lock_queue, holds=True)
    written("A", "B")
    written("C")

    def work():
        with held_open():
            bot.get_engine().split()
            without_a_wait(lock_b)

    def held_open():
        return engine_module.atomic()

    def lock_b():
        with engine_module.atomic():
            models.ConversationQueue.objects.lock([made.pk], tools.IN)

    assert tools.threads(work) == []
    assert mids() == {"C2"}
    assert session.finish() == []


def test_a_split_that_waits_delays_no_other_person(monkeypatch):
    """A person is forgotten whose queue is locked. The other events of the callback must be split before."""
    tools.conversation(A)
    session = tools.Session(lock_queue, holds=True)
    written("A", "B")
    written("C")
    waits, go = threading.Event(), threading.Event()

    def pause(seconds):
        waits.set()
        assert go.wait(tools.LONG)

    monkeypatch.setattr(split.time, "sleep", pause)
    forgetting = threading.Thread(target=lambda: tools.threads(partial(forget, A)))
    forgetting.start()
    assert waits.wait(tools.LONG)
    split_all()
    assert mids() == {"C2"}
    assert session.finish() == []
    go.set()
    forgetting.join(tools.LONG)
    assert {"B1"} < mids()
    assert not models.FBUserProfile.objects.filter(psid=A).exists()


def test_inline_answers_others_and_waits_a_moment_for_the_own_row(monkeypatch):
    tools.conversation(A)
    session = tools.Session(lock_queue, holds=True)
    first = written("A")
    engine = tools.engine(lambda event: None)
    without_a_wait(partial(engine.drain_callback, written("B")))
    assert models.Messaging.objects.get().state == "done"
    sleep = engine_module.time.sleep

    def pause(seconds):
        session.finish()
        sleep(seconds)

    monkeypatch.setattr(engine_module.time, "sleep", pause)
    without_a_wait(partial(engine.drain_callback, first))
    assert set(models.Messaging.objects.values_list("mid", "state")) == {("A1", "done"), ("B2", "done")}


def test_a_worker_pauses_while_a_row_stays_locked(monkeypatch):
    monkeypatch.setattr(held_module, "FIRST_PAUSE", 1000.0)
    row = models.Callback(pk=1)
    worker = HeldWait()
    assert worker.seconds_to_wait(5.0) == 5.0
    first = worker.begin_split()
    first.add([(row, [])], {1})
    assert worker.end_split()
    # A second split begins no longer pause, and tries none of the held callbacks.
    assert worker.begin_split() is first
    assert not worker.end_split()
    assert worker.seconds_to_wait(5.0) == 5.0
    assert 0 < worker.seconds_to_wait(10_000.0) <= 1000.0


def test_a_worker_tries_held_callbacks_after_the_pause(monkeypatch):
    monkeypatch.setattr(held_module, "FIRST_PAUSE", 0.0)
    worker = HeldWait()
    first = worker.begin_split()
    first.add([(models.Callback(pk=1), [])], {1})
    worker._began = held_module.clock.seconds()
    assert worker.end_split()
    assert worker.seconds_to_wait(5.0) < 5.0
    tools.until(lambda: worker.begin_split() is not first)
    second = worker.begin_split()
    assert (second.callback_ids, second.read_ids) == (set(), {1})
    assert not worker.end_split()
    assert worker.seconds_to_wait(5.0) == 5.0


def test_a_worker_handles_others_and_finds_the_end_of_the_lock(settings):
    settings.DJM_DISPATCHER = "worker"
    # No poll is due before the end of the test.
    settings.DJM_POLL = 1000.0
    tools.conversation(A)
    session = tools.Session(lock_queue, holds=True)
    engine = tools.engine(lambda event: None)
    written("A")
    worker = Worker(lambda: engine, threads=2, slow_threads=1, senders=2)
    worker.start()
    try:
        done = models.Messaging.objects.filter(state="done")
        written("B")
        worker.wake()
        tools.until(lambda: done.filter(mid="B2").exists(), "the event of another person")
        assert not done.filter(mid="A1").exists()
        assert session.finish() == []
        tools.until(lambda: done.filter(mid="A1").exists(), "the event of the locked queue")
    finally:
        assert worker.stop(tools.LONG)
