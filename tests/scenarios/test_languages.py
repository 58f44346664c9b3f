"""A bot speaks the language of each person: translations in the policy, and gettext."""

from __future__ import annotations

from pathlib import Path

import pytest
import testapp
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from djmessenger.outgoing import QuickReply, Text
from djmessenger.rules import rule, tapped, text
from djmessenger.utils.utils import LocalizedString

LOCALE = Path(testapp.__file__).parent / "locale"


@rule(text("hello", "hallo"))
def greet(event):
    return Text(_("Welcome"), quick_replies=[QuickReply(_("Place an order"), "ORDER")])


@rule(tapped("ORDER"))
def order(event):
    return LocalizedString("What may it be?", {"zh_TW": "要點什麼?", "fr_FR": "Que désirez-vous ?"})


@rule(text("who"))
def name(event):
    return f"{gettext('Welcome')}, {event.person.first_name}"


@rule(text("when"))
def clock(event):
    return str(timezone.localtime().utcoffset())


@pytest.fixture(autouse=True)
def translated(settings, own_rules):
    settings.LOCALE_PATHS = [LOCALE]


def test_gettext_follows_the_locale_of_the_person(messenger):
    ana = messenger.person(locale="de_DE")
    ana.says("hallo")
    ana.sees("Willkommen", quick_replies=["Bestellen"])
    ana.taps("Bestellen")
    ana.sees("What may it be?")


def test_each_person_reads_their_own_language(messenger):
    ana, ben = messenger.person(locale="de_DE"), messenger.person(locale="en_GB")
    ana.says("hello")
    ben.says("hello")
    ana.sees("Willkommen")
    ben.sees("Welcome", quick_replies=["Place an order"])


def test_the_first_answer_is_in_their_language_too(messenger):
    """The profile, which tells the language, is fetched while the first message is handled."""
    ana = messenger.person("Ana Torres", locale="de_DE")
    ana.says("who")
    ana.sees("Willkommen, Ana")


@pytest.mark.time_zones("Django has no local time of a zone then")
def test_and_in_their_time_zone(messenger):
    lin = messenger.person(timezone=5.75)
    lin.says("when")
    lin.sees("5:45:00")


@pytest.mark.parametrize("locale", ["zh_TW", "zh_HK"])
def test_hong_kong_reads_what_taiwan_reads(messenger, locale):
    lin = messenger.person(locale=locale)
    lin.says("hello")
    lin.taps("Place an order")
    lin.sees("要點什麼?")


def test_mainland_china_does_not(messenger):
    wei = messenger.person(locale="zh_CN")
    wei.says("hello")
    wei.taps("Place an order")
    wei.sees("What may it be?")


def test_the_prefix_goes_before_what_is_sent_from_a_view_too(settings, messenger):
    settings.DJM_BOT_PREFIX = "Bot: "
    ana = messenger.person(locale="de_DE")
    ana.says("hallo")
    ana.sees("Bot: Willkommen")
    ana.row.send([_("Welcome"), LocalizedString("Hi", {"de_DE": "Servus"})])
    ana.sees("Bot: Willkommen")
    ana.sees("Bot: Servus")
