"""Events made by hand, one of each kind, for the tests of the stages."""

from __future__ import annotations

from typing import Any

from djmessenger.filtering import (
    BaseFilter,
)
from djmessenger.payload import GetStartedPayload, Payload
from djmessenger.receiving import Messaging

SENT = 1478907792000  # 2016-11-11 23:43:12 UTC
PAGE, PERSON = "900", "111"


class OrderPayload(Payload):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class GiftPayload(OrderPayload):
    pass


def event(timestamp: Any = SENT, **parts: Any) -> Messaging:
    raw = {"sender": {"id": PERSON}, "recipient": {"id": PAGE}, "timestamp": timestamp, **parts}
    return Messaging.from_item(raw, entry_id=PAGE)


def text(typed: str, **message: Any) -> Messaging:
    return event(message={"mid": "m_1", "text": typed, **message})


def attached(kind: str, payload: Any = None, **message: Any) -> Messaging:
    return event(message={"mid": "m_1", "attachments": [{"type": kind, "payload": payload or {}}], **message})


def sticker(sticker_id: str | int) -> Messaging:
    return attached("sticker", {"url": "https://example.com/s.png", "sticker_id": sticker_id})


def quick_reply(payload: str, title: str = "Tap") -> Messaging:
    return text(title, quick_reply={"payload": payload})


def postback(payload: str) -> Messaging:
    return event(postback={"title": "Tap", "payload": payload})


def every_kind() -> dict[str, Messaging]:
    return {
        "text": text("hello"),
        "empty text": text(""),
        "quick reply": quick_reply("ORDER"),
        "postback": postback("ORDER"),
        "get started": postback(GetStartedPayload().serialize()),
        "sticker": sticker("369239263222822"),
        "image": attached("image", {"url": "https://example.com/a.png"}),
        "audio": attached("audio", {"url": "https://example.com/a.mp3"}),
        "video": attached("video", {"url": "https://example.com/a.mp4"}),
        "file": attached("file", {"url": "https://example.com/a.pdf"}),
        "location": attached("location", {"coordinates": {"lat": 48.2, "long": 16.4}}),
        "read": event(read={"watermark": SENT}),
        "delivery": event(delivery={"watermark": SENT}),
        "optin": event(optin={"ref": "shop"}),
        "referral": event(referral={"ref": "shop", "source": "SHORTLINK", "type": "OPEN_THREAD"}),
        "reaction": event(reaction={"reaction": "love", "emoji": "❤", "action": "react", "mid": "m_1"}),
        "nothing": event(),
    }


def passed_kinds(item: BaseFilter) -> set[str]:
    return {name for name, messaging in every_kind().items() if item.should_pass(messaging)}
