"""Writing to a person from anywhere, and what was said so far."""

from __future__ import annotations

import datetime

import pytest
from django.db import transaction
from django.utils.translation import gettext_lazy

from djmessenger import models
from djmessenger.exceptions import DJMInvalidConfigException, DJMInvalidValueException
from djmessenger.models import history
from djmessenger.models.recording import answering
from djmessenger.outgoing import (
    ButtonTemplate,
    Element,
    GenericTemplate,
    Image,
    PostbackButton,
    QuickReply,
    Text,
    Typing,
)
from djmessenger.utils.utils import LocalizedString


@pytest.fixture
def person(db):
    page = models.Page.objects.create(page_id="1")
    return models.FBUserProfile.objects.create(psid="2", page=page, locale="de_DE")


def texts(rows):
    return [row.data["message"]["text"] for row in rows]


class TestSending:
    def test_in_the_language_of_the_person_and_after_the_prefix(self, person, settings):
        settings.DJM_BOT_PREFIX = LocalizedString("Bot: ", {"de_DE": "Automat: "})
        rows = person.send([gettext_lazy("Monday"), LocalizedString("Hi", {"de_DE": "Servus"}), "as it is"])
        assert texts(rows) == ["Automat: Montag", "Automat: Servus", "Automat: as it is"]

    def test_rows_wait_in_the_outbox_of_the_conversation(self, person):
        (row,) = person.send(Text("Hi"), rule="shipping")
        assert (row.state, row.rule, row.type, row.messaging) == ("queued", "shipping", "simple_text", None)
        assert row.conversation == models.Conversation.objects.get()
        assert models.ConversationQueue.objects.get(kind="out").ready_at is not None

    def test_the_conversation_is_the_one_that_is_there(self, person):
        conversation = models.Conversation.objects.between("1", "2")
        assert person.send("Hi")[0].conversation == conversation
        assert conversation.send("Hi")[0].conversation == conversation

    def test_a_long_text_is_several_rows(self, person):
        rows = person.send("word " * 900)
        assert len(rows) == 3

    def test_nothing_gives_nothing(self, person):
        assert person.send(None) == []
        assert person.send([]) == []

    def test_a_rollback_takes_it_back(self, person):
        with transaction.atomic():
            person.send("Hi")
            transaction.set_rollback(True)
        assert not models.Reply.objects.exists()

    def test_outside_a_transaction_it_goes_at_once(self, person, emulator, transactional_db):
        emulator.enforce_window = False
        page = next(iter(emulator.pages.values()))
        person = models.FBUserProfile.objects.create(
            psid="77", page=models.Page.objects.create(page_id=page.id), locale="de_DE"
        )
        ana = emulator.add_person(page, person_id="77")
        (row,) = person.send("Hi")
        row.refresh_from_db()
        assert (row.state, ana.texts) == ("sent", ["Hi"])

    def test_within_a_rule_it_bears_the_rules_name_and_counts(self, person):
        with answering("greet") as rows:
            sent = person.send("Hi")
        assert rows == sent
        assert sent[0].rule == "greet"

    def test_a_list_with_a_message_that_meta_would_refuse_is_refused_whole(self, person):
        with pytest.raises(DJMInvalidConfigException):
            person.send(["fine", Text("Hi", quick_replies=[QuickReply("x" * 21, "X")])])
        assert not models.Reply.objects.exists()

    def test_a_sender_action_cannot_wait(self, person):
        with pytest.raises(DJMInvalidValueException, match="cannot be queued"):
            person.send(["fine", Typing()])
        assert not models.Reply.objects.exists()

    def test_a_person_of_no_page(self, db):
        person = models.FBUserProfile.objects.create(psid="3")
        with pytest.raises(DJMInvalidValueException, match="belongs to no Page"):
            person.send("Hi")


class TestHistory:
    def test_within_a_millisecond_our_own_clock_tells_what_was_first(self, messenger):
        ana = messenger.person()
        ana.says("hi")
        conversation = ana.row.conversations.get()
        models.Messaging.objects.all().delete()
        models.Reply.objects.all().delete()
        at = datetime.datetime(2026, 11, 28, 12, 0, 0, 123000, tzinfo=datetime.UTC)
        for number in range(4):
            when = at + datetime.timedelta(microseconds=100 * number)
            if number % 2:
                words = {"message": {"text": f"bot {number}"}}
                shared = {"recipient": ana.row, "type": "text", "state": "sent"}
                models.Reply.objects.create(conversation=conversation, data=words, date_sent=when, **shared)
            else:
                models.Messaging.objects.create(
                    type="SIMPLE_TEXT",
                    body={"message": {"text": f"person {number}"}},
                    conversation=conversation,
                    timestamp=round(at.timestamp() * 1000),
                    date_received=when,
                    state="done",
                )
        said = [line.text for line in conversation.history()]
        assert said == ["person 0", "bot 1", "person 2", "bot 3"]

    def test_both_sides_oldest_first(self, messenger):
        ana = messenger.person(locale="de_DE")
        ana.says("hi")
        ana.sees("Hi you, too!")
        ana.row.send(Text("Well?", quick_replies=[QuickReply("Yes", "YES")]))
        ana.taps("Yes")
        ana.sends_image()
        lines = ana.row.history()
        assert [(line.who, line.text) for line in lines] == [
            ("person", "hi"),
            ("bot", "Hi you, too!"),
            ("bot", "Well? [Yes]"),
            ("person", "Yes"),
            ("person", "[image]"),
        ]
        moments = [line.when for line in lines]
        assert moments == sorted(moments)
        assert all(isinstance(moment, datetime.datetime) and moment.tzinfo for moment in moments)

    def test_the_last_lines_only(self, messenger):
        ana = messenger.person()
        for text in ("one", "two", "three"):
            ana.says(text)
        assert [line.text for line in ana.row.history(2)] == ["two", "three"]
        assert ana.row.history(0) == []

    def test_taps_on_buttons_are_words_too(self, messenger):
        ana = messenger.person()
        ana.gets_started()
        ana.row.send(ButtonTemplate("Sure?", [PostbackButton("Of course", "YES")]))
        messenger.run()
        ana.taps("Of course")
        assert [line.text for line in ana.row.history()] == ["Get Started", "Sure? [Of course]", "Of course"]

    def test_a_reply_that_was_never_sent_is_not_in_the_history(self, messenger):
        ana = messenger.person()
        with messenger.fault("blocked"):
            ana.says("hi")
        assert [line.text for line in ana.row.history()] == ["hi"]

    def test_a_person_who_never_wrote_has_none(self, person):
        assert person.history() == []

    def test_messages_of_staff_from_the_page_are_marked(self, messenger):
        ana = messenger.person()
        messenger.report(echoes=True, deliveries=False, reads=False)
        ana.says("hi")
        page = {"id": messenger.page.id}
        told = {"mid": "m_staff", "text": "Ana, this is Eva.", "is_echo": True, "app_id": 263902037430900}
        now = int(messenger.emulator.clock() * 1000)
        item = {"sender": page, "recipient": {"id": ana.psid}, "timestamp": now, "message": told}
        messenger.posts({"object": "page", "entry": [{"id": page["id"], "time": now, "messaging": [item]}]})
        assert [(line.who, line.text) for line in ana.row.history()] == [
            ("person", "hi"),
            ("bot", "Hi you, too!"),
            ("staff", "Ana, this is Eva."),
        ]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (Text("Hi"), "Hi"),
        (
            GenericTemplate([Element("Espresso", subtitle="black"), Element("Chai", subtitle="milk")]),
            "Espresso, Chai",
        ),
        (Image("https://example.com/cup.jpg"), "[image]"),
    ],
)
def test_words_of_a_reply(message, words):
    assert history.text_of_reply(message.requests()[0]) == words
