"""From a message to bodies of the Send API: in the person's language, with the bot's prefix."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings
from django.utils import translation
from django.utils.functional import Promise

from djmessenger.facebook_locales import language_code
from djmessenger.outgoing import as_messages
from djmessenger.utils.utils import LocalizedString

if TYPE_CHECKING:
    from djmessenger.models.outbox import Reply

Words = str | Promise | LocalizedString


_rule: ContextVar[str] = ContextVar("djmessenger_rule", default="")
_rows: ContextVar[list[Reply] | None] = ContextVar("djmessenger_rows", default=None)


@contextlib.contextmanager
def answering(rule: str) -> Iterator[list[Reply]]:
    """Name the rule in every row that is queued inside; give the rows as they come."""
    rows: list[Reply] = []
    tokens = _rule.set(rule), _rows.set(rows)
    try:
        yield rows
    finally:
        _rule.reset(tokens[0])
        _rows.reset(tokens[1])


def rule_that_runs() -> str:
    """Give the name of the rule in whose ``answering`` this is called, empty outside of any."""
    return _rule.get()


def note(row: Reply) -> None:
    """Count a row in where the rows of a rule are listened to."""
    rows = _rows.get()
    if rows is not None:
        rows.append(row)


def _no_prefix() -> Words:
    return ""


_prefix: Callable[[], Words] = _no_prefix


def read_prefix_from(source: Callable[[], Words]) -> None:
    """Say where the text comes from that stands in front of all others; asked for each message."""
    global _prefix  # noqa: PLW0603 - one process, one bot
    _prefix = source


def prefix_for(locale: str | None) -> str:
    """Give the bot's prefix in the language of a locale."""
    return renderer(locale)(_prefix())


def bodies(message: Any, *, locale: str | None, channel: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give kind and body of each call that a message needs: a long text is several, a sender action is one too.

    ``message`` is an outgoing message, its plain data, a text, or several of these. Raises
    ``DJMInvalidConfigException`` for what breaks a limit of the platform.
    """
    render = renderer(locale)
    for item in as_messages(message):
        for body in item.requests(render, channel=channel, prefix=prefix_for(locale)):
            yield item.kind, body


def renderer(locale: str | None) -> Callable[[Any], str]:
    """Give what turns a text into a ``str`` in the language of a Facebook locale."""
    language = _language_of(locale)

    def render(text: Any) -> str:
        if isinstance(text, str):
            return text
        with translation.override(language):
            if isinstance(text, Promise):
                return str(text)
            rendered: str = text.get_text_by_locale(locale)
            return rendered

    return render


def _language_of(locale: str | None) -> str:
    """Give Django's code for a locale; the project's language for one that says nothing."""
    known = language_code(locale)
    if known is None and locale:
        with contextlib.suppress(LookupError):
            known = translation.get_supported_language_variant(locale.replace("_", "-").lower())
    return known or django_settings.LANGUAGE_CODE
