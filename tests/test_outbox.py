"""Reply rows to Graph calls: every fate of an attempt, and what becomes of the row then."""

from __future__ import annotations

import datetime
import threading

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from djmessenger import bot, models
from djmessenger.clock import Deadline
from djmessenger.emulator import EmulatorTransport
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.graph import errors
from djmessenger.graph.client import Client
from djmessenger.graph.context import current as current_client
from djmessenger.graph.wire import Response
from djmessenger.outgoing.attachments import PATH_KEY
from djmessenger.pipeline import claims, page_pauses, settling, split, store, unknown_fate
from djmessenger.pipeline.claims import LeaseLost
from djmessenger.pipeline.settling import SendResult
from tests import pipeline_tools as tools

pytestmark = pytest.mark.django_db


@pytest.fixture
def person(emulator):
    return tools.someone(emulator)


@pytest.fixture
def conversation(person):
    return tools.conversation()


def fates() -> list[str]:
    return list(models.Reply.objects.order_by("id").values_list("state", flat=True))


def outcomes() -> list[str]:
    return list(models.Attempt.objects.order_by("id").values_list("outcome", flat=True))


def echoes_arrive(emulator) -> None:
    """Store and split what the emulator has waiting, as the webhook would."""
    for pending in emulator.waiting:
        tools.receive(pending.item, container=pending.container)
    emulator.waiting.clear()


def check_again(conversation, *, seconds: float = 0.6) -> None:
    """Move the clock by one interval and do the next step of the queue."""
    tools.pass_time(seconds)
    models.ConversationQueue.objects.wake([conversation.pk], tools.OUT)
    tools.send(bot.get_engine(), conversation)


@pytest.fixture
def signals():
    """The signals that were sent: name and primary key."""
    found: list[tuple[str, int]] = []

    def receiver_of(name):
        def receive(reply=None, page=None, **kwargs):
            found.append((name, (reply or page).pk))
            raise RuntimeError("a receiver that breaks breaks nothing else")

        return receive

    receivers = {name: receiver_of(name) for name in ("reply_sent", "reply_failed", "page_paused")}
    for name, receiver in receivers.items():
        getattr(models, name).connect(receiver)
    yield found
    for name, receiver in receivers.items():
        getattr(models, name).disconnect(receiver)


def test_a_reply_is_sent_with_the_token_of_its_attempt(conversation, person, emulator):
    reply = tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    reply.refresh_from_db()
    attempt = reply.attempts.get()
    (bubble,) = person.received
    assert (reply.state, reply.mid, attempt.outcome, attempt.mid) == (
        "sent",
        bubble.mid,
        "accepted",
        bubble.mid,
    )
    assert bubble.metadata == attempt.token
    assert tools.queue_of(conversation, tools.OUT).ready_at is None


def test_an_authors_own_metadata_follows_the_token(conversation, person):
    data = {"message": {"text": "hi", "metadata": "of the author"}}
    models.Reply.objects.queue(conversation, data, type="simple_text")
    tools.send(bot.get_engine(), conversation)
    token, _, own = person.received[0].metadata.partition(" ")
    assert (token, own) == (models.Attempt.objects.get().token, "of the author")


def test_replies_leave_in_the_order_of_queueing(conversation, person):
    for number in range(5):
        tools.queue(conversation, str(number))
    tools.send(bot.get_engine(), conversation)
    assert person.texts == list("01234")


@pytest.mark.django_db(transaction=True)
def test_the_attempt_is_committed_before_the_first_byte(conversation, emulator):
    seen = []

    class Spy(EmulatorTransport):
        def send(self, request, /):
            with_attempt = models.Attempt.objects.values_list("outcome", flat=True)
            seen.append((fates(), list(with_attempt), transaction.get_connection().in_atomic_block))
            return super().send(request)

    bot.use_transport(Spy(emulator))
    tools.queue(conversation)
    assert seen == [(["sending"], [""], False)]
    assert fates() == ["sent"]


@pytest.mark.django_db(transaction=True)
def test_queueing_belongs_to_the_callers_transaction(conversation, person):
    with transaction.atomic():
        tools.queue(conversation)
        transaction.set_rollback(True)
    assert fates() == []
    assert tools.queue_of(conversation, tools.OUT).ready_at is None
    with transaction.atomic():
        tools.queue(conversation)
        assert person.texts == []
    assert person.texts == ["hi"]


@pytest.mark.django_db(transaction=True)
def test_a_dispatcher_that_breaks_does_not_break_the_queueing_of_a_reply(conversation, monkeypatch):
    def away(conversation_id):
        raise ConnectionError("the broker is away")

    monkeypatch.setattr(bot.get_dispatcher(), "replies_queued", away)
    tools.queue(conversation)
    assert fates() == ["queued"]
    assert tools.queue_of(conversation, tools.OUT).ready_at is not None


def test_a_conversation_without_queues_gets_them_with_its_first_reply(person):
    conversation = models.Conversation.objects.between(tools.PAGE, tools.PSID)
    assert not conversation.queues.exists()
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    assert person.texts == ["hi"]


# Answers and faults of Graph for one attempt.


@pytest.mark.parametrize(
    ("fault", "options", "outcome", "fate"),
    [
        ("unreachable", {}, "unsent", "queued"),
        ("throttled", {}, "unsent", "queued"),
        ("business_throttled", {}, "unsent", "queued"),
        ("token_dead", {}, "unsent", "queued"),
        ("blocked", {}, "refused", "failed"),
        ("window_closed", {}, "refused", "expired"),
        ("other_app", {}, "refused", "failed"),
        ("refused", {"code": 100, "message": "bad"}, "refused", "failed"),
        ("refused", {"code": 1, "message": "?"}, "unknown", "unknown"),
        ("refused", {"code": 987654, "message": "new"}, "unknown", "unknown"),
        ("server_error", {}, "unknown", "unknown"),
        ("server_error_empty", {}, "unknown", "unknown"),
        ("timeout_before", {}, "unknown", "unknown"),
        ("timeout_after", {}, "unknown", "unknown"),
        ("truncated", {}, "unknown", "unknown"),
    ],
)
def test_each_answer_has_its_fate(fault, options, outcome, fate, conversation, emulator):
    emulator.faults.on(fault, times=1, **options)
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    assert (fates(), outcomes()) == ([fate], [outcome])


@pytest.mark.parametrize(
    "answer",
    [
        Response(200, {}, b"{}"),
        Response(200, {}, b"<html>"),
        Response(302, {"Location": "https://example.com/"}, b""),
        Response(200, {}, b'{"message_id": {"no": "text"}}'),
        Response(500, {}, b"[" * 100_000),
    ],
)
def test_an_answer_without_a_message_id_leaves_the_fate_unknown(answer, conversation):
    class Says:
        def send(self, request, /):
            return answer

    bot.use_transport(Says())
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    assert (fates(), outcomes()) == (["unknown"], ["unknown"])


def test_an_answer_that_no_column_can_store_still_settles(conversation):
    class Says:
        def send(self, request, /):
            return Response(
                200, {}, b'{"message_id": "m_' + b"x" * 300 + b'\\u0000\\ud800", "more": "\\u0000"}'
            )

    bot.use_transport(Says())
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    assert fates() == ["sent"]


def test_a_transport_that_breaks_leaves_the_fate_unknown(conversation):
    class Breaks:
        def send(self, request, /):
            raise MemoryError("in the middle")

    bot.use_transport(Breaks())
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    assert (fates(), outcomes()) == (["unknown"], ["unknown"])


def test_one_message_id_is_never_in_two_rows(conversation):
    class Same:
        def send(self, request, /):
            return Response(200, {}, b'{"message_id": "m_same"}')

    bot.use_transport(Same())
    tools.queue(conversation)
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    assert fates() == ["sent", "sent"]
    assert set(models.Reply.objects.values_list("mid", flat=True)) == {"m_same", None}


def test_a_refused_reply_does_not_delay_the_next(conversation, person, emulator):
    emulator.faults.on("refused", times=1, code=100, message="bad")
    tools.queue(conversation, "bad")
    tools.queue(conversation, "good")
    tools.send(bot.get_engine(), conversation)
    assert fates() == ["failed", "sent"]
    assert person.texts == ["good"]


def test_an_unsent_reply_waits_longer_each_time_and_the_next_waits_behind_it(conversation, person, emulator):
    emulator.faults.on("unreachable", times=3)
    tools.queue(conversation, "first")
    tools.queue(conversation, "second")
    engine, waits = bot.get_engine(), []
    for _ in range(3):
        tools.send(engine, conversation)
        reply = models.Reply.objects.earliest("id")
        waits.append((reply.not_before - timezone.now()).total_seconds())
        models.ConversationQueue.objects.wake([conversation.pk], tools.OUT)
        tools.send(engine, conversation)
        assert models.Attempt.objects.count() == len(waits)
        tools.pass_time(waits[-1] + 1)
    assert 0 < waits[0] < waits[1] < waits[2]
    tools.send(engine, conversation)
    assert person.texts == ["first", "second"]


# Replies of unknown fate.


def test_an_echo_settles_a_reply_without_an_answer(conversation, person, emulator, signals):
    emulator.faults.on("timeout_after", times=1)
    reply = tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    assert fates() == ["unknown"]
    echoes_arrive(emulator)
    check_again(conversation)
    reply.refresh_from_db()
    assert (reply.state, reply.mid) == ("sent", person.received[0].mid)
    assert len(person.received) == 1


def test_an_echo_in_standby_settles_too(conversation, person, emulator):
    emulator.faults.on("timeout_after", times=1)
    emulator.faults.on("standby")
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    echoes_arrive(emulator)
    check_again(conversation)
    assert (fates(), len(person.received)) == (["sent"], 1)


def test_an_echo_for_another_person_settles_nothing(conversation, emulator):
    emulator.faults.on("timeout_before", times=1)
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    tools.receive(tools.echo("m_other", models.Attempt.objects.get().token, psid="7099"))
    check_again(conversation)
    assert fates() == ["unknown"]


def test_without_an_echo_it_is_sent_again_after_the_wait(conversation, person, emulator, settings):
    settings.DJM_ECHO_WAIT = 2.0
    emulator.faults.on("timeout_before", times=1)
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    checks = 0
    while fates() == ["unknown"]:
        check_again(conversation)
        checks += 1
    assert (fates(), len(person.received), outcomes()) == (["sent"], 1, ["unknown", "accepted"])
    assert checks >= 4


def test_checks_before_the_interval_ends_add_nothing_to_the_observed_wait(
    conversation, person, emulator, settings
):
    """The wait: new replies wake the queue as often as they like, and the echo has its time all the same."""
    settings.DJM_ECHO_WAIT = 12.0
    emulator.faults.on("timeout_after", times=1)
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    for number in range(30):
        tools.queue(conversation, str(number))
        models.ConversationQueue.objects.wake([conversation.pk], tools.OUT)
        tools.send(bot.get_engine(), conversation)
    assert fates()[0] == "unknown"
    echoes_arrive(emulator)
    check_again(conversation)
    assert person.texts[:3] == ["hi", "0", "1"]


def test_a_long_gap_between_two_checks_adds_one_interval_to_the_observed_wait(
    conversation, emulator, settings
):
    settings.DJM_ECHO_WAIT = 5.0
    emulator.faults.on("timeout_before", times=1)
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    check_again(conversation)
    check_again(conversation, seconds=3600)
    assert models.Reply.objects.get().observed_wait <= 1.0
    assert fates() == ["unknown"]


@pytest.mark.parametrize(("lag", "wait"), [(None, 15.0), (0.1, 10.0), (5.0, 20.0), (3600.0, 120.0)])
def test_the_wait_follows_the_lag_of_echoes_within_bounds(lag, wait):
    assert unknown_fate.echo_wait(models.Page(echo_lag=lag)) == wait


@pytest.mark.parametrize(
    ("moments", "waited"),
    [
        ([0, 0.5, 1.0, 1.5], 1.5),
        ([0, 0.7, 1.2, 1.9, 2.01], 2.0),  # late now and then
        ([0, 0.1, 0.2, 0.5, 0.6], 0.5),  # too early
        ([0, 3600, 3600.1, 3600.5], 1.0),  # frozen, or by a clock that was set
    ],
)
def test_checks_add_at_most_one_interval_each(moments, waited, conversation):
    reply = tools.queue(conversation)
    models.Reply.objects.update(state="unknown")
    began = timezone.now()
    for moment in moments:
        reply.refresh_from_db()
        reply.now = began + datetime.timedelta(seconds=moment)
        unknown_fate._count_observed_time([reply])
    reply.refresh_from_db()
    assert reply.observed_wait == waited


def test_thirty_replies_that_wait_for_an_echo_cost_as_many_statements_as_two(emulator, settings):
    """A long wait is checked often; one transaction checks all queues."""
    settings.DJM_ECHO_WAIT = 60.0
    emulator.faults.on("timeout_before")
    counts = []
    for people in (2, 30):
        conversations = [tools.conversation(f"70{people}{number:03}") for number in range(people)]
        for one in conversations:
            tools.queue(one)
            tools.send(bot.get_engine(), one)
        tools.pass_time(0.6)
        leases = claims.claim(tools.OUT, seconds=60, limit=100)
        assert len(leases) >= people
        with CaptureQueriesContext(connection) as queries:
            assert bot.get_engine().outbox.begin(leases, Deadline(60)) == ([], [])
        counts.append(len(queries))
    assert counts[0] == counts[1]
    assert set(fates()) == {"unknown"}
    assert not models.ConversationQueue.objects.exclude(leased_until=None).exists()
    assert sorted(models.Reply.objects.values_list("observed_wait", flat=True)) == [0.5] * 30 + [1.0] * 2


def test_a_change_by_staff_wakes_a_queue_that_waits_for_an_echo(conversation, emulator):
    """A change made while the queue is leased is read when the queue is released."""
    emulator.faults.on("timeout_before")
    reply = tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    tools.pass_time(0.6)
    outbox = bot.get_engine().outbox
    lease = tools.claim(conversation, tools.OUT)
    head = outbox._next_rows([lease])[conversation.pk]
    models.Reply.objects.filter(pk=reply.pk).update(state="queued", not_before=None)
    models.ConversationQueue.objects.wake([conversation.pk], tools.OUT)
    outbox._unknown_fate.release_waiting([(lease, head)])
    reply.refresh_from_db()
    assert (reply.state, reply.not_before) == ("queued", None)
    assert tools.queue_of(conversation, tools.OUT).ready_at is not None


def test_time_in_which_an_echo_could_be_unsplit_is_not_observed(conversation, person, emulator, settings):
    settings.DJM_ECHO_WAIT = 1.0
    emulator.faults.on("timeout_after", times=1)
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    (echo,) = (pending.item for pending in emulator.waiting if "message" in pending.item)
    stored = store.store(tools.body(echo))
    for _ in range(10):
        check_again(conversation)
    assert fates() == ["unknown"]
    split.split(stored)
    check_again(conversation)
    assert (fates(), len(person.received)) == (["sent"], 1)


def test_an_outcome_committed_by_a_dead_worker_settles_its_reply(conversation, person, emulator):
    """Its attempt got its outcome, its row did not: the process ended between the two."""
    reply = tools.queue(conversation)
    models.Reply.objects.update(state="sending")
    models.Attempt.objects.create(
        reply=reply, number=1, token="t", fencing_token=1, outcome="accepted", mid="m_1"
    )
    tools.send(bot.get_engine(), conversation)
    reply.refresh_from_db()
    assert (reply.state, reply.mid, person.received) == ("sent", "m_1", [])


def test_a_reply_in_the_call_of_a_dead_worker_is_unknown_first(conversation, person, emulator):
    reply = tools.queue(conversation)
    models.Reply.objects.update(state="sending")
    models.Attempt.objects.create(reply=reply, number=1, token="t", fencing_token=1)
    tools.send(bot.get_engine(), conversation)
    assert (fates(), person.received) == (["unknown"], [])


@pytest.mark.parametrize(("mode", "setting"), [(True, "resend"), (None, "park")])
def test_an_unsure_reply_is_parked_if_the_reply_or_the_setting_says_park(
    mode, setting, conversation, person, emulator, settings, signals
):
    settings.DJM_ECHO_WAIT, settings.DJM_WHEN_UNSURE = 1.0, setting
    emulator.faults.on("timeout_before", times=1)
    tools.queue(conversation)
    models.Reply.objects.update(is_parked_when_unsure=mode)
    tools.queue(conversation, "next")
    tools.send(bot.get_engine(), conversation)
    for _ in range(5):
        check_again(conversation)
    assert fates() == ["parked", "sent"]
    assert person.texts == ["next"]


@pytest.mark.parametrize("other_has_it", [False, True])
def test_an_echo_settles_a_parked_reply(
    other_has_it, conversation, person, emulator, settings, signals, django_capture_on_commit_callbacks
):
    settings.DJM_ECHO_WAIT, settings.DJM_WHEN_UNSURE = 1.0, "park"
    emulator.faults.on("timeout_after", times=1)
    reply = tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    for _ in range(5):
        check_again(conversation)
    assert fates() == ["parked"]
    (late,) = (pending.item for pending in emulator.waiting if "message" in pending.item)
    if other_has_it:
        other = tools.queue(conversation)
        models.Reply.objects.filter(pk=other.pk).update(state="sent", mid=late["message"]["mid"])
    with django_capture_on_commit_callbacks(execute=True):
        tools.receive(late)
        tools.handle(bot.get_engine(), conversation)
        tools.send(bot.get_engine(), conversation)
    reply.refresh_from_db()
    assert reply.state == "sent"
    assert reply.error == ""
    assert reply.mid == (None if other_has_it else late["message"]["mid"])
    assert signals == [("reply_sent", reply.pk)]
    assert len(person.received) == 1


def test_a_reply_is_parked_after_three_attempts_of_unknown_fate(conversation, emulator, settings):
    settings.DJM_ECHO_WAIT = 1.0
    emulator.faults.on("timeout_before")
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    for _ in range(20):
        check_again(conversation)
    assert (fates(), outcomes()) == (["parked"], ["unknown"] * 3)


def accepted_without_echo(conversation, count: int, seconds_ago: float) -> None:
    models.Page.objects.update(date_created=timezone.now() - datetime.timedelta(days=1))
    moment = timezone.now() - datetime.timedelta(seconds=seconds_ago)
    for number in range(count):
        reply = tools.queue(conversation, str(number))
        models.Attempt.objects.create(
            reply=reply, number=1, token=f"t{number}", fencing_token=1, outcome="accepted", date_ended=moment
        )
    models.Reply.objects.update(state="sent")


def test_if_echoes_never_come_a_reply_is_parked_at_once_with_a_warning(conversation, emulator, caplog):
    accepted_without_echo(conversation, 20, seconds_ago=60)
    emulator.faults.on("timeout_before", times=1)
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    assert fates()[-1] == "parked"
    assert "message_echoes" in caplog.text


def test_a_burst_whose_echoes_are_due_is_no_sign_of_missing_echoes(conversation, emulator):
    accepted_without_echo(conversation, 50, seconds_ago=1)
    emulator.faults.on("timeout_before", times=1)
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    assert fates()[-1] == "unknown"


# Pages that pause.


def test_throttling_pauses_the_page_and_is_no_failed_attempt(conversation, person, emulator, signals):
    emulator.faults.on("refused", times=1, code=613, message="too many")
    other = tools.conversation("7012345678900001")
    emulator.add_person(tools.PAGE, person_id="7012345678900001").says("hello")
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    page = models.Page.objects.get()
    assert page.paused_until > timezone.now()
    assert ("page_paused", page.pk) in signals
    tools.queue(other)
    tools.send(bot.get_engine(), other)
    assert models.Attempt.objects.count() == 1
    tools.pass_time(3600)
    tools.send(bot.get_engine(), other)
    tools.send(bot.get_engine(), conversation)
    assert fates() == ["sent", "sent"]


def test_a_short_pause_does_not_end_a_long_one(conversation, emulator):
    long = timezone.now() + datetime.timedelta(hours=6)
    emulator.faults.on("refused", times=1, code=613, message="too many")
    tools.queue(conversation)
    lease, outbox = tools.claim(conversation, tools.OUT), bot.get_engine().outbox
    (pending,), _ = outbox.begin([lease], Deadline(60))
    models.Page.objects.update(paused_until=long)
    outbox.end([outbox.call(pending)])
    assert models.Page.objects.get().paused_until == long


def test_a_new_token_ends_the_pause_of_a_dead_one(conversation, person, emulator, settings):
    emulator.pages[tools.PAGE].token_error = 463
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    assert fates() == ["queued"]
    page = models.Page.objects.get()
    assert page.paused_until > timezone.now()
    assert bot.get_engine().outbox.resume_pages() == 0
    emulator.pages[tools.PAGE].token_error = None
    emulator.pages[tools.PAGE].token = settings.DJM_PAGE_ACCESS_TOKEN = "made-up-second-token"
    bot.use_transport(EmulatorTransport(emulator))
    bot.get_engine().sweep()
    tools.send(bot.get_engine(), conversation)
    page.refresh_from_db()
    assert (page.paused_until, page.paused_token, person.texts) == (None, "", ["hi"])


def test_a_pause_under_a_new_token_is_not_ended_with_the_pause_of_the_old_one(conversation, monkeypatch):
    until = timezone.now() + datetime.timedelta(hours=1)
    models.Page.objects.update(paused_until=until, paused_token="old")

    def refused_meanwhile(page, client_for):
        models.Page.objects.update(paused_token="new")
        return "new"

    outbox = bot.get_engine().outbox
    monkeypatch.setattr(page_pauses, "_token_of", refused_meanwhile)
    assert outbox.resume_pages() == 0
    assert models.Page.objects.get().paused_until == until


def test_a_pause_that_ends_during_a_release_does_not_delay_the_queue(conversation, person, settings):
    token, settings.DJM_PAGE_ACCESS_TOKEN = settings.DJM_PAGE_ACCESS_TOKEN, ""
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    models.ConversationQueue.objects.update(ready_at=timezone.now() - datetime.timedelta(minutes=1))
    outbox, lease = bot.get_engine().outbox, tools.claim(conversation, tools.OUT)
    paused = outbox._wait_of(outbox._next_rows([lease])[conversation.pk])
    settings.DJM_PAGE_ACCESS_TOKEN = token
    assert outbox.resume_pages() == 1
    outbox._release_after(lease, paused)
    tools.send(bot.get_engine(), conversation)
    assert person.texts == ["hi"]


def test_events_of_a_page_without_a_token_are_handled_and_their_replies_wait_for_one(person, settings):
    token, settings.DJM_PAGE_ACCESS_TOKEN = settings.DJM_PAGE_ACCESS_TOKEN, ""
    clients = []

    def ask(event):
        with pytest.raises(DJMInvalidConfigException, match="has no token"):
            clients.append(current_client())
        return "hi"

    engine = tools.engine(ask)
    engine.drain_callback(store.store(tools.body(tools.text("m_1"))))
    assert models.Messaging.objects.get().state == "done"
    page = models.Page.objects.get()
    assert "has no token" in page.pause_reason
    assert page.paused_until > timezone.now()
    assert (fates(), person.texts, clients) == (["queued"], [], [])
    settings.DJM_PAGE_ACCESS_TOKEN = token
    engine = tools.engine(ask)
    engine.sweep()
    engine.drain()
    assert (fates(), person.texts) == (["sent"], ["hi"])


def test_without_a_token_replies_wait_for_one(conversation, person, settings):
    token, settings.DJM_PAGE_ACCESS_TOKEN = settings.DJM_PAGE_ACCESS_TOKEN, ""
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    assert fates() == ["queued"]
    settings.DJM_PAGE_ACCESS_TOKEN = token
    bot.get_engine().sweep()
    tools.send(bot.get_engine(), conversation)
    assert person.texts == ["hi"]


# Time and leases.


def test_after_the_window_a_reply_is_too_late(conversation, person, signals):
    models.Conversation.objects.update(date_last_inbound=timezone.now() - datetime.timedelta(hours=24))
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    assert (fates(), person.received) == (["expired"], [])


def test_a_message_with_a_tag_has_rules_of_its_own(conversation, emulator):
    models.Conversation.objects.update(date_last_inbound=timezone.now() - datetime.timedelta(days=2))
    data = {"messaging_type": "MESSAGE_TAG", "tag": "HUMAN_AGENT", "message": {"text": "hi"}}
    models.Reply.objects.queue(conversation, data, type="simple_text")
    tools.send(bot.get_engine(), conversation)
    assert outcomes() != []


def test_no_call_begins_that_could_outlast_the_lease(conversation, person):
    tools.queue(conversation)
    tools.queue(conversation)
    tools.work(bot.get_engine(), tools.claim(conversation, tools.OUT), seconds=5)
    assert (fates(), person.received, outcomes()) == (["queued", "queued"], [], ["unsent"])
    tools.send(bot.get_engine(), conversation)
    assert len(person.received) == 2


def test_a_worker_whose_lease_is_lost_sends_nothing(conversation, person):
    tools.queue(conversation)
    old = tools.claim(conversation, tools.OUT)
    tools.steal(conversation, tools.OUT)
    with pytest.raises(LeaseLost):
        bot.get_engine().outbox.process_next(old, Deadline(60))
    assert (fates(), outcomes(), person.received) == (["queued"], [], [])


def test_a_worker_that_loses_its_lease_in_the_call_commits_the_message_id(conversation, emulator):
    """The answer belongs to the attempt, which is its own; the row is the new holder's."""

    class Slow(EmulatorTransport):
        def send(self, request, /):
            answer = super().send(request)
            self.stolen = tools.steal(conversation, tools.OUT)
            return answer

    transport = Slow(emulator)
    bot.use_transport(transport)
    reply = tools.queue(conversation)
    tools.work(bot.get_engine(), tools.claim(conversation, tools.OUT))
    assert (fates(), outcomes()) == (["sending"], ["accepted"])
    tools.work(bot.get_engine(), transport.stolen)
    tools.send(bot.get_engine(), conversation)
    reply.refresh_from_db()
    assert (reply.state, reply.mid, models.Attempt.objects.count()) == ("sent", reply.attempts.get().mid, 1)


@pytest.mark.parametrize("is_accepted", [True, False])
def test_a_reply_that_staff_changed_during_the_call_keeps_their_change(is_accepted, conversation, emulator):
    class Meanwhile(EmulatorTransport):
        def send(self, request, /):
            models.Reply.objects.update(state="failed", error="taken back by staff")
            if is_accepted:
                return super().send(request)
            raise errors.NotSent("no connection")

    bot.use_transport(Meanwhile(emulator))
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    reply = models.Reply.objects.get()
    assert (reply.state, reply.error) == ("failed", "taken back by staff")


def test_a_reply_that_staff_changed_before_its_attempt_is_not_sent(conversation):
    tools.queue(conversation)
    outbox, lease = bot.get_engine().outbox, tools.claim(conversation, tools.OUT)
    next_row = outbox._next_rows([lease])[conversation.pk]
    models.Reply.objects.update(state="failed")
    assert settling.commit_attempts([(lease, next_row)], Deadline(60)) == []
    assert (fates(), outcomes()) == (["failed"], [])


@pytest.mark.django_db(transaction=True)
def test_signals_of_the_fate_are_sent_after_the_commit(conversation, emulator, signals):
    first = tools.queue(conversation)
    emulator.faults.on("refused", times=1, code=100, message="bad")
    second = tools.queue(conversation)
    assert signals == [("reply_sent", first.pk), ("reply_failed", second.pk)]


def test_an_unreachable_person_is_remembered(conversation, emulator):
    emulator.faults.on("blocked", times=1)
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    assert models.FBUserProfile.objects.get().date_unreachable is not None


def test_a_body_that_cannot_become_a_call_fails_without_a_call(conversation, person):
    reply = tools.queue(conversation)
    models.Reply.objects.filter(pk=reply.pk).update(data={"message": "no object"})
    tools.send(bot.get_engine(), conversation)
    assert (fates(), person.received) == (["failed"], [])


def test_a_token_hash_differs_for_each_token_and_does_not_contain_it():
    one, two = Client("made-up-token-1"), Client("made-up-token-2")
    assert one.token_hash != two.token_hash
    assert "made-up" not in one.token_hash


def test_an_answer_under_a_lost_lease_does_not_spoil_its_batch(conversation, person, emulator):
    other = tools.PSID[:-1] + "9"
    emulator.add_person(tools.PAGE, person_id=other)
    tools.queue(conversation)
    tools.queue(tools.conversation(other))
    outbox = bot.get_engine().outbox
    pending_sends, _ = outbox.begin(claims.claim(tools.OUT, seconds=60, limit=2), Deadline(60))
    # Meta refuses messages to a person who never wrote.
    lost, kept = sorted(
        (outbox.call(pending) for pending in pending_sends), key=lambda answer: answer.sent is None
    )
    tools.steal(lost.pending.reply.conversation, tools.OUT)
    outbox.end([lost, kept])
    kept.pending.reply.refresh_from_db()
    assert kept.pending.reply.state == "expired"
    assert models.Attempt.objects.get(pk=lost.pending.attempt.pk).outcome == "accepted"


# Answers that leave at the commit of their event.


def start(*replies, limit: int = 10):
    """Insert new replies as an event's transaction does; give what may be called at its commit."""
    with transaction.atomic():
        return bot.get_engine().outbox.insert_and_begin(replies, Deadline(60), limit)


def unsaved(conversation, text: str = "hi") -> models.Reply:
    data = {"messaging_type": "RESPONSE", "message": {"text": text}}
    return models.Reply(
        conversation=conversation, recipient_id=conversation.person_id, data=data, type="simple_text"
    )


def test_the_first_new_reply_of_an_idle_queue_has_its_attempt_at_the_commit(conversation, person):
    tools.receive(tools.text("m_1"))
    conversation.refresh_from_db()
    (pending,) = start(unsaved(conversation, "1"), unsaved(conversation, "2"))
    assert (fates(), outcomes()) == (["sending", "queued"], [""])
    assert pending.attempt.fencing_token == tools.queue_of(conversation, tools.OUT).fencing_token
    assert claims.claim(tools.OUT, seconds=60) == []
    assert bot.get_engine().outbox.end([bot.get_engine().outbox.call(pending)]) == []
    tools.send(bot.get_engine(), conversation)
    assert (fates(), person.texts) == (["sent", "sent"], ["1", "2"])


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        ({"error": errors.UnknownFate("no answer")}, "unknown"),
        ({"error": errors.NotSent("no connection")}, "queued"),
        ({"error": errors.MessageRejected("no such template")}, "failed"),
        ({"body_error": TypeError("no JSON")}, "failed"),
    ],
)
@pytest.mark.parametrize("step", ["settle", "release"])
def test_a_result_is_settled_once_if_the_database_fails_meanwhile(
    step, problem, expected, conversation, monkeypatch, caplog
):
    """The state of the row is committed, or was refused at the commit; the release of the queue fails."""
    tools.receive(tools.text("m_1"))
    conversation.refresh_from_db()
    (pending,) = start(unsaved(conversation))
    outbox = bot.get_engine().outbox
    settle, trouble = settling.settle, [OperationalError("database is locked")]

    def stumble(*args, **options):
        with transaction.atomic():
            settle(*args, **options)
            if trouble and step == "settle":
                raise trouble.pop()
        if trouble:
            raise trouble.pop()

    monkeypatch.setattr(settling, "settle", stumble)
    left = outbox.end([SendResult(pending=pending, **problem)])
    assert len(left) == 1
    caplog.clear()
    assert outbox.end(left) == []
    assert fates() == [expected]
    assert not [record for record in caplog.records if record.exc_info]
    assert tools.queue_of(conversation, tools.OUT).leased_until is None


@pytest.mark.parametrize("hindrance", ["waits", "held", "paused", "late", "file", "limit", "never wrote"])
def test_a_reply_that_cannot_leave_at_once_waits_in_its_queue(hindrance, conversation, person):
    if hindrance != "never wrote":
        tools.receive(tools.text("m_1"))
    conversation.refresh_from_db()
    reply = unsaved(conversation)
    if hindrance == "waits":
        tools.queue(conversation, "before")
        models.ConversationQueue.objects.filter(kind=tools.OUT).update(ready_at=None)
    elif hindrance == "held":
        tools.queue(conversation, "before")
        tools.claim(conversation, tools.OUT)
    elif hindrance == "paused":
        conversation.page.paused_until = timezone.now() + datetime.timedelta(hours=1)
    elif hindrance == "late":
        conversation.date_last_inbound = None
        conversation.window_until = timezone.now() + datetime.timedelta(hours=1)
    elif hindrance == "file":
        reply.data = {"message": {"attachment": {"type": "image", "payload": {PATH_KEY: "a.png"}}}}
    pending_sends = start(reply, limit=0 if hindrance == "limit" else 10)
    reply.refresh_from_db()
    assert (pending_sends, reply.state, reply.attempts.count()) == ([], "queued", 0)
    assert tools.queue_of(conversation, tools.OUT).ready_at is not None


def test_a_reply_that_was_rolled_back_is_not_sent_and_can_start_again(conversation, person):
    tools.receive(tools.text("m_1"))
    conversation.refresh_from_db()
    reply = unsaved(conversation)
    with transaction.atomic():
        start(reply)
        transaction.set_rollback(True)
    assert not models.Reply.objects.exists()
    (pending,) = start(reply)
    bot.get_engine().outbox.end([bot.get_engine().outbox.call(pending)])
    assert (fates(), person.texts) == (["sent"], ["hi"])


# A reply does not end as unsent while Meta may have it.


def refused_after_a_lost_answer(conversation, emulator, settings) -> models.Reply:
    """Queue a reply whose first call is accepted without an answer, and whose second call is refused."""
    settings.DJM_ECHO_WAIT = 1.0
    emulator.faults.on("timeout_after", times=1)
    reply = tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    emulator.faults.on("blocked", times=1)
    while outcomes() == ["unknown"]:
        check_again(conversation)
    return reply


def test_a_refusal_after_an_attempt_of_unknown_fate_parks_the_reply(
    conversation, person, emulator, settings, signals
):
    reply = refused_after_a_lost_answer(conversation, emulator, settings)
    reply.refresh_from_db()
    assert (outcomes(), reply.state, len(person.received)) == (["unknown", "refused"], "parked", 1)
    assert reply.error.startswith("Meta may have the message of attempt 1. The reply ended with: ")
    echoes_arrive(emulator)
    tools.handle(bot.get_engine(), conversation)
    tools.send(bot.get_engine(), conversation)
    reply.refresh_from_db()
    assert (reply.state, reply.mid, reply.error) == ("sent", person.received[0].mid, "")


def test_a_refusal_whose_earlier_attempt_has_an_echo_by_now_is_sent(conversation, person, emulator, settings):
    class EchoMeanwhile(EmulatorTransport):
        def send(self, request, /):
            try:
                return super().send(request)
            finally:
                if len(outcomes()) == 2:
                    echoes_arrive(emulator)

    bot.use_transport(EchoMeanwhile(emulator))
    reply = refused_after_a_lost_answer(conversation, emulator, settings)
    reply.refresh_from_db()
    assert (reply.state, reply.mid, reply.error) == ("sent", person.received[0].mid, "")


@pytest.mark.parametrize("end", ["window closed", "body broken"])
def test_a_reply_that_ends_after_an_attempt_of_unknown_fate_is_parked(end, conversation, emulator):
    reply = tools.queue(conversation)
    models.Attempt.objects.create(reply=reply, number=1, token="t", fencing_token=1, outcome="unknown")
    if end == "window closed":
        models.Conversation.objects.update(date_last_inbound=timezone.now() - datetime.timedelta(hours=25))
    else:
        models.Reply.objects.update(data={"message": "no object"})
    tools.send(bot.get_engine(), conversation)
    assert fates() == ["parked"]


def test_a_late_acceptance_settles_a_parked_reply(conversation, person, emulator, settings):
    """A worker is frozen with an acceptance; another one sends the reply again, is refused and parks it."""
    settings.DJM_ECHO_WAIT = 1.0
    reply, outbox = tools.queue(conversation), bot.get_engine().outbox
    (frozen,), _ = outbox.begin([tools.claim(conversation, tools.OUT)], Deadline(60))
    answer = outbox.call(frozen)
    emulator.faults.on("blocked", times=1)
    tools.pass_time(3600)
    while len(outcomes()) == 1:
        check_again(conversation)
    assert fates() == ["parked"]
    outbox.end([answer])
    assert fates() == ["unknown"]
    tools.send(bot.get_engine(), conversation)
    reply.refresh_from_db()
    assert (reply.state, reply.mid) == ("sent", person.received[0].mid)


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgresql("SQLite has one writer at a time")
def test_an_echo_that_is_handled_while_its_reply_is_parked_reopens_it(conversation):
    tools.queue(conversation)
    models.Reply.objects.update(state="unknown", mid=None)
    models.Attempt.objects.update(token="t", outcome="unknown", mid="")
    models.ConversationQueue.objects.wake([conversation.pk], tools.OUT)
    lease, handled = tools.claim(conversation, tools.OUT), threading.Event()
    echo = models.Messaging(conversation=conversation, echo_token="t", mid="m_1", key="k")

    def park() -> None:
        with transaction.atomic():
            claims.fence(lease)
            handled.set()
            tools.until(tools.is_anybody_waiting)
            models.Reply.objects.update(state="parked")

    def handle() -> None:
        handled.wait(10)
        with transaction.atomic():
            settling.reopen_parked([echo])

    assert tools.threads(park, handle) == []
    assert fates() == ["unknown"]


@pytest.mark.parametrize("fault", ["unreachable", "blocked"])
def test_a_late_result_without_an_acceptance_ends_the_wait_for_an_echo(fault, conversation, person, emulator):
    """A worker is frozen with its result; another one makes the fate unknown before the result is committed."""
    emulator.faults.on(fault, times=1)
    tools.queue(conversation)
    outbox = bot.get_engine().outbox
    (frozen,), _ = outbox.begin([tools.claim(conversation, tools.OUT)], Deadline(60))
    answer = outbox.call(frozen)
    tools.pass_time(3600)
    tools.send(bot.get_engine(), conversation)
    assert fates() == ["unknown"]
    outbox.end([answer])
    check_again(conversation)
    assert (fates(), len(person.received)) == (["sent"], 1)


def test_a_client_that_cannot_be_made_leaves_the_reply_unsent(conversation, person):
    def no_files(page):
        raise OSError(24, "Too many open files")

    tools.queue(conversation)
    tools.send(tools.engine(client=no_files), conversation)
    assert (fates(), outcomes()) == (["queued"], ["unsent"])
    tools.pass_time(60)
    tools.send(bot.get_engine(), conversation)
    assert (fates(), outcomes(), person.texts) == (["sent"], ["unsent", "accepted"], ["hi"])
