"""Threads of the worker: order is kept, a slow conversation delays no other, and the end is orderly."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import os
import threading
import time
import types

import pytest
from django.db import OperationalError, connection, transaction
from django.db.backends.signals import connection_created
from django.utils import timezone

from djmessenger import clock, models
from djmessenger.clock import Deadline
from djmessenger.emulator import EmulatorTransport
from djmessenger.handling import UserProfileHandler
from djmessenger.pipeline import claims, settling, slow
from djmessenger.pipeline import store as storing
from djmessenger.pipeline.claims import Lease, LeaseLost
from djmessenger.pipeline.connections import reusable_connections
from djmessenger.pipeline.engine import Engine
from djmessenger.pipeline.notifications import CHANNEL, Listener
from djmessenger.pipeline.pools import BatchWriter
from djmessenger.pipeline.settling import SendResult
from djmessenger.pipeline.slow import NoRoom, SlowJob, SlowThreads
from djmessenger.pipeline.split import Split
from djmessenger.pipeline.threads import Threads
from djmessenger.pipeline.worker import Worker
from djmessenger.pipeline.worker_run import WorkerRun
from djmessenger.routing import Policy, Rule
from tests import pipeline_tools as tools

LONG = 20.0
"""Seconds after which a test gives up; nothing here is meant to take long."""


def until(condition, what: str = "it") -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.01)


@pytest.fixture
def work(file_database, emulator, settings):
    """Start workers with a engine; they are stopped in the end."""
    settings.DJM_DISPATCHER = "worker"
    settings.DJM_POLL = 0.02
    started = []

    def start(engine, **options):
        made = Worker(lambda: engine, **{"threads": 2, "slow_threads": 2, "senders": 32, **options})
        started.append(made)
        made.start()
        return made

    yield start
    for made in started:
        assert made.stop(LONG)


@pytest.fixture
def run():
    """Make runs of a worker whose poll does not run; their threads are stopped in the end."""
    made = []

    def make(engine, *, threads=1):
        stopping, wakeup = threading.Event(), threading.Event()
        made.append(WorkerRun(engine, stopping, wakeup, threads=threads, slow_threads=1, senders=1))
        return made[-1]

    yield make
    for one in made:
        one.finish()


@pytest.fixture
def people(file_database, emulator):
    found = []
    for number in range(4):
        someone = emulator.add_person(tools.PAGE, person_id=f"70123456789000{number:02}")
        someone.says("hello")
        found.append(someone)
    emulator.waiting.clear()
    return found


def slow_threads(count: int, done=lambda: None, finish=lambda lease, rest: None) -> SlowThreads:
    return SlowThreads(count, done, finish)


def store(*people, times: int = 1) -> None:
    at = tools.now_ms()
    for number in range(times):
        for person in people:
            item = tools.text(f"m_{person.id}_{number}", str(number), psid=person.id, at=at + number)
            storing.store(tools.body(item))


def test_stored_callbacks_are_split_handled_and_answered_in_order(work, people):
    store(*people, times=5)
    work(tools.engine(lambda event: event.text), threads=4)
    for person in people:
        until(lambda person=person: len(person.received) == 5, "an answer")
        assert person.texts == list("01234")


def test_two_workers_share_the_work_and_repeat_nothing(work, people):
    engine = tools.engine(lambda event: event.text)
    store(*people, times=6)
    work(engine)
    work(engine)
    until(lambda: all(len(person.received) >= 6 for person in people), "every answer")
    until(lambda: not models.ConversationQueue.objects.exclude(ready_at=None).exists(), "rest")
    assert [person.texts for person in people] == [list("012345")] * 4


def test_a_slow_graph_does_not_delay_the_handling_of_events(work, people, emulator):
    gate = threading.Event()

    class Slow(EmulatorTransport):
        def send(self, request, /):
            gate.wait(LONG)
            return super().send(request)

    tools.bot.use_transport(Slow(emulator))
    heard = []
    store(*people)
    work(tools.engine(lambda event: heard.append(event.mid) or "answer"), threads=1)
    until(lambda: len(heard) == 4, "hearing all")
    gate.set()
    until(lambda: all(person.texts for person in people), "every answer")


def test_slow_rules_delay_no_other_conversation(work, people, settings):
    gate = threading.Event()

    def ask(event):
        if event.text == "0" and event.person.pk != people[3].id:
            gate.wait(LONG)
        return "done"

    slow = tools.policy(ask, slow=True)
    quick = tools.policy(lambda event: "quick")
    engine = tools.engine()
    engine.inbox._policy_for = lambda page: slow

    def by_person(messaging):
        chosen = quick if messaging.get_psid() == people[3].id else slow
        return Policy.decide(chosen, messaging)

    slow.decide = by_person
    store(*people)
    made = work(engine, threads=1, slow_threads=1)
    until(lambda: people[3].texts == ["quick"], "the quick answer")
    assert not any(person.texts for person in people[:3])
    gate.set()
    until(lambda: all(person.texts for person in people), "every answer")
    assert made.stop(LONG)


@pytest.mark.parametrize("handler", [UserProfileHandler, type("Own", (UserProfileHandler,), {})])
def test_the_profile_of_a_new_person_waits_for_no_slow_rule(handler, work, people):
    """A subclass may wait for something else than Graph."""
    gate, begun = threading.Event(), threading.Event()

    def ask(event):
        begun.set()
        gate.wait(LONG)
        return "done"

    engine = tools.engine(ask, slow=True)
    slow = engine.inbox._policy_for(None)
    quick = Policy(
        [
            Rule("DEFAULT", "default", handlers=[handler()]),
            *tools.policy(lambda event: event.person.locale).rules,
        ]
    )
    store(people[0])
    work(engine, slow_threads=1)
    assert begun.wait(LONG)
    slow.decide = quick.decide
    store(people[1])
    if handler is UserProfileHandler:
        until(lambda: people[1].texts == ["en_US"], "the answer with the profile")
        assert people[0].texts == []
    else:
        incoming = models.ConversationQueue.objects.filter(kind=tools.IN)
        until(lambda: incoming.filter(is_slow=True, leased_until=None).exists(), "the waiting")
    gate.set()
    until(lambda: people[1].texts == ["en_US"] and people[0].texts == ["done"], "every answer")


def test_leases_of_slow_work_are_renewed(file_database, settings):
    settings.DJM_LEASE = 0.3
    made = tools.conversation()
    models.ConversationQueue.objects.wake([made.pk], tools.IN)
    lease = tools.claim(made, seconds=0.3)
    gate, finished = threading.Event(), threading.Event()
    pool = slow_threads(1, finish=lambda lease, rest: finished.set())
    pool.run(lease, SlowJob(work=lambda: gate.wait(LONG)))
    first = tools.queue_of(made).leased_until
    until(lambda: tools.queue_of(made).leased_until > first, "a renewal")
    assert claims.claim(tools.IN, seconds=60) == []
    gate.set()
    assert finished.wait(LONG)
    pool.stop(LONG)


def test_a_renewal_after_the_release_takes_no_lease(file_database):
    made = tools.conversation()
    models.ConversationQueue.objects.wake([made.pk], tools.IN)
    lease = tools.claim(made)
    with transaction.atomic():
        claims.release(claims.fence(lease), after=None)
    with pytest.raises(LeaseLost):
        claims.renew(lease, 60)
    assert tools.queue_of(made).leased_until is None


def test_slow_work_that_finds_no_thread_keeps_no_queue(file_database):
    people = [tools.conversation(f"70{number}") for number in range(3)]
    models.ConversationQueue.objects.wake([made.pk for made in people], tools.IN)
    gate, begun = threading.Event(), threading.Event()
    pool = slow_threads(1)
    leases = claims.claim(tools.IN, seconds=60, limit=3)

    def first():
        begun.set()
        gate.wait(LONG)

    pool.run(leases[0], SlowJob(work=first))
    assert begun.wait(LONG)
    assert pool.free_slots() == 0
    for lease in leases[1:]:
        with pytest.raises(NoRoom):
            pool.run(lease, SlowJob(work=lambda: None))
    assert pool._leases == {leases[0]}
    gate.set()
    pool.stop(LONG)


def test_queues_that_waited_for_a_slow_thread_come_before_new_ones(file_database):
    waited, new, later = (
        Lease(queue_id=number, conversation_id=number, kind="in", fencing_token=1) for number in range(3)
    )
    ran = []
    freed = threading.Event()
    pool = slow_threads(1, freed.set)
    pool.reserve([waited], more=False)
    assert pool.free_slots() == 0
    with pytest.raises(NoRoom):
        pool.run(new, SlowJob(work=lambda: None))
    pool.run(waited, SlowJob(work=lambda: ran.append("waited")))
    assert freed.wait(LONG)
    assert pool.free_slots() == 1
    # The one that was refused is known to wait, until a look for it finds none.
    with pytest.raises(NoRoom):
        pool.run(later, SlowJob(work=lambda: None))
    pool.reserve([], more=False)
    freed.clear()
    pool.run(later, SlowJob(work=lambda: ran.append("later")))
    assert freed.wait(LONG)
    pool.stop(LONG)
    assert ran == ["waited", "later"]


def test_no_lease_is_kept_for_a_slow_thread_with_a_long_job(file_database, monkeypatch):
    """Quick jobs before it say nothing about a model that hangs now."""
    monkeypatch.setattr(slow, "AHEAD", 0.2)
    monkeypatch.setattr(slow, "_CHECK_INTERVAL", 0.02)
    people = [tools.conversation(f"70{number}") for number in range(3)]
    models.ConversationQueue.objects.wake([made.pk for made in people], tools.IN)
    leases = claims.claim(tools.IN, seconds=60, limit=3)
    gate, begun = threading.Event(), threading.Event()
    pool = slow_threads(1)
    for number in range(30):
        quick = Lease(queue_id=1000 + number, conversation_id=1000, kind="in", fencing_token=1)
        done = threading.Event()
        pool.run(quick, SlowJob(work=done.set))
        assert done.wait(LONG)
        until(lambda: pool.free_slots() > 0, "a free thread")
    assert pool.free_slots() > 1

    def hang():
        begun.set()
        gate.wait(LONG)

    pool.run(leases[0], SlowJob(work=hang))
    assert begun.wait(LONG)
    pool.run(leases[1], SlowJob(work=lambda: None))
    until(lambda: tools.queue_of(people[1]).is_slow, "the giving back")
    assert tools.queue_of(people[1]).leased_until is None
    assert tools.queue_of(people[0]).leased_until is not None
    assert pool.free_slots() == 0
    with pytest.raises(NoRoom):
        pool.run(leases[2], SlowJob(work=lambda: None))
    gate.set()
    pool.stop(LONG)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_a_thread_survives_an_exit_of_its_job(error, caplog):
    pool, done = Threads(1, "x"), threading.Event()

    def exit_():
        raise error

    assert pool.submit(exit_)
    tools.until(lambda: pool.free() == 1, "the end of the job")
    assert pool.submit(done.set)
    assert done.wait(LONG)
    pool.close()
    assert pool.join(LONG)
    assert [record.action for record in caplog.records if hasattr(record, "action")] == ["work_interrupted"]


def test_a_thread_survives_a_broken_freed_callback(caplog):
    def broken():
        raise ZeroDivisionError

    ran = threading.Event()
    pool = Threads(1, "x", freed=broken)
    pool.submit(lambda: None)
    pool.submit(ran.set)
    assert ran.wait(LONG)
    pool.close()
    assert pool.join(LONG)
    assert "Wake-up of a free thread failed" in caplog.text


def test_profiles_leave_half_of_the_senders_to_replies(file_database):
    gate, names = threading.Event(), []

    def call():
        names.append(threading.current_thread().name)
        gate.wait(LONG)

    senders = Threads(4, "out")
    pool = SlowThreads(4, lambda: None, lambda lease, rest: None, senders)
    for number in range(4):
        lease = Lease(queue_id=number, conversation_id=number, kind="in", fencing_token=1)
        pool.run(lease, SlowJob(work=call, only_calls_graph=True))
    until(lambda: len(names) == 4, "the calls")
    assert senders.free() == 2
    gate.set()
    senders.close()
    pool.stop(LONG)


def test_a_time_limit_is_recorded_after_an_outage(people):
    """Its queue stays leased, as the rule still hangs. Otherwise the next holder would count a crash."""
    store(people[0])
    tools.engine().split()
    (lease,) = claims.claim(tools.IN, seconds=60)
    outages = iter([True, True, False])
    recorded, hangs = threading.Event(), threading.Event()

    def give_up() -> None:
        if next(outages):
            raise OperationalError("the database is away")
        recorded.set()

    pool = slow_threads(1)
    pool.run(lease, SlowJob(work=lambda: hangs.wait(LONG), timeout=0.0, give_up=give_up))
    try:
        assert recorded.wait(LONG)
    finally:
        hangs.set()
        pool.stop(LONG)


def test_slots_stay_reserved_for_claimed_slow_queues(file_database, run):
    leases = [
        Lease(queue_id=number, conversation_id=number, kind="in", fencing_token=1) for number in range(2)
    ]
    made = run(lambda: None)
    made._claim = lambda kind, limit, **options: (None, leases[:limit])
    made._submit_leases = lambda *args: None
    made.slow = slow_threads(2)
    assert made._poll_slow()
    assert made.slow.free_slots() == 0
    assert made.slow._is_behind
    made._submit_leases = lambda *args: 1 / 0
    made.slow = slow_threads(2)
    with pytest.raises(ZeroDivisionError):
        made._poll_slow()
    assert made.slow.free_slots() == 2


def test_a_slow_slot_is_not_kept_for_an_event_that_is_quick(work, people):
    engine = tools.engine(lambda event: "quick")
    slow = tools.policy(lambda event: "slow", slow=True)
    store(people[0], people[1])
    while engine.split():
        pass
    models.ConversationQueue.objects.filter(kind=tools.IN).update(is_slow=True)
    work(engine, slow_threads=1)
    until(lambda: people[0].texts == people[1].texts == ["quick"], "the quick answers")
    engine.inbox._policy_for = lambda page: slow
    store(people[2], people[3])
    until(lambda: people[2].texts == people[3].texts == ["slow"], "the slow answers")


def test_a_queue_that_waits_for_a_slow_thread_has_no_lease_and_any_worker_may_claim_it(work, people):
    gate, calls = threading.Event(), []

    def ask(event):
        calls.append(event.mid)
        if len(calls) == 1:
            gate.wait(LONG)
        return event.text

    engine = tools.engine(ask, slow=True)
    store(*people, times=3)
    work(engine, slow_threads=1)
    incoming = models.ConversationQueue.objects.filter(kind=tools.IN)
    until(lambda: incoming.filter(is_slow=True, leased_until=None).count() == 3, "the waiting")
    assert incoming.exclude(leased_until=None).count() == 1
    assert len(calls) == 1
    work(engine, slow_threads=1)
    until(lambda: sum(person.texts == list("012") for person in people) == 3, "three answers by the other")
    gate.set()
    until(lambda: all(person.texts == list("012") for person in people), "every answer")
    assert len(calls) == 12


def test_one_slow_thread_answers_many_waiting_people_in_turn(work, people, settings):
    # A free thread looks for work at once, not at the next poll.
    settings.DJM_POLL = LONG
    store(*people, times=5)
    work(tools.engine(lambda event: event.text, slow=True), slow_threads=1)
    until(lambda: all(person.texts == list("01234") for person in people), "every answer")
    assert not models.ConversationQueue.objects.filter(is_slow=True).exists()


def test_slow_work_begins_without_a_database_connection(file_database):
    made = tools.conversation()
    models.ConversationQueue.objects.wake([made.pk], tools.IN)
    held = []
    pool = slow_threads(1)
    pool.run(
        tools.claim(made),
        SlowJob(
            prepare=models.Page.objects.count,
            work=lambda: held.append(connection.connection),
        ),
    )
    until(lambda: held, "the job")
    pool.stop(LONG)
    assert held == [None]


@pytest.mark.parametrize("typing", [False, True])
def test_a_slow_rule_costs_no_connection_of_its_own(typing, work, people):
    """Its answer is committed with those of other events."""
    opened = []

    def note(connection, **kwargs):
        opened.append(threading.current_thread().name)

    connection_created.connect(note)
    try:
        store(*people)
        work(tools.engine(lambda event: "done", slow=True, typing=typing))
        until(lambda: all(person.texts == ["done"] for person in people), "every answer")
    finally:
        connection_created.disconnect(note)
    assert opened
    assert not [name for name in opened if "slow" in name]


def test_the_answer_of_a_slow_rule_that_ends_during_the_stop_is_committed(work, people, monkeypatch):
    gate, begun = threading.Event(), threading.Event()

    def ask(event):
        begun.set()
        gate.wait(LONG)
        return "done"

    store(people[0])
    made = work(tools.engine(ask, slow=True))
    assert begun.wait(LONG)
    run = made._run
    end_slow_threads = run.slow.stop

    def end(timeout):
        gate.set()
        end_slow_threads(timeout)

    monkeypatch.setattr(run.slow, "stop", end)
    # As under load, when the thread of the writer writes all results.
    monkeypatch.setattr(run.events, "write_here", run.events.put)
    assert made.stop(LONG)
    assert models.Reply.objects.filter(state="queued").count() == 1
    assert not models.ConversationQueue.objects.exclude(leased_until=None).exists()


def test_a_renewal_that_hangs_delays_no_reply(work, people):
    gate, begun = threading.Event(), threading.Event()

    def hang():
        begun.set()
        gate.wait(2 * LONG)

    engine = dataclasses.replace(
        tools.engine(lambda event: event.text), renew_tokens=lambda submit: submit(hang)
    )
    work(engine, threads=1)
    assert begun.wait(LONG)
    store(people[0])
    until(models.Reply.objects.filter(state="sent").exists, "the answer")
    gate.set()


def test_stopping_finishes_the_current_event_and_leaves_the_rest(work, people):
    gate, begun = threading.Event(), threading.Event()

    def handle(event):
        begun.set()
        # Longer than the wait for the deadlines below, which end with the job too.
        gate.wait(2 * LONG)

    store(people[0], times=3)
    made = work(tools.engine(handle), threads=1)
    assert begun.wait(LONG)
    deadlines = list(made._run._deadlines)
    made.stop_soon()
    until(lambda: all(deadline.remaining() <= 0 for deadline in deadlines), "the word to stop")
    gate.set()
    assert made.stop(LONG)
    states = list(models.Messaging.objects.order_by("timestamp").values_list("state", flat=True))
    assert states == ["done", "new", "new"]
    row = models.ConversationQueue.objects.get(kind=tools.IN, conversation__person=people[0].id)
    assert row.leased_until is None
    assert row.ready_at is not None


def test_queues_claimed_while_the_threads_end_are_released(file_database, people, settings, run):
    settings.DJM_DISPATCHER = "worker"
    store(people[0])
    engine = tools.engine(lambda event: event.text)
    while engine.split():
        pass
    made = run(lambda: engine)
    for pool in (made.splitter, made.handlers, made.senders):
        pool.close()
    answers: list[SendResult] = []
    made.send_budget = types.SimpleNamespace(seconds_to_wait=lambda: 1.0)
    made.events.write_here = lambda done: engine.inbox.commit_handled([done])
    made.answers.put = answers.append
    made.handlers.free = made.senders.free = lambda ahead=0.0: 1  # as it was a moment ago
    assert made._poll_incoming()
    assert models.Messaging.objects.get().state == "done"
    assert made._poll_outgoing()
    engine.outbox.end(answers)
    assert not models.ConversationQueue.objects.exclude(leased_until=None).exists()
    assert people[0].texts == ["0"]


def test_a_job_that_has_not_begun_releases_its_queue_at_the_stop(file_database, people, settings, run):
    """The job is claimed and waits for the only thread, which is busy, when the worker stops."""
    settings.DJM_DISPATCHER = "worker"
    store(people[0])
    engine = tools.engine(lambda event: event.text)
    while engine.split():
        pass
    made = run(lambda: engine)
    gate, begun = threading.Event(), threading.Event()

    def busy():
        begun.set()
        gate.wait(LONG)

    made.handlers.submit(busy)
    assert begun.wait(LONG)
    made.handlers.free = lambda ahead=0.0: 1  # as it was a moment ago
    assert made._poll_incoming()
    join = made.handlers.join
    made.handlers.join = lambda timeout: gate.set() or join(timeout)
    made.finish()
    assert models.Messaging.objects.get().state == "new"
    row = models.ConversationQueue.objects.get(kind=tools.IN, conversation__person=people[0].id)
    assert row.leased_until is None
    assert row.ready_at is not None


def test_leases_are_released_if_their_next_rows_cannot_be_read(file_database, people, settings, run):
    settings.DJM_DISPATCHER = "worker"
    store(people[0])
    engine = tools.engine(lambda event: event.text)
    while engine.split():
        pass

    def fail(leases):
        raise OperationalError("server closed the connection")

    engine.inbox.next_rows = fail
    with pytest.raises(OperationalError):
        run(lambda: engine)._poll_incoming()
    assert not models.ConversationQueue.objects.exclude(leased_until=None).exists()


def test_events_behind_the_first_are_handled_without_another_wake_up(work, people, settings):
    """No event is answered, because the writer of answers wakes the poll too."""
    settings.DJM_POLL = settings.DJM_SWEEP = 3600
    handled = []
    store(*people, times=5)
    work(tools.engine(lambda event: handled.append(event.mid)), threads=1)
    until(lambda: len(handled) == 20, "every event")


def test_a_writer_with_little_budget_left_takes_the_item_of_a_handler_into_its_batch(monkeypatch):
    """Under load commits of one event would use up the time of polls and batches."""
    now, wrote = [0.0], []

    def write(items):
        wrote.append((items, threading.current_thread() is threading.main_thread()))
        now[0] += 0.12
        return []

    monkeypatch.setattr(clock, "seconds", lambda: now[0])
    writer = BatchWriter("test", write, lambda: None)
    writer.write_here("first")
    writer.write_here("second")
    writer.stop(LONG)
    assert wrote == [(["first"], True), (["second"], False)]


def test_a_batch_writer_survives_a_batch_that_fails(file_database):
    batches = []

    def write(items):
        batches.append(items)
        if len(batches) == 1:
            raise ZeroDivisionError
        return []

    writer = BatchWriter("test", write, lambda: None)
    writer.put("first")
    until(lambda: batches, "the first batch")
    writer.put("second")
    until(lambda: batches == [["first"], ["second"]], "the second batch")
    writer.stop(LONG)


def test_what_a_batch_writer_could_not_write_is_written_at_the_stop(file_database):
    batches, began, go_on = [], threading.Event(), threading.Event()

    def write(items):
        batches.append(items)
        began.set()
        go_on.wait(LONG)
        return items if len(batches) == 2 else []

    writer = BatchWriter("test", write, lambda: None)
    writer.put("first")
    assert began.wait(LONG)
    writer.put("second")
    stop = threading.Thread(target=writer.stop, args=[LONG])
    stop.start()
    until(lambda: writer.waiting() == 2, "the stop behind the second")
    go_on.set()
    stop.join(LONG)
    assert batches == [["first"], ["second"], ["second"]]


def test_a_slow_job_that_the_pool_refuses_releases_its_queue(file_database):
    """The pool closes between the count of its free threads and the submit."""
    made = tools.conversation()
    models.ConversationQueue.objects.wake([made.pk], tools.IN)
    pool = slow_threads(1)
    pool._pool.submit = lambda job: bool(pool._pool.close())
    pool.run(tools.claim(made), SlowJob(work=lambda: None))
    assert pool._leases == set()
    assert tools.queue_of(made).leased_until is None
    pool.stop(LONG)


def test_a_lease_claimed_during_the_stop_ends_at_once(run):
    made = run(lambda: None)
    made._stopping.set()
    deadline = Deadline(60)
    made._register_deadline(deadline)
    assert deadline.remaining() <= 0


def test_a_deadline_never_ends_after_its_lease(run, monkeypatch, settings):
    """The database takes 5 seconds for the claim; that time belongs to the lease already."""
    settings.DJM_LEASE = 60.0
    moment = [1000.0]
    monkeypatch.setattr("djmessenger.clock.seconds", lambda: moment[0])
    lease = Lease(queue_id=1, conversation_id=1, kind="in", fencing_token=1)
    ends = []

    def claim(kind, *, seconds, **options):
        ends.append(moment[0] + seconds)
        moment[0] += 5.0
        return [lease]

    monkeypatch.setattr(claims, "claim", claim)
    deadline, leases = run(lambda: None)._claim(tools.IN, 1)
    assert leases == [lease]
    assert moment[0] + deadline.remaining() <= ends[0]


def test_a_wake_up_during_a_poll_leads_to_another_poll(work, settings, monkeypatch):
    settings.DJM_POLL = settings.DJM_SWEEP = 3600
    polls = threading.Semaphore(0)
    worker = Worker(tools.engine, threads=1, slow_threads=1, senders=32)
    first = []

    def poll(run):
        if not first:
            first.append(True)
            worker.wake()
        polls.release()
        return False

    monkeypatch.setattr(WorkerRun, "_poll", poll)
    worker.start()
    assert polls.acquire(timeout=LONG)
    assert polls.acquire(timeout=LONG)
    assert worker.stop(LONG)


def test_a_sender_keeps_no_connection_of_its_own(file_database, people, run):
    """A call writes its rows, such as the request log of the Page, over a connection that is closed afterwards."""
    seen = []
    made = run(lambda: None)

    def call(pending):
        models.Page.objects.count()
        seen.append(connection.connection is not None)

    def send():
        made.answers.put = lambda answer: None
        made._call(types.SimpleNamespace(call=call), None)
        seen.append(connection.connection is not None)

    thread = threading.Thread(target=send)
    thread.start()
    thread.join()
    assert seen == [True, False]


def test_an_accepted_call_is_settled_after_a_database_outage(work, people, monkeypatch):
    """Thrown away it would be of unknown fate: a wait for its echo, and perhaps a second message."""
    trouble = [OperationalError("database is locked"), OperationalError("server closed the connection")]
    accept = settling.settle_accepted

    def stumble(answers, **options):
        if trouble:
            raise trouble.pop()
        return accept(answers, **options)

    monkeypatch.setattr(settling, "settle_accepted", stumble)
    store(people[0])
    work(tools.engine(lambda event: "hi"))
    until(lambda: models.Reply.objects.filter(state="sent").exists(), "the settling")
    assert trouble == []
    assert models.Attempt.objects.get().outcome == "accepted"
    assert people[0].texts == ["hi"]


def test_the_poll_survives_a_database_outage_and_a_bug(work, people, monkeypatch):
    trouble = [OperationalError("server closed the connection"), ZeroDivisionError()]
    claim = claims.claim

    def stumble(*args, **options):
        if trouble:
            raise trouble.pop()
        return claim(*args, **options)

    monkeypatch.setattr(claims, "claim", stumble)
    store(people[0])
    work(tools.engine(lambda event: "hi"))
    until(lambda: people[0].texts == ["hi"], "the answer")
    assert trouble == []


def test_the_sweep_finds_work_without_a_wake_up(work, people, settings):
    settings.DJM_SWEEP = 0.05
    engine = tools.engine(lambda event: "hi")
    store(people[0])
    engine.split()
    tools.queue(models.Conversation.objects.get(person=people[0].id), "queued")
    models.ConversationQueue.objects.update(ready_at=None)
    work(engine)
    until(lambda: sorted(people[0].texts) == ["hi", "queued"], "both")


def test_one_of_many_processes_sweeps(work, people, settings, monkeypatch):
    settings.DJM_SWEEP = 600
    turns, swept = [], []
    claim = models.queues.SweepManager.claim

    def noted(manager, seconds):
        turns.append(claim(manager, seconds))
        return turns[-1]

    def sweep(engine, submit):
        swept.append(engine)

    monkeypatch.setattr(models.queues.SweepManager, "claim", noted)
    monkeypatch.setattr("djmessenger.pipeline.engine.Engine.sweep", sweep)
    engine = tools.engine(lambda event: event.text)
    for _process in range(3):
        work(engine)
    until(lambda: len(turns) == 3, "a look of each")
    store(people[0])
    until(lambda: people[0].texts == ["0"], "an answer")
    assert sorted(turns) == [False, False, True]
    assert swept == [engine]


def test_another_process_sweeps_after_the_first_one_dies(file_database):
    assert models.Sweep.objects.claim(60)
    assert not models.Sweep.objects.claim(60)
    models.Sweep.objects.update(date_free=timezone.now() - datetime.timedelta(seconds=1))
    assert models.Sweep.objects.claim(60)
    assert not models.Sweep.objects.claim(60)


def test_the_sweep_goes_on_after_the_clock_of_the_database_was_set_back(file_database):
    models.Sweep.objects.create(pk=1, date_free=timezone.now() + datetime.timedelta(hours=1))
    assert models.Sweep.objects.claim(60)
    assert not models.Sweep.objects.claim(60)


def test_of_many_claims_at_one_moment_one_gets_the_turn(file_database):
    models.Sweep.objects.create(pk=1, date_free=timezone.now() - datetime.timedelta(seconds=1))
    barrier = threading.Barrier(6)
    turns = []

    def claim():
        barrier.wait(LONG)
        turns.append(models.Sweep.objects.claim(60))

    assert tools.threads(*[claim] * 6) == []
    assert sorted(turns) == [False] * 5 + [True]


@pytest.mark.parametrize("kind", ["large", "of two apps"])
def test_callbacks_stored_at_once_are_all_split_without_a_poll(kind, work, people, settings):
    """No wake-up is lost: who takes a part of what waits looks again, for who stored the rest has spoken."""
    settings.DJM_POLL = settings.DJM_SWEEP = 3600
    made = work(tools.engine(lambda event: event.text))
    until(models.Sweep.objects.exists, "the first look")
    old = tools.now_ms() - 9 * 24 * 3600 * 1000
    for number in range(10):
        words = "x" * 150_000 if kind == "large" else "x"
        item = tools.text(f"m_{number}", words, at=old, psid=people[0].id)
        storing.store(tools.body(item), app_id=f"#{number % 2}" if kind == "of two apps" else "")
        made.wake_to_split()
    until(lambda: not models.Callback.objects.filter(state="new").exists(), "the split of all")


def test_a_callback_stored_after_the_read_of_a_running_split_is_split_next(
    work, people, settings, monkeypatch
):
    settings.DJM_POLL = settings.DJM_SWEEP = 3600
    split, workers, once = Engine.split, [], []

    def late(engine, **options):
        todo = split(engine, **options)
        if not once:
            once.append(True)
            until(lambda: workers, "the start")
            store(people[0])
            workers[0].wake_to_split()
        return todo

    monkeypatch.setattr(Engine, "split", late)
    workers.append(work(tools.engine(lambda event: event.text)))
    until(lambda: people[0].texts == ["0"], "the answer")


def test_an_event_that_arrives_during_the_release_of_its_queue_is_handled(
    work, people, monkeypatch, settings
):
    """No wake-up is lost: the release reads the row again under the lock that a wake-up takes."""
    engine = tools.engine(lambda event: event.text)
    store(people[0])
    release = claims.release_many
    once = []

    def late(kind, queues):
        if not once and models.Messaging.objects.filter(state="done").exists():
            once.append(1)
            tools.receive(tools.text("m_late", "late", psid=people[0].id))
        return release(kind, queues)

    monkeypatch.setattr(claims, "release_many", late)
    settings.DJM_SWEEP = 3600
    work(engine)
    until(lambda: people[0].texts == ["0", "late"], "the late one's answer")


@pytest.mark.postgresql("elsewhere workers poll")
def test_postgresql_wakes_a_worker_that_does_not_poll(work, people, settings):
    settings.DJM_POLL = 3600
    work(tools.engine(lambda event: "hi"), listen=True)
    until(lambda: models.ConversationQueue.objects.exists() or announced(people[0]), "the split")
    until(lambda: people[0].texts == ["hi"] or announced(), "the answer")


@pytest.mark.postgresql("elsewhere workers poll")
def test_a_listener_wakes_once_when_it_begins_to_listen(file_database):
    payloads = []
    listener = Listener(payloads.append)
    until(lambda: payloads == [""], "the first wake-up")
    listener.stop()


def announced(*people) -> bool:
    """Store something where a person is given, and announce it again and again, until the listener listens."""
    if people and not models.Callback.objects.exists():
        store(*people)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])
    return False


@pytest.mark.postgresql("SQLite's connections do not break")
def test_a_broken_connection_is_not_used_again(file_database):
    with reusable_connections():
        models.ConversationQueue.objects.count()
    connection.connection.close()
    with pytest.raises(Exception, match="closed"):
        models.ConversationQueue.objects.count()
    with reusable_connections():
        assert models.ConversationQueue.objects.count() == 0


@pytest.mark.postgresql("SQLite knows no such limit")
def test_a_transaction_of_a_frozen_thread_is_ended_by_the_database(work, people, settings):
    found = []

    def look(event):
        with connection.cursor() as cursor:
            cursor.execute("SHOW idle_in_transaction_session_timeout")
            found.extend(cursor.fetchone())

    store(people[0])
    work(tools.engine(look))
    until(lambda: found, "the look")
    assert found == ["30s"]
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        assert cursor.fetchone() == ("0",)


@pytest.mark.django_db
def test_a_pool_counts_its_free_threads():
    pool = Threads(2, "test")
    gate, begun = threading.Event(), threading.Semaphore(0)

    def job():
        begun.release()
        gate.wait(LONG)

    assert pool.free() == 2
    for _ in range(3):
        assert pool.submit(job)
    assert begun.acquire(timeout=LONG)
    assert begun.acquire(timeout=LONG)
    assert pool.free() == -1
    assert len(pool.close()) == 1
    assert not pool.submit(gate.set)
    gate.set()
    assert pool.join(LONG)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_starts_threads_of_its_own(work, people):
    """The threads of the parent do not exist in the child, and the locks of the parent may be held."""
    store(people[0])
    gate = threading.Event()
    made = work(tools.engine(lambda event: gate.wait(LONG) and "hi"))
    until(lambda: made._run and made._run._deadlines, "the work")
    made._lock.acquire()
    pid = os.fork()
    if pid == 0:
        free = made._lock.acquire(blocking=False) and made._thread is None
        os._exit(0 if free else 1)
    made._lock.release()
    gate.set()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_worker_works_where_no_process_can_fork(work, people, monkeypatch):
    """Windows has no ``os.register_at_fork``."""
    monkeypatch.delattr(os, "register_at_fork")
    store(people[0])
    done = threading.Event()
    work(tools.engine(lambda event: done.set() or "hi"))
    assert done.wait(LONG)


def test_a_wake_up_after_the_end_starts_no_threads(work, people):
    """A request that the server finishes after the stop must not start work that the end of the process tears."""
    started = []
    made = work(tools.engine(lambda event: "hi"), on_start=lambda: started.append(1))
    assert made.end()
    made.wake()
    made.wake_to_split()
    assert started == [1]
    assert not made._thread.is_alive()


def test_a_worker_that_outlives_the_end_of_its_process_works_again(work, people):
    made = work(tools.engine(lambda event: "hi"))
    assert made.end()
    made._rest.expire()
    made.wake()
    assert made._thread.is_alive()


def test_a_worker_with_full_writers_claims_nothing(file_database, run):
    """If the database is slower than rules and Graph, work waits in the database and not in memory."""
    asked = []
    made = run(lambda: None)
    made._claim = lambda kind, limit, **options: asked.append(limit) or (None, [])
    made.handlers.free = lambda ahead=0.0: 50
    made.senders.free = lambda: 32
    made.events.waiting = lambda: 50
    made.answers.waiting = lambda: 200
    made._poll_incoming()
    made._poll_outgoing()
    assert asked == [0, 0]
    assert made._is_behind


def test_a_worker_that_is_behind_claims_waiting_queues_before_new_ones(run):
    """A worker with a backlog takes nothing that has only just come."""
    asked = []

    class Engine:
        def split(self, claim, held):
            asked.append(claim)
            return Split()

    made = run(Engine, threads=3)
    made._split()
    made._is_behind = True
    made._split()
    assert asked == [3, 0]
    for lacking, behind in ((0, True), (1, False)):
        made._claim = lambda kind, limit, lacking=lacking: (Deadline(60), [None] * (limit - lacking))
        made._submit_leases = lambda *args: None
        made._poll_incoming()
        assert made._is_behind is behind
