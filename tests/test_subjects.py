"""Events without a conversation: each waits in the queue of its subject, with lease, order, tries and the slow pool."""

from __future__ import annotations

import threading
import types

import pytest

from djmessenger import bot, models
from djmessenger.clock import Deadline
from djmessenger.operations import replay
from djmessenger.operations.erasure import forget
from djmessenger.operations.status import read_status
from djmessenger.pipeline import claims, queue_locks, reads, retention, split, store
from djmessenger.pipeline.slow import RunHere
from djmessenger.pipeline.worker import Worker
from djmessenger.receiving import ReceivingType
from djmessenger.receiving.keys import subject_of
from djmessenger.receiving.parsing import split as split_document
from djmessenger.sql import atomic
from tests import pipeline_tools as tools

pytestmark = pytest.mark.django_db

POST, OTHER_POST = f"{tools.PAGE}_1", f"{tools.PAGE}_2"


def receive(*items) -> split.Split:
    return tools.receive(*items, container="changes")


def engine(*functions, **options):
    return tools.engine(*functions, kind="CHANGE", **options)


def words_of(event) -> str:
    return event.raw["value"]["message"]


def queue_of(subject: str = f"{tools.PAGE}/post/{POST}") -> models.ConversationQueue:
    return models.ConversationQueue.objects.get(subject=subject)


def states() -> dict[str, str]:
    rows = models.Messaging.objects.order_by("id")
    return {row.body["entry"][0]["changes"][0]["value"]["message"]: row.state for row in rows}


@pytest.mark.parametrize(
    ("value", "subject"),
    [
        ({"post_id": POST, "comment_id": "1_9", "parent_id": "1_8"}, f"post/{POST}"),
        ({"media": {"id": "178"}, "id": "179", "from": {"id": "77"}}, "post/178"),
        ({"media_id": "178", "comment_id": "179"}, "post/178"),
        ({"parent_id": "18", "comment_id": "19"}, "comment/18"),
        ({"comment_id": "19", "from": {"id": "77"}}, "comment/19"),
        ({"from": {"id": 77}, "message": "hi"}, "person/77"),
        ({"message": "hi"}, ""),
        ({"post_id": ["1"], "from": "77"}, ""),
    ],
)
def test_the_subject_is_the_post_the_comment_the_sender_or_the_page(value, subject):
    receive({"field": "feed", "value": value})
    queue = models.Messaging.objects.get().queue
    assert (queue.subject, queue.conversation, queue.kind) == (
        "/".join(filter(None, [tools.PAGE, subject])),
        None,
        tools.IN,
    )


def test_an_edit_without_a_sender_waits_for_the_page():
    tools.receive({"timestamp": tools.now_ms(), "message_edit": {"mid": "m_1", "text": "b"}})
    assert models.Messaging.objects.get().queue.subject == tools.PAGE


@pytest.mark.parametrize("post", ["1\0", "ü", "\ud800", "1" * 200, "1 2", "%s"])
def test_a_subject_that_no_column_can_store_is_a_hash(post):
    (item,) = split_document(
        {"object": "page", "entry": [{"id": "1", "changes": [tools.comment("", post=post)]}]}
    )
    assert len(subject_of(item.messaging)) == 64


def test_a_slow_rule_on_a_comment_runs_once_while_sweeps_pass_and_a_person_is_answered(
    file_database, emulator, settings
):
    settings.DJM_DISPATCHER, settings.DJM_POLL = "worker", 0.02
    person = tools.someone(emulator)
    gate, calls = threading.Event(), []

    def ask(event):
        calls.append(words_of(event))
        assert gate.wait(tools.LONG)

    made = engine(ask, slow=True)
    comments, texts = made.inbox._policy_for(None), tools.policy(lambda event: "answer")
    made.inbox._policy_for = lambda page: types.SimpleNamespace(
        decide=lambda event: (comments if event.type is ReceivingType.CHANGE else texts).decide(event)
    )
    store.store(tools.body(tools.comment("first"), tools.comment("second"), container="changes"))
    worker = Worker(lambda: made, threads=1, slow_threads=2, senders=32)
    worker.start()
    try:
        tools.until(lambda: calls, "the slow rule")
        for _ in range(3):
            made.sweep()
            made.drain()
        store.store(tools.body(tools.text("m_1")))
        tools.until(lambda: person.texts == ["answer"], "the answer to the other person")
        assert calls == ["first"]
        assert queue_of().leased_until is not None
        gate.set()
        tools.until(lambda: calls == ["first", "second"], "the second comment")
        tools.until(lambda: not models.Messaging.objects.filter(state="new").exists(), "the end")
    finally:
        gate.set()
        assert worker.stop(tools.LONG)
    assert calls == ["first", "second"]


def frozen_longer_than_the_lease() -> int:
    """Return how often the rules of a comment took effect if a first process is frozen in a slow rule."""
    receive(tools.comment("hi"))
    jobs = []

    class Later(RunHere):
        def run(self, lease, job):
            jobs.append(job)

    made = engine(lambda event: None, slow=True)
    tools.work(made, *claims.claim(tools.IN, seconds=60), slow=Later())
    assert claims.claim(tools.IN, seconds=60) == []
    tools.pass_time(3600)
    tools.work(made, *claims.claim(tools.IN, seconds=60))
    handled = [states()["hi"]]
    models.Messaging.objects.update(state="new")  # the second has not committed when the first resumes
    made.inbox.commit_handled([jobs[0].work()()])
    return [*handled, states()["hi"]].count("done")


def test_two_processes_never_handle_one_comment():
    assert frozen_longer_than_the_lease() == 1


def test_without_the_fence_a_process_whose_lease_expired_handles_the_comment_too(monkeypatch):
    monkeypatch.setattr(claims, "lock_and_verify", set)
    assert frozen_longer_than_the_lease() == 2


@pytest.mark.parametrize("apart", [False, True], ids=["one batch", "two batches"])
def test_a_comment_with_an_earlier_timestamp_does_not_overtake_one_that_was_answered_before(apart):
    seen, now = [], tools.now_ms()
    for number, at in enumerate((now, now - 5000, now - 9000)):
        store.store(tools.body(tools.comment(f"{number}", at=at), container="changes"))
        if apart:
            bot.get_engine().split()
    engine(lambda event: seen.append(words_of(event))).drain()
    assert seen == ["0", "1", "2"]


def test_a_failing_comment_delays_later_ones_of_its_thread_only():
    def fail(event):
        if words_of(event) == "bad":
            raise ValueError("no")

    receive(tools.comment("bad"))
    receive(tools.comment("later"), tools.comment("other", post=OTHER_POST))
    made = engine(fail, tries=2)
    made.drain()
    assert states() == {"bad": "new", "later": "new", "other": "done"}
    assert read_status().blocked == 1
    made.sweep()
    made.drain()
    assert states() == {"bad": "new", "later": "new", "other": "done"}
    tools.pass_time(600)
    made.drain()
    assert states() == {"bad": "failed", "later": "done", "other": "done"}


def test_comments_over_the_limit_of_their_thread_are_ignored(settings):
    settings.DJM_MAX_PENDING = 2
    receive(tools.comment("1"))
    receive(tools.comment("2"), tools.comment("3"), tools.comment("4", post=OTHER_POST))
    assert states() == {"1": "new", "2": "new", "3": "ignored", "4": "new"}


def test_comments_of_many_threads_are_committed_together():
    receive(*[tools.comment(f"{number}", post=f"1_{number}") for number in range(3)])
    made = engine(lambda event: None)
    leases = claims.claim(tools.IN, seconds=60, limit=9)
    made.handle(leases, Deadline(60))
    assert set(states().values()) == {"done"}
    assert not models.ConversationQueue.objects.exclude(ready_at=None, leased_until=None).exists()


def test_comments_of_one_moment_are_handled_in_their_place_in_the_callback():
    seen, now = [], tools.now_ms()
    receive(*[tools.comment(f"{number}", at=now) for number in range(8)])
    engine(lambda event: seen.append(words_of(event))).drain()
    assert seen == list("01234567")


def test_a_gathering_rule_gets_the_events_of_its_own_queue_only():
    """Messages of senders whose ids are none of a person."""
    now = tools.now_ms()
    for number, sender in enumerate(["a", "b", "a"]):
        tools.receive(tools.text(f"m_{number}", psid=sender, at=now + number))
    seen = []
    made = tools.engine(
        lambda event: seen.append([one.mid for one in event.context["gathered"]]), slow=True, gather=True
    )
    made.drain()
    assert sorted(seen) == [["m_0", "m_2"], ["m_1"]]


def test_a_lost_wake_up_of_a_thread_is_found_by_the_sweep():
    receive(tools.comment("hi"))
    models.ConversationQueue.objects.update(ready_at=None)
    made = engine(lambda event: None)
    made.drain()
    assert states() == {"hi": "new"}
    made.sweep()
    made.drain()
    assert states() == {"hi": "done"}


def test_an_event_that_the_version_before_inserted_gets_a_queue():
    receive(tools.comment("hi"), tools.comment("handled"))
    models.Messaging.objects.update(queue=None, position=0)
    models.Messaging.objects.filter(body__icontains="handled").update(state="done")
    models.ConversationQueue.objects.all().delete()
    made = engine(lambda event: None)
    made.sweep()
    made.drain()
    assert states() == {"hi": "done", "handled": "done"}
    assert list(models.Messaging.objects.values_list("queue__subject", flat=True).order_by("id")) == [
        f"{tools.PAGE}/post/{POST}",
        None,
    ]


def test_a_failed_event_without_a_queue_is_handled_again():
    receive(tools.comment("hi"))
    engine(lambda event: 1 / 0, tries=1).drain()
    assert states() == {"hi": "failed"}
    models.Messaging.objects.update(queue=None)
    row = replay.replay_event(models.Messaging.objects.get().pk)
    bot.wake(row)
    assert states() == {"hi": "done"}


def test_an_event_that_cannot_be_read_fails_and_does_not_end_the_sweep():
    """Staff replay an item that the split did not understand, or the version before did so."""
    body = [1]
    event = models.Messaging.objects.create(
        type="UNKNOWN", body=body, timestamp=tools.now_ms(), state="ignored"
    )
    assert replay.replay_event(event.pk, again=True) == event
    models.Messaging.objects.update(queue=None)
    models.ConversationQueue.objects.all().delete()
    made = engine(lambda event: None, tries=1)
    made.sweep()
    made.drain()
    assert models.Messaging.objects.get().state == "failed"


def unused() -> retention.Step:
    return next(step for step in retention.steps() if step.what == "queues without events")


def test_a_queue_is_removed_with_its_last_event():
    tools.conversation()
    receive(tools.comment("hi"))
    engine(lambda event: None).drain()
    assert sum(retention.purge(unused())) == 0
    models.Messaging.objects.all().delete()
    assert sum(retention.purge(unused())) == 1
    assert set(models.ConversationQueue.objects.values_list("subject", flat=True)) == {""}


def test_a_queue_that_gets_an_event_meanwhile_stays(monkeypatch):
    """A split inserts an event after the queue was chosen, and before the transaction that removes it."""
    models.ConversationQueue.objects.ensure_subjects([f"{tools.PAGE}/post/{POST}"])

    def received_before():
        receive(tools.comment("hi"))
        return atomic()

    monkeypatch.setattr(retention, "atomic", received_before)
    assert sum(retention.purge(unused())) == 0
    assert models.Messaging.objects.get().queue == queue_of()


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgresql("a transaction of SQLite that writes is alone")
def test_a_queue_into_which_a_split_inserts_an_event_is_not_removed(file_database):
    """The split has locked the queue and inserted the event, and commits while the purge waits for the lock."""
    models.ConversationQueue.objects.ensure_subjects([f"{tools.PAGE}/post/{POST}"])
    removed = []
    purge = threading.Thread(target=lambda: tools.threads(lambda: removed.extend(retention.purge(unused()))))
    with atomic():
        receive(tools.comment("hi"))
        purge.start()
        tools.until(tools.is_anybody_waiting, "the wait of the purge")
    purge.join()
    assert removed == [0]
    assert models.Messaging.objects.get().queue == queue_of()


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgresql("SQLite locks no rows")
def test_a_purge_and_a_split_lock_queues_in_one_order(file_database):
    """The purge waits for the first queue, and has not locked the second one, which the split locks next."""
    subjects = [f"{tools.PAGE}/post/{POST}", f"{tools.PAGE}/post/{OTHER_POST}"]
    queues = models.ConversationQueue.objects
    queues.ensure_subjects(subjects)
    # The table now has the first queue behind the second one.
    queues.filter(subject=subjects[0]).update(owner="x")
    purge = threading.Thread(target=lambda: tools.threads(lambda: list(retention.purge(unused()))))
    with atomic():
        queues.lock_subjects(subjects[:1])
        purge.start()
        tools.until(tools.is_anybody_waiting, "the wait of the purge")
        second = queues.select_for_update(nowait=True).get(subject=subjects[1])
    purge.join()
    assert second.subject == subjects[1]


def test_a_queue_that_was_removed_before_the_lock_is_inserted_again(monkeypatch):
    ensure = models.ConversationQueue.objects.ensure_subjects
    calls = []

    def removed_after(subjects):
        ensure(subjects)
        calls.append(1)
        if len(calls) == 1:
            models.ConversationQueue.objects.all().delete()

    monkeypatch.setattr(models.ConversationQueue.objects, "ensure_subjects", removed_after)
    receive(tools.comment("hi"))
    assert models.Messaging.objects.get().queue == queue_of()


def test_an_event_outlives_its_queue():
    receive(tools.comment("hi"))
    models.ConversationQueue.objects.all().delete()
    assert models.Messaging.objects.get().queue is None


def test_a_forgotten_person_has_no_queue():
    receive(
        {"field": "ratings", "value": {"from": {"id": "7700"}}},
        {"field": "ratings", "value": {"from": {"id": "77001"}}},
        tools.comment("hi"),
    )
    forget("7700")
    subjects = models.ConversationQueue.objects.values_list("subject", flat=True).order_by("subject")
    assert list(subjects) == [f"{tools.PAGE}/person/77001", f"{tools.PAGE}/post/{POST}"]


def test_a_queue_without_a_conversation_shows_its_subject():
    receive(tools.comment("hi"))
    assert str(queue_of()) == f"{tools.PAGE}/post/{POST} incoming"


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgresql("SQLite locks no rows")
def test_several_queues_are_locked_in_one_order(file_database):
    """Queues of conversations come first, then those of subjects by id."""
    receive(tools.comment("1"), tools.comment("2", post=OTHER_POST))
    tools.receive(tools.text("m_1"))
    with atomic():
        kinds = [
            pk for pk, _ in reads.fenced_queues(models.ConversationQueue.objects.values_list("pk", flat=True))
        ]
    conversation = models.ConversationQueue.objects.exclude(conversation=None).order_by("pk")
    subjects = models.ConversationQueue.objects.filter(conversation=None).order_by("pk")
    assert kinds == [row.pk for row in (*conversation, *subjects)]


def message_of_the_page(by: str = "7700") -> models.Messaging:
    """Store a handled event whose subject is its author."""
    tools.receive(
        {"field": "feed", "value": {"from": {"id": by}, "message": "hi"}, "timestamp": tools.now_ms()},
        container="changes",
    )
    models.Messaging.objects.update(state="failed")
    return models.Messaging.objects.get()


def test_a_person_who_is_forgotten_before_the_lock_of_a_subject_leaves_no_queue():
    row = message_of_the_page()
    assert "7700" in row.queue.subject
    forget("7700")
    queue_locks.assign_queues([row])
    assert not models.ConversationQueue.objects.exists()


@pytest.mark.postgresql("SQLite has one lock for all")
def test_a_replay_and_an_erasure_of_an_event_without_a_conversation_never_deadlock(file_database):
    row = message_of_the_page()
    replayed = []

    def erase():
        with atomic():
            models.ConversationQueue.objects.lock_subjects([row.queue.subject])
            locked.set()
            tools.until(tools.is_anybody_waiting, "the wait of the replay")
            forget("7700")

    def replay_it():
        locked.wait(tools.LONG)
        replayed.append(replay.replay_event(row.pk))

    locked = threading.Event()
    assert tools.threads(erase, replay_it) == []
    assert replayed == [None]
    assert not models.ConversationQueue.objects.exists()
