"""What was said in a conversation, as lines that a program or a language model can read."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.db import models

from djmessenger.receiving import Messaging, ReceivingType


class Line(NamedTuple):
    """One message of a conversation."""

    who: str
    """``person``, ``bot``, or ``staff`` for what another app or a human sent from the Page."""
    text: str
    """What it said; the kind in brackets where it has no words, such as ``[image]``."""
    when: datetime.datetime


SPOKEN = tuple(name for name, kind in ReceivingType.members.items() if kind.authored)
"""Types of events in which a person says something."""


def said(body: Mapping[str, Any], row: Any) -> str:
    """Give the words of an event, as its row keeps it."""
    messaging = Messaging.from_row(body, row)
    postback = messaging.postback
    title = str(getattr(postback, "title", "") or "") if postback is not None else ""
    return messaging.text or title or f"[{messaging.type.name.lower().replace('_', ' ')}]"


def told(data: Mapping[str, Any]) -> str:
    """Give the words of a reply: its text, or that of its template, and what the person may tap."""
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
    """Return the last ``n`` lines of a conversation with these events and replies, the oldest first."""
    if n <= 0:
        return []
    spoken = messagings.filter(type__in=SPOKEN).order_by("-timestamp", "-id")[:n]
    lines = [Line("person", said(row.body, row), _when(row)) for row in spoken]
    answers = list(replies.exclude(state__in=["failed", "parked", "expired"]).order_by("-id")[:n])
    lines += [Line("bot", told(reply.data), reply.date_sent) for reply in answers]
    # Echoes without a token of ours: somebody else spoke for the Page.
    others = messagings.filter(type="ECHO", echo_token=None).order_by("-timestamp", "-id")[:n]
    ours = {reply.mid for reply in answers}
    lines += [Line("staff", said(row.body, row), _when(row)) for row in others if row.mid not in ours]
    return sorted(lines, key=lambda line: line.when)[-n:]


def _when(row: Any) -> datetime.datetime:
    """The latest moment at which an event can have been: Meta tells the millisecond, our clock when it was here."""
    begun: datetime.datetime = row.date_event
    received: datetime.datetime = row.date_received
    return max(begun, min(received, begun + datetime.timedelta(microseconds=999)))
