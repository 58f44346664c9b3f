"""Callbacks that Meta repeats, delays or mixes; a person sees no difference."""

from __future__ import annotations

import pytest

from djmessenger import models
from djmessenger.rules import fallback


@fallback()
def parrot(event):
    return f"You said {event.text or event.type}."


@pytest.fixture(autouse=True)
def bot(own_rules):
    """The bot that answers everything."""


def test_the_broken_third_of_five_leaves_the_other_four_answered(messenger):
    people = [messenger.person() for _ in range(5)]
    with messenger.fault("batch", shape="messaging"):
        for person in people:
            person.screen.says("hi")
        messenger.emulator.waiting[2].item = {"sender": 7, "message": ["what", None]}
        messenger.run()
    for number, person in enumerate(people):
        if number == 2:
            person.sees_nothing()
        else:
            person.sees("You said hi.")
    callback = models.Callback.objects.earliest("pk")
    assert callback.state == "split"
    assert callback.messagings.count() == 5


def test_two_pages_in_one_callback(messenger):
    other = messenger.add_page("209876543210987", name="Bakery")
    ana, ben = messenger.person(), messenger.person(page=other)
    with messenger.fault("batch"):
        ana.screen.says("coffee")
        ben.screen.says("bread")
        messenger.run()
    ana.sees("You said coffee.")
    ben.sees("You said bread.")
    assert len(messenger.emulator.deliveries[0].items) == 2
    assert models.Callback.objects.filter(messagings__type="SIMPLE_TEXT").distinct().count() == 1
    replies = models.Reply.objects.values_list("conversation__page__page_id", "recipient_id")
    assert set(replies) == {(messenger.page.id, ana.psid), (other.id, ben.psid)}


def test_the_same_callback_twice_is_answered_once(messenger):
    ana = messenger.person()
    ana.says("hi")
    ana.sees("You said hi.")
    messenger.posts_again()
    ana.sees_nothing()


def test_the_same_event_in_another_callback_is_answered_once(messenger):
    ana = messenger.person()
    with messenger.fault("duplicate", copies=3):
        ana.says("hi")
    ana.sees("You said hi.")
    ana.sees_nothing()


def test_echoes_are_never_answered(messenger):
    messenger.report(echoes=True, deliveries=True, reads=True)
    ana = messenger.person()
    ana.says("hi")
    ana.sees("You said hi.")
    ana.sees_nothing()
    assert models.Messaging.objects.filter(type="ECHO").count() == 1
    assert models.Reply.objects.count() == 1


def test_events_of_another_app_are_stored_and_never_answered(messenger):
    ana = messenger.person()
    with messenger.fault("standby"):
        ana.says("hi")
        ana.sees_nothing()
    assert models.Messaging.objects.get().type == "STANDBY"
    ana.says("back again")
    ana.sees("You said back again.")


def test_events_of_an_unknown_kind_do_no_harm(messenger):
    ana = messenger.person()
    with messenger.fault("unknown_event"):
        ana.says("hi")
    ana.sees("You said hi.")
    ana.sees_nothing()
