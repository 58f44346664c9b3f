"""Each kind of message gives the JSON that Meta's pages show, written here by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from djmessenger import outgoing as o
from djmessenger.outgoing.base import MESSAGES

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
    assert set(MESSAGES.values()) - kinds == {o.SenderAction, o.Typing, o.Reaction}
