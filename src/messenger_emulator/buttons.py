"""Buttons, wherever they stand.

Keys and limits: Messenger Platform, "Buttons" (April 2026).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from messenger_emulator.refusals import bad
from messenger_emulator.state import Page
from messenger_emulator.validation import (
    as_flag,
    as_list,
    as_number,
    as_object,
    as_url,
    one_of,
    only_keys,
    required,
    required_text,
)

URL_KEYS = {
    "type",
    "title",
    "url",
    "webview_height_ratio",
    "messenger_extensions",
    "fallback_url",
    "webview_share_button",
}
_BUTTON_KEYS: Mapping[str, Collection[str]] = {
    "web_url": URL_KEYS,
    "postback": {"type", "title", "payload"},
    "phone_number": {"type", "title", "payload"},
    "account_link": {"type", "url"},
    "account_unlink": {"type"},
    "game_play": {"type", "title", "payload", "game_metadata"},
    "audio_call": {"type", "title", "expires_in_days", "payload"},
}
ANY_BUTTON = frozenset(_BUTTON_KEYS)
PLAIN_BUTTON = frozenset({"web_url", "postback"})


def check_buttons(
    buttons: Any,
    path: str,
    page: Page,
    *,
    kinds: Collection[str] = ANY_BUTTON,
    least: int = 0,
    most: int | None = None,
    title: int | None = None,
) -> None:
    """Check a list of buttons; a menu allows more of them, and longer titles."""
    for number, button in enumerate(
        as_list(buttons, path, least=least, most=page.limits["buttons.count"] if most is None else most)
    ):
        check_button(button, f"{path}[{number}]", page, kinds=kinds, title=title)


def check_button(
    button: Any, path: str, page: Page, *, kinds: Collection[str] = ANY_BUTTON, title: int | None = None
) -> None:
    as_object(button, path)
    kind = one_of(required(button, "type", path), kinds, f"{path}[type]")
    only_keys(button, _BUTTON_KEYS[kind], path)
    if "title" in _BUTTON_KEYS[kind]:
        required_text(button, "title", path, most=page.limits["button.title"] if title is None else title)
    if kind == "postback":
        required_text(button, "payload", path, most=page.limits["button.payload"])
    elif kind == "phone_number":
        number = required_text(button, "payload", path)
        if not re.fullmatch(r"\+[0-9]{5,15}", re.sub(r"[ ()\-.]", "", number)):
            raise bad(f"Param {path}[payload] must be a valid phone number", path=path)
    elif kind == "account_link":
        as_url(required(button, "url", path), f"{path}[url]", https=True)
    elif kind == "web_url":
        check_web_url(button, path, page)
    elif kind == "game_play" and button.get("game_metadata") is not None:
        metadata = as_object(button["game_metadata"], f"{path}[game_metadata]")
        if len([key for key in ("player_id", "context_id") if metadata.get(key)]) != 1:
            raise bad(f"Param {path}[game_metadata] must hold either player_id or context_id")
    elif kind == "audio_call" and button.get("expires_in_days") is not None:
        as_number(
            button["expires_in_days"],
            f"{path}[expires_in_days]",
            least=1,
            most=page.limits["audio_call.days"],
        )


def check_web_url(button: Mapping[str, Any], path: str, page: Page) -> None:
    url = as_url(required(button, "url", path), f"{path}[url]")
    if button.get("webview_height_ratio") is not None:
        one_of(button["webview_height_ratio"], {"compact", "tall", "full"}, f"{path}[webview_height_ratio]")
    if button.get("webview_share_button") is not None:
        one_of(button["webview_share_button"], {"hide"}, f"{path}[webview_share_button]")
    extensions = bool(button.get("messenger_extensions")) and as_flag(
        button["messenger_extensions"], f"{path}[messenger_extensions]"
    )
    if extensions:
        as_url(url, f"{path}[url]", https=True)
        if not _is_whitelisted(url, page):
            raise bad("The URL provided is not whitelisted for messenger extensions", path=path)
    elif button.get("fallback_url"):
        raise bad(f"Param {path}[fallback_url] needs messenger_extensions", path=path)


def _is_whitelisted(url: str, page: Page) -> bool:
    host = urlsplit(url).hostname
    return any(urlsplit(str(d)).hostname == host for d in page.platform().get("whitelisted_domains") or ())
