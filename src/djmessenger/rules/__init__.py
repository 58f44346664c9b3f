"""The Python notation of a policy: a function that answers, below a decorator with the filter of its events.

::

    from djmessenger.rules import fallback, pattern, rule, tapped, text


    @rule(text("hi", "hello") | tapped("GET_STARTED"))
    def greet(event):
        return "Hello!"


    @rule(pattern(r"^order (?P<number>\\d+)$"))
    def order(event, number):
        yield f"Looking for {number}."
        yield Order.objects.get(number=number).status_text


    @fallback(slow=True, typing=True)
    def ask(event):
        return answer_of_a_model(event.person.history(20))

Rules are written in the ``messenger.py`` of an installed app and are checked in the order written. The decorators make
the same ``Rule`` objects as a policy dict, and ``include`` adds a dict to the rules of a module.

With the annotation ``def greet(event: Messaging)``, type checkers know the types of ``event.person``,
``event.conversation``, ``event.page`` and ``event.row``.
"""

from __future__ import annotations

from djmessenger.filtering.events import Messaging
from djmessenger.rules.conditions import (
    at_time,
    attachment,
    audio,
    file,
    image,
    language,
    location,
    on,
    page,
    pattern,
    reaction,
    referral,
    state,
    sticker,
    tapped,
    text,
    thumb_up,
    video,
)
from djmessenger.rules.registry import Condition, default, fallback, include, rule

__all__ = [
    "Condition",
    "Messaging",
    "at_time",
    "attachment",
    "audio",
    "default",
    "fallback",
    "file",
    "image",
    "include",
    "language",
    "location",
    "on",
    "page",
    "pattern",
    "reaction",
    "referral",
    "rule",
    "state",
    "sticker",
    "tapped",
    "text",
    "thumb_up",
    "video",
]
