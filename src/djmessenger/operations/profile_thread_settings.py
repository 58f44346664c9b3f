"""The thread settings of 2016 as properties of today's Messenger Profile.

The functions take values and return JSON; they read no settings and send nothing. A gettext-lazy text becomes one entry
for each locale of Facebook in which its translation differs. Meta also requires a ``default`` entry (Messenger
Platform, "Messenger Profile API", March 2026).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from django.utils import translation
from django.utils.functional import Promise

from djmessenger.exceptions import InvalidField
from djmessenger.facebook_locales import FacebookLocale, language_code
from djmessenger.operations.profile_properties import (
    DEFAULT,
    MenuItem,
    MenuPostback,
    MenuUrl,
    get_started,
    greeting,
    persistent_menu,
)
from djmessenger.payload import (
    GetStartedPayload,
    Payload,
    PersistentMenuFivePayload,
    PersistentMenuFourPayload,
    PersistentMenuOnePayload,
    PersistentMenuThreePayload,
    PersistentMenuTwoPayload,
)

GREETING = "DJM_THREAD_GREETINGS_TEXT"
MENU = "DJM_THREAD_PERSISTENT_MENUS"

NUMBERED: tuple[type[Payload], ...] = (
    PersistentMenuOnePayload,
    PersistentMenuTwoPayload,
    PersistentMenuThreePayload,
    PersistentMenuFourPayload,
    PersistentMenuFivePayload,
)
"""Payloads of the first five entries, for entries without a payload."""

_KINDS: Mapping[Any, type[MenuItem]] = {
    "postback": MenuPostback,
    "web_url": MenuUrl,
}

_FIELD = re.compile(r"(?:greeting|persistent_menu)\[(\w+)\](?:\.call_to_actions|\.text)?(?:\.(?=\[))?")

_T = TypeVar("_T")


def greeting_entries(
    text: str | Promise, languages: Iterable[str], default_language: str
) -> list[dict[str, str]]:
    """Return the entries of the greeting, the default entry first.

    Raises ``InvalidField`` if the text is empty, and ``LimitExceeded`` if it is too long in a language.
    """
    languages = languages if isinstance(text, Promise) else ()
    with _error_names(GREETING):
        return greeting(_by_locale(lambda: str(text), languages, default_language))


def get_started_button() -> dict[str, str]:
    """Return the get-started button with its documented payload."""
    return get_started(GetStartedPayload())


def menu_entries(
    entries: Sequence[Mapping[str, Any]], languages: Iterable[str], default_language: str
) -> list[dict[str, Any]]:
    """Return the persistent menu for each locale in which its titles differ.

    An entry is a dict with ``title``, ``payload`` or ``url``, and ``type`` (``postback`` or ``web_url``). Without
    ``type``, an entry with a url is a ``web_url``. Raises ``InvalidField`` with the position of the first mistake.
    """
    if not entries:
        raise InvalidField(MENU, "is empty; add the entries of the menu")
    items = [menu_item(entry, place) for place, entry in enumerate(entries)]
    lazy = any(isinstance(value, Promise) for item in items for value in item.values())

    def written() -> list[Any]:
        return [
            {key: str(value) if isinstance(value, Promise) else value for key, value in item.items()}
            for item in items
        ]

    with _error_names(MENU):
        return persistent_menu(_by_locale(written, languages if lazy else (), default_language))


def menu_item(entry: Any, place: int, setting: str = MENU) -> dict[str, Any]:
    """Return an entry with its type, and with the numbered payload of its position if it has no payload."""
    where = f"{setting}[{place}]"
    if not isinstance(entry, Mapping):
        raise InvalidField(where, f"needs a dict, not {type(entry).__name__}")
    item = {"type": "web_url" if entry.get("url") else "postback", "title": "", **entry}
    kind = item["type"]
    if kind == "postback" and not item.get("url"):
        # Postback entries of 2016 have an empty url.
        item.pop("url", None)
    if kind not in tuple(_KINDS):
        raise InvalidField(f"{where}.type", f"{kind!r} is neither postback nor web_url")
    if kind == "web_url":
        item.setdefault("url", "")
    elif item.get("payload") in (None, ""):
        if place >= len(NUMBERED):
            raise InvalidField(
                f"{where}.payload",
                f"is missing; only the first {len(NUMBERED)} entries have a default payload",
            )
        item["payload"] = NUMBERED[place]()
    allowed = {"type", *(field.name for field in fields(_KINDS[kind]))}
    if unknown := sorted(map(str, set(item) - allowed)):
        raise InvalidField(
            where, f"a {kind} entry has no key {unknown[0]!r}; it has {', '.join(sorted(allowed))}"
        )
    return item


@contextlib.contextmanager
def _error_names(setting: str) -> Iterator[None]:
    """Rename the field of an error in the block from the property of the profile to its setting."""

    def renamed(text: str) -> str:
        def name(match: re.Match[str]) -> str:
            return setting if match[1] == DEFAULT else f"{setting} ({match[1]})"

        return _FIELD.sub(name, text)

    try:
        yield
    except InvalidField as error:
        raise type(error)(renamed(error.field), error.problem, error.source) from error
    except TypeError as error:
        field, colon, problem = renamed(str(error)).partition(": ")
        raise InvalidField(field if colon else setting, problem or field) from error


def _by_locale(written: Callable[[], _T], languages: Iterable[str], default_language: str) -> dict[str, _T]:
    with translation.override(default_language):
        by_locale = {DEFAULT: written()}
    for locale, language in spoken_locales(languages):
        with translation.override(language):
            localized = written()
        if localized != by_locale[DEFAULT]:
            by_locale[locale] = localized
    return by_locale


def spoken_locales(languages: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the locales of Facebook whose language is among the languages, each with Django's code of its language."""
    spoken = {code.lower() for code in languages}
    for member in FacebookLocale if spoken else ():
        language = language_code(member) or ""
        if language in spoken or language.partition("-")[0] in spoken:
            yield member.name, language
