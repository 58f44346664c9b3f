"""Answers to messages that this version cannot read."""

from __future__ import annotations

import pytest

from djmessenger.rules import fallback

ACCOUNT = "17841400000000001"


@fallback()
def ask_again(event):
    return f"Sorry, {event.type.name} {event.get_url()}".strip()


@pytest.fixture(autouse=True)
def bot(own_rules):
    """The bot with a fallback."""


@pytest.mark.parametrize("channel", ["messenger", "instagram"])
@pytest.mark.parametrize("kind", ["unsupported_type", "poll"])
def test_an_attachment_of_an_unknown_kind(messenger, channel, kind):
    page = messenger.add_page(ACCOUNT, channel="instagram") if channel == "instagram" else messenger.page
    ana = messenger.person(page=page)
    ana.does("sends_attachment", kind, "https://lookaside.example.com/?asset_id=1")
    ana.sees("Sorry, UNSUPPORTED https://lookaside.example.com/?asset_id=1")


def test_a_message_with_nothing_but_a_product(messenger):
    """A message opens the window and is consent to the profile, unlike a link that the person opened."""
    ana = messenger.person()
    ana.does("says", "", referral={"product": {"id": "3564977419"}})
    ana.sees("Sorry, REFERRAL")
    assert ana.row.first_name
    messenger.travel(hours=23)
    ana.row.send("It is on sale")
    ana.sees("It is on sale")
