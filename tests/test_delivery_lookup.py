"""Look-up at Meta of a reply that got neither answer nor echo."""

from __future__ import annotations

import logging

import pytest

from djmessenger import bot, models
from djmessenger.graph.client import Client
from tests import pipeline_tools as tools

pytestmark = pytest.mark.django_db


@pytest.fixture
def person(emulator):
    return tools.someone(emulator)


@pytest.fixture
def made(person):
    return tools.conversation()


@pytest.fixture
def page(emulator, settings):
    settings.DJM_LOOK_UP_UNSURE = True
    settings.DJM_ECHO_WAIT = 1.5
    return emulator.pages[tools.PAGE]


def settled(made, *, looks: int = 50) -> list[str]:
    """Look as often, half a second apart, with no echo on the way; give the fates of the replies."""
    tools.send(bot.get_engine(), made)
    for _ in range(looks):
        tools.pass_time(0.6)
        models.ConversationQueue.objects.wake([made.pk], tools.OUT)
        tools.send(bot.get_engine(), made)
    return list(models.Reply.objects.order_by("id").values_list("state", flat=True))


def test_what_meta_has_is_not_sent_again_though_its_echo_is_lost(page, made, person, emulator):
    emulator.faults.on("timeout_after", times=1)
    reply = tools.queue(made)
    tools.queue(made, "more")
    assert settled(made) == ["sent", "sent"]
    reply.refresh_from_db()
    assert (reply.mid, person.texts) == (person.received[0].mid, ["hi", "more"])


def test_what_meta_has_not_is_sent_again(page, made, person, emulator):
    emulator.faults.on("timeout_before", times=1)
    tools.queue(made)
    assert (settled(made), person.texts) == (["sent"], ["hi"])


def test_files_are_known_by_being_files(page, made, person, emulator):
    emulator.faults.on("timeout_after", times=1)
    image = {"attachment": {"type": "image", "payload": {"url": "https://example.com/a.png"}}}
    models.Reply.objects.queue(made, {"messaging_type": "RESPONSE", "message": image}, type="image")
    assert (settled(made), len(person.received)) == (["sent"], 1)


def test_the_same_words_of_another_reply_or_of_the_person_prove_nothing(page, made, person, emulator):
    tools.queue(made)
    tools.send(bot.get_engine(), made)
    person.says("hi")
    emulator.faults.on("timeout_before", times=1)
    tools.queue(made)
    assert (settled(made), person.texts) == (["sent", "sent"], ["hi", "hi"])


def test_of_several_that_say_it_the_oldest_is_it(page, made, person, emulator):
    emulator.faults.on("timeout_after", times=1)
    reply = tools.queue(made)
    tools.send(bot.get_engine(), made)
    # Staff type the same text in the inbox of the Page.
    bot.get_client().send({"id": made.person_id}, {"messaging_type": "RESPONSE", "message": {"text": "hi"}})
    assert settled(made) == ["sent"]
    reply.refresh_from_db()
    assert (reply.mid, len(person.received)) == (person.received[0].mid, 2)


def test_what_is_told_in_other_words_decides_nothing(page, made, person, emulator, settings):
    settings.DJM_WHEN_UNSURE = "park"
    emulator.faults.on("timeout_after", times=1)
    buttons = [{"type": "postback", "title": "Yes", "payload": "yes"}]
    payload = {"template_type": "button", "text": "Really?", "buttons": buttons}
    message = {"attachment": {"type": "template", "payload": payload}}
    models.Reply.objects.queue(made, {"messaging_type": "RESPONSE", "message": message}, type="template")
    assert settled(made) == ["parked"]


def test_where_no_echoes_come_it_takes_their_place(page, made, person, emulator, monkeypatch):
    monkeypatch.setattr("djmessenger.pipeline.outbox.Outbox._echoes_come", lambda self, page: False)
    emulator.faults.on("timeout_before", times=1)
    tools.queue(made)
    assert (settled(made), person.texts) == (["sent"], ["hi"])


def test_without_the_permission_it_is_as_if_nobody_was_asked(page, made, emulator, caplog):
    page.permissions.discard("pages_read_engagement")
    emulator.faults.on("timeout_before", times=1)
    tools.queue(made)
    with caplog.at_level(logging.WARNING):
        assert settled(made) == ["sent"]
    assert "cannot be looked up" in caplog.text
    assert "pages_read_engagement" in caplog.text


@pytest.mark.parametrize("fault", ["unreachable", "timeout_before", "server_error_empty"])
def test_when_meta_cannot_be_asked_it_is_asked_again_later(fault, page, made, person, emulator):
    emulator.faults.on("timeout_after", times=1)
    tools.queue(made)
    tools.send(bot.get_engine(), made)
    emulator.faults.on(fault, times=2)
    assert (settled(made), person.texts) == (["sent"], ["hi"])


def test_that_meta_has_none_counts_when_it_says_so_again(page, made, person, emulator, monkeypatch):
    """Meta may not list a message yet that it has just accepted."""
    told = Client.recent_messages
    asked = []

    def behind(self, psid, **options):
        asked.append(psid)
        found = told(self, psid, **options)
        return found if len(asked) > 1 else [message for message in found if message.from_id == psid]

    monkeypatch.setattr(Client, "recent_messages", behind)
    emulator.faults.on("timeout_after", times=1)
    tools.queue(made)
    assert (settled(made), person.texts, len(asked)) == (["sent"], ["hi"], 2)


def test_it_is_not_asked_for_ever_and_a_late_echo_settles_it_after_all(
    page, made, person, emulator, settings
):
    settings.DJM_WHEN_UNSURE = "park"
    emulator.faults.on("timeout_after", times=1)
    tools.queue(made)
    tools.send(bot.get_engine(), made)
    emulator.faults.on("unreachable")
    assert settled(made, looks=20) == ["unknown"]
    assert settled(made, looks=80) == ["parked"]
    (echo,) = (pending.item for pending in emulator.waiting if "message" in pending.item)
    tools.receive(echo)
    tools.handle(bot.get_engine(), made)
    assert settled(made, looks=2) == ["sent"]


def test_unasked_for_nothing_is_read(made, emulator, settings):
    settings.DJM_ECHO_WAIT = 1.5
    emulator.faults.on("timeout_after", times=1)
    tools.queue(made)
    assert settled(made) == ["sent"]
    assert not [call for call in emulator.calls if "conversations" in call.path]
