"""Celery as the dispatcher: tasks are wake-ups, and nothing depends on one of them."""

from __future__ import annotations

import pytest
from celery import Celery
from django.test import Client

from djmessenger import bot, models
from djmessenger.contrib import celery as contrib
from tests import road_tools as tools
from tests.test_dispatch import POLICY

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def app(settings):
    settings.DJM_DISPATCHER, settings.DJM_ROUTING_POLICY = "celery", POLICY
    made = Celery("test", broker="memory://", set_as_current=True)
    made.conf.task_always_eager = True
    yield made
    made.close()


@pytest.fixture
def later(app, monkeypatch):
    """What is to be looked at later, rather than looked at at once for ever."""
    found = []
    for name in ("handle_events", "send_replies"):
        monkeypatch.setattr(
            getattr(contrib, name),
            "apply_async",
            lambda args=(), name=name, **options: found.append((name, options)),
        )
        monkeypatch.setattr(getattr(contrib, name), "delay", getattr(contrib, name).run)
    return found


@pytest.fixture
def person(emulator):
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


def test_tasks_take_an_event_all_the_way(app, later, person):
    assert isinstance(bot.get_dispatcher(), contrib.CeleryDispatcher)
    assert post(tools.text("m_1")) == 200
    assert len(person.texts) == 1
    assert later == []


def test_what_has_to_wait_is_looked_at_later(app, later, person, emulator):
    emulator.faults.on("unreachable", times=1)
    assert post(tools.text("m_1")) == 200
    assert person.texts == []
    name, options = later[-1]
    assert name == "send_replies"
    assert options["countdown"] >= 0.5
    tools.pass_time(60)
    contrib.send_replies.run(models.Conversation.objects.get().pk)
    assert len(person.texts) == 1


def test_the_sweep_finds_what_no_task_told_of(app, later, person, monkeypatch):
    def away(callback_id):
        raise ConnectionError("the broker is away")

    with monkeypatch.context() as patch:
        patch.setattr(contrib.split_callback, "delay", away)
        assert post(tools.text("m_1")) == 200
    assert models.Callback.objects.get().state == "new"
    contrib.sweep.run()
    assert len(person.texts) == 1


def test_a_task_that_comes_twice_does_nothing(app, later, person):
    post(tools.text("m_1"))
    contrib.split_callback.run(models.Callback.objects.get().pk)
    contrib.handle_events.run(models.Conversation.objects.get().pk)
    contrib.send_replies.run(models.Conversation.objects.get().pk)
    assert len(person.texts) == 1
