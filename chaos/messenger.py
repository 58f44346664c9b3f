"""The bot of a pass: what it does with an event is known from the event alone, so that it can be counted."""

from __future__ import annotations

import time

from djmessenger import models
from djmessenger.rules import Messaging, rule

KINDS = {"one": 1, "two": 2, "slow": 1, "fails": 1, "none": 0}
"""First word of a text to how many replies it gets."""


def kind_of(event: Messaging) -> str:
    return event.text.partition(" ")[0]


def is_quick(event: Messaging) -> bool:
    return kind_of(event) in {"one", "two", "fails", "none"}


def is_slow(event: Messaging) -> bool:
    return kind_of(event) == "slow"


def count(event: Messaging) -> None:
    """Leave an effect in the database, and one in the state of the conversation."""
    models.UserLocation.objects.create(user=event.person, latitude=0, longitude=0, mid=event.mid)
    event.conversation.state["count"] = event.conversation.state.get("count", 0) + 1


@rule(is_quick, name="quick")
def quick(event: Messaging) -> list[str]:
    count(event)
    if kind_of(event) == "fails" and event.row.tries == 0:
        raise RuntimeError("told to fail once")
    return [f"{event.mid} {number}" for number in range(KINDS[kind_of(event)])]


@rule(is_slow, name="slow", slow=True)
def slow(event: Messaging) -> str:
    time.sleep(0.2)
    return f"{event.mid} 0"


@rule(is_slow, name="slow effect")
def slow_effect(event: Messaging) -> None:
    count(event)
