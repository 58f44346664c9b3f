"""Filters by the text of an event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils import translation
from django.utils.functional import Promise

from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.filtering.base import BaseFilter, Verdict, literal_key
from djmessenger.filtering.patterns import PatternTimeout, compiled, literals_of, search
from djmessenger.project_code import as_exception
from djmessenger.receiving import Messaging, ReceivingType
from djmessenger.settings import app_settings
from djmessenger.utils.utils import LocalizedString

Word = str | Promise | LocalizedString


class SimpleTextRegexFilter(BaseFilter):
    """A filter that passes if a regular expression is found in the text. The pattern is not anchored by itself.

    It searches the first 2,000 characters. Captured values are put into ``messaging.context``: the text that matched as
    ``match``, the numbered groups as ``groups``, each named group under its name. A search that exceeds
    ``DJM_REGEX_TIMEOUT`` seconds counts as no match, and ``~`` of the filter does not pass either.
    """

    regex: str | None

    def __init__(self, regex: str | None = None) -> None:
        self.regex = regex
        if regex is not None:
            compiled(app_settings.DJM_REGEX_ENGINE, regex)

    def should_pass(self, messaging: Messaging) -> bool:
        return self.check(messaging).passed

    def check(self, messaging: Messaging) -> Verdict:
        # A subclass in the style of 2016 may override should_pass; its result counts.
        if type(self).should_pass not in _OWN:
            return super().check(messaging)
        try:
            return Verdict(self._search(messaging), self._name())
        except PatternTimeout as error:
            return Verdict(False, self._name(), error=str(error))
        except BaseException as error:  # noqa: BLE001 - as in every filter
            return self._failed(as_exception(error))

    def _search(self, messaging: Messaging) -> bool:
        text = messaging.text
        if not text or self.regex is None:
            return False
        captured = search(self.regex, text)
        if captured is None:
            return False
        messaging.context.update(captured)
        return True

    def literals(self) -> frozenset[str] | None:
        if type(self).should_pass not in _OWN:
            return None
        texts = literals_of(self.regex)
        return None if texts is None else frozenset(map(literal_key, texts))


_OWN = {SimpleTextRegexFilter.should_pass}


class PatternFilter(SimpleTextRegexFilter):
    """A ``SimpleTextRegexFilter`` for typed texts only. It does not pass the title of a tapped quick reply."""

    TYPES: ClassVar[frozenset[ReceivingType]] = frozenset({ReceivingType.SIMPLE_TEXT})

    def __init__(self, regex: str) -> None:
        super().__init__(regex)

    def _search(self, messaging: Messaging) -> bool:
        return messaging.type in self.TYPES and super()._search(messaging)

    def types(self) -> frozenset[ReceivingType] | None:
        return self.TYPES

    def describe(self) -> str:
        return f"pattern({self.regex!r})"


class TextFilter(BaseFilter):
    """A filter that passes a typed text that equals one of these. Case, width and outer spaces do not matter.

    A translatable text stands for its translations into all ``LANGUAGES``, a ``LocalizedString`` for all its texts.
    """

    TYPES: ClassVar[frozenset[ReceivingType]] = frozenset({ReceivingType.SIMPLE_TEXT})

    def __init__(self, *words: Word) -> None:
        if not words:
            raise DJMInvalidConfigException("text(...) needs at least one text")
        values: tuple[Any, ...] = words
        for word in values:
            if not isinstance(word, (str, Promise, LocalizedString)) or (isinstance(word, str) and not word):
                raise DJMInvalidConfigException(f"text(...) takes texts, not {word!r}")
        self.words = words
        self._keys: frozenset[str] | None = None

    def should_pass(self, messaging: Messaging) -> bool:
        return messaging.type in self.TYPES and literal_key(messaging.text) in self.literals()

    def types(self) -> frozenset[ReceivingType] | None:
        return self.TYPES

    def literals(self) -> frozenset[str]:
        if self._keys is None:
            # The constructor runs while modules are imported, when translations are not available yet.
            self._keys = frozenset(literal_key(text) for word in self.words for text in _spellings(word))
        return self._keys

    @classmethod
    def _value_from_json(cls, key: str, value: Any) -> Any:
        if key == "words" and isinstance(value, (list, tuple)):
            return [
                LocalizedString.deserialize(item) if isinstance(item, Mapping) else item for item in value
            ]
        return super()._value_from_json(key, value)

    def describe(self) -> str:
        return f"text({', '.join(repr(str(word)) for word in self.words)})"


def _spellings(word: Word) -> set[str]:
    if isinstance(word, LocalizedString):
        return {text for part in (word.base_string, *word.translations.values()) for text in _spellings(part)}
    if not isinstance(word, Promise):
        return {word}
    spellings = set()
    for code, _name in settings.LANGUAGES:
        with translation.override(code):
            spellings.add(str(word))
    return spellings


class EmailFilter(BaseFilter):
    """A filter that passes a text that Django's validator accepts as an e-mail address."""

    def should_pass(self, messaging: Messaging) -> bool:
        try:
            validate_email(messaging.text.strip())
        except ValidationError:
            return False
        return True
