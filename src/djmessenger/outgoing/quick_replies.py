"""Quick replies: what a person may tap instead of typing.

Source: Messenger Platform, "Quick replies", read November 2026. Meta retired the kind that asked for a place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from djmessenger.outgoing.base import Part, PayloadLike, TextLike, Writer, given, present


class AnyQuickReply(Part):
    """Parent of the kinds of quick reply."""


@dataclass(frozen=True)
class QuickReply(AnyQuickReply):
    """Sends its title as a text, with the payload: ``QuickReply("Order", "ORDER")``.

    Title at most 20 characters, payload at most 1,000; both may be empty only with a picture (24 x 24 pixels
    or more).
    """

    title: TextLike
    payload: PayloadLike = ""
    image_url: str = ""

    def write(self, out: Writer) -> dict[str, Any]:
        needed = not given(self.image_url)
        return {
            "content_type": "text",
            "title": out.text("title", self.title, "quick_reply.title", required=needed),
            "payload": out.payload("payload", self.payload, "quick_reply.payload", required=needed),
            **present(image_url=out.optional_url("image_url", self.image_url)),
        }


@dataclass(frozen=True)
class PhoneQuickReply(AnyQuickReply):
    """Offers the person's own phone number; hidden from persons who have none."""

    def write(self, out: Writer) -> dict[str, Any]:
        return {"content_type": "user_phone_number"}


@dataclass(frozen=True)
class EmailQuickReply(AnyQuickReply):
    """Offers the person's own e-mail address; hidden from persons who have none."""

    def write(self, out: Writer) -> dict[str, Any]:
        return {"content_type": "user_email"}
