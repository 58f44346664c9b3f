"""Look-up at Meta of a reply whose delivery is unknown.

Messenger Platform, "Conversations" (2026): the 20 newest messages of a conversation can be read, with the permission
``pages_read_engagement``, twice a second for each Page. No token is among what is told, so a message is known by its
time and what it says.
"""

from __future__ import annotations

import datetime
import logging
import unicodedata
from collections.abc import Mapping
from typing import Any

from djmessenger import graph, models
from djmessenger.graph.results import MessageInfo
from djmessenger.logs import error_label

logger = logging.getLogger(__name__)

_NEWEST = 20
_FILES = {"image", "video", "audio", "file"}
_SLACK = 5.0
"""Seconds by which Meta's clock may be behind, besides what is known of it."""


def look_up_delivery(client: graph.Client, reply: models.Reply, platform: str) -> str | None:
    """Give the id of the message that Meta has of an unsure reply, empty where it has none; None: nobody can tell.

    Where there are several, a try was repeated, or somebody of the Page typed the same: the oldest is given. Raises
    ``RetryLater``, ``NotSent`` or ``UnknownFate`` where it may be told later.
    """
    begun = reply.attempts.filter(outcome__in=[models.Attempt.Outcome.OPEN, models.Attempt.Outcome.UNKNOWN])
    first = begun.order_by("number").values_list("date_started", flat=True).first()
    if first is None:
        return None
    try:
        messages = client.recent_messages(reply.recipient_id, limit=_NEWEST, platform=platform)
    except (graph.RetryLater, graph.NotSent, graph.UnknownFate):
        raise
    except graph.GraphError as error:
        logger.warning(
            "The delivery of reply %s cannot be looked up; the token needs pages_read_engagement: %s",
            reply.pk,
            f"{error_label(error)}. {error.action}",
            extra={"action": "second_opinion_refused", "reply": reply.pk},
        )
        return None
    since = first - datetime.timedelta(seconds=_SLACK + max(0.0, client.clock_skew or 0.0))
    recent = [
        message for message in messages if message.created_time is None or message.created_time >= since
    ]
    page_messages = [message for message in recent if message.id and message.from_id != reply.recipient_id]
    other_replies = models.Reply.objects.filter(mid__in=[message.id for message in page_messages]).exclude(
        pk=reply.pk
    )
    mids_of_other_replies = set(other_replies.values_list("mid", flat=True))
    matches = {
        message.id: _matches(message, reply.data)
        for message in reversed(page_messages)
        if message.id not in mids_of_other_replies
    }
    for mid, is_match in matches.items():
        if is_match:
            return mid
    # None is found, and none can hide: in what is told otherwise than it was sent, or behind the newest.
    is_sure = messages and len(recent) < _NEWEST and None not in matches.values()
    return "" if is_sure else None


def _matches(message: MessageInfo, data: Mapping[str, Any]) -> bool | None:
    """Whether a message is the one that was sent; None where what is told of it does not say."""
    sent = data.get("message") or {}
    if text := _normalized(sent.get("text")):
        return _normalized(message.message) == text
    kind = str((sent.get("attachment") or {}).get("type"))
    if _normalized(message.message) and kind in _FILES:
        return False
    mime_types = [str(item.get("mime_type") or "") for item in message.attachments]
    if kind in _FILES and mime_types and all(mime_types):
        return all(mime_type.startswith(f"{kind}/") for mime_type in mime_types) if kind != "file" else None
    # A template is told in other words than it was sent in.
    return None


def _normalized(text: Any) -> str:
    return " ".join(unicodedata.normalize("NFC", str(text or "")).split())
