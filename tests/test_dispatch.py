"""Drivers of the engine: the request, threads beside it, or processes of their own."""

from __future__ import annotations

import pytest
from django.db import OperationalError, transaction
from django.test import Client

from djmessenger import bot, models
from djmessenger.pipeline import claims
from djmessenger.pipeline.dispatch import EmbeddedDispatcher, InlineDispatcher, WorkerDispatcher
from djmessenger.pipeline.engine import Engine
from tests import pipeline_tools as tools
from tests.test_worker import until

POLICY = {
    "rules": [
        {
            "type": "SIMPLE_TEXT",
            "name": "answer",
            "repliers": [{"name": "djmessenger.replying.DefaultMessageReplier"}],
        }
    ]
}


@pytest.fixture
def person(emulator, settings):
    settings.DJM_ROUTING_POLICY = POLICY
    someone = emulator.add_person(tools.PAGE, person_id=tools.PSID)
    someone.says("hello")
    emulator.waiting.clear()
    return someone


def post(*items) -> int:
    content = tools.body(*items)
    answer = Client().post(
        "/messenger", content, content_type="application/json", headers=tools.signed(content)
    )
    return answer.status_code


@pytest.mark.django_db(transaction=True)
def test_inline_does_all_before_the_answer(person):
    assert isinstance(bot.get_dispatcher(), InlineDispatcher)
    assert post(tools.text("m_1"), tools.text("m_2")) == 200
    assert len(person.texts) == 2


@pytest.mark.django_db(transaction=True)
def test_inline_sends_a_queued_reply_on_commit(person):
    made = tools.conversation()
    with transaction.atomic():
        tools.queue(made)
        assert person.texts == []
    assert person.texts == ["hi"]


@pytest.mark.django_db(transaction=True)
def test_inline_does_not_send_inside_a_transaction(person):
    made = tools.conversation()
    with transaction.atomic():
        tools.queue(made)
        bot.get_dispatcher().replies_queued(made.pk)
        assert person.texts == []
    assert person.texts == ["hi"]


def test_embedded_works_beside_the_request(file_database, person, settings):
    settings.DJM_DISPATCHER = "embedded"
    assert isinstance(bot.get_dispatcher(), EmbeddedDispatcher)
    assert post(tools.text("m_1")) == 200
    until(lambda: len(person.texts) == 1, "the answer")
    tools.queue(models.Conversation.objects.get())
    until(lambda: person.texts[1:] == ["hi"], "what was queued by hand")
    bot.get_dispatcher().stop()


def test_embedded_works_again_after_it_was_stopped(file_database, person, settings):
    settings.DJM_DISPATCHER = "embedded"
    bot.get_dispatcher().stop()
    assert post(tools.text("m_1")) == 200
    until(lambda: len(person.texts) == 1, "the answer")
    bot.get_dispatcher().stop()


@pytest.mark.django_db(transaction=True)
def test_worker_leaves_it_to_others(person, settings):
    settings.DJM_DISPATCHER = "worker"
    assert isinstance(bot.get_dispatcher(), WorkerDispatcher)
    assert post(tools.text("m_1")) == 200
    assert models.Callback.objects.get().state == "new"
    assert person.texts == []
    bot.get_engine().drain_callback(models.Callback.objects.get().pk)
    assert len(person.texts) == 1


@pytest.mark.postgresql("elsewhere nobody listens")
def test_worker_announces_on_commit(file_database, person, settings, monkeypatch):
    settings.DJM_DISPATCHER = "worker"
    told = []
    monkeypatch.setattr(Engine, "notify", lambda self, what: told.append(what))
    made = tools.conversation()
    with transaction.atomic():
        tools.queue(made)
        assert told == []
    until(lambda: told == ["queues"], "the notification")
    assert post(tools.text("m_1")) == 200
    until(lambda: told == ["queues", "callback"], "the notification")


@pytest.mark.django_db(transaction=True)
def test_a_reply_and_its_wake_up_are_one_transaction(person, settings, monkeypatch):
    settings.DJM_DISPATCHER = "worker"
    made = tools.conversation()

    def fail(*args, **options):
        raise ZeroDivisionError

    monkeypatch.setattr(type(models.ConversationQueue.objects), "wake", fail)
    with pytest.raises(ZeroDivisionError):
        tools.queue(made)
    assert not models.Reply.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_dispatcher_that_fails_breaks_no_caller(person, monkeypatch):
    def away(*args):
        raise ConnectionError("the broker is away")

    monkeypatch.setattr(bot.get_dispatcher(), "replies_queued", away)
    tools.queue(tools.conversation())
    assert models.Reply.objects.get().state == "queued"


@pytest.mark.django_db(transaction=True)
def test_a_dispatcher_that_breaks_loses_nothing(person, settings, monkeypatch):
    def away(*args):
        raise ConnectionError("the broker is away")

    monkeypatch.setattr(bot.get_dispatcher(), "callback_stored", away)
    assert post(tools.text("m_1")) == 200
    assert models.Callback.objects.get().state == "new"


@pytest.mark.django_db
def test_queues_are_released_if_the_claim_of_slow_ones_fails(monkeypatch):
    made = tools.conversation()
    tools.receive(tools.text("m_1"))
    claim = claims.claim

    def stumble(kind, *, is_slow=False, **options):
        if is_slow:
            raise OperationalError("server closed the connection")
        return claim(kind, **options)

    monkeypatch.setattr(claims, "claim", stumble)
    with pytest.raises(OperationalError):
        tools.engine(lambda event: "hi").run_once(tools.IN)
    queue = tools.queue_of(made)
    assert queue.leased_until is None
    assert queue.ready_at is not None
