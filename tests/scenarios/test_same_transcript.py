"""The same acts before the shop, in the simulator and through the kit: the same transcript, rule by rule."""

from __future__ import annotations

import re

import pytest

from djmessenger import bot, models
from djmessenger.simulator import session as session_module
from djmessenger.simulator import transport
from djmessenger.testing import Messenger
from djmessenger.testing.explanation import transcript
from tests.test_simulator import ManualSession, does

ACTS = [
    ("gets_started",),
    ("taps", "CARDS"),
    ("taps_button", "CHAI"),
    ("taps_button", "https://example.com/menu"),
    ("says", "order 999999"),
    ("sends_sticker",),
    ("sends_location", 25.034, 121.5645, "Taipei 101"),
    ("sends_attachment", "image", "https://cdn.example.com/picture.jpg"),
    ("reacts", "\U0001f44d"),
    ("taps_menu", "HELP"),
    ("says", "<script>alert(1)</script> \u202egnol"),
    ("edits", "no script"),
    ("says", "\U0001f60b" * 2000),
    ("says", "w" * 600),
    ("opens_link", "spring"),
]


def written(person):
    rules = dict(models.Reply.objects.exclude(mid="").values_list("mid", "rule"))
    whole = transcript(person.first_name, "Page", person.thread, rules)
    # Numbers of orders go on from one visit to the next.
    return re.sub(r"\b\d{1,5}\b", "#", whole)


@pytest.fixture
def session(shop, settings, monkeypatch):
    settings.DEBUG = True
    settings.DJM_PAGE_ACCESS_TOKEN = settings.DJM_APP_SECRET = ""
    monkeypatch.setattr(session_module, "Session", ManualSession)
    session_module.forget_session()
    transport.install()
    session = session_module.get_session()
    session.configure()
    yield session
    bot.use_transport(None)
    session_module.forget_session()


@pytest.mark.parametrize(
    ("name", "locale"), [("Mari Tamm", "en_GB"), ("Jonas Weber", "de_DE"), ("怡君 林", "zh_TW")]
)
def test_simulator_and_kit_tell_the_same(session, name, locale):
    person = session.add_person(None, name, locale=locale)
    for act, *args in ACTS:
        does(person, act, *args)
    in_the_simulator = written(person)
    bot.use_transport(None)
    with Messenger() as messenger:
        visitor = messenger.person(name, locale=locale)
        for act, *args in ACTS:
            visitor.does(act, *args)
        in_the_kit = written(visitor.screen)
    assert in_the_simulator == in_the_kit
    assert set(re.findall(r"< (\w+)$", in_the_kit, re.MULTILINE)) == {
        "greet", "cards", "order", "status", "thanks", "near", "admire", "explain", "sorry",
    }  # fmt: skip
