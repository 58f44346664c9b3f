"""Bot of a pass. Its effects follow from the event alone, so the invariants can count them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from djmessenger import models
from djmessenger.rules import Messaging, rule

REPLIES = {"one": 1, "two": 2, "slow": 1, "fails": 1, "none": 0, "stuck": 1}
"""Number of replies by first word of a text."""
STUCK = "stuck"
"""Kind of text whose rule blocks until it is released, then fails, and succeeds in the replay."""


def sign(name: str) -> Path:
    """Return the path of a file that signals a state to all processes of a pass."""
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
    """Insert a row with fencing token and process id, and increment the count in the state."""
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
        raise RuntimeError("one failure on purpose")
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
    while not sign("released").exists():
        time.sleep(0.05)
    if not sign("mended").exists():
        raise RuntimeError("failure on purpose")
    return f"{event.mid} 0"
