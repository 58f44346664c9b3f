"""Policies of single Pages, found by dotted path."""

from __future__ import annotations

from djmessenger.rules import rule, text


@rule(text("hello"))
def greet(event):
    return "from the module"


AS_DICT = {
    "rules": [
        {
            "type": "SIMPLE_TEXT",
            "name": "Berlin",
            "filters": [],
            "repliers": [
                {
                    "name": "djmessenger.replying.SimpleMessageReplier",
                    "args": {"localized_string": "from the dict"},
                }
            ],
        }
    ]
}
BROKEN = {"rules": [{"type": "SIMPLE_TEXT", "filters": [], "repliers": [{"name": "no.such.Replier"}]}]}
NO_POLICY = 7
