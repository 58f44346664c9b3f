"""Look-up at Meta of a reply that got neither answer nor echo."""

from __future__ import annotations

import datetime
import logging

import pytest
from django.utils import timezone

from djmessenger import bot, models
from djmessenger.graph.client import Client
from tests import pipeline_tools as tools

pytestmark = pytest.mark.django_db


@pytest.fixture
def person(emulator):
    return tools.someone(emulator)


@pytest.fixture
def conversation(person):
    return tools.conversation()


@pytest.fixture
def page(emulator, settings):
    settings.DJM_LOOK_UP_UNSURE = True
    settings.DJM_ECHO_WAIT = 1.5
    return emulator.pages[tools.PAGE]


def settled(conversation, *, looks: int = 50) -> list[str]:
    """Look as often, half a second apart, with no echo on the way; give the fates of the replies."""
    tools.send(bot.get_engine(), conversation)
    for _ in range(looks):
        tools.pass_time(0.6)
        models.ConversationQueue.objects.wake([conversation.pk], tools.OUT)
        tools.send(bot.get_engine(), conversation)
    return list(models.Reply.objects.order_by("id").values_list("state", flat=True))


def test_a_message_found_at_meta_is_not_sent_again_without_its_echo(page, conversation, person, emulator):
    emulator.faults.on("timeout_after", times=1)
    reply = tools.queue(conversation)
    tools.queue(conversation, "more")
    assert settled(conversation) == ["sent", "sent"]
    reply.refresh_from_db()
    assert (reply.mid, person.texts) == (person.received[0].mid, ["hi", "more"])


def test_a_message_not_found_at_meta_is_sent_again(page, conversation, person, emulator):
    emulator.faults.on("timeout_before", times=1)
    tools.queue(conversation)
    assert (settled(conversation), person.texts) == (["sent"], ["hi"])


def test_files_are_known_by_being_files(page, conversation, person, emulator):
    emulator.faults.on("timeout_after", times=1)
    image = {"attachment": {"type": "image", "payload": {"url": "https://example.com/a.png"}}}
    models.Reply.objects.queue(conversation, {"messaging_type": "RESPONSE", "message": image}, type="image")
    assert (settled(conversation), len(person.received)) == (["sent"], 1)


def test_the_same_words_of_another_reply_or_of_the_person_prove_nothing(page, conversation, person, emulator):
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    person.says("hi")
    emulator.faults.on("timeout_before", times=1)
    tools.queue(conversation)
    assert (settled(conversation), person.texts) == (["sent", "sent"], ["hi", "hi"])


def test_of_several_that_say_it_the_oldest_is_it(page, conversation, person, emulator):
    emulator.faults.on("timeout_after", times=1)
    reply = tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    # Staff type the same text in the inbox of the Page.
    bot.get_client().send(
        {"id": conversation.person_id}, {"messaging_type": "RESPONSE", "message": {"text": "hi"}}
    )
    assert settled(conversation) == ["sent"]
    reply.refresh_from_db()
    assert (reply.mid, len(person.received)) == (person.received[0].mid, 2)


def test_a_message_returned_in_another_form_decides_nothing(page, conversation, person, emulator, settings):
    settings.DJM_WHEN_UNSURE = "park"
    emulator.faults.on("timeout_after", times=1)
    buttons = [{"type": "postback", "title": "Yes", "payload": "yes"}]
    payload = {"template_type": "button", "text": "Really?", "buttons": buttons}
    message = {"attachment": {"type": "template", "payload": payload}}
    models.Reply.objects.queue(
        conversation, {"messaging_type": "RESPONSE", "message": message}, type="template"
    )
    assert settled(conversation) == ["parked"]


def test_the_lookup_settles_replies_of_a_page_without_echoes(
    page, conversation, person, emulator, monkeypatch
):
    monkeypatch.setattr("djmessenger.pipeline.unknown_fate.echoes_come", lambda page: False)
    emulator.faults.on("timeout_before", times=1)
    tools.queue(conversation)
    assert (settled(conversation), person.texts) == (["sent"], ["hi"])


def test_without_the_permission_the_lookup_has_no_effect(page, conversation, emulator, caplog):
    page.permissions.discard("pages_read_engagement")
    emulator.faults.on("timeout_before", times=1)
    tools.queue(conversation)
    with caplog.at_level(logging.WARNING):
        assert settled(conversation) == ["sent"]
    assert "cannot be looked up" in caplog.text
    assert "pages_read_engagement" in caplog.text


@pytest.mark.parametrize("fault", ["unreachable", "timeout_before", "server_error_empty"])
def test_when_meta_cannot_be_asked_it_is_asked_again_later(fault, page, conversation, person, emulator):
    emulator.faults.on("timeout_after", times=1)
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    emulator.faults.on(fault, times=2)
    assert (settled(conversation), person.texts) == (["sent"], ["hi"])


def test_that_meta_has_none_counts_when_it_says_so_again(page, conversation, person, emulator, monkeypatch):
    """Meta may not list a message yet that it has just accepted."""
    told = Client.recent_messages
    asked = []

    def behind(self, psid, **options):
        asked.append(psid)
        found = told(self, psid, **options)
        return found if len(asked) > 1 else [message for message in found if message.from_id == psid]

    monkeypatch.setattr(Client, "recent_messages", behind)
    emulator.faults.on("timeout_after", times=1)
    tools.queue(conversation)
    assert (settled(conversation), person.texts, len(asked)) == (["sent"], ["hi"], 2)


def test_it_is_not_asked_for_ever_and_a_late_echo_settles_it_after_all(
    page, conversation, person, emulator, settings
):
    settings.DJM_WHEN_UNSURE = "park"
    emulator.faults.on("timeout_after", times=1)
    tools.queue(conversation)
    tools.send(bot.get_engine(), conversation)
    emulator.faults.on("unreachable")
    assert settled(conversation, looks=20) == ["unknown"]
    assert settled(conversation, looks=80) == ["parked"]
    (echo,) = (pending.item for pending in emulator.waiting if "message" in pending.item)
    tools.receive(echo)
    tools.handle(bot.get_engine(), conversation)
    assert settled(conversation, looks=2) == ["sent"]


def test_unasked_for_nothing_is_read(conversation, emulator, settings):
    settings.DJM_ECHO_WAIT = 1.5
    emulator.faults.on("timeout_after", times=1)
    tools.queue(conversation)
    assert settled(conversation) == ["sent"]
    assert not [call for call in emulator.calls if "conversations" in call.path]


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_lookup_finds_a_message_if_the_clock_of_the_sender_is_wrong(
    hours, page, conversation, person, emulator, monkeypatch
):
    """Another host, or the same one after its clock was set, reads the messages at Meta."""
    now, shift = timezone.now, datetime.timedelta(hours=hours)
    emulator.faults.on("timeout_after", times=1)
    tools.queue(conversation)
    with monkeypatch.context() as wrong:
        wrong.setattr(timezone, "now", lambda: now() + shift)
        wrong.setattr(models.Attempt._meta.get_field("date_started"), "default", lambda: now() + shift)
        tools.send(bot.get_engine(), conversation)
    assert settled(conversation) == ["sent"]
    assert len(person.received) == 1


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_times_of_an_attempt_are_those_of_the_database(
    hours, conversation, person, emulator, monkeypatch
):
    now, shift = timezone.now, datetime.timedelta(hours=hours)
    tools.queue(conversation)
    with monkeypatch.context() as wrong:
        wrong.setattr(timezone, "now", lambda: now() + shift)
        wrong.setattr(models.Attempt._meta.get_field("date_started"), "default", lambda: now() + shift)
        tools.send(bot.get_engine(), conversation)
    attempt = models.Attempt.objects.get()
    assert attempt.outcome == "accepted"
    for moment in (attempt.date_started, attempt.date_ended):
        assert abs(moment - now()) < abs(shift) / 2
