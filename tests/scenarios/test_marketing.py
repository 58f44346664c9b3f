"""Opt-ins for marketing messages: their start and their end are different events."""

from __future__ import annotations

import pytest

from djmessenger.rules import fallback, on, rule


@rule(on("NOTIFICATION_MESSAGES"))
def start(event):
    return f"You will hear from us about {event.payload}."


@rule(on("NOTIFICATIONS_STOPPED") & (lambda event: event.payload == "TEA"))
def stop(event):
    event.conversation.state["stopped"] = event.payload


@fallback()
def puzzled(event):
    return "I did not understand."


@pytest.fixture(autouse=True)
def bot(own_rules):
    """The bot with offers."""


def opts(person, status="", payload="TEA"):
    optin = {"type": "notification_messages", "payload": payload, "notification_messages_token": "5"}
    if status:
        optin["notification_messages_status"] = status
    person.does("does", "messaging_optins", {"optin": optin})


@pytest.mark.parametrize("status", ["", "RESUME NOTIFICATIONS"])
def test_the_start_is_answered(messenger, status):
    ana = messenger.person()
    ana.says("hi")
    ana.sees("I did not understand.")
    opts(ana, status)
    ana.sees("You will hear from us about TEA.")


def test_the_end_has_a_rule_of_its_own(messenger):
    ana = messenger.person()
    ana.says("hi")
    opts(ana, "STOP NOTIFICATIONS")
    ana.sees_nothing()
    assert ana.conversation.state == {"stopped": "TEA"}


def test_the_end_without_a_rule_is_not_answered_by_the_fallback(messenger):
    ana = messenger.person()
    ana.says("hi")
    opts(ana, "STOP NOTIFICATIONS", payload="COFFEE")
    ana.sees_nothing()
    assert ana.outcome.type == "NOTIFICATIONS_STOPPED"
