"""Common parts of messages: languages, channels, files, and the parameters beside the message."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.utils import translation
from django.utils.functional import lazy

from djmessenger import outgoing as o
from djmessenger.exceptions import (
    DJMInvalidConfigException,
    DJMInvalidValueException,
    HasEnded,
    InvalidField,
    LimitExceeded,
)
from djmessenger.outgoing.attachments import pending_file, with_attachment_id
from djmessenger.payload import Payload
from djmessenger.utils.utils import LocalizedString
from tests.test_outgoing_golden import GOLDEN, URL, message_of


@pytest.mark.parametrize(
    ("message", "channel", "body"),
    [
        (o.SenderAction("typing_on"), "messenger", {"sender_action": "typing_on"}),
        (o.SenderAction("mark_seen"), "messenger", {"sender_action": "mark_seen"}),
        (o.Typing(), "messenger", {"sender_action": "typing_on"}),
        (o.Typing(on=False), "instagram", {"sender_action": "typing_off"}),
        (
            o.Reaction("m_1", "\U0001f44d\U0001f3fd"),
            "messenger",
            {"sender_action": "react", "payload": {"message_id": "m_1", "reaction": "\U0001f44d\U0001f3fd"}},
        ),
        (
            o.Reaction("m_1"),
            "instagram",
            {"sender_action": "react", "payload": {"message_id": "m_1", "reaction": "love"}},
        ),
        (o.Reaction("m_1", ""), "messenger", {"sender_action": "unreact", "payload": {"message_id": "m_1"}}),
    ],
)
def test_actions(message: o.OutgoingMessage, channel: str, body: dict[str, Any]) -> None:
    assert message.requests(channel=channel) == [body]


def test_everything_beside_the_message() -> None:
    (body,) = o.Text(
        "Hi",
        notification_type="SILENT_PUSH",
        persona_id="9",
        reply_to="m_1",
        metadata="mine",
        thread_control=o.ThreadControl("pass", "263902037430900"),
    ).requests()
    assert body == {
        "messaging_type": "RESPONSE",
        "message": {"text": "Hi", "metadata": "mine"},
        "notification_type": "SILENT_PUSH",
        "persona_id": "9",
        "reply_to": {"mid": "m_1"},
        "thread_control": {"control_type": "pass", "app_id": "263902037430900"},
    }


def test_messaging_types() -> None:
    assert o.Text("Hi", messaging_type="UPDATE").requests()[0]["messaging_type"] == "UPDATE"
    (body,) = o.Text("Hi", tag="HUMAN_AGENT", by_staff=True).requests()
    assert (body["messaging_type"], body["tag"]) == ("MESSAGE_TAG", "HUMAN_AGENT")
    assert GOLDEN[-1][0].requests()[0]["messaging_type"] == "UTILITY"


def test_the_documented_spelling_of_silent_push_is_sent_as_meta_knows_it() -> None:
    assert o.Text("Hi", notification_type="SILEN_PUSH").requests()[0]["notification_type"] == "SILENT_PUSH"


def test_instagram() -> None:
    assert message_of(o.Sticker("like_heart"), "instagram") == {"attachment": {"type": "like_heart"}}
    assert "persona_id" not in o.Text("Hi", persona_id="9").requests(channel="instagram")[0]
    for message in (*[golden for golden, _ in GOLDEN], o.Sticker("like_heart")):
        if message.kind in {
            "media", "receipt", "coupon", "customer_feedback", "customer_information", "image_grid",
            "instant_form", "utility",
        }:  # fmt: skip
            with pytest.raises(InvalidField, match="instagram"):
                message.requests(channel="instagram")
    with pytest.raises(InvalidField, match="messenger only"):
        o.Sticker(1).requests(channel="instagram")
    with pytest.raises(InvalidField, match="instagram only"):
        o.Sticker("like_heart").requests()
    for asks in (o.PhoneQuickReply(), o.EmailQuickReply()):
        message = o.Text("Where do you live?", quick_replies=[asks])
        assert message.requests()
        with pytest.raises(HasEnded, match=r"quick_replies\[0\].*2026-10-05"):
            message.requests(channel="instagram")
    with pytest.raises(InvalidField, match="heart"):
        o.Reaction("m_1", "\U0001f44d").requests(channel="instagram")
    with pytest.raises(InvalidField, match=r"elements\[0\]\.buttons"):
        o.GenericTemplate([o.Element("a", buttons=[o.CallButton("b", "+15105551234")])]).requests(
            channel="instagram"
        )


def test_texts_are_rendered_in_the_language_of_the_person_and_nowhere_else() -> None:
    hello = LocalizedString("Hello", {"de_DE": "Hallo"})
    message = o.ButtonTemplate(
        hello, [o.PostbackButton(hello, "HI")], quick_replies=[o.QuickReply(hello, "HI")]
    )

    def german(text: Any) -> str:
        return text.get_text_by_locale("de_DE") if isinstance(text, LocalizedString) else str(text)

    rendered = message.requests(german)[0]["message"]
    assert rendered["attachment"]["payload"]["text"] == "Hallo"
    assert rendered["attachment"]["payload"]["buttons"][0]["title"] == "Hallo"
    assert rendered["quick_replies"][0]["title"] == "Hallo"
    assert message.requests()[0]["message"]["attachment"]["payload"]["text"] == "Hello"


def test_a_lazy_text_is_not_asked_before_it_is_rendered() -> None:
    def answer() -> str:
        return translation.get_language() or asked.append(1) or ""  # type: ignore[func-returns-value]

    asked: list[int] = []
    text = lazy(answer, str)()
    with translation.override("de"):
        message = o.GenericTemplate([o.Element(text, text, buttons=[o.PostbackButton(text, "A")])])
        feedback = o.CustomerFeedback(text, o.Question("q", "nps", "A question", follow_up=text), URL)
    with translation.override(None):
        o.GridImage(URL, payload="A", text=text)
        o.CouponTemplate(text, coupon_code="A")
        o.Text(text)
    assert asked == []
    with translation.override("pt-br"):
        assert message_of(message)["attachment"]["payload"]["elements"][0]["title"] == "pt-br"
        assert message_of(feedback)["attachment"]["payload"]["title"] == "pt-br"


def test_a_lazy_text_too_long_in_one_language_fails_in_that_one_alone() -> None:
    message = o.ButtonTemplate("a", [o.PostbackButton(LocalizedString("Order", {"de_DE": "B" * 21}), "A")])
    message.requests()
    with pytest.raises(LimitExceeded, match=r"attachment|buttons\[0\]\.title"):
        message.requests(
            lambda text: text.get_text_by_locale("de_DE") if hasattr(text, "base_string") else str(text)
        )


def test_the_prefix_stands_before_what_the_bot_says_alone() -> None:
    assert o.Text("Hi").requests(prefix="Bot: ")[0]["message"]["text"] == "Bot: Hi"
    button = o.ButtonTemplate("Hi", [o.PostbackButton("Go", "GO")]).requests(prefix="Bot: ")[0]["message"]
    assert button["attachment"]["payload"]["text"] == "Bot: Hi"
    assert button["attachment"]["payload"]["buttons"][0]["title"] == "Go"
    long = o.Text("word " * 800).requests(prefix="Bot: ")
    assert [body["message"]["text"].startswith("Bot: ") for body in long] == [True, False, False]


def test_a_payload_object_travels_serialized() -> None:
    class Order(Payload):
        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

    order = Order(7)
    button = message_of(o.ButtonTemplate("a", [o.PostbackButton("b", order)]))
    assert button["attachment"]["payload"]["buttons"][0]["payload"] == order.serialize()


def test_a_file_of_this_machine_is_uploaded_by_the_sender(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(b"picture")
    (body,) = o.Image(path=path, metadata="mine").requests()
    pending = pending_file(body)
    assert pending == o.LocalFile(path, "image", "image/png")
    sent = with_attachment_id(body, "55")
    assert sent["message"] == {
        "attachment": {"type": "image", "payload": {"attachment_id": "55"}},
        "metadata": "mine",
    }
    assert pending_file(sent) is None
    assert pending_file(body) == pending
    assert pending_file({"sender_action": "typing_on"}) is None


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.unknown", "a.wav"])
def test_a_sound_is_uploaded_as_a_sound(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"sound")
    pending = pending_file(o.Audio(path=tmp_path / name).requests()[0])
    assert pending is not None
    assert pending.content_type.startswith("audio/")


def test_a_file_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for path in (tmp_path / "none", tmp_path / "empty", tmp_path):
        with pytest.raises(InvalidField, match="path"):
            o.File(path=path).requests()


def test_messages_are_values() -> None:
    one = o.Text("Hi", quick_replies=[o.QuickReply("a", "b")])
    assert one == o.Text("Hi", quick_replies=(o.QuickReply("a", "b"),))
    assert hash(one) == hash(dataclasses.replace(one))
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.text = "Ho"  # type: ignore[misc]


def test_characters_that_postgresql_and_utf8_cannot_store_are_replaced() -> None:
    assert message_of(o.Text("a\0b\ud800c\ud83d\ude00")) == {"text": "a\ufffdb\ufffdc\U0001f600"}


def test_errors_are_of_both_documented_kinds() -> None:
    with pytest.raises(DJMInvalidValueException) as caught:
        o.PostbackButton("x" * 21, "A")
    assert isinstance(caught.value, DJMInvalidConfigException)


def test_works_without_django_configured() -> None:
    code = (
        "from djmessenger.outgoing import *\n"
        "from djmessenger.outgoing.data import from_data\n"
        "from djmessenger.operations import profile_properties\n"
        "assert len(Text('word ' * 500, quick_replies=[QuickReply('a', 'b')]).requests()) == 2\n"
        "from_data({'type': 'text', 'text': {'base_string': 'a'}}).requests()\n"
        "profile_properties.greeting({'default': 'Hi'})\n"
        "from django.conf import settings\n"
        "assert not settings.configured\n"
    )
    source = Path(__file__).parent.parent / "src"
    environment = {"PYTHONPATH": str(source)}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment)
