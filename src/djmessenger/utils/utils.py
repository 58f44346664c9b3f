"""Documented helpers: text by locale, loggers, and classes by dotted name."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from typing import Any

from django.utils import translation
from django.utils.functional import Promise

from djmessenger.facebook_locales import FacebookLocale, fallbacks, language_code
from djmessenger.utils.serializable import Serializable


class LocalizedString(Serializable):
    """A base text with translations keyed by locale name: ``LocalizedString("Hi", {"zh_TW": "您好"})``.

    The base text may be gettext-lazy; the language of the locale then decides its text.
    """

    def __init__(
        self, base_string: str | Promise, translations: Mapping[str, str | Promise] | None = None
    ) -> None:
        self.base_string = base_string
        self.translations: dict[str, str | Promise] = dict(translations or {})

    def get_text_by_locale(self, locale: FacebookLocale | str | None) -> str:
        """Return the translation for the locale or its nearest fallback, otherwise the base text.

        ``locale`` is a member, a name in Meta's spelling (``zh_TW``) or in another (``zh-tw``), or ``None``. No
        locale raises an error.
        """
        translated = {_name(key): text for key, text in self.translations.items()}
        for name in fallbacks(locale, among=translated):
            return self._render(translated[name], locale)
        return self._render(self.base_string, locale)

    @staticmethod
    def _render(text: str | Promise, locale: FacebookLocale | str | None) -> str:
        language = language_code(locale) if isinstance(text, Promise) else None
        if language is None:
            return str(text)
        with translation.override(language):
            return str(text)

    def __str__(self) -> str:
        return str(self.base_string)


def _name(key: object) -> str:
    return key.name if isinstance(key, FacebookLocale) else str(key)


class Loggable:
    """Mix-in with a ``logger`` that has the name of the class."""

    @property
    def logger(self) -> logging.Logger:
        return logging.getLogger(get_class_name(self))


def load_class(fully_qualified_name: str) -> Any:
    """Import a class by its dotted name; for trusted configuration only, never for a name from the network.

    Raise ``ValueError`` if the name has no dot, ``ImportError`` if the module is missing, and
    ``AttributeError`` if the module lacks the class.
    """
    module, _, name = str(fully_qualified_name).rpartition(".")
    if not module or not name:
        raise ValueError(f"{fully_qualified_name!r} is not the dotted name of a class")
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError as error:
        raise AttributeError(f"module {module!r} has no class {name!r}") from error


def get_class_name(obj: object) -> str:
    """Return the dotted name of a class, or of the class of an instance."""
    cls = obj if isinstance(obj, type) else type(obj)
    return f"{cls.__module__}.{cls.__qualname__}"
