"""A kit to test conversations: persons who write, see and tap, on the real road and with a strict Graph.

::

    def test_order(messenger):  # pytest; MessengerTestMixin for Django's TestCase
        ana = messenger.person(locale="de_DE")
        ana.says("hallo")
        ana.sees("Willkommen", quick_replies=["Bestellen"])
        ana.taps("Bestellen")

What it offers is loaded at the first use: pytest imports this package before Django is set up.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from djmessenger.testing.explanation import LastOutcome
    from djmessenger.testing.failures import ReplyRefused, RuleFailed
    from djmessenger.testing.kit import Messenger
    from djmessenger.testing.looking import containing
    from djmessenger.testing.mixin import MessengerTestMixin
    from djmessenger.testing.person import Person, Window

_HOMES = {
    "LastOutcome": "explanation",
    "Messenger": "kit",
    "MessengerTestMixin": "mixin",
    "Person": "person",
    "ReplyRefused": "failures",
    "RuleFailed": "failures",
    "Window": "person",
    "containing": "looking",
}

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
