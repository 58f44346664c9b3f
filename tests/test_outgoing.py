"""Each kind of message gives the JSON that Meta's pages show, written here by hand."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.utils import translation
from django.utils.functional import lazy

from djmessenger import outgoing as o
from djmessenger.exceptions import (
    DJMInvalidConfigException,
    DJMInvalidValueException,
    InvalidField,
    LimitExceeded,
)
from djmessenger.payload import Payload
from djmessenger.utils.utils import LocalizedString

URL = "https://example.com/a.png"


def template(**payload: Any) -> dict[str, Any]:
    return {"attachment": {"type": "template", "payload": payload}}


def message_of(message: o.OutgoingMessage, channel: str = "messenger") -> Any:
    (body,) = message.requests(channel=channel)
    assert body["messaging_type"] in {"RESPONSE", "UTILITY"}
    return body["message"]


GOLDEN: list[tuple[o.OutgoingMessage, dict[str, Any]]] = [
    (o.Text("Hello!"), {"text": "Hello!"}),
    (
        o.Text(
            "Where to?",
            quick_replies=[
                o.QuickReply("Order", "ORDER", image_url=URL),
                o.QuickReply("", "", image_url=URL),
                o.QuickReply("7", 7),
                o.PhoneQuickReply(),
                o.EmailQuickReply(),
            ],
        ),
        {
            "text": "Where to?",
            "quick_replies": [
                {"content_type": "text", "title": "Order", "payload": "ORDER", "image_url": URL},
                {"content_type": "text", "title": "", "payload": "", "image_url": URL},
                {"content_type": "text", "title": "7", "payload": "7"},
                {"content_type": "user_phone_number"},
                {"content_type": "user_email"},
            ],
        },
    ),
    (o.Image(URL), {"attachment": {"type": "image", "payload": {"url": URL}}}),
    (
        o.Image(URL, reusable=True, quick_replies=[o.QuickReply("a", "b")]),
        {
            "attachment": {"type": "image", "payload": {"url": URL, "is_reusable": True}},
            "quick_replies": [{"content_type": "text", "title": "a", "payload": "b"}],
        },
    ),
    (o.Audio(attachment_id="55"), {"attachment": {"type": "audio", "payload": {"attachment_id": "55"}}}),
    (o.Video(URL), {"attachment": {"type": "video", "payload": {"url": URL}}}),
    (o.File(URL), {"attachment": {"type": "file", "payload": {"url": URL}}}),
    (
        o.Images([URL, URL]),
        {
            "attachments": [
                {"type": "image", "payload": {"url": URL}},
                {"type": "image", "payload": {"url": URL}},
            ]
        },
    ),
    (o.Sticker(369239263222822), {"sticker_id": 369239263222822}),
    (
        o.ButtonTemplate(
            "What now?",
            [
                o.UrlButton(
                    "Site",
                    "https://example.com",
                    webview_height_ratio="tall",
                    messenger_extensions=True,
                    fallback_url="https://example.com/old",
                    share_button=False,
                ),
                o.PostbackButton("Order", "ORDER"),
                o.CallButton("Call", "+15105551234"),
            ],
        ),
        template(
            template_type="button",
            text="What now?",
            buttons=[
                {
                    "type": "web_url",
                    "title": "Site",
                    "url": "https://example.com",
                    "webview_height_ratio": "tall",
                    "messenger_extensions": True,
                    "fallback_url": "https://example.com/old",
                    "webview_share_button": "hide",
                },
                {"type": "postback", "title": "Order", "payload": "ORDER"},
                {"type": "phone_number", "title": "Call", "payload": "+15105551234"},
            ],
        ),
    ),
    (
        o.ButtonTemplate("Account", [o.LogInButton("https://example.com/login"), o.LogOutButton()]),
        template(
            template_type="button",
            text="Account",
            buttons=[
                {"type": "account_link", "url": "https://example.com/login"},
                {"type": "account_unlink"},
            ],
        ),
    ),
    (
        o.ButtonTemplate(
            "Play",
            [
                o.GamePlayButton("Play", "{}", player_id="1"),
                o.GamePlayButton("Play", context_id="2"),
                o.AudioCallButton("Ring", 3),
            ],
        ),
        template(
            template_type="button",
            text="Play",
            buttons=[
                {"type": "game_play", "title": "Play", "payload": "{}", "game_metadata": {"player_id": "1"}},
                {"type": "game_play", "title": "Play", "game_metadata": {"context_id": "2"}},
                {"type": "audio_call", "title": "Ring", "expires_in_days": 3},
            ],
        ),
    ),
    (
        o.GenericTemplate(
            [
                o.Element(
                    "Shoes",
                    "Red",
                    image_url=URL,
                    default_action=o.UrlAction("https://example.com/shoes", webview_height_ratio="full"),
                    buttons=[o.PostbackButton("Buy", "BUY")],
                ),
                o.Element("Hat", default_action="https://example.com/hat"),
            ],
            sharable=True,
        ),
        template(
            template_type="generic",
            elements=[
                {
                    "title": "Shoes",
                    "subtitle": "Red",
                    "image_url": URL,
                    "default_action": {
                        "type": "web_url",
                        "url": "https://example.com/shoes",
                        "webview_height_ratio": "full",
                    },
                    "buttons": [{"type": "postback", "title": "Buy", "payload": "BUY"}],
                },
                {"title": "Hat", "default_action": {"type": "web_url", "url": "https://example.com/hat"}},
            ],
            sharable=True,
        ),
    ),
    (
        o.MediaTemplate("image", attachment_id="55", buttons=[o.PostbackButton("Buy", "BUY")]),
        template(
            template_type="media",
            elements=[
                {
                    "media_type": "image",
                    "attachment_id": "55",
                    "buttons": [{"type": "postback", "title": "Buy", "payload": "BUY"}],
                }
            ],
        ),
    ),
    (
        o.MediaTemplate("video", url="https://www.facebook.com/shop/videos/1/", sharable=True),
        template(
            template_type="media",
            elements=[{"media_type": "video", "url": "https://www.facebook.com/shop/videos/1/"}],
            sharable=True,
        ),
    ),
    (
        o.ReceiptTemplate(
            "Ana Silva",
            "A-1",
            "EUR",
            "Visa 2345",
            Decimal("56.14"),
            subtotal=75,
            shipping_cost=4.95,
            total_tax=0,
            elements=[
                o.ReceiptItem("Shirt", 50, subtitle="White", quantity=2, currency="EUR", image_url=URL)
            ],
            address=o.Address("1 Hacker Way", "Menlo Park", "94025", "CA", "US", street_2="Door 2"),
            adjustments=[o.Adjustment("New", 20)],
            merchant_name="Shop",
            order_url="https://example.com/order",
            timestamp=1428444852,
        ),
        template(
            template_type="receipt",
            recipient_name="Ana Silva",
            order_number="A-1",
            currency="EUR",
            payment_method="Visa 2345",
            order_url="https://example.com/order",
            merchant_name="Shop",
            timestamp="1428444852",
            summary={"subtotal": 75, "shipping_cost": 4.95, "total_tax": 0, "total_cost": 56.14},
            elements=[
                {
                    "title": "Shirt",
                    "subtitle": "White",
                    "quantity": 2,
                    "price": 50,
                    "currency": "EUR",
                    "image_url": URL,
                }
            ],
            address={
                "street_1": "1 Hacker Way",
                "street_2": "Door 2",
                "city": "Menlo Park",
                "postal_code": "94025",
                "state": "CA",
                "country": "US",
            },
            adjustments=[{"name": "New", "amount": 20}],
        ),
    ),
    (
        o.ProductTemplate(["1", "2"]),
        template(template_type="product", elements=[{"id": "1"}, {"id": "2"}]),
    ),
    (
        o.CouponTemplate(
            "10 % off",
            subtitle="Today",
            coupon_code="TEN",
            coupon_url="https://example.com/ten",
            coupon_url_button_title="Shop",
            coupon_pre_message="For you",
            image_url=URL,
            payload="TEN",
        ),
        template(
            template_type="coupon",
            title="10 % off",
            subtitle="Today",
            coupon_code="TEN",
            coupon_url="https://example.com/ten",
            coupon_url_button_title="Shop",
            coupon_pre_message="For you",
            image_url=URL,
            payload="TEN",
        ),
    ),
    (
        o.CustomerFeedback(
            "How was it?",
            o.Question(
                "q_1",
                "csat",
                "How do you rate us?",
                score_label="neg_pos",
                score_option="five_stars",
                follow_up="Tell us more",
            ),
            "https://example.com/privacy",
            subtitle="One question",
            button_title="Rate",
            expires_in_days=3,
        ),
        template(
            template_type="customer_feedback",
            title="How was it?",
            subtitle="One question",
            button_title="Rate",
            feedback_screens=[
                {
                    "questions": [
                        {
                            "id": "q_1",
                            "type": "csat",
                            "title": "How do you rate us?",
                            "score_label": "neg_pos",
                            "score_option": "five_stars",
                            "follow_up": {"type": "free_form", "placeholder": "Tell us more"},
                        }
                    ]
                }
            ],
            business_privacy={"url": "https://example.com/privacy"},
            expires_in_days=3,
        ),
    ),
    (
        o.CustomerInformation(["DE", "FR"], "https://example.com/privacy", expires_in_days=2),
        template(
            template_type="customer_information",
            countries=["DE", "FR"],
            business_privacy={"url": "https://example.com/privacy"},
            expires_in_days=2,
            purpose="SHIPPING",
        ),
    ),
    (
        o.ImageGrid(
            [
                o.GridImage(URL, is_hero_image=True, action_url="https://example.com"),
                o.GridImage(URL, payload="RED", text="Red"),
                o.GridImage(URL),
            ],
            title="Shoes",
            subtitle="All red",
            buttons=[o.UrlButton("Shop", "https://example.com"), o.PostbackButton("More", "MORE")],
        ),
        template(
            template_type="image_grid",
            elements=[
                {
                    "title": "Shoes",
                    "subtitle": "All red",
                    "images": [
                        {
                            "url": URL,
                            "is_hero_image": True,
                            "action": {"type": "web_url", "url": "https://example.com"},
                        },
                        {"url": URL, "action": {"type": "postback", "payload": "RED", "text": "Red"}},
                        {"url": URL},
                    ],
                    "buttons": [
                        {"type": "web_url", "title": "Shop", "url": "https://example.com"},
                        {"type": "postback", "title": "More", "payload": "MORE"},
                    ],
                }
            ],
        ),
    ),
    (o.InstantForm("77"), template(template_type="instant_form", form_id="77")),
    (
        o.Utility(
            "order_shipped",
            "en_US",
            header=["A-1"],
            body={"name": "Ana", "day": "Monday"},
            buttons=[o.UtilityPostback("TRACK"), o.UtilityUrl("A-1")],
        ),
        {
            "template": {
                "name": "order_shipped",
                "language": {"code": "en_US"},
                "components": [
                    {"type": "header", "parameters": [{"type": "text", "text": "A-1"}]},
                    {
                        "type": "body",
                        "parameters": [
                            {"type": "text", "text": "Ana", "parameter_name": "name"},
                            {"type": "text", "text": "Monday", "parameter_name": "day"},
                        ],
                    },
                    {
                        "type": "buttons",
                        "parameters": [
                            {"type": "POSTBACK", "payload": "TRACK"},
                            {"type": "URL", "url": "A-1"},
                        ],
                    },
                ],
            }
        },
    ),
]


@pytest.mark.parametrize(("message", "expected"), GOLDEN, ids=lambda value: getattr(value, "kind", ""))
def test_golden(message: o.OutgoingMessage, expected: dict[str, Any]) -> None:
    assert message_of(message) == expected


def test_every_kind_has_a_golden_json() -> None:
    kinds = {type(message) for message, _ in GOLDEN}
    assert set(o.MESSAGES.values()) - kinds == {o.SenderAction, o.Typing, o.Reaction}


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


def test_a_file_of_this_machine_is_uploaded_by_whoever_sends(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(b"picture")
    (body,) = o.Image(path=path, metadata="mine").requests()
    pending = o.pending_file(body)
    assert pending == o.LocalFile(path, "image", "image/png")
    sent = o.with_attachment_id(body, "55")
    assert sent["message"] == {
        "attachment": {"type": "image", "payload": {"attachment_id": "55"}},
        "metadata": "mine",
    }
    assert o.pending_file(sent) is None
    assert o.pending_file(body) == pending
    assert o.pending_file({"sender_action": "typing_on"}) is None


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.unknown", "a.wav"])
def test_a_sound_is_uploaded_as_a_sound(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"sound")
    pending = o.pending_file(o.Audio(path=tmp_path / name).requests()[0])
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


def test_what_postgresql_and_utf8_cannot_hold_is_replaced() -> None:
    assert message_of(o.Text("a\0b\ud800c\ud83d\ude00")) == {"text": "a\ufffdb\ufffdc\U0001f600"}


def test_errors_are_of_both_documented_kinds() -> None:
    with pytest.raises(DJMInvalidValueException) as caught:
        o.PostbackButton("x" * 21, "A")
    assert isinstance(caught.value, DJMInvalidConfigException)


def test_works_without_django_configured() -> None:
    code = (
        "from djmessenger.outgoing import *\n"
        "from djmessenger.outgoing import profile\n"
        "assert len(Text('word ' * 500, quick_replies=[QuickReply('a', 'b')]).requests()) == 2\n"
        "from_data({'type': 'text', 'text': {'base_string': 'a'}}).requests()\n"
        "profile.greeting({'default': 'Hi'})\n"
        "from django.conf import settings\n"
        "assert not settings.configured\n"
    )
    source = Path(__file__).parent.parent / "src"
    environment = {"PYTHONPATH": str(source)}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment)
