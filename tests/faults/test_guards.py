"""Each guard, taken out, is missed: a small scenario that passes with it and is red without it.

The scenarios are checked themselves. With the guard in place all is well. Without it the same scenario shows the
damage that the guard prevents.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from pathlib import Path

import pytest
from django.db import IntegrityError, transaction
from django.test import Client

from djmessenger import bot, models, signatures
from djmessenger.clock import Deadline
from djmessenger.emulator import EmulatorTransport
from djmessenger.graph.errors import MessageRejected, UnknownFate
from djmessenger.pipeline import claims, event_results, reads, sending, settling, split, store, unknown_fate
from djmessenger.pipeline.settling import PendingSend, SendResult
from djmessenger.pipeline.slow import RunHere
from djmessenger.receiving import Messaging
from tests import pipeline_tools as tools

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).parents[2]


@pytest.fixture
def person(emulator, settings):
    settings.DJM_ECHO_WAIT = 3.0
    return tools.someone(emulator)


@pytest.fixture
def without(monkeypatch):
    """Take a guard out for the rest of the test."""
    return monkeypatch.setattr


def answers(person) -> int:
    return len(person.received)


# The fence: who lost the queue commits nothing (invariants 2 and 3).


def frozen_longer_than_the_lease(person) -> int:
    """Two processes hold one event: the first was frozen, the second took the queue; give the answers queued."""
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    jobs = []

    class Later(RunHere):
        def run(self, lease, job):
            jobs.append(job)

    engine = tools.engine(lambda event: "answer", slow=True)
    row = models.Messaging.objects.get()
    tools.work(engine, tools.claim(made), slow=Later())
    tools.work(engine, tools.steal(made))
    models.Messaging.objects.filter(pk=row.pk).update(
        state="new"
    )  # the second has not committed when it resumes
    handled = jobs[0].work()()
    engine.inbox.commit_handled([handled])
    return models.Reply.objects.count()


def no_fence(leases):
    return set(models.Messaging.objects.filter(pk__in=list(leases), state="new").values_list("pk", flat=True))


def test_the_fence_refuses_a_worker_whose_lease_expired(person):
    assert frozen_longer_than_the_lease(person) == 1


def test_without_the_fence_a_worker_whose_lease_expired_answers_too(person, without):
    without(claims, "lock_and_verify", no_fence)
    assert frozen_longer_than_the_lease(person) == 2


def a_refusal_that_comes_after_the_lease(person) -> tuple[int, list[str]]:
    """The first holder of an outbox was frozen in its call; the second has sent the reply when it wakes up."""
    made, sender = tools.conversation(), bot.get_engine().outbox
    tools.queue(made)
    (frozen,), _ = sender.begin([tools.claim(made, tools.OUT)], Deadline(60))
    for _ in range(20):
        lease = tools.steal(made, tools.OUT)
        pending_sends, _ = sender.begin([lease], Deadline(60))
        if pending_sends:
            break
        sender.process_next(lease, Deadline(60))
    sender.end([SendResult(pending=frozen, error=MessageRejected("no", code=100))])
    sender.end([sender.call(pending) for pending in pending_sends])
    return answers(person), list(models.Reply.objects.values_list("state", flat=True))


def test_the_fence_refuses_a_result_that_comes_after_the_lease(person):
    assert a_refusal_that_comes_after_the_lease(person) == (1, ["sent"])


def test_without_the_fence_a_late_result_settles_the_reply_of_another_worker(person, without):
    without(claims, "fence", lambda lease: models.ConversationQueue.objects.get(pk=lease.queue_id))
    assert a_refusal_that_comes_after_the_lease(person) == (1, ["parked"])


# The unique key: the same event twice is one event (invariant 2).


def the_same_event_in_two_callbacks() -> int:
    item = tools.text("m_1")
    tools.receive(item)
    tools.receive(item, tools.text("m_2"))
    return models.Messaging.objects.filter(mid="m_1").count()


def test_the_dedup_key_makes_one_event_of_two_deliveries():
    assert the_same_event_in_two_callbacks() == 1


def test_without_the_dedup_key_two_deliveries_are_two_events(without):
    numbers = itertools.count()
    without(Messaging, "key", lambda self: str(next(numbers)))
    assert the_same_event_in_two_callbacks() == 2


def test_the_database_refuses_a_second_row_with_the_same_dedup_key():
    tools.receive(tools.text("m_1"))
    row = models.Messaging.objects.get()
    row.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        row.save(force_insert=True)


# The wait: an unsure reply is not sent again before its echo could have come (invariant 5).


def an_answer_lost_and_its_echo_late(person, emulator) -> int:
    made = tools.conversation()
    emulator.faults.on("timeout_after", times=1)
    tools.queue(made)
    engine = bot.get_engine()
    tools.send(engine, made)
    for _ in range(2):
        tools.pass_time(0.6)
        tools.send(engine, made)
    deliver_echoes(emulator)
    for _ in range(10):
        tools.pass_time(0.6)
        tools.send(engine, made)
    return answers(person)


def deliver_echoes(emulator) -> None:
    for pending in emulator.waiting:
        if "message" in pending.item:
            tools.receive(pending.item)
    emulator.waiting.clear()


def test_the_wait_leaves_time_for_the_echo(person, emulator):
    assert an_answer_lost_and_its_echo_late(person, emulator) == 1


def test_without_the_wait_a_reply_is_sent_twice(person, emulator, without):
    without(unknown_fate, "echo_wait", lambda page: 0.0)
    assert an_answer_lost_and_its_echo_late(person, emulator) == 2


# The token: without it no echo says which attempt was accepted (invariant 5).


def test_without_the_send_token_no_echo_settles_a_reply(person, emulator, without):
    without(sending, "with_token", lambda data, token: data)
    assert an_answer_lost_and_its_echo_late(person, emulator) == 2


# The attempt is committed first: the successor of a dead sender reads that Meta may have the message (invariants 4, 5).


def a_sender_dies_with_the_request_written(person, emulator) -> tuple[int, list[str]]:
    class Dies(BaseException):
        pass

    class Transport(EmulatorTransport):
        def send(self, request, /):
            super().send(request)
            raise Dies

    made = tools.conversation()
    bot.use_transport(Transport(emulator))
    tools.queue(made)
    with pytest.raises(Dies):
        tools.send(bot.get_engine(), made)
    bot.use_transport(EmulatorTransport(emulator))
    deliver_echoes(emulator)
    tools.pass_time(3600)
    tools.send(bot.get_engine(), made)
    return answers(person), list(models.Reply.objects.values_list("state", flat=True))


def test_a_reply_whose_attempt_is_committed_before_the_call_is_not_sent_again(person, emulator):
    assert a_sender_dies_with_the_request_written(person, emulator) == (1, ["sent"])


def test_without_an_attempt_committed_first_a_reply_is_sent_twice(person, emulator, without):
    commit_attempts, died = settling.commit_attempts, []

    def after(pairs, deadline):
        if died:
            return commit_attempts(pairs, deadline)
        died.append(True)
        return [
            PendingSend(
                lease=lease,
                deadline=deadline,
                reply=reply,
                data=reply.data,
                attempt=models.Attempt(
                    reply=reply, number=1, token="djm1.x.1", fencing_token=lease.fencing_token
                ),
            )
            for lease, reply in pairs
        ]

    without(settling, "commit_attempts", after)
    assert a_sender_dies_with_the_request_written(person, emulator)[0] == 2


# The deadline: no call is begun that could outlast the lease (invariant 5).


def a_lease_that_is_almost_over(person) -> int:
    tools.queue(made := tools.conversation())
    tools.work(bot.get_engine(), tools.claim(made, tools.OUT), seconds=0.1)
    return answers(person)


def test_nothing_is_sent_under_a_lease_that_is_almost_over(person):
    assert a_lease_that_is_almost_over(person) == 0


def test_without_the_deadline_a_call_begins_under_a_lease_that_is_almost_over(person, without):
    without(Deadline, "remaining", lambda self: 3600.0)
    assert a_lease_that_is_almost_over(person) == 1


# An unknown fate is no refusal and no failure (invariants 4 and 5).


def an_accepted_call_whose_answer_is_lost(person, emulator) -> list[str]:
    made = tools.conversation()
    emulator.faults.on("timeout_after", times=1)
    tools.queue(made)
    tools.send(bot.get_engine(), made)
    return list(models.Reply.objects.values_list("state", flat=True))


def test_a_lost_answer_is_of_unknown_fate(person, emulator):
    assert an_accepted_call_whose_answer_is_lost(person, emulator) == ["unknown"]


def test_a_lost_answer_taken_for_unsent_is_queued_again_at_once(person, emulator, without):
    without(UnknownFate, "fate", "unsent")
    assert an_accepted_call_whose_answer_is_lost(person, emulator) == ["queued"]


# 200 promises a row; what is not signed leaves none (invariants 1, 6 and 7).


def post(content: bytes, headers: dict[str, str]) -> int:
    answer = Client().post("/messenger", content, content_type="application/json", headers=headers)
    return answer.status_code


def test_a_callback_answered_with_200_has_a_row():
    content = tools.body(tools.text("m_1"))
    assert post(content, tools.signed(content)) == 200
    assert models.Callback.objects.get().sha256 == hashlib.sha256(content).hexdigest()


def test_without_the_row_a_callback_answered_with_200_is_lost(without):
    content = tools.body(tools.text("m_1"))
    without(store, "store_many", lambda callbacks: [0] * len(callbacks))
    assert post(content, tools.signed(content)) == 200
    assert not models.Callback.objects.exists()


def test_a_callback_with_a_wrong_signature_is_refused_without_a_query(without, django_assert_num_queries):
    content = tools.body(tools.text("m_1"))
    wrong = {"X-Hub-Signature-256": "sha256=" + "0" * 64}
    with django_assert_num_queries(0):
        assert post(content, wrong) == 403
    without(signatures, "verify", lambda *args: "")
    assert post(content, wrong) == 200


def test_one_bad_item_does_not_spoil_the_other_items_of_its_callback(without):
    items = [tools.text("m_1"), {"sender": "nobody", "message": 5}, tools.text("m_2")]
    tools.receive(*items)
    assert models.Messaging.objects.filter(mid__in=["m_1", "m_2"]).count() == 2
    models.Messaging.objects.all().delete()
    models.Callback.objects.all().delete()
    row = split._row

    def strict(callback, item, places):
        if item.messaging is not None and item.messaging.mid == "m_1":
            raise RuntimeError("one item does this to us")
        return row(callback, item, places)

    without(split, "_row", strict)
    tools.receive(*items)
    assert list(models.Messaging.objects.filter(type="SIMPLE_TEXT").values_list("mid", flat=True)) == ["m_2"]
    assert "m_1" not in models.Callback.objects.get().error
    assert models.Callback.objects.get().error


# The done mark belongs to the effects (invariant 2).


def dies_in():
    """Return a function that dies, after the answers are inserted, before it marks the event as processed."""

    def die(self, handled, **options):
        raise ZeroDivisionError

    return die


def dies_between_effects_and_done_mark(monkeypatch) -> int:
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    engine = tools.engine(lambda event: "answer")
    with monkeypatch.context() as patch:
        patch.setattr(event_results, "finish", dies_in())
        tools.handle(engine, made)
    tools.pass_time(600)
    tools.handle(engine, made)
    return models.Reply.objects.count()


def test_effects_and_done_mark_are_one_transaction(monkeypatch):
    assert dies_between_effects_and_done_mark(monkeypatch) == 1


def test_without_one_transaction_the_answer_is_queued_twice(monkeypatch):
    class Apart:
        """``atomic`` without its rollback."""

        def __enter__(self):
            return self

        def __exit__(self, *args):
            return False

    monkeypatch.setattr("djmessenger.pipeline.handling.atomic", Apart)
    assert dies_between_effects_and_done_mark(monkeypatch) == 2


# The order (invariant 3).


def test_without_the_order_later_events_are_handled_first(without):
    at = tools.now_ms()
    handled = []

    def run():
        handled.clear()
        made = tools.conversation()
        tools.receive(tools.text("m_late", at=at + 9), tools.text("m_early", at=at))
        tools.handle(tools.engine(lambda event: handled.append(event.mid)), made)
        models.Messaging.objects.all().delete()
        models.Callback.objects.all().delete()
        return list(handled)

    assert run() == ["m_early", "m_late"]
    without(
        reads,
        "next_events",
        lambda queue_ids: models.Messaging.objects.filter(state="new").order_by("id")[:1],
    )
    assert run() == ["m_late", "m_early"]


def test_each_test_that_a_comment_names_exists():
    """A comment on a guard names the test that fails without it, so a renamed test must be renamed there too."""
    names = set()
    for path in (ROOT / "src" / "djmessenger").rglob("*.py"):
        named = re.findall(r"#.*|\(test_\w+(?:,\s+test_\w+)*\)", path.read_text(encoding="utf-8"))
        names |= set(re.findall(r"\btest_\w+(?![\w.]*\.py)", " ".join(named)))
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert "test_the_fence_refuses_a_worker_whose_lease_expired" in tests
    assert sorted(name for name in names if not re.search(rf"def {name}\(", tests)) == []
