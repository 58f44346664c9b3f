"""Repliers: what becomes a row of the outbox, in whose language, and what is refused before it gets there."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from djmessenger import models, replying
from djmessenger.exceptions import DJMInvalidConfigException, DJMInvalidValueException
from djmessenger.graph.client import Client
from djmessenger.graph.context import bound as bound_client
from djmessenger.graph.errors import NotSent, TokenError
from djmessenger.graph.wire import Request, Response
from djmessenger.models.recording import answering
from djmessenger.outgoing import ButtonTemplate, Image, PostbackButton, QuickReply, Text, Typing
from djmessenger.payload import Payload
from djmessenger.receiving import Message as ReceivedMessage
from djmessenger.receiving import Messaging, Recipient, Sender
from djmessenger.replying import (
    AudioReplier,
    BaseButtonReplier,
    BaseQuickReplyReplier,
    ButtonType,
    CommonReplier,
    DefaultMessageReplier,
    FileReplier,
    ImageReplier,
    MessageReplier,
    MultimediaReplier,
    NotificationType,
    ReplyAction,
    ReplyActionReplier,
    ReplyingType,
    SimpleMessageReplier,
    VideoReplier,
)
from djmessenger.replying.sending import queue
from djmessenger.utils.utils import LocalizedString

PAGE, PERSON = "900", "111"
THANKS = LocalizedString("Thanks", {"zh_TW": "謝謝", "de_DE": "Danke"})
URL = "https://example.com/a"


class ChoicePayload(Payload):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class MyButtons(BaseButtonReplier):
    BUTTONS: ClassVar = {"button 1": URL, "button 2": ChoicePayload("two")}


class MyQuickReplies(BaseQuickReplyReplier):
    QUICK_REPLIES: ClassVar = {
        "qr 1": ChoicePayload("one"),
        LocalizedString("yes", {"de_DE": "ja"}): ChoicePayload("y"),
    }


class Of2016(CommonReplier):
    """A subclass as the document of 2016 describes it."""

    def get_message(self, messaging: Messaging) -> dict[str, Any]:
        return {"text": self.preprocess_outgoing_string(messaging.get_psid(), THANKS)}

    def get_reply_type(self) -> ReplyingType:
        return ReplyingType.SIMPLE_TEXT


class FakeTransport:
    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.error: Exception | None = None

    def send(self, request: Request, /) -> Response:
        if self.error is not None:
            raise self.error
        self.bodies.append(json.loads(request.body))
        return Response(200, {}, b'{"recipient_id": "111"}')


@pytest.fixture
def transport() -> Iterator[FakeTransport]:
    fake = FakeTransport()
    with bound_client(Client("made-up", transport=fake)):
        yield fake


def event(typed: str = "hi", channel: str = "messenger") -> Messaging:
    raw = {"sender": {"id": PERSON}, "recipient": {"id": PAGE}, "timestamp": 1478907792000}
    return Messaging.from_item(
        {**raw, "message": {"mid": "m_1", "text": typed}}, entry_id=PAGE, channel=channel
    )


def speaks(locale: str) -> None:
    models.FBUserProfile.objects.update_or_create(psid=PERSON, defaults={"locale": locale})


def rows() -> list[models.Reply]:
    return list(models.Reply.objects.order_by("id"))


def messages() -> list[dict[str, Any]]:
    return [row.data["message"] for row in rows()]


class TestWords:
    def test_text_on_the_wire_is_what_meta_knows(self) -> None:
        assert ReplyAction.TYPING_ON.json() == "typing_on"
        assert ButtonType.WEB_URL.json() == "web_url"
        assert NotificationType.SILEN_PUSH.wire == NotificationType.SILENT_PUSH.wire == "SILENT_PUSH"
        assert NotificationType.NO_PUSH.wire == "NO_PUSH"
        assert repr(ReplyingType.SENDER_ACTION) == "(ReplyingType) sender_action"
        assert BaseButtonReplier.Button("a", URL).type is ButtonType.WEB_URL
        assert BaseButtonReplier.Button("a", payload="A").type is ButtonType.POSTBACK

    def test_the_documented_path_is_the_name(self) -> None:
        for name in replying.__all__:
            found = getattr(replying, name)
            if isinstance(found, type):
                assert found.__module__ == "djmessenger.replying"


@pytest.mark.django_db
class TestReply:
    def test_a_reply_is_a_row_and_no_call(self, transport: FakeTransport) -> None:
        SimpleMessageReplier(THANKS).reply(event())
        row = rows()[0]
        assert row.data == {"messaging_type": "RESPONSE", "message": {"text": "Thanks"}}
        assert (row.type, row.state, row.status_code, row.recipient_id) == (
            "simple_text",
            "queued",
            None,
            PERSON,
        )
        assert row.conversation is not None
        assert row.conversation.page.page_id == PAGE
        assert transport.bodies == []

    def test_texts_stay_out_of_the_log(
        self,
        transport: FakeTransport,
        caplog: pytest.LogCaptureFixture,
        django_capture_on_commit_callbacks: Any,
    ) -> None:
        caplog.set_level(logging.DEBUG, "djmessenger")
        with django_capture_on_commit_callbacks(execute=True):
            queue(event("my question"), ["my answer", Typing()])
        transport.error = NotSent("refused")
        with django_capture_on_commit_callbacks(execute=True):
            queue(event("my question"), Typing())
        assert caplog.records
        for word in ("my question", "my answer", "made-up"):
            assert word not in caplog.text

    def test_every_reply_has_a_row(self) -> None:
        assert not models.FBUserProfile.objects.exists()
        SimpleMessageReplier("Hi").reply(event())
        SimpleMessageReplier("Hi").reply(event())
        assert len(rows()) == 2
        assert models.Conversation.objects.count() == models.FBUserProfile.objects.count() == 1

    def test_the_bound_conversation_and_row_are_used(self) -> None:
        conversation = models.Conversation.objects.between("901", "112")
        inbox = models.Messaging.objects.create(type="SIMPLE_TEXT", body={}, timestamp=1)
        messaging = event()
        messaging.bind(conversation=conversation, person=conversation.person, row=inbox)
        with answering("greeting"):
            SimpleMessageReplier("Hi").reply(messaging)
        row = rows()[0]
        assert (row.conversation, row.messaging, row.rule) == (conversation, inbox, "greeting")
        assert queue(messaging, "Hi", rule="other")[0].rule == "other"
        assert queue(messaging, "Hi")[0].rule == ""

    def test_a_messaging_built_in_code_is_answered(self) -> None:
        made = Messaging(Sender("5"), Recipient("6"), 1478907792000, message=ReceivedMessage("hi", "m", 1))
        SimpleMessageReplier("Hi").reply(made)
        conversation = rows()[0].conversation
        assert conversation is not None
        assert (conversation.person_id, conversation.page.page_id) == ("5", "6")
        assert made.conversation == conversation

    @override_settings(DJM_PAGE_ID="900")
    def test_the_setting_names_the_page_if_the_event_does_not(self) -> None:
        SimpleMessageReplier("Hi").reply(Messaging(Sender("5"), None, 1478907792000))
        conversation = rows()[0].conversation
        assert conversation is not None
        assert conversation.page.page_id == "900"

    @pytest.mark.parametrize(("sender", "named"), [(Sender("5"), "Page"), (None, "person")])
    def test_an_event_without_a_sender_cannot_be_answered(self, sender: Sender | None, named: str) -> None:
        with pytest.raises(DJMInvalidValueException, match=named):
            SimpleMessageReplier("Hi").reply(Messaging(sender, None, 1478907792000))

    def test_a_subclass_of_2016_works_unchanged(self) -> None:
        speaks("zh_TW")
        Of2016().reply(event())
        assert messages() == [{"text": "謝謝"}]

    @pytest.mark.parametrize("wrong", [None, {}, "text", []])
    def test_a_value_that_is_no_message_is_refused(self, wrong: Any) -> None:
        class Wrong(Of2016):
            def get_message(self, messaging: Messaging) -> dict[str, Any]:
                found: dict[str, Any] = wrong
                return found

        with pytest.raises(DJMInvalidConfigException, match="must return a dict"):
            Wrong().reply(event())

    def test_parents_are_abstract(self) -> None:
        with pytest.raises(TypeError):
            CommonReplier()  # type: ignore[abstract]

    @pytest.mark.parametrize(
        ("told", "expected"),
        [
            ("SILEN_PUSH", "SILENT_PUSH"),
            ("SILENT_PUSH", "SILENT_PUSH"),
            ("NO_PUSH", "NO_PUSH"),
            ("REGULAR", None),
        ],
    )
    def test_notification_type_of_a_policy(self, told: str, expected: str | None) -> None:
        arguments = {"localized_string": "Hi", "notification_type": told}
        SimpleMessageReplier.deserialize(arguments).reply(event())
        assert rows()[0].data.get("notification_type") == expected
        assert CommonReplier.notification_type is NotificationType.REGULAR

    def test_an_unknown_notification_type_is_refused(self) -> None:
        with pytest.raises(DJMInvalidConfigException, match="SHOUT"):
            SimpleMessageReplier.deserialize({"localized_string": "Hi", "notification_type": "SHOUT"}).reply(
                event()
            )

    def test_sender_action_and_message_never_share_a_call(
        self, transport: FakeTransport, django_capture_on_commit_callbacks: Any
    ) -> None:
        class Typed(SimpleMessageReplier):
            sender_action = ReplyAction.TYPING_ON

        with django_capture_on_commit_callbacks(execute=True):
            Typed("Hi").reply(event())
        assert transport.bodies == [{"recipient": {"id": PERSON}, "sender_action": "typing_on"}]
        assert set(rows()[0].data) == {"messaging_type", "message"}

    @given(st.text(st.sampled_from("ab 😀ß\n"), max_size=5000))
    def test_a_text_over_the_limit_becomes_several_rows(self, typed: str) -> None:
        if not typed.strip():
            return
        models.Reply.objects.all().delete()
        SimpleMessageReplier(typed).reply(event())
        texts = [message["text"] for message in messages()]
        assert all(len(text.encode("utf-16-le")) // 2 <= 2000 for text in texts)
        assert "".join("".join(texts).split()) == "".join(typed.split())

    def test_instagram_counts_bytes(self) -> None:
        SimpleMessageReplier("謝" * 400).reply(event(channel="instagram"))
        assert [len(message["text"]) for message in messages()] == [333, 67]


@pytest.mark.django_db
class TestLanguage:
    @pytest.mark.parametrize(
        ("locale", "expected"),
        [("zh_TW", "謝謝"), ("de_DE", "Danke"), ("", "Thanks"), ("xx_YY", "Thanks"), ("fr_FR", "Thanks")],
    )
    def test_an_absent_or_unknown_locale_gets_the_base_text(self, locale: str, expected: str) -> None:
        speaks(locale)
        assert CommonReplier.preprocess_outgoing_string(PERSON, THANKS) == expected
        SimpleMessageReplier(THANKS).reply(event())
        queue(event(), Text(THANKS))
        assert messages() == [{"text": expected}] * 2

    def test_an_unknown_person_gets_the_base_text(self) -> None:
        assert CommonReplier.preprocess_outgoing_string("nobody", THANKS) == "Thanks"

    def test_gettext_lazy_is_rendered_for_the_person(self) -> None:
        speaks("de_AT")
        assert CommonReplier.preprocess_outgoing_string(PERSON, gettext_lazy("Monday")) == "Montag"
        queue(event(), gettext_lazy("Monday"))
        assert messages() == [{"text": "Montag"}]
        speaks("")
        assert CommonReplier.preprocess_outgoing_string(PERSON, gettext_lazy("Monday")) == "Monday"

    def test_a_bound_person_is_not_read_again(self) -> None:
        conversation = models.Conversation.objects.between(PAGE, PERSON)
        conversation.person.locale = "de_DE"
        messaging = event()
        messaging.bind(conversation=conversation, person=conversation.person)
        with CaptureQueriesContext(connection) as queries:
            MyQuickReplies(THANKS).reply(messaging)
        table = f'FROM "{models.FBUserProfile._meta.db_table}"'
        assert not [query for query in queries if table in query["sql"]]
        assert messages()[0]["text"] == "Danke"
        assert messages()[0]["quick_replies"][1]["title"] == "ja"

    def test_the_prefix_is_read_live_and_stands_on_every_text_and_no_title(self) -> None:
        repliers = [
            SimpleMessageReplier("Hi"),
            MyButtons("Hi"),
            MyQuickReplies("Hi"),
            MessageReplier(Text("Hi")),
        ]
        with override_settings(DJM_BOT_PREFIX="Bot: "):
            for replier in repliers:
                replier.reply(event())
            queue(event(), [ButtonTemplate("Hi", [PostbackButton("a", "A")]), "Hi"])
            assert CommonReplier.preprocess_outgoing_string(PERSON, "Hi", add_prefix=False) == "Hi"
        for message in messages():
            text = message["text"] if "text" in message else message["attachment"]["payload"]["text"]
            assert text == "Bot: Hi"
        assert messages()[2]["quick_replies"][0]["title"] == "qr 1"
        SimpleMessageReplier("Hi").reply(event())
        assert messages()[-1] == {"text": "Hi"}

    def test_the_default_text_is_read_live(self) -> None:
        replier = DefaultMessageReplier.deserialize({})
        with override_settings(DJM_DEFAULT_SENDER_TEXT="We will be back"):
            replier.reply(event())
        DefaultMessageReplier().reply(event())
        assert messages() == [{"text": "We will be back"}, {"text": "Thanks for your message"}]


@pytest.mark.django_db
class TestMedia:
    @pytest.mark.parametrize(
        ("cls", "kind"),
        [(ImageReplier, "image"), (AudioReplier, "audio"), (VideoReplier, "video"), (FileReplier, "file")],
    )
    def test_media(self, cls: type[MultimediaReplier], kind: str) -> None:
        cls(URL).reply(event())
        assert messages() == [{"attachment": {"type": kind, "payload": {"url": URL}}}]
        assert rows()[0].type == kind
        assert cls.deserialize({"url": URL}) == cls(URL)

    @pytest.mark.parametrize("url", ["javascript:alert(1)", "", "example.com/a.png", "file:///etc/passwd"])
    def test_a_value_that_is_no_address_is_refused_at_once(self, url: str) -> None:
        with pytest.raises(DJMInvalidConfigException):
            ImageReplier(url)

    def test_a_kind_has_to_be_said(self) -> None:
        assert MultimediaReplier.sending_type is None
        with pytest.raises(DJMInvalidConfigException):
            MultimediaReplier(URL).reply(event())
        with pytest.raises(DJMInvalidConfigException):
            MultimediaReplier(URL).get_reply_type()


@pytest.mark.django_db
class TestButtons:
    EXPECTED: ClassVar = [
        {"type": "web_url", "title": "button 1", "url": URL},
        {"type": "postback", "title": "button 2", "payload": ChoicePayload("two").serialize()},
    ]

    @pytest.mark.parametrize(
        "replier",
        [
            MyButtons(THANKS),
            MyButtons.deserialize({"localized_string": {"base_string": "Thanks", "translations": {}}}),
            MyButtons.deserialize({"localized_string": "Thanks"}),
        ],
    )
    def test_buttons_count_after_the_constructor_and_after_deserialize(self, replier: MyButtons) -> None:
        replier.reply(event())
        payload = {"template_type": "button", "text": "Thanks", "buttons": self.EXPECTED}
        assert messages() == [{"attachment": {"type": "template", "payload": payload}}]
        assert rows()[0].type == "button"

    def test_add_button_adds_to_this_one_alone(self) -> None:
        replier = MyButtons(THANKS)
        replier.add_button("more", payload=ChoicePayload("three"))
        assert len(replier.get_message(event())["attachment"]["payload"]["buttons"]) == 3
        with pytest.raises(DJMInvalidConfigException, match="at most 3"):
            replier.add_button("too many", URL)
        assert len(replier.get_message(event())["attachment"]["payload"]["buttons"]) == 3
        assert len(MyButtons(THANKS).get_message(event())["attachment"]["payload"]["buttons"]) == 2

    def test_a_subclass_may_lower_the_limit(self) -> None:
        class One(MyButtons):
            LIMIT = 1

        with pytest.raises(DJMInvalidConfigException, match="at most 1"):
            One(THANKS)
        with pytest.raises(DJMInvalidConfigException, match="at most 1"):
            MyButtons.deserialize({"localized_string": "Hi", "LIMIT": 1}).reply(event())

    def test_no_subclass_may_raise_it_over_what_meta_takes(self) -> None:
        class Many(BaseButtonReplier):
            LIMIT = 5
            BUTTONS: ClassVar = {f"button {number}": URL for number in range(4)}

        with pytest.raises(DJMInvalidConfigException, match="at most 3"):
            Many(THANKS)
        with override_settings(DJM_RULEBOOK={"buttons.count": 4}):
            assert Many(THANKS).get_message(event())

    def test_an_oversized_payload_is_refused(self) -> None:
        fits = ChoicePayload("x" * (1000 - len(ChoicePayload("").serialize())))
        assert fits.is_valid()
        BaseButtonReplier("Hi").add_button("a", payload=fits)
        with pytest.raises(DJMInvalidConfigException, match="1001 characters, at most 1000"):
            BaseButtonReplier("Hi").add_button("a", payload=ChoicePayload(fits.text + "x"))

    @pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "no address"])
    def test_button_urls_are_validated(self, url: str) -> None:
        with pytest.raises(DJMInvalidConfigException, match="not a URL"):
            BaseButtonReplier("Hi").add_button("a", url)

    @pytest.mark.parametrize(
        "arguments",
        [{}, {"url": URL, "payload": "A"}, {"payload": 3}, {"payload": {"text": "a"}}, {"payload": ""}],
    )
    def test_a_button_has_one_purpose(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(DJMInvalidConfigException):
            BaseButtonReplier("Hi").add_button("a", **arguments)

    def test_titles_have_a_limit(self) -> None:
        with pytest.raises(DJMInvalidConfigException, match="21 characters, at most 20"):
            BaseButtonReplier("Hi").add_button("x" * 21, URL)

    def test_without_buttons_there_is_no_template(self) -> None:
        with pytest.raises(DJMInvalidConfigException, match="has no choices"):
            BaseButtonReplier("Hi").reply(event())

    def test_the_text_above_has_a_limit_prefix_included(self) -> None:
        MyButtons("x" * 640).reply(event())
        with override_settings(DJM_BOT_PREFIX="!"), pytest.raises(DJMInvalidConfigException, match="640"):
            MyButtons("x" * 640).reply(event())

    def test_a_subclass_of_2016_with_its_own_constructor(self) -> None:
        class Own(BaseButtonReplier):
            def __init__(self) -> None:
                self.localized_string = THANKS
                self.BUTTONS = {"only": URL}

        replier = Own()
        replier.add_button("more", payload="MORE")
        assert len(replier.get_message(event())["attachment"]["payload"]["buttons"]) == 2
        assert Own.BUTTONS == {}


@pytest.mark.django_db
class TestQuickReplies:
    @pytest.mark.parametrize(
        "replier", [MyQuickReplies("Hi"), MyQuickReplies.deserialize({"localized_string": "Hi"})]
    )
    def test_quick_replies_count_after_the_constructor_and_after_deserialize(
        self, replier: MyQuickReplies
    ) -> None:
        replier.reply(event())
        assert messages()[0]["text"] == "Hi"
        assert messages()[0]["quick_replies"][0] == {
            "content_type": "text",
            "title": "qr 1",
            "payload": ChoicePayload("one").serialize(),
        }
        assert rows()[0].type == "quick_reply"

    def test_ten_unless_a_subclass_says_otherwise(self) -> None:
        class More(BaseQuickReplyReplier):
            LIMIT = 13

        for cls, most in ((BaseQuickReplyReplier, 10), (More, 13)):
            replier = cls("Hi")
            for number in range(most):
                replier.add_quick_reply(f"qr {number}", ChoicePayload(str(number)))
            assert len(replier.get_message(event())["quick_replies"]) == most
            with pytest.raises(DJMInvalidConfigException, match=f"at most {most}"):
                replier.add_quick_reply("one more", ChoicePayload("more"))

    @pytest.mark.parametrize("payload", [None, 3, {"text": "a"}, ChoicePayload("x" * 1000)])
    def test_the_payload_must_be_a_payload_that_fits(self, payload: Any) -> None:
        with pytest.raises(DJMInvalidConfigException):
            BaseQuickReplyReplier("Hi").add_quick_reply("a", payload)

    def test_below_a_long_text_they_stand_with_the_last_part(self) -> None:
        MyQuickReplies("word " * 500).reply(event())
        assert ["quick_replies" in message for message in messages()] == [False, True]

    def test_a_message_without_text_or_with_an_attachment_is_not_split(self) -> None:
        given = [{"attachment": {"type": "like_heart"}}, {"attachment": {}, "text": "word " * 500}, {"a": 1}]

        class Whole(Of2016):
            def get_message(self, messaging: Messaging) -> dict[str, Any]:
                found: dict[str, Any] = given[len(rows())]
                return found

        for _ in given:
            Whole().reply(event())
        assert messages() == given

    def test_other_keys_of_a_message_of_2016_with_a_long_text_stay(self) -> None:
        class Long(Of2016):
            def get_message(self, messaging: Messaging) -> dict[str, Any]:
                return {"text": "word " * 500, "metadata": "mine"}

        Long().reply(event())
        assert [message.get("metadata") for message in messages()] == [None, "mine"]


@pytest.mark.django_db
class TestSenderActions:
    @pytest.mark.parametrize(
        "replier",
        [
            ReplyActionReplier(ReplyAction.TYPING_ON),
            ReplyActionReplier("typing_on"),
            ReplyActionReplier.deserialize({"action": "TYPING_ON"}),
        ],
    )
    def test_an_action_is_sent_once_and_never_queued(
        self, replier: ReplyActionReplier, transport: FakeTransport, django_capture_on_commit_callbacks: Any
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            replier.reply(event())
        assert transport.bodies == [{"recipient": {"id": PERSON}, "sender_action": "typing_on"}]
        assert rows() == []
        assert replier.get_message(event()) == {"sender_action": "typing_on"}
        assert replier.get_reply_type() is ReplyingType.SENDER_ACTION
        assert replier.json() == {"action": "typing_on"}

    @pytest.mark.parametrize("wrong", ["dance", None, ""])
    def test_an_unknown_action_is_refused(self, wrong: Any) -> None:
        with pytest.raises(DJMInvalidConfigException):
            ReplyActionReplier(wrong)

    @pytest.mark.parametrize("error", [NotSent("refused"), TokenError("no"), OSError("broken")])
    def test_a_failure_is_logged_and_harmless(
        self,
        error: Exception,
        transport: FakeTransport,
        caplog: pytest.LogCaptureFixture,
        django_capture_on_commit_callbacks: Any,
    ) -> None:
        transport.error = error
        with django_capture_on_commit_callbacks(execute=True):
            ReplyActionReplier("mark_seen").reply(event())
        record = next(record for record in caplog.records if record.name == "djmessenger.replying")
        assert record.__dict__["action"] == "sender_action_failed"

    def test_without_a_client_or_a_person_it_is_logged(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("djmessenger.graph.context._default", None)
        ReplyActionReplier("mark_seen").reply(event())
        ReplyActionReplier("mark_seen").reply(Messaging(None, None, 1478907792000))
        assert [record.__dict__["action"] for record in caplog.records] == ["sender_action_failed"] * 2


@pytest.mark.django_db(transaction=True)
class TestTransactions:
    def test_no_transaction_waits_for_graph(self, transport: FakeTransport) -> None:
        ReplyActionReplier("typing_on").reply(event())
        assert len(transport.bodies) == 1
        with transaction.atomic():
            ReplyActionReplier("typing_on").reply(event())
            assert len(transport.bodies) == 1
        assert len(transport.bodies) == 2

    def test_a_reply_that_is_rolled_back_is_not_sent(self, transport: FakeTransport) -> None:
        with transaction.atomic():
            queue(event(), ["Hi", Typing()])
            transaction.set_rollback(True)
        assert rows() == []
        assert transport.bodies == []


@pytest.mark.django_db
class TestMessages:
    def test_queue_takes_what_a_rule_may_answer(
        self, transport: FakeTransport, django_capture_on_commit_callbacks: Any
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            made = queue(event(), ["Hi", Typing(), Image(URL), {"type": "text", "text": "data"}])
        assert [row.type for row in made] == ["simple_text", "image", "simple_text"]
        assert made == rows()
        assert [body["sender_action"] for body in transport.bodies] == ["typing_on"]
        assert queue(event(), None) == []
        with pytest.raises(TypeError):
            queue(event(), 3)

    def test_message_replier(self) -> None:
        replier = MessageReplier(Text(THANKS, quick_replies=[QuickReply("Order", "ORDER")]))
        speaks("de_DE")
        replier.reply(event())
        assert messages() == [replier.get_message(event())]
        assert messages()[0]["text"] == "Danke"
        with override_settings(DJM_BOT_PREFIX="Bot: "):
            message = replier.get_message(event())
        assert (message["text"], message["quick_replies"][0]["title"]) == ("Bot: Danke", "Order")
        assert replier.get_reply_type() is ReplyingType.SIMPLE_TEXT
        assert "ORDER" in repr(replier)
        assert replier != MessageReplier("Danke")

    @pytest.mark.parametrize(
        "data", [{"type": "simple_text", "text": "Hi"}, "Hi", [{"type": "image", "url": URL}, "Hi"]]
    )
    def test_plain_data_of_a_policy(self, data: Any) -> None:
        replier = MessageReplier.deserialize({"message": data})
        replier.reply(event())
        assert messages()[-1] == {"text": "Hi"}
        assert replier.json() == {"message": data}

    def test_a_sender_action_has_no_message(self) -> None:
        assert MessageReplier(Typing()).get_message(event()) == {"sender_action": "typing_on"}

    @pytest.mark.parametrize("wrong", [None, [], {"type": "nothing"}, {"type": "text", "text": ""}])
    def test_a_wrong_message_fails_at_construction(self, wrong: Any) -> None:
        with pytest.raises((DJMInvalidConfigException, TypeError)):
            MessageReplier(wrong)

    @pytest.mark.parametrize(
        "arguments", [{}, {"localised_string": "Hi"}, {"localized_string": "Hi", "get_message": 1}]
    )
    def test_wrong_arguments_of_a_policy_are_refused(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(DJMInvalidConfigException):
            SimpleMessageReplier.deserialize(arguments)
