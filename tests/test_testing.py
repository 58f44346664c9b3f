"""The kit that projects test their bots with."""

from __future__ import annotations

import pytest

POLICY = {
    "rules": [
        {
            "type": "SIMPLE_TEXT",
            "name": "greet",
            "filters": [{"name": "djmessenger.filtering.TextFilter", "args": {"words": ["hi"]}}],
            "repliers": [
                {
                    "name": "djmessenger.replying.MessageReplier",
                    "args": {
                        "message": {
                            "type": "text",
                            "text": "Hello!",
                            "quick_replies": [{"title": "Order", "payload": "ORDER"}],
                        }
                    },
                }
            ],
        },
        {
            "type": "QUICK_REPLY",
            "name": "order",
            "repliers": [{"name": "djmessenger.replying.MessageReplier", "args": {"message": "Ordered."}}],
        },
    ]
}


@pytest.fixture
def shop(settings):
    settings.DJM_ROUTING_POLICY = POLICY


def test_a_person_says_sees_and_taps(shop, messenger):
    ana = messenger.person(locale="de_DE")
    ana.says("hi")
    ana.sees("Hello!", quick_replies=["Order"])
    ana.taps("Order")
    ana.sees("Ordered.")
    ana.sees_nothing()
