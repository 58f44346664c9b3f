"""Base of all parts of a message: one method, ``write``, checks a part and returns its JSON.

``write`` runs when a part is made, without the texts that depend on the language, and again when the message is
rendered for a person. A mistake is thus an error as early as possible.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import GeneratorType
from typing import Any, ClassVar, NoReturn, Protocol, TypeAlias, runtime_checkable
from urllib.parse import urlsplit

from django.utils.functional import Promise

from djmessenger import rulebook
from djmessenger.channels import MESSENGER
from djmessenger.exceptions import HasEnded, InvalidField, LimitExceeded, WrongType
from djmessenger.rulebook.facts import Row
from djmessenger.settings import app_settings

logger = logging.getLogger("djmessenger.outgoing")


@runtime_checkable
class Localized(Protocol):
    """A text by locale, such as ``djmessenger.utils.utils.LocalizedString``."""

    def get_text_by_locale(self, locale: Any) -> str: ...


@runtime_checkable
class Serialized(Protocol):
    """A payload that is an object, such as a ``djmessenger.payload.Payload``."""

    def serialize(self) -> str: ...


TextLike: TypeAlias = str | Promise | Localized
"""A text, or an object that becomes a text in the language of the person."""
PayloadLike: TypeAlias = str | int | Serialized
Render: TypeAlias = Callable[[Any], str]
"""Function that returns a text in the language of the person."""


def present(**values: Any) -> dict[str, Any]:
    """Return the keys whose value is neither ``None`` nor empty nor false."""
    return {
        key: value
        for key, value in values.items()
        if not (value is None or value is False or value in ("", [], {}))
    }


def has_value(value: Any) -> bool:
    """Return whether there is a value, without rendering a lazy text."""
    if value is None or isinstance(value, (str, list, tuple)):
        return bool(value)
    return isinstance(value, (Promise, Localized)) or value not in ("", (), [])


def clean(text: str) -> str:
    """Return the text with U+FFFD for NUL and lone surrogates, which PostgreSQL and UTF-8 cannot store."""
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def limit_of(row: Row) -> int:
    """Return the number of the row, or a huge number if the row has none."""
    return row.value if isinstance(row.value, int) else sys.maxsize


@dataclass(frozen=True, slots=True)
class Writer:
    """Reader that checks the values of one part against the rulebook."""

    render: Render | None = None
    """Renderer of texts; ``None`` while the part is made, when texts that depend on the language are skipped."""
    channel: str = MESSENGER
    prefix: str = ""
    """Prefix of the texts of the bot; ``bot_text`` adds it."""
    path: str = ""

    def at(self, name: str) -> Writer:
        return Writer(self.render, self.channel, self.prefix, self.where(name))

    def where(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    @property
    def making(self) -> bool:
        return self.render is None

    # Errors

    def refuse(self, name: str, problem: str, source: str = "") -> NoReturn:
        raise InvalidField(self.where(name), problem, source)

    def over(self, name: str, problem: str, row: Row, kind: type[LimitExceeded] = LimitExceeded) -> None:
        """Raise the error for a value over a limit, or log it if ``DJM_OUTGOING_CHECKS`` is ``warn``."""
        error = kind(self.where(name), problem, f"{row.source}, read {row.date}")
        if app_settings.DJM_OUTGOING_CHECKS != "warn":
            raise error
        if not self.making:
            logger.warning("%s", error)

    def wrong_type(self, name: str, needed: str, value: object) -> NoReturn:
        raise WrongType(f"{self.where(name)}: needs {needed}, not {type(value).__name__}")

    def ended(self, name: str, key: str, value: str) -> None:
        """Raise ``HasEnded`` at rendering if Meta has withdrawn the feature by today, in UTC.

        Making the message never fails. Otherwise a module with such a message could not be imported from that day
        on, and the whole bot would stop.
        """
        if self.making:
            return
        row = rulebook.retirement(self.row_key(key), datetime.datetime.now(datetime.UTC).date())
        if row is not None:
            instead = f"; use {row.instead}" if row.instead else ""
            self.over(name, f"{value} ended on {row.until}{instead}", row, HasEnded)

    def only_on(self, channel: str, what: str) -> None:
        if self.channel != channel and not self.making:
            self.refuse("", f"{what} exists on {channel} only")

    def row(self, key: str) -> Row:
        """Return the row of the channel if there is one, otherwise the row of Messenger."""
        return rulebook.row(self.row_key(key))

    def row_key(self, key: str) -> str:
        """Return the key of the row that counts on the channel: its own, otherwise that of Messenger."""
        channel_key = f"{key}.{self.channel}"
        return channel_key if channel_key in rulebook.table else key

    # Values

    def bot_text(self, name: str, value: Any, key: str = "") -> str:
        """Return a text that the bot says, with the prefix of the bot in front."""
        text = self.text(name, value)
        if self.prefix and not self.making:
            text = f"{self.prefix}{text}"
        if key:
            self.length(name, text, key)
        return text

    def text(self, name: str, value: Any, key: str = "", *, required: bool = True) -> str:
        """Return the text rendered for the person; check its length in characters against the row ``key``."""
        if not isinstance(value, str):
            if not isinstance(value, (Promise, Localized)):
                self.wrong_type(name, "a text", value)
            if self.making:
                return ""
        text = clean(value if self.render is None else self.render(value))
        if required and not text.strip():
            self.refuse(name, "is missing")
        if key:
            self.length(name, text, key)
        return text

    def plain(self, name: str, value: Any, key: str = "", *, required: bool = True) -> str:
        """Return a text that is the same in every language."""
        if not isinstance(value, str):
            self.wrong_type(name, "a str", value)
        text = clean(value)
        if required and not text.strip():
            self.refuse(name, "is missing")
        if key:
            self.length(name, text, key)
        return text

    def length(self, name: str, text: str, key: str) -> None:
        row = self.row(key)
        if len(text) > limit_of(row):
            self.over(name, f"{len(text)} characters, at most {row.value}", row)

    def payload(self, name: str, value: Any, key: str, *, required: bool = True) -> str:
        """Return the payload as text; check its length in characters against the row ``key``."""
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            serialized = str(value)
        elif isinstance(value, Serialized):
            serialized = value.serialize()
        else:
            self.wrong_type(name, "a str, a number or a Payload", value)
        return self.plain(name, serialized, key, required=required)

    def url(self, name: str, value: Any, *, schemes: Sequence[str] = ("https", "http")) -> str:
        """Return a URL with one of the schemes, so never ``javascript:`` or ``data:``."""
        if isinstance(value, Promise):
            if self.making:
                return ""
            value = str(value)
        url = self.plain(name, value)
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            self.refuse(name, f"{url!r} is not a URL: {error}")
        if parts.scheme not in schemes or not host:
            self.refuse(
                name, f"{url!r} is not a URL that begins with {' or '.join(f'{s}://' for s in schemes)}"
            )
        if any(character.isspace() or not character.isprintable() for character in url):
            self.refuse(name, f"{url!r} has white space or control characters in it")
        return url

    def optional_url(self, name: str, value: Any) -> str:
        """Return a URL, or ``""`` if there is none."""
        return self.url(name, value) if has_value(value) else ""

    def flag(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            self.wrong_type(name, "true or false", value)
        return value

    def number(self, name: str, value: Any, key: str = "", *, least: int = 1) -> int:
        """Return a whole number; refuse one below ``least`` or over the row ``key``."""
        if isinstance(value, bool) or not isinstance(value, int):
            self.wrong_type(name, "a whole number", value)
        if value < least:
            self.refuse(name, f"{value} is below {least}")
        row = self.row(key) if key else None
        if row is not None and value > limit_of(row):
            self.over(name, f"{value}, at most {row.value}", row)
        return value

    def choice(self, name: str, value: Any, allowed: Iterable[str], source: str = "") -> str:
        """Return a word of the list, or ``""`` if the value is empty."""
        if not isinstance(value, str):
            self.wrong_type(name, "a str", value)
        words = tuple(allowed)
        if value and value not in words:
            self.refuse(name, f"{value!r} is none of {', '.join(words)}", source)
        return value

    def mapping(self, name: str, value: Any) -> dict[str, Any]:
        """Return a dict that is sent to Meta unchanged; refuse one without a JSON form."""
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.wrong_type(name, "a dict", value)
        try:
            json.dumps(dict(value), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            self.refuse(name, f"has no JSON form: {error}")
        return dict(value)

    def part(self, name: str, value: Any, kind: type[Part] | tuple[type[Part], ...]) -> Any:
        """Return the JSON of a part inside this one."""
        if not isinstance(value, kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            self.wrong_type(name, f"one of {', '.join(k.__name__ for k in kinds)}", value)
        return value.write(self.at(name))

    def parts(
        self,
        name: str,
        values: Any,
        kind: type[Part] | tuple[type[Part], ...],
        key: str = "",
        *,
        least: int = 1,
    ) -> list[Any]:
        """Return the JSON of parts inside this one; check their number against ``least`` and the row ``key``."""
        self.count(name, values, key, least=least)
        return [self.part(f"{name}[{index}]", value, kind) for index, value in enumerate(values)]

    def count(self, name: str, values: Any, key: str = "", *, least: int = 1) -> None:
        if not isinstance(values, (list, tuple)):
            self.wrong_type(name, "a list", values)
        if len(values) < least:
            self.refuse(name, f"{len(values)} given, at least {least}")
        row = self.row(key) if key else None
        if row is not None and len(values) > limit_of(row):
            self.over(name, f"{len(values)} given, at most {row.value}", row)


class Part:
    """A part of a message: a frozen dataclass that writes itself as JSON."""

    inside: ClassVar[Mapping[str, Inside]] = {}
    """Classes of the parts in a field, by name of the field, for plain data."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, (list, GeneratorType)):
                object.__setattr__(self, field.name, tuple(value))
        self.write(Writer())

    def write(self, out: Writer) -> Any:
        """Return the JSON; raise ``InvalidField`` or ``LimitExceeded`` for a part that Graph would refuse."""
        raise NotImplementedError


Inside: TypeAlias = type[Part] | tuple[str, str, Mapping[str, type[Part]]]
"""The class of a part, or the key that names its class, the default of that key and the classes by name."""


class OutgoingMessage(Part):
    """One message to a person, sent by one or several calls of the Send API.

    A class with a ``kind`` registers itself in ``MESSAGES``. Plain data, repliers, admin and docs read it from there.
    """

    kind: ClassVar[str] = ""
    """Value of ``Reply.type``, and of ``type`` of a message as plain data."""
    type_name: ClassVar[str] = ""
    """A further ``type`` of a message as plain data."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for attribute in ("type_name", "kind"):
            name = vars(cls).get(attribute)
            if name:
                MESSAGES.setdefault(name, cls)

    def write(self, out: Writer) -> list[dict[str, Any]]:
        raise NotImplementedError

    def requests(
        self, render: Render = str, *, channel: str = MESSENGER, prefix: str = ""
    ) -> list[dict[str, Any]]:
        """Return the bodies of the calls, without the recipient.

        ``render`` returns each text in the language of the person. ``prefix`` is put before the text of a text or
        button message. Raise ``LimitExceeded`` for a text that is too long in this language, and ``InvalidField``
        for a feature that the channel does not support.
        """
        return self.write(Writer(render, channel, prefix))


MESSAGES: dict[str, type[OutgoingMessage]] = {}
"""Classes of messages by ``type`` of the plain data. The first class with a name keeps it."""
