"""The policy that serves where a project has none of its own: the runnable part of the documented sample."""

from __future__ import annotations

from djmessenger import models


def test_everything_that_the_default_policy_answers(settings, messenger):
    ana = messenger.person("Ana Torres", locale="en_US")
    ana.says("hi")
    ana.sees("Hi you, too!")
    ana.says("你好")
    ana.sees("Hello to you, too!")
    ana.sends_sticker()
    ana.sees("Thank you for your thumb!!!")
    ana.sees_nothing()
    ana.sends_location(48.2082, 16.3738, "Stephansplatz")
    ana.sees_nothing()
    ana.does("postback", "Help", '{"payload_class": "djmessenger.payload.PersistentMenuOnePayload"}')
    ana.sees("This is help info")

    assert ana.row.thumbups == 1
    assert models.UserLocation.objects.get().title == "Stephansplatz"
    assert models.Messaging.objects.filter(is_kept=True).count() == 5
    assert messenger.coverage() == []


def test_in_traditional_chinese(messenger):
    lin = messenger.person("林 怡君", locale="zh_TW")
    lin.says("hi")
    lin.sees("您也好")
    lin.sends_sticker()
    lin.sees("謝謝您的讚")
    lin.says("你好")
    lin.sees("您也好")


def test_an_event_without_a_rule_stays_unanswered_and_suggests_one(settings, messenger):
    settings.DEBUG = True
    ana = messenger.person()
    ana.says("Do you sell tea pots?")
    ana.sees_nothing()
    assert ana.outcome.unhandled
    assert '@rule(text("Do you sell tea pots?"))' in ana.outcome.suggestion
