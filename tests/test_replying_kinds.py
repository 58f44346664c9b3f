"""A replier for each kind of message, given in a policy as the message's fields."""

from __future__ import annotations

from typing import Any

import pytest

from djmessenger import replying
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.outgoing.base import MESSAGES
from djmessenger.outgoing.data import from_data
from djmessenger.replying import KindReplier, MessageReplier
from djmessenger.routing import Policy
from tests.events import text

URL = "https://example.com/a.png"
BUTTON = {"type": "postback", "title": "Order", "payload": "ORDER"}
QUESTION = {"id": "q", "type": "csat", "title": "How was it?"}

FIELDS: dict[str, dict[str, Any]] = {
    "images": {"urls": [URL, URL]},
    "sticker": {},
    "button": {"text": "Choose", "buttons": [BUTTON]},
    "generic": {"elements": [{"title": "Tea", "subtitle": "Hot", "buttons": [BUTTON]}]},
    "media": {"media_type": "image", "attachment_id": "1"},
    "image_grid": {"images": [{"url": URL}, {"url": URL}]},
    "receipt": {
        "recipient_name": "Ana",
        "order_number": "1",
        "currency": "EUR",
        "payment_method": "Cash",
        "total_cost": 3,
    },
    "product": {"product_ids": ["1"]},
    "coupon": {"title": "Ten off", "coupon_code": "TEA10"},
    "customer_feedback": {"title": "Tell us", "question": QUESTION, "privacy_url": URL},
    "customer_information": {"countries": ["EE"], "privacy_url": URL},
    "instant_form": {"form_id": "1"},
    "utility": {"name": "order_sent", "language": "en"},
}
DOCUMENTED = {"text", "simple_text", "image", "audio", "video", "file", "sender_action", "typing"}
"""Kinds that SimpleMessageReplier, the four media repliers and ReplyActionReplier send.

A reaction belongs to one message, and a policy cannot name the id of a message.
"""

KINDS = {
    found.kind: found
    for found in vars(replying).values()
    if isinstance(found, type) and issubclass(found, KindReplier) and found is not KindReplier
}


def test_each_kind_of_message_has_a_replier():
    assert set(KINDS) == set(FIELDS) == set(MESSAGES) - DOCUMENTED - {"reaction"}


@pytest.mark.django_db
@pytest.mark.parametrize("kind", FIELDS)
def test_a_policy_names_it_with_the_fields_of_the_message(kind):
    cls, fields = KINDS[kind], FIELDS[kind]
    data = {
        "type": "SIMPLE_TEXT",
        "name": "one",
        "repliers": [{"name": f"djmessenger.replying.{cls.__name__}", "args": fields}],
    }
    (replier,) = Policy.from_dict({"rules": [data]}).rules[0].get_replier_instances()
    assert replier.json() == fields
    expected = MessageReplier(from_data({"type": kind, **fields}))
    assert replier.get_message(text("hi")) == expected.get_message(text("hi"))


@pytest.mark.parametrize("kind", FIELDS)
def test_an_unknown_field_is_refused(kind):
    with pytest.raises(DJMInvalidConfigException, match="colour"):
        KINDS[kind](**FIELDS[kind], colour="red")
