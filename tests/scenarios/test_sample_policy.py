"""The documented sample policy, whole, in a project that brings the classes it names."""

from __future__ import annotations

import copy

import pytest
from testapp import handling

from djmessenger.utils.default_routing_policy import DJM_DEFAULT_ROUTING_POLICY


@pytest.fixture
def sample(settings):
    """As printed, but for the end of the period in which it serves, which was 2017."""
    policy = copy.deepcopy(DJM_DEFAULT_ROUTING_POLICY)
    policy["rules"][0]["filters"][0]["args"]["end_time"] = "2100-1-1T01:00:00Z-0800"
    settings.DJM_ROUTING_POLICY = policy
    handling.handled.clear()
    yield
    handling.handled.clear()


def test_the_whole_sample(sample, messenger):
    ana = messenger.person("Ana Torres", locale="en_US")
    ana.sends_sticker()
    ana.sees("Thank you for your thumb!!!")
    ana.sees(image="https://dl.dropboxusercontent.com/u/717667/icons/betatesting.png")
    ana.says("你好")
    ana.sees("Hello to you, too!")
    ana.says("hi")
    ana.sees("Hi you, too!")
    ana.says("buttons")
    ana.sees("Please choose a button", buttons=["button 1", "button 2"])
    ana.taps("button 1")
    assert ana.screen.opened == ["https://shop.example/"]
    ana.sends_location(48.2082, 16.3738)
    ana.sees_nothing()
    ana.does("postback", "Help", '{"payload_class": "djmessenger.payload.PersistentMenuOnePayload"}')
    ana.sees("This is help info")
    ana.sees("Please choose a QR", quick_replies=["qr 1", "qr 2", "qr 3"])
    ana.taps("qr 2")
    ana.sees("Thanks for the quick reply")

    assert handling.handled == ["qr payload 2"]
    assert ana.row.first_name == "Ana"
    assert messenger.coverage() == []


def test_in_traditional_chinese(sample, messenger):
    lin = messenger.person(locale="zh_TW")
    lin.says("buttons")
    lin.sees("請選擇一個按鈕")


def test_as_printed_it_has_served_its_time(settings, messenger):
    settings.DJM_ROUTING_POLICY = DJM_DEFAULT_ROUTING_POLICY
    ana = messenger.person()
    ana.says("hi")
    ana.sees_nothing()
    assert "refused by 'default rule'" in str(ana.outcome)
