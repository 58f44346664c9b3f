"""Bot of a pass. Its effects follow from the event alone, so the invariants can count them."""

from __future__ import annotations

import os
import time

from django.conf import settings
from django.db import transaction

from chaos.inside import freeze, sign
from djmessenger import models
from djmessenger.rules import Messaging, rule

REPLIES = {"one": 1, "two": 2, "slow": 1, "long": 1, "fails": 1, "hook": 1, "none": 0, "stuck": 1}
"""Number of replies by first word of a text."""
LONG = 1.5
"""Seconds of a long rule, as a multiple of the lease."""
STUCK = "stuck"
"""Kind of text whose rule blocks until it is released, then fails, and succeeds in the replay."""


def kind_of(event: Messaging) -> str:
    return event.text.partition(" ")[0]


def is_quick(event: Messaging) -> bool:
    return kind_of(event) in {"one", "two", "fails", "hook", "none"}


def is_slow(event: Messaging) -> bool:
    return kind_of(event) in {"slow", "long"}


def is_stuck(event: Messaging) -> bool:
    return kind_of(event) == STUCK


def count(event: Messaging) -> None:
    """Insert a row with fencing token, process id and holder of the lease, and increment the count in the state."""
    queue = models.ConversationQueue.objects.get(
        conversation=event.conversation, kind=models.ConversationQueue.Kind.IN
    )
    models.UserLocation.objects.create(
        user=event.person,
        latitude=0,
        longitude=0,
        mid=event.mid,
        title=str(queue.fencing_token),
        url=f"{os.getpid()} {queue.owner.rpartition(':')[2]}",
    )
    event.conversation.state["count"] = event.conversation.state.get("count", 0) + 1


def fail_after_the_commit() -> None:
    """Raise after the commit of the event. A worker that counts this as a failed try would repeat the effect."""
    raise RuntimeError("failure on purpose")


@rule(is_quick, name="quick")
def quick(event: Messaging) -> list[str]:
    count(event)
    if kind_of(event) == "fails" and event.row.tries == 0:
        raise RuntimeError("one failure on purpose")
    if kind_of(event) == "hook" and event.row.tries == 0:
        transaction.on_commit(fail_after_the_commit)
    return [f"{event.mid} {number}" for number in range(REPLIES[kind_of(event)])]


@rule(is_slow, name="slow", slow=True)
def slow(event: Messaging) -> str:
    """Return the reply after a while.

    A process that an act has frozen here returns at once when it continues. Another process runs the rule then.
    """
    if kind_of(event) == "slow":
        time.sleep(0.2)
    elif not freeze("handler", str(event.get_psid())):
        time.sleep(LONG * settings.DJM_LEASE)
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
