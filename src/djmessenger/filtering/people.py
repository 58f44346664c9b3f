"""Filters by the person's language, the Page, and the state of the conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from djmessenger import models
from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.facebook_locales import language_code
from djmessenger.filtering.base import BaseFilter
from djmessenger.receiving import Messaging


class LanguageFilter(BaseFilter):
    """A filter that passes persons with one of these locales.

    ``de`` includes all German locales; ``pt_BR`` and ``zh-hant`` are exact. The language of the Page counts for a
    person whose locale is not known, as before the first answer.
    """

    def __init__(self, *languages: str) -> None:
        _need_texts("language", languages)
        self.languages = languages

    def should_pass(self, messaging: Messaging) -> bool:
        person = person_of(messaging)
        locale = _folded((person.locale if person is not None else "") or _language_of(messaging.page))
        if not locale:
            return False
        names = {locale, locale.partition("_")[0], _folded(language_code(locale) or locale)}
        return any(_folded(language) in names for language in self.languages)

    def describe(self) -> str:
        return f"language({', '.join(map(repr, self.languages))})"


class PageFilter(BaseFilter):
    """A filter that passes events of the Pages with these ids."""

    def __init__(self, *page_ids: str | int) -> None:
        self.page_ids = tuple(map(str, page_ids))
        _need_texts("page", self.page_ids)

    def should_pass(self, messaging: Messaging) -> bool:
        return messaging.get_page_id() in self.page_ids

    def describe(self) -> str:
        return f"page({', '.join(map(repr, self.page_ids))})"


class StateFilter(BaseFilter):
    """A filter that passes conversations whose ``state`` has these values.

    In ``StateFilter(step="address", order__paid=True)``, ``__`` separates the keys of nested dicts. The value None
    passes if the key is absent or None.
    """

    def __init__(self, conditions: Mapping[str, Any] | None = None, **more: Any) -> None:
        self.conditions = {**(conditions or {}), **more}
        if not self.conditions:
            raise DJMInvalidConfigException("state(...) needs at least one condition, such as step='address'")

    def should_pass(self, messaging: Messaging) -> bool:
        conversation = messaging.conversation
        state = conversation.state if conversation is not None else {}
        return all(_equal(_value(state, name), expected) for name, expected in self.conditions.items())

    def describe(self) -> str:
        return f"state({', '.join(f'{name}={value!r}' for name, value in self.conditions.items())})"


def person_of(messaging: Messaging) -> models.FBUserProfile | None:
    """Return the person bound to an event, otherwise the stored person, otherwise None."""
    person: models.FBUserProfile | None = messaging.person
    psid = messaging.get_psid()
    if person is None and psid:
        return models.FBUserProfile.objects.filter(pk=psid).first()
    return person


def _language_of(page: models.Page | None) -> str:
    return "" if page is None else str(page.configured("language"))


def _value(state: Any, name: str) -> Any:
    if isinstance(state, Mapping) and name in state:
        return state[name]
    for key in name.split("__"):
        if not isinstance(state, Mapping) or key not in state:
            return None
        state = state[key]
    return state


def _equal(value: Any, expected: Any) -> bool:
    """Return whether two values are equal in JSON, where true and 1 differ."""
    return value == expected and isinstance(value, bool) == isinstance(expected, bool)


def _folded(name: str) -> str:
    return name.replace("-", "_").lower()


def _need_texts(name: str, values: tuple[Any, ...]) -> None:
    if not values or not all(isinstance(item, str) and item for item in values):
        raise DJMInvalidConfigException(f"{name}(...) takes one or more texts, not {values!r}")
