"""Typing mark of a slow rule, sent again while the rule runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from djmessenger import receiving
from djmessenger.exceptions import DJMException
from djmessenger.graph.context import current as current_client
from djmessenger.pipeline.threads import started
from djmessenger.routing.decision import Decision

_TYPING_INTERVAL = 15.0
"""Seconds between two typing marks; one lasts for 20 (Messenger Platform, "Sender actions", 2026)."""


@contextlib.contextmanager
def typing_mark(messaging: receiving.Messaging, decision: Decision) -> Iterator[None]:
    """Send the typing mark every ``_TYPING_INTERVAL`` seconds during the block, if a slow rule has ``typing``.

    Meta removes a mark after 20 seconds. The first mark is sent after one interval. An error ends the repetition.
    """
    if not any(rule.typing and rule.slow for rule in decision.applied):
        yield
        return
    try:
        client, psid = current_client(), messaging.get_psid()
    except DJMException:
        yield
        return
    ended = threading.Event()

    def refresh() -> None:
        while not ended.wait(_TYPING_INTERVAL):
            try:
                client.send({"id": psid}, {"sender_action": "typing_on"})
            except (DJMException, OSError):
                return

    started(threading.Thread(target=refresh, name="djmessenger-typing", daemon=True))
    try:
        yield
    finally:
        ended.set()
