"""Buttons of templates.

Source: Messenger Platform, "Buttons", 22 April 2026; the call button of the calling pages, 16 March 2026.
Share and buy buttons are retired.
"""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import Any

from djmessenger.outgoing.base import Part, PayloadLike, TextLike, Writer, present

WEBVIEW_HEIGHTS = ("compact", "tall", "full")
_PHONE_NUMBER = re.compile(r"\+[0-9][0-9 ()./-]{2,30}")


class Button(Part):
    """Parent of the kinds of button."""


@dataclass(frozen=True)
class UrlAction(Part):
    """Web page that a tap on an element opens (``default_action``).

    ``messenger_extensions`` needs https and a whitelisted domain of the Page. ``fallback_url`` needs
    ``messenger_extensions``. ``share_button=False`` hides the share button of the webview.
    """

    url: str
    _: KW_ONLY
    webview_height_ratio: str = ""
    messenger_extensions: bool = False
    fallback_url: str = ""
    share_button: bool = True

    def write(self, out: Writer) -> dict[str, Any]:
        return {"type": "web_url", **_web(self, out)}


@dataclass(frozen=True)
class UrlButton(Button):
    """Button that opens a web page: ``UrlButton("Our shop", "https://example.com")``; title at most 20 characters.

    The other fields are those of ``UrlAction``.
    """

    title: TextLike
    url: str
    _: KW_ONLY
    webview_height_ratio: str = ""
    messenger_extensions: bool = False
    fallback_url: str = ""
    share_button: bool = True

    def write(self, out: Writer) -> dict[str, Any]:
        return {"type": "web_url", "title": out.text("title", self.title, "button.title"), **_web(self, out)}


@dataclass(frozen=True)
class PostbackButton(Button):
    """Button that sends a postback: ``PostbackButton("Order", "ORDER")``; at most 20 and 1,000 characters."""

    title: TextLike
    payload: PayloadLike

    def write(self, out: Writer) -> dict[str, Any]:
        return {
            "type": "postback",
            "title": out.text("title", self.title, "button.title"),
            "payload": out.payload("payload", self.payload, "button.payload"),
        }


@dataclass(frozen=True)
class CallButton(Button):
    """Button that dials a number: ``CallButton("Call us", "+15105551234")``, with ``+`` and country code."""

    title: TextLike
    phone_number: str

    def write(self, out: Writer) -> dict[str, Any]:
        number = out.plain("phone_number", self.phone_number)
        if not _PHONE_NUMBER.fullmatch(number):
            out.refuse("phone_number", f"{number!r} is not a + followed by country code and number")
        return {
            "type": "phone_number",
            "title": out.text("title", self.title, "button.title"),
            "payload": number,
        }


@dataclass(frozen=True)
class LogInButton(Button):
    """Button that begins account linking at an https address; Meta writes its title."""

    url: str

    def write(self, out: Writer) -> dict[str, Any]:
        return {"type": "account_link", "url": out.url("url", self.url, schemes=("https",))}


@dataclass(frozen=True)
class LogOutButton(Button):
    """Button that ends account linking; Meta writes its title."""

    def write(self, out: Writer) -> dict[str, Any]:
        return {"type": "account_unlink"}


@dataclass(frozen=True)
class GamePlayButton(Button):
    """Button that starts the Instant Game of the Page, against a player or in a context, not both."""

    title: TextLike
    payload: PayloadLike = ""
    _: KW_ONLY
    player_id: str = ""
    context_id: str = ""

    def write(self, out: Writer) -> dict[str, Any]:
        player_id = out.plain("player_id", self.player_id, required=False)
        context_id = out.plain("context_id", self.context_id, required=False)
        if player_id and context_id:
            out.refuse("player_id", "cannot be combined with context_id")
        return {
            "type": "game_play",
            "title": out.text("title", self.title, "button.title"),
            **present(
                payload=out.payload("payload", self.payload, "button.payload", required=False),
                game_metadata=present(player_id=player_id, context_id=context_id),
            ),
        }


@dataclass(frozen=True)
class AudioCallButton(Button):
    """Button that calls the Page, valid for at most 7 days.

    Allowed in generic and button templates of Pages with calling turned on.
    """

    title: TextLike
    expires_in_days: int = 7

    def write(self, out: Writer) -> dict[str, Any]:
        return {
            "type": "audio_call",
            "title": out.text("title", self.title, "button.title"),
            "expires_in_days": out.number("expires_in_days", self.expires_in_days, "audio_call.days"),
        }


def _web(button: UrlAction | UrlButton, out: Writer) -> dict[str, Any]:
    extensions = out.flag("messenger_extensions", button.messenger_extensions)
    fallback_url = out.optional_url("fallback_url", button.fallback_url)
    if fallback_url and not extensions:
        out.refuse("fallback_url", "needs messenger_extensions")
    shared = out.flag("share_button", button.share_button)
    return {
        "url": out.url("url", button.url, schemes=("https",) if extensions else ("https", "http")),
        **present(
            webview_height_ratio=out.choice(
                "webview_height_ratio", button.webview_height_ratio, WEBVIEW_HEIGHTS
            ),
            messenger_extensions=extensions,
            fallback_url=fallback_url,
            webview_share_button="" if shared else "hide",
        ),
    }
