"""The bot of a pass: what it does with an event is known from the event alone, so that it can be counted."""

from __future__ import annotations

import os
import time
from pathlib import Path

from djmessenger import models
from djmessenger.rules import Messaging, rule

REPLIES = {"one": 1, "two": 2, "slow": 1, "fails": 1, "none": 0, "stuck": 1}
"""First word of a text to how many replies it gets."""
STUCK = "stuck"
"""The kind that hangs until it is let go, fails then, and succeeds when it is replayed after its cause is mended."""


def sign(name: str) -> Path:
    """Name a file by which processes of a pass tell each other something."""
    return Path(os.environ.get("CHAOS_FOLDER", ".")) / name


def kind_of(event: Messaging) -> str:
    return event.text.partition(" ")[0]


def is_quick(event: Messaging) -> bool:
    return kind_of(event) in {"one", "two", "fails", "none"}


def is_slow(event: Messaging) -> bool:
    return kind_of(event) == "slow"


def is_stuck(event: Messaging) -> bool:
    return kind_of(event) == STUCK


def count(event: Messaging) -> None:
    """Leave an effect in the database with the claim and the process it belongs to, and one in the state."""
    queue = models.ConversationQueue.objects.get(
        conversation=event.conversation, kind=models.ConversationQueue.Kind.IN
    )
    models.UserLocation.objects.create(
        user=event.person,
        latitude=0,
        longitude=0,
        mid=event.mid,
        title=str(queue.fencing_token),
        url=str(os.getpid()),
    )
    event.conversation.state["count"] = event.conversation.state.get("count", 0) + 1


@rule(is_quick, name="quick")
def quick(event: Messaging) -> list[str]:
    count(event)
    if kind_of(event) == "fails" and event.row.tries == 0:
        raise RuntimeError("told to fail once")
    return [f"{event.mid} {number}" for number in range(REPLIES[kind_of(event)])]


@rule(is_slow, name="slow", slow=True)
def slow(event: Messaging) -> str:
    time.sleep(0.2)
    return f"{event.mid} 0"


@rule(is_slow, name="slow effect")
def slow_effect(event: Messaging) -> None:
    count(event)


@rule(is_stuck, name="stuck", slow=True, tries=1)
def stuck(event: Messaging) -> str:
    sign(f"begun {event.mid}").touch()
    while not sign("let go").exists():
        time.sleep(0.05)
    if not sign("mended").exists():
        raise RuntimeError("told to fail")
    return f"{event.mid} 0"
