"""What was said in a conversation, as lines that a program or a language model can read."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple

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
