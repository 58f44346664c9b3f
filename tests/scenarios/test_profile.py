"""The profile of a person: fetched from Graph once, before the first answer, which follows even if Graph refuses."""

from __future__ import annotations

import pytest

from djmessenger.rules import rule, text

ACCOUNT = "17841400000000001"


@rule(text("hi"))
def greet(event):
    return f"Hello, {event.person.first_name or 'friend'}!"


@pytest.fixture(autouse=True)
def bot(own_rules):
    """The bot that greets by name."""


def asked(messenger, person):
    return [call for call in messenger.emulator.calls if call.method == "GET" and person.psid in call.path]


def test_the_first_answer_knows_the_name(messenger):
    ana = messenger.person("Ana Torres", timezone=5.75)
    ana.says("hi")
    ana.sees("Hello, Ana!")
    ana.says("hi")
    ana.sees("Hello, Ana!")
    assert len(asked(messenger, ana)) == 1
    assert ana.row.timezone == 5.75


def test_a_refused_profile_is_harmless_and_not_asked_for_again(messenger):
    ana = messenger.person("Ana Torres")
    ana.screen.profile_error = 2018218
    for _ in range(3):
        ana.says("hi")
        ana.sees("Hello, friend!")
    assert len(asked(messenger, ana)) == 1
    assert ana.row.profile_state == "refused"


@pytest.mark.parametrize("source", ["SHORTLINK", "ADS"])
def test_before_the_person_writes_it_is_not_asked_for(messenger, source):
    ana = messenger.person("Ana Torres")
    ana.does("does", "messaging_referrals", {"referral": {"source": source, "type": "OPEN_THREAD"}})
    assert asked(messenger, ana) == []
    ana.says("hi")
    ana.sees("Hello, Ana!")


def test_after_a_month_it_is_asked_for_again(messenger):
    ana = messenger.person("Ana Torres")
    ana.screen.profile_error = 2018218
    ana.says("hi")
    ana.screen.profile_error = None
    messenger.travel(days=31)
    ana.says("hi")
    ana.sees("Hello, Ana!")


def test_a_graph_that_does_not_answer_is_harmless_too(messenger):
    ana = messenger.person("Ana Torres")
    with messenger.fault("timeout_before", where=ana.psid):
        ana.says("hi")
        ana.sees("Hello, friend!")
    ana.says("hi")
    ana.sees("Hello, Ana!")


@pytest.mark.parametrize("login", ["", "instagram"])
def test_instagram_gives_a_whole_name_by_one_call(messenger, login):
    account = messenger.add_page(ACCOUNT, channel="instagram", login=login)
    ana = messenger.person("Ana Torres", page=account, username="ana.t")
    ana.says("hi")
    ana.sees("Hello, Ana Torres!")
    assert len(asked(messenger, ana)) == 1
    row = ana.row
    assert (row.name, row.username, row.profile_state) == ("Ana Torres", "ana.t", "fetched")
    assert str(row) == "Ana Torres"
    assert row.profile_pic


@pytest.mark.parametrize("login", ["", "instagram"])
def test_a_person_of_instagram_without_a_name_is_called_by_the_username(messenger, login):
    ana = messenger.person(
        page=messenger.add_page(ACCOUNT, channel="instagram", login=login), username="ana.t"
    )
    ana.screen.name = ""
    ana.says("hi")
    ana.sees("Hello, ana.t!")
    assert ana.row.name == "ana.t"


def test_messenger_gives_no_username(messenger):
    ana = messenger.person("Ana Torres")
    ana.says("hi")
    ana.sees("Hello, Ana!")
    assert (ana.row.name, ana.row.username) == ("Ana Torres", "")
