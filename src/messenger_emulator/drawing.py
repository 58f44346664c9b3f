"""Conversion of a sent message to the bubble on the screen, and to its echo.

Echoes: Messenger Platform, "message_echoes" (March 2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from messenger_emulator.state import Bubble


def echo_of(bubble: Bubble, *, instagram: bool = False) -> dict[str, Any]:
    """Return the ``message`` of the echo of a bubble."""
    message = bubble.message
    echo: dict[str, Any] = {"is_echo": True}
    if not instagram:
        echo["app_id"] = int(bubble.app_id) if bubble.app_id.isdigit() else bubble.app_id
    echo["mid"] = bubble.mid
    if bubble.metadata is not None:
        echo["metadata"] = bubble.metadata
    if message.get("text"):
        echo["text"] = message["text"]
    parts = [message["attachment"]] if message.get("attachment") else list(message.get("attachments") or ())
    if parts:
        echo["attachments"] = [_echo_part(part) for part in parts]
    if bubble.kind == "sticker" and message.get("sticker_id"):
        payload = {
            "url": "https://cdn.example.com/stickers/sent.png",
            "sticker_id": int(message["sticker_id"]),
        }
        echo["attachments"] = [{"type": "sticker", "payload": payload}]
    if bubble.reply_to:
        echo["reply_to"] = {"mid": bubble.reply_to}
    return echo


def _echo_part(part: Mapping[str, Any]) -> dict[str, Any]:
    payload = dict(part.get("payload") or {})
    if part["type"] != "template":
        return {
            "type": part["type"],
            "payload": {"url": payload.get("url") or "https://cdn.example.com/sent"},
        }
    if payload.get("template_type") == "media":
        payload["elements"] = [_with_numeric_id(element) for element in payload["elements"]]
        return {"title": "", "url": "https://www.facebook.com/", "type": "template", "payload": payload}
    return {"type": "template", "payload": payload}


def _with_numeric_id(element: Mapping[str, Any]) -> dict[str, Any]:
    changed = dict(element)
    if str(changed.get("attachment_id", "")).isdigit():
        changed["attachment_id"] = int(changed["attachment_id"])
    return changed


def draw(mid: str, message: Mapping[str, Any], now: float, attachments: Mapping[str, Any]) -> Bubble:
    """Build the bubble of a message of the Page."""
    attachment = message.get("attachment") or {}
    payload = attachment.get("payload") or {}
    bubble = Bubble(mid, True, now, "text", str(message.get("text") or ""), dict(message))
    bubble.metadata = message.get("metadata")
    bubble.quick_replies = list(message.get("quick_replies") or ())
    if attachment:
        bubble.kind = str(attachment["type"]).lower()
        bubble.text = str(payload.get("text") or payload.get("title") or "")
        bubble.buttons = list(payload.get("buttons") or ())
        bubble.elements = list(payload.get("elements") or ())
        stored = attachments.get(str(payload.get("attachment_id") or ""))
        if stored:
            bubble.message["url"] = stored["url"]
        elif payload.get("url"):
            bubble.message["url"] = payload["url"]
    elif message.get("attachments"):
        bubble.kind = "images"
    elif message.get("sticker_id"):
        bubble.kind = "sticker"
    elif message.get("template"):
        bubble.kind = "utility"
        bubble.text = str(message["template"].get("name", ""))
    return bubble
