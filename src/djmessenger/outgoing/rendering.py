"""Conversion of a message to bodies of the Send API, in the person's language and with the bot's prefix."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings
from django.utils import translation
from django.utils.functional import Promise

from djmessenger.facebook_locales import language_code
from djmessenger.outgoing.data import as_messages
from djmessenger.settings import app_settings
from djmessenger.utils.utils import LocalizedString

Words = str | Promise | LocalizedString


def locale_of(locale: str | None, page_language: str) -> str:
    """Return the locale of a person if its language is known, otherwise the language of the Page if it has one."""
    if locale and (not page_language or _known_language(locale)):
        return locale
    return page_language


def language_of(locale: str | None) -> str:
    """Return Django's language code for a locale, or the project's language for an unknown locale."""
    return _known_language(locale) or settings.LANGUAGE_CODE


def prefix_for(locale: str | None) -> str:
    """Return the bot's prefix in the language of a locale."""
    return renderer(locale)(app_settings.DJM_BOT_PREFIX)


def bodies(message: Any, *, locale: str | None, channel: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield kind and body of each call of a message; a long text needs several calls.

    ``message`` is an outgoing message, its plain data, a text, or several of these. Raise
    ``DJMInvalidConfigException`` for a message that breaks a limit of the platform.
    """
    render = renderer(locale)
    for item in as_messages(message):
        for body in item.requests(render, channel=channel, prefix=prefix_for(locale)):
            yield item.kind, body


def renderer(locale: str | None) -> Callable[[Any], str]:
    """Return a function that renders a text in the language of a Facebook locale."""
    language = language_of(locale)

    def render(text: Any) -> str:
        if isinstance(text, str):
            return text
        with translation.override(language):
            if isinstance(text, Promise):
                return str(text)
            rendered: str = text.get_text_by_locale(locale)
            return rendered

    return render


def _known_language(locale: str | None) -> str | None:
    language = language_code(locale)
    if language is None and locale:
        with contextlib.suppress(LookupError):
            language = translation.get_supported_language_variant(locale.replace("_", "-").lower())
    return language
