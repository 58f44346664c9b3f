"""What Meta's own record of a conversation says of a reply whose fate is not known.

Messenger Platform, "Conversations" (2026): the 20 newest messages of a conversation can be read, with the permission
``pages_read_engagement``, twice a second for each Page. No token is among what is told, so a message is known by its
time and what it says.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping
from typing import Any

from djmessenger import graph, models
from djmessenger.graph.results import MessageInfo
from djmessenger.logs import fault

logger = logging.getLogger(__name__)

_NEWEST = 20
_SLACK = 5.0
"""Seconds by which Meta's clock may be behind, besides what is known of it."""


def second_opinion(client: graph.Client, reply: models.Reply, platform: str) -> str | None:
    """Give the id of the message that Meta has of an unsure reply, empty where it has none; None: nobody can tell.

    Raises ``RetryLater`` or ``NotSent`` where it may be told later.
    """
    begun = reply.attempts.filter(outcome__in=[models.Attempt.Outcome.OPEN, models.Attempt.Outcome.UNKNOWN])
    first = begun.order_by("number").values_list("date_started", flat=True).first()
    if first is None:
        return None
    try:
        messages = client.recent_messages(reply.recipient_id, limit=_NEWEST, platform=platform)
    except (graph.RetryLater, graph.NotSent):
        raise
    except graph.GraphError as error:
        logger.warning(
            "Reply %s has no second opinion, for which the token needs pages_read_engagement: %s",
            reply.pk,
            f"{fault(error)}. {error.action}",
            extra={"action": "second_opinion_refused", "reply": reply.pk},
        )
        return None
    since = first - datetime.timedelta(seconds=_SLACK + max(0.0, client.clock_skew or 0.0))
    recent = [
        message for message in messages if message.created_time is None or message.created_time >= since
    ]
    alike = [
        message.id
        for message in recent
        if message.id and message.from_id != reply.recipient_id and _says(message, reply.data)
    ]
    others = models.Reply.objects.filter(mid__in=alike).exclude(pk=reply.pk)
    found = set(alike) - set(others.values_list("mid", flat=True))
    if len(found) == 1:
        return found.pop()
    if found or len(recent) >= _NEWEST:
        # Several say the same, or it may be behind those that can be read.
        return None
    return ""


def _says(message: MessageInfo, data: Mapping[str, Any]) -> bool:
    text = str((data.get("message") or {}).get("text") or "").strip()
    # Files and templates are told in other words than they were sent in.
    return message.message.strip() == text if text else bool(message.attachments) or not message.message
