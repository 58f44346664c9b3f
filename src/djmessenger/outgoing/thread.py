"""The thread settings of 2016 as properties of today's Messenger Profile.

Values in, JSON out; nothing is read from the settings and nothing is sent here. A gettext-lazy text becomes one entry
for each locale of Facebook in which it reads differently, beside the ``default`` one that Meta asks for (Messenger
Platform, "Messenger Profile API", March 2026).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from django.utils import translation
from django.utils.functional import Promise

from djmessenger import rulebook
from djmessenger.exceptions import DJMInvalidConfigException, LimitExceeded
from djmessenger.facebook_locales import FacebookLocale, language_code
from djmessenger.payload import (
    GetStartedPayload,
    Payload,
    PersistentMenuFivePayload,
    PersistentMenuFourPayload,
    PersistentMenuOnePayload,
    PersistentMenuThreePayload,
    PersistentMenuTwoPayload,
)

NUMBERED: tuple[type[Payload], ...] = (
    PersistentMenuOnePayload,
    PersistentMenuTwoPayload,
    PersistentMenuThreePayload,
    PersistentMenuFourPayload,
    PersistentMenuFivePayload,
)
"""The payloads of the first five entries, where an entry brings none."""

_KEYS = {
    "postback": {"type", "title", "payload"},
    "web_url": {
        "type",
        "title",
        "url",
        "webview_height_ratio",
        "messenger_extensions",
        "fallback_url",
        "webview_share_button",
    },
}

_T = TypeVar("_T")


def greeting(text: str | Promise, languages: Iterable[str], default_language: str) -> list[dict[str, Any]]:
    """Give the entries of the greeting, the default one first.

    Raises ``DJMInvalidConfigException`` when the text is empty, ``LimitExceeded`` when it is too long in a language.
    """

    def written() -> str:
        words = str(text)
        if not words.strip():
            raise DJMInvalidConfigException("DJM_THREAD_GREETINGS_TEXT is empty; put the greeting there")
        _within(words, "greeting.text", f"DJM_THREAD_GREETINGS_TEXT ({translation.get_language()})")
        return words

    lazy = isinstance(text, Promise)
    found = _by_locale(written, languages if lazy else (), default_language)
    return [{"locale": locale, "text": words} for locale, words in found.items()]


def get_started() -> dict[str, Any]:
    """Give the get-started button with its documented payload."""
    return {"payload": GetStartedPayload().serialize()}


def persistent_menu(
    entries: Sequence[Mapping[str, Any]], languages: Iterable[str], default_language: str
) -> list[dict[str, Any]]:
    """Give the persistent menu, for each locale in which its titles read differently.

    An entry is a dict: ``type`` (``postback`` or ``web_url``; left out, it follows from what is there), ``title``,
    and ``payload`` or ``url``. Raises ``DJMInvalidConfigException`` with the place of the first mistake.
    """
    if len(entries) > rulebook.limit("menu.items"):
        raise LimitExceeded(
            "DJM_THREAD_PERSISTENT_MENUS",
            f"{len(entries)} entries, at most {rulebook.limit('menu.items')} are allowed",
            rulebook.row("menu.items").source,
        )
    if not entries:
        raise DJMInvalidConfigException("DJM_THREAD_PERSISTENT_MENUS is empty; put the entries there")

    def written() -> list[dict[str, Any]]:
        return [_item(entry, place) for place, entry in enumerate(entries)]

    lazy = any(isinstance(value, Promise) for entry in entries for value in dict(entry).values())
    found = _by_locale(written, languages if lazy else (), default_language)
    return [
        {"locale": locale, "composer_input_disabled": False, "call_to_actions": items}
        for locale, items in found.items()
    ]


def _item(entry: Mapping[str, Any], place: int) -> dict[str, Any]:
    where = f"DJM_THREAD_PERSISTENT_MENUS[{place}]"
    kind = entry.get("type") or ("web_url" if entry.get("url") else "postback")
    if kind not in _KEYS:
        raise DJMInvalidConfigException(f"{where}: type is {kind!r}; it must be postback or web_url")
    if unknown := sorted(set(entry) - _KEYS[kind]):
        raise DJMInvalidConfigException(f"{where}: a {kind} entry has no key {unknown[0]!r}")
    title = str(entry.get("title") or "")
    if not title.strip():
        raise DJMInvalidConfigException(f"{where}: title is empty")
    _within(title, "menu.title", f"{where}.title")
    item = {"type": kind, "title": title}
    if kind == "postback":
        item["payload"] = _payload(entry.get("payload"), place, where)
        return item
    url = str(entry.get("url") or "")
    if not _is_web(url):
        raise DJMInvalidConfigException(f"{where}: url is {url!r}; it must be an https address")
    item["url"] = url
    return item | {key: entry[key] for key in entry if key not in item}


def _payload(payload: object, place: int, where: str) -> str:
    if payload is None or payload == "":
        if place >= len(NUMBERED):
            raise DJMInvalidConfigException(
                f"{where}: payload is missing; only the first {len(NUMBERED)} entries have a payload of their own"
            )
        payload = NUMBERED[place]()
    text = payload.serialize() if isinstance(payload, Payload) else payload
    if not isinstance(text, str):
        raise DJMInvalidConfigException(
            f"{where}: payload is {type(text).__name__}; it must be a text or a Payload"
        )
    _within(text, "menu.payload", f"{where}.payload")
    return text


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and url.isprintable() and " " not in url


def _within(text: str, key: str, field: str) -> None:
    allowed = rulebook.limit(key)
    if len(text) > allowed:
        raise LimitExceeded(
            field, f"{len(text)} characters, at most {allowed} are allowed", rulebook.row(key).source
        )


def _by_locale(written: Callable[[], _T], languages: Iterable[str], default_language: str) -> dict[str, _T]:
    with translation.override(default_language):
        found = {"default": written()}
    spoken = {code.lower() for code in languages}
    for member in FacebookLocale:
        language = language_code(member) or ""
        if language not in spoken and language.partition("-")[0] not in spoken:
            continue
        with translation.override(language):
            localized = written()
        if localized != found["default"]:
            found[member.name] = localized
    return found
