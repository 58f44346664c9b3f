"""Sender actions: seen, typing, reactions. They are no messages, and a failed one is not repeated.

Source: Messenger Platform, "Sender actions", 21 January 2026.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import regex

from djmessenger.channels import INSTAGRAM
from djmessenger.outgoing.base import OutgoingMessage, Writer

ACTIONS = ("typing_on", "typing_off", "mark_seen")
_ONE_EMOJI = regex.compile(r"(?=.*[\p{Extended_Pictographic}\p{Regional_Indicator}\u20e3])\X", regex.DOTALL)
_HEART = ("love", "\u2764", "\u2764\ufe0f")


@dataclass(frozen=True)
class SenderAction(OutgoingMessage):
    """One of the actions ``typing_on``, ``typing_off`` and ``mark_seen``."""

    kind: ClassVar[str] = "sender_action"

    action: str

    def write(self, out: Writer) -> list[dict[str, Any]]:
        action = out.choice("action", self.action, ACTIONS)
        if not action:
            out.refuse("action", f"is missing: one of {', '.join(ACTIONS)}")
        return [{"sender_action": action}]


@dataclass(frozen=True)
class Typing(OutgoingMessage):
    """The typing indicator, on or off; Messenger ends it by itself after about 20 seconds."""

    kind: ClassVar[str] = "sender_action"
    type_name: ClassVar[str] = "typing"

    on: bool = True

    def write(self, out: Writer) -> list[dict[str, Any]]:
        return [{"sender_action": "typing_on" if out.flag("on", self.on) else "typing_off"}]


@dataclass(frozen=True)
class Reaction(OutgoingMessage):
    """Reaction to a message with one emoji: ``Reaction(event.mid, "❤")``; an empty one removes the reaction.

    Instagram accepts the heart alone.
    """

    kind: ClassVar[str] = "reaction"

    message_id: str
    reaction: str = "\u2764"

    def write(self, out: Writer) -> list[dict[str, Any]]:
        message_id = out.plain("message_id", self.message_id)
        reaction = out.plain("reaction", self.reaction, required=False)
        if not reaction:
            return [{"sender_action": "unreact", "payload": {"message_id": message_id}}]
        if out.channel == INSTAGRAM:
            if reaction not in _HEART:
                out.refuse("reaction", "Instagram accepts the heart alone")
            reaction = "love"
        elif reaction == "love":
            reaction = "\u2764"
        elif not _ONE_EMOJI.fullmatch(reaction):
            out.refuse("reaction", f"{reaction!r} is not one emoji")
        return [{"sender_action": "react", "payload": {"message_id": message_id, "reaction": reaction}}]
