"""Kit for tests of conversations: persons write, tap and see messages, on the real engine and a strict emulator.

::

    def test_order(messenger):  # pytest; MessengerTestMixin for Django's TestCase
        ana = messenger.person(locale="de_DE")
        ana.says("hallo")
        ana.sees("Willkommen", quick_replies=["Bestellen"])
        ana.taps("Bestellen")
"""

from __future__ import annotations

from djmessenger.testing.explanation import LastOutcome
from djmessenger.testing.failures import ReplyRefused, RuleFailed
from djmessenger.testing.kit import Messenger
from djmessenger.testing.looking import containing
from djmessenger.testing.mixin import MessengerTestMixin
from djmessenger.testing.person import Person, Window

__all__ = [
    "LastOutcome",
    "Messenger",
    "MessengerTestMixin",
    "Person",
    "ReplyRefused",
    "RuleFailed",
    "Window",
    "containing",
]
