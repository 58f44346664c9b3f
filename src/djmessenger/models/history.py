"""History of a conversation as lines of text, for programs and language models."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.db import models

from djmessenger.receiving import Messaging, ReceivingType


class Line(NamedTuple):
    """One message of a conversation."""

    who: str
    """Sender: ``person``, ``bot``, or ``staff`` for another app or a human that writes from the Page."""
    text: str
    """Text of the message, or its kind in brackets if it has no text, such as ``[image]``."""
    when: datetime.datetime


AUTHORED_TYPES = tuple(name for name, kind in ReceivingType.members.items() if kind.authored)
"""Types of authored events."""


def text_of_event(body: Mapping[str, Any], row: Any) -> str:
    """Return the text of a stored event: its text, the title of its button, or its type in brackets."""
    messaging = Messaging.from_row(body, row)
    postback = messaging.postback
    title = str(getattr(postback, "title", "") or "") if postback is not None else ""
    return messaging.text or title or f"[{messaging.type.name.lower().replace('_', ' ')}]"


def text_of_reply(data: Mapping[str, Any]) -> str:
    """Return the text of a reply, followed by the titles of its quick replies and buttons in brackets.

    The text is that of the message or of its template. If both are missing, it consists of the titles of the cards. If
    there are none, it is the kind in brackets, such as ``[image]``.
    """
    message = data.get("message") or {}
    attachment = message.get("attachment") or {}
    payload = attachment.get("payload") or {}
    cards = [str(card.get("title", "")) for card in payload.get("elements") or ()]
    words = message.get("text") or payload.get("text") or ", ".join(filter(None, cards))
    kind = payload.get("template_type") or attachment.get("type") or "message"
    choices = [
        *(message.get("quick_replies") or ()),
        *(payload.get("buttons") or ()),
    ]
    titles = [str(choice["title"]) for choice in choices if choice.get("title")]
    return " ".join([words or f"[{kind}]", *(f"[{title}]" for title in titles)])


def last_lines(messagings: models.Manager[Any], replies: models.Manager[Any], n: int) -> list[Line]:
    """Return the last ``n`` lines of a conversation with these events and replies, oldest first."""
    if n <= 0:
        return []
    spoken = messagings.filter(type__in=AUTHORED_TYPES).order_by("-timestamp", "-id")[:n]
    lines = [Line("person", text_of_event(row.body, row), _when(row)) for row in spoken]
    answers = list(replies.exclude(state__in=["failed", "parked", "expired"]).order_by("-id")[:n])
    lines += [Line("bot", text_of_reply(reply.data), reply.date_sent) for reply in answers]
    # An echo without a send token of this bot: another app or a human wrote from the Page.
    others = messagings.filter(type="ECHO", echo_token=None).order_by("-timestamp", "-id")[:n]
    ours = {reply.mid for reply in answers}
    lines += [
        Line("staff", text_of_event(row.body, row), _when(row)) for row in others if row.mid not in ours
    ]
    return sorted(lines, key=lambda line: line.when)[-n:]


def _when(row: Any) -> datetime.datetime:
    """Return the latest possible time of an event: the end of the millisecond of Meta's timestamp.

    The time of arrival is returned if it is within that millisecond. Meta truncates times to milliseconds. If events
    were sorted by the start of the millisecond, an event could come before a reply that was sent earlier.
    """
    begun: datetime.datetime = row.date_event
    received: datetime.datetime = row.date_received
    return max(begun, min(received, begun + datetime.timedelta(microseconds=999)))
