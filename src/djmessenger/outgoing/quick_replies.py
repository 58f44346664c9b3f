"""Quick replies: buttons below a message that a person can tap instead of typing.

Source: Messenger Platform, "Quick replies", read November 2026. Meta retired the kind that asked for a place,
and on Instagram those for phone and e-mail on 2026-10-05 (Instagram Platform, "Changelog").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from djmessenger.outgoing.base import Part, PayloadLike, TextLike, Writer, has_value, present


class AnyQuickReply(Part):
    """Parent of the kinds of quick reply."""


@dataclass(frozen=True)
class QuickReply(AnyQuickReply):
    """Quick reply that sends its title as a text, with the payload: ``QuickReply("Order", "ORDER")``.

    The title has at most 20 characters, the payload at most 1,000. Both may be empty only with a picture of at
    least 24 x 24 pixels.
    """

    title: TextLike
    payload: PayloadLike = ""
    image_url: str = ""

    def write(self, out: Writer) -> dict[str, Any]:
        is_required = not has_value(self.image_url)
        return {
            "content_type": "text",
            "title": out.text("title", self.title, "quick_reply.title", required=is_required),
            "payload": out.payload("payload", self.payload, "quick_reply.payload", required=is_required),
            **present(image_url=out.optional_url("image_url", self.image_url)),
        }


@dataclass(frozen=True)
class PhoneQuickReply(AnyQuickReply):
    """Quick reply with the person's own phone number, on Messenger only; hidden from a person without one."""

    def write(self, out: Writer) -> dict[str, Any]:
        out.ended("", "quick_reply.user_phone_number", "a quick reply with the phone number")
        return {"content_type": "user_phone_number"}


@dataclass(frozen=True)
class EmailQuickReply(AnyQuickReply):
    """Quick reply with the person's own e-mail address, on Messenger only; hidden from a person without one."""

    def write(self, out: Writer) -> dict[str, Any]:
        out.ended("", "quick_reply.user_email", "a quick reply with the e-mail address")
        return {"content_type": "user_email"}
