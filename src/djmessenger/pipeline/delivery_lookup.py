"""Look-up at Meta of a reply of unknown fate.

Messenger Platform, "Conversations" (2026): the 20 newest messages of a conversation can be read, with the permission
``pages_read_engagement``, twice a second for each Page. The result does not contain the send token. A message is
recognised by its time and its text or files.
"""

from __future__ import annotations

import datetime
import logging
import unicodedata
from collections.abc import Mapping
from typing import Any

from django.utils import timezone

from djmessenger import models
from djmessenger.clock import as_stored
from djmessenger.filtering.patterns import MAX_LENGTH
from djmessenger.graph.client import Client
from djmessenger.graph.errors import GraphError, NotSent, RetryLater, UnknownFate
from djmessenger.graph.results import MessageInfo
from djmessenger.logs import error_label
from djmessenger.sql import Now

logger = logging.getLogger(__name__)

_NEWEST = 20
"""Messages that one look-up reads."""
_FILES = {"image", "video", "audio", "file"}
_SLACK = 5.0
"""Seconds by which the measured difference to Meta's clock may be wrong."""


def look_up_delivery(client: Client, reply: models.Reply, platform: str) -> str | None:
    """Return the id of the message that Meta has for a reply, or an empty text if Meta does not have the message.

    Returns None if the look-up cannot decide. Of several matches it returns the oldest: two attempts may have reached
    Meta, or staff of the Page may have typed the same text.
    Raises ``RetryLater``, ``NotSent`` or ``UnknownFate`` if a later look-up may succeed.
    """
    begun = reply.attempts.filter(outcome__in=[models.Attempt.Outcome.OPEN, models.Attempt.Outcome.UNKNOWN])
    first = begun.order_by("number").annotate(now=Now()).values_list("date_started", "now").first()
    if first is None:
        return None
    asked_at = timezone.now()
    try:
        messages = client.recent_messages(reply.recipient_id, limit=_NEWEST, platform=platform)
    except (RetryLater, NotSent, UnknownFate):
        raise
    except GraphError as error:
        logger.warning(
            "Delivery of reply %s cannot be looked up; the token needs pages_read_engagement: %s",
            reply.pk,
            f"{error_label(error)}. {error.action}",
            extra={"action": "second_opinion_refused", "reply": reply.pk},
        )
        return None
    # The clocks of the database, this host and Meta may differ by hours. So only the time since the attempt is of the
    # database, and that of this host is corrected by the difference to Meta's clock.
    # test_the_lookup_finds_a_message_if_the_clock_of_the_sender_is_wrong
    date_started, now = first
    since = asked_at - (now - date_started) - datetime.timedelta(seconds=_SLACK + (client.clock_skew or 0.0))
    recent = [
        message
        for message in messages
        if message.created_time is None or as_stored(message.created_time) >= since
    ]
    page_messages = [message for message in recent if message.id and message.from_id != reply.recipient_id]
    # The bot may send the same text twice. A message of another reply proves nothing about this one.
    # test_the_same_words_of_another_reply_or_of_the_person_prove_nothing
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
    # The absence is certain only if each message was comparable and the list was not full. A full list may have cut
    # off the message.
    is_sure = messages and len(recent) < _NEWEST and None not in matches.values()
    return "" if is_sure else None


def _matches(message: MessageInfo, data: Mapping[str, Any]) -> bool | None:
    """Return whether a message of the look-up is the one that was sent, or None if it is not comparable."""
    sent = data.get("message") or {}
    if text := _normalized(sent.get("text")):
        return _normalized(message.message) == text
    kind = str((sent.get("attachment") or {}).get("type"))
    if _normalized(message.message) and kind in _FILES:
        return False
    mime_types = [str(item.get("mime_type") or "") for item in message.attachments]
    if kind in _FILES and mime_types and all(mime_types):
        return all(mime_type.startswith(f"{kind}/") for mime_type in mime_types) if kind != "file" else None
    # Meta returns templates in a different form than they were sent in.
    return None


def _normalized(text: Any) -> str:
    text = str(text or "")
    # Meta takes no longer text, and the order of combining marks takes quadratic time.
    return " ".join((unicodedata.normalize("NFC", text) if len(text) <= MAX_LENGTH else text).split())
