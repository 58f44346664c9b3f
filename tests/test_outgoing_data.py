"""Messages as plain data, as a policy holds them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.utils.translation import gettext_lazy
from hypothesis import given, settings
from hypothesis import strategies as st

from djmessenger import outgoing as o
from djmessenger.exceptions import DJMException, InvalidField, LimitExceeded
from djmessenger.outgoing.base import MESSAGES
from djmessenger.outgoing.data import as_messages, from_data
from djmessenger.utils.utils import LocalizedString

URL = "https://example.com/a.png"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"type": "text", "text": "Hi"}, o.Text("Hi")),
        (
            {
                "type": "simple_text",
                "text": {"base_string": "Hi", "translations": {"de_DE": "Hallo"}},
                "quick_replies": [
                    {"title": "a", "payload": "A"},
                    {"content_type": "text", "title": "b", "payload": "B", "image_url": URL},
                    {"content_type": "user_email"},
                    {"content_type": "user_phone_number"},
                ],
                "thread_control": {"control_type": "pass", "app_id": "1"},
            },
            o.Text(
                LocalizedString("Hi", {"de_DE": "Hallo"}),
                quick_replies=[
                    o.QuickReply("a", "A"),
                    o.QuickReply("b", "B", URL),
                    o.EmailQuickReply(),
                    o.PhoneQuickReply(),
                ],
                thread_control=o.ThreadControl("pass", "1"),
            ),
        ),
        ({"type": "image", "url": URL, "reusable": True}, o.Image(URL, reusable=True)),
        ({"type": "images", "urls": [URL]}, o.Images([URL])),
        (
            {
                "type": "button",
                "text": "a",
                "buttons": [
                    {"type": "web_url", "title": "b", "url": URL},
                    {"type": "phone_number", "title": "c", "phone_number": "+15105551234"},
                ],
            },
            o.ButtonTemplate("a", [o.UrlButton("b", URL), o.CallButton("c", "+15105551234")]),
        ),
        (
            {
                "type": "generic",
                "elements": [
                    {"title": "a", "default_action": {"url": URL}, "buttons": [{"type": "account_unlink"}]},
                    {"title": "b", "default_action": URL},
                ],
            },
            o.GenericTemplate(
                [
                    o.Element("a", default_action=o.UrlAction(URL), buttons=[o.LogOutButton()]),
                    o.Element("b", default_action=URL),
                ]
            ),
        ),
        (
            {
                "type": "receipt",
                "recipient_name": "a",
                "order_number": "b",
                "currency": "EUR",
                "payment_method": "c",
                "total_cost": 2,
                "elements": [{"title": "d", "price": 2}],
                "adjustments": [{"name": "e", "amount": 1}],
            },
            o.ReceiptTemplate(
                "a", "b", "EUR", "c", 2, elements=[o.ReceiptItem("d", 2)], adjustments=[o.Adjustment("e", 1)]
            ),
        ),
        (
            {
                "type": "customer_feedback",
                "title": "a",
                "question": {"id": "q", "type": "nps"},
                "privacy_url": URL,
            },
            o.CustomerFeedback("a", o.Question("q", "nps"), URL),
        ),
        (
            {
                "type": "customer_information",
                "countries": ["DE"],
                "privacy_url": URL,
                "address_overrides": {"base_string": {"a": [1]}},
            },
            o.CustomerInformation(["DE"], URL, address_overrides={"base_string": {"a": [1]}}),
        ),
        (
            {
                "type": "utility",
                "name": "a",
                "language": "en_US",
                "body": {"day": "Monday"},
                "header": ["x"],
                "buttons": [{"type": "URL", "url": "1"}],
            },
            o.Utility("a", "en_US", body={"day": "Monday"}, header=["x"], buttons=[o.UtilityUrl("1")]),
        ),
        ({"type": "typing"}, o.Typing()),
        ({"type": "sender_action", "action": "mark_seen"}, o.SenderAction("mark_seen")),
        ({"type": "reaction", "message_id": "m_1"}, o.Reaction("m_1")),
    ],
)
def test_data_becomes_the_message(data: dict[str, Any], message: o.OutgoingMessage) -> None:
    assert from_data(data).requests() == message.requests()
    assert type(from_data(data)) is type(message)


@pytest.mark.parametrize(
    ("data", "field", "fragment"),
    [
        ({}, "type", "known are sender_action"),
        ({"type": "generik"}, "type", "did you mean 'generic'"),
        ({"type": ["text"]}, "type", "not known"),
        ({"type": "list"}, "type", "list template ended on 2019-07-29; use a generic template"),
        (
            {"type": "button", "text": "a", "buttons": [{"type": "element_share"}]},
            "buttons[0].type",
            "share button ended on",
        ),
        ({"type": "text"}, "text", "is missing"),
        ({"type": "text", "text": "a", "qick_replies": []}, "qick_replies", "did you mean 'quick_replies'"),
        (
            {"type": "text", "text": "a", "quick_replies": [{"content_type": "location"}]},
            "quick_replies[0].content_type",
            "ended on 2019-10-29; use a text",
        ),
        (
            {"type": "generic", "elements": [{"title": "a", "subtitl": "b"}]},
            "elements[0].subtitl",
            "subtitle",
        ),
        (
            {"type": "button", "text": "a", "buttons": [{"type": "share"}]},
            "buttons[0].type",
            "'share' is not known",
        ),
        (
            {
                "type": "generic",
                "elements": [{"title": "a", "buttons": [{"type": "postback", "title": "b"}]}],
            },
            "elements[0].buttons[0].payload",
            "is missing",
        ),
        ({"type": "text", "text": {"translations": {}}}, "text.base_string", "is missing"),
        ({"type": "text", "text": {"base_string": "a", "translations": ["b"]}}, "text.translations", "dict"),
        ({"type": "text", "text": "a", "tag": "HUMAN_AGENT", "by_staff": True}, "by_staff", "not known"),
    ],
)
def test_errors_name_the_key(data: dict[str, Any], field: str, fragment: str) -> None:
    with pytest.raises(InvalidField) as caught:
        from_data(data)
    assert caught.value.field == field
    assert fragment in caught.value.problem


def test_limits_are_those_of_the_message_with_the_whole_path() -> None:
    with pytest.raises(LimitExceeded) as caught:
        from_data(
            {
                "type": "generic",
                "elements": [
                    {"title": "a", "buttons": [{"type": "postback", "title": "x" * 21, "payload": "A"}]}
                ],
            }
        )
    assert caught.value.field == "elements[0].buttons[0].title"


def test_types_are_named_with_the_whole_path() -> None:
    with pytest.raises(TypeError, match=r"elements\[0\]\.title: needs a text, not int"):
        from_data({"type": "generic", "elements": [{"title": 5, "subtitle": "b"}]})
    with pytest.raises(TypeError, match="dict"):
        from_data(["text"])  # type: ignore[arg-type]


NAMES = sorted({key for cls in MESSAGES.values() for key in cls.__dataclass_fields__})  # type: ignore[attr-defined]
INNER = ["type", "title", "payload", "url", "content_type", "base_string", "translations", "subtitle", "id"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(
        ["postback", "web_url", "text", "https://example.com/a", "image", "nps", "URL", "https://["]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER), inner, max_size=4),
    max_leaves=8,
)


@given(
    st.one_of(st.sampled_from(sorted(MESSAGES)), SCALARS),
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6),
)
@settings(max_examples=400)
def test_nothing_but_errors_that_help(kind: Any, values: dict[str, Any]) -> None:
    required = {"text": "a", "buttons": [{"type": "postback", "title": "a", "payload": "b"}]}
    for data in ({"type": kind, **values}, {"type": "button", **required, **values}):
        try:
            bodies = from_data(data).requests()
        except (DJMException, ValueError, TypeError) as error:
            assert str(error)  # noqa: PT017
            assert "__init__" not in str(error)  # noqa: PT017
        else:
            assert bodies
            json.dumps(bodies, allow_nan=False).encode()


def test_as_messages() -> None:
    text = o.Text("a")
    lazy_text = gettext_lazy("Yes")
    assert as_messages(None) == []
    assert as_messages("a") == [text]
    assert as_messages(text) == [text]
    assert as_messages({"type": "text", "text": "a"}) == [text]
    assert as_messages(["a", None, text, ("a",)]) == [text, text, text]
    assert as_messages(word for word in ("a", "a")) == [text, text]
    assert as_messages(lazy_text)[0].requests() == o.Text("Yes").requests()
    assert as_messages(LocalizedString("a"))[0].requests() == text.requests()


@pytest.mark.parametrize("value", [5, True, b"a", object(), [5], o.Text])
def test_as_messages_helps(value: Any) -> None:
    with pytest.raises(TypeError, match="a rule answers nothing, a string"):
        as_messages(value)
