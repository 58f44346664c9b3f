"""Checks of a message: text, attachments, quick replies. Templates are checked in ``templates``.

Limits and keys: Messenger Platform, "Send messages" (May 2026), "Quick replies", "Instagram: send message" (July
2026). Meta does not document the order of its checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from messenger_emulator.refusals import bad, missing, too_long
from messenger_emulator.state import Page
from messenger_emulator.templates import check_template, check_utility
from messenger_emulator.validation import (
    as_flag,
    as_list,
    as_number,
    as_object,
    as_text,
    as_url,
    one_of,
    only_keys,
    required,
)

MEDIA = frozenset({"image", "audio", "video", "file"})
_MESSAGE_KEYS = {
    "text",
    "attachment",
    "attachments",
    "sticker_id",
    "template",
    "quick_replies",
    "metadata",
    "dynamic_text",
}


def check_message(value: Any, page: Page, *, has_file: bool = False) -> dict[str, Any]:
    """Return the message if Graph would accept it; otherwise raise ``Refusal``."""
    message = as_object(value, "message")
    only_keys(message, _MESSAGE_KEYS, "message")
    content = [
        key for key in ("text", "attachment", "attachments", "sticker_id", "template") if message.get(key)
    ]
    if not content and not (has_file or message.get("dynamic_text")):
        raise bad("Message cannot be empty, must provide valid attachment or text", 2018034, "message")
    if len([key for key in content if key != "text"]) > 1 or ("text" in content and len(content) > 1):
        raise bad(f"Only one of {', '.join(content)} may be given in param message", path="message")
    if message.get("text") is not None:
        check_text(message["text"], page)
    if message.get("attachment") is not None:
        check_attachment(message["attachment"], page, has_file=has_file)
    elif has_file:
        raise missing("message[attachment]")
    if message.get("attachments") is not None:
        check_images(message["attachments"], page)
    if message.get("sticker_id") is not None:
        as_number(message["sticker_id"], "message[sticker_id]", least=1)
    if message.get("template") is not None:
        check_utility(message["template"], page)
    if message.get("quick_replies") is not None:
        check_quick_replies(message["quick_replies"], page)
    if message.get("metadata") is not None:
        as_text(message["metadata"], "message[metadata]", most=page.limits["metadata.length"])
    return message


def check_text(text: Any, page: Page) -> None:
    as_text(text, "message[text]")
    if page.is_instagram:
        most = page.limits["text.bytes.instagram"]
        if len(text.encode("utf-8", "surrogatepass")) > most:
            raise too_long("message[text]", most)
    else:
        as_text(text, "message[text]", most=page.limits["text.length"])


def check_images(attachments: Any, page: Page) -> None:
    images = as_list(attachments, "message[attachments]", least=1, most=page.limits["images.count"])
    for number, image in enumerate(images):
        path = f"message[attachments][{number}]"
        as_object(image, path)
        if image.get("type") != "image":
            raise bad(f"Param {path}[type] must be one of {{IMAGE}}", path=path)
        _check_media(image, path, page, has_file=False)


def check_attachment(attachment: Any, page: Page, *, has_file: bool = False) -> None:
    path = "message[attachment]"
    as_object(attachment, path)
    only_keys(attachment, {"type", "payload"}, path)
    kinds = MEDIA | {"template"} | ({"like_heart", "media_share"} if page.is_instagram else frozenset())
    kind = one_of(required(attachment, "type", path), kinds, f"{path}[type]")
    if kind == "template":
        check_template(attachment.get("payload"), page)
    elif kind in MEDIA:
        _check_media(attachment, path, page, has_file=has_file)


def _check_media(attachment: Mapping[str, Any], path: str, page: Page, *, has_file: bool) -> None:
    payload = as_object(attachment.get("payload", {} if has_file else None), f"{path}[payload]")
    path = f"{path}[payload]"
    only_keys(payload, {"url", "attachment_id", "is_reusable"}, path)
    if payload.get("is_reusable") is not None:
        as_flag(payload["is_reusable"], f"{path}[is_reusable]")
    sources = [key for key in ("url", "attachment_id") if payload.get(key)]
    if has_file:
        if sources:
            raise bad(f"Param {path} must not hold {sources[0]} beside an uploaded file", path=path)
        return
    if len(sources) != 1:
        raise bad(f"Param {path} must hold either url or attachment_id", path=path)
    if payload.get("url"):
        as_url(payload["url"], f"{path}[url]")
    else:
        stored = page.attachments.get(str(payload["attachment_id"]))
        if stored is None:
            raise bad("Invalid attachment ID", 2018074, path)
        if stored["type"] != attachment["type"]:
            raise bad("The type of the attachment does not match", 2018047, path)


def check_quick_replies(replies: Any, page: Page) -> None:
    """Check quick replies. Instagram truncates long titles and does not refuse them.

    Instagram refuses the kinds for phone and e-mail since 2026-10-05 (Instagram Platform, "Changelog").
    """
    path = "message[quick_replies]"
    for number, reply in enumerate(as_list(replies, path, least=1, most=page.limits["quick_replies.count"])):
        at = f"{path}[{number}]"
        as_object(reply, at)
        kinds = {"text"} if page.is_instagram else {"text", "user_phone_number", "user_email"}
        kind = one_of(required(reply, "content_type", at), kinds, f"{at}[content_type]")
        if kind != "text":
            only_keys(reply, {"content_type"}, at)
            continue
        only_keys(reply, {"content_type", "title", "payload", "image_url"}, at)
        if reply.get("image_url"):
            as_url(reply["image_url"], f"{at}[image_url]")
        for key in ("title", "payload"):
            value = reply.get(key)
            if key == "payload" and isinstance(value, (int, float)) and not isinstance(value, bool):
                value = str(value)
            if value is None or (value == "" and not reply.get("image_url")):
                raise missing(f"{at}[{key}]")
            cut = key == "title" and page.is_instagram
            as_text(value, f"{at}[{key}]", most=None if cut else page.limits[f"quick_reply.{key}"])
