"""Messages as plain data, for a policy: ``from_data({"type": "text", "text": "Hello!"})``.

The keys are the fields of the class that ``type`` names. A text is a string, or a text by locale such as
``{"base_string": "Hello", "translations": {"de_DE": "Hallo"}}``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from django.utils.functional import Promise

from djmessenger import rulebook
from djmessenger.exceptions import InvalidField, WrongType
from djmessenger.outgoing.base import MESSAGES, Inside, Localized, OutgoingMessage, Part
from djmessenger.outgoing.buttons import (
    AudioCallButton,
    CallButton,
    GamePlayButton,
    LogInButton,
    LogOutButton,
    PostbackButton,
    UrlButton,
)
from djmessenger.outgoing.message import ThreadControl
from djmessenger.outgoing.quick_replies import EmailQuickReply, PhoneQuickReply, QuickReply
from djmessenger.outgoing.text import Text
from djmessenger.utils.utils import LocalizedString

BUTTONS: dict[str, type[Part]] = {
    "web_url": UrlButton,
    "postback": PostbackButton,
    "phone_number": CallButton,
    "account_link": LogInButton,
    "account_unlink": LogOutButton,
    "game_play": GamePlayButton,
    "audio_call": AudioCallButton,
}
QUICK_REPLIES: dict[str, type[Part]] = {
    "text": QuickReply,
    "user_phone_number": PhoneQuickReply,
    "user_email": EmailQuickReply,
}
_EVERYWHERE: dict[str, Inside] = {
    "buttons": ("type", "", BUTTONS),
    "quick_replies": ("content_type", "text", QUICK_REPLIES),
    "thread_control": ThreadControl,
}
"""Classes of the parts in a field of any class, by name of the field."""
_WITHHELD = frozenset({"by_staff"})
"""Fields that code may set, but not a policy."""
_PATH = "path"
_LOCALIZED = frozenset({"base_string", "translations"})
_AS_THEY_ARE = frozenset({"address_overrides", "contact_overrides"})


def from_data(data: Mapping[str, Any], *, with_files: bool = False) -> OutgoingMessage:
    """Build a message from plain data.

    ``path`` is refused unless ``with_files`` is set. Data that arrives at run time, such as the answer of a language
    model, could otherwise name any file of this machine.

    Raise ``InvalidField`` (a ``DJMInvalidConfigException``) with the name of the key. Raise ``LimitExceeded`` for a
    value over a limit, and ``TypeError`` for a value of a wrong type.
    """
    if isinstance(data, OutgoingMessage):
        return data
    if not isinstance(data, Mapping):
        raise WrongType(f"a message as plain data is a dict, not {type(data).__name__}")
    if _PATH in data and not with_files:
        raise InvalidField(
            _PATH, "names a file only in a policy; a rule returns File(path=...) instead of data"
        )
    message = read_chosen(data, "type", "", MESSAGES, "")
    if not isinstance(message, OutgoingMessage):
        raise WrongType(f"{data.get('type')!r} is no message")
    return message


def as_messages(value: Any, *, with_files: bool = False) -> list[OutgoingMessage]:
    """Return the answer of a rule as messages; it is ``None``, a text, a message, plain data, or several of these.

    Plain data is read by ``from_data``.

    Raise ``TypeError`` for any other answer, and the errors of ``from_data``.
    """
    if value is None:
        return []
    if isinstance(value, OutgoingMessage):
        return [value]
    if isinstance(value, (str, Promise, Localized)):
        return [Text(value)]
    if isinstance(value, Mapping):
        return [from_data(value, with_files=with_files)]
    if isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray)):
        # Guard: an item that is refused would leave a generator suspended, perhaps inside a transaction of its rule.
        # Its end would then close the transaction of the event, and no later event of the thread would be committed.
        # Test: tests/test_handling.py, test_a_generator_is_exhausted_before_its_items_are_examined.
        items = list(value)
        return [message for item in items for message in as_messages(item, with_files=with_files)]
    raise WrongType(
        f"a rule answers nothing, a string, a message of djmessenger.outgoing, or several; not {value!r:.200}"
    )


def read_chosen(
    data: Mapping[str, Any], key: str, default: str, known: Mapping[str, type[Part]], path: str
) -> Part:
    """Build a part of the class that ``data[key]`` names; error messages begin with ``path``."""
    name = data.get(key, default)
    if not isinstance(name, str) or name not in known:
        raise InvalidField(_join(path, key), _unknown(name, known))
    return read_part(known[name], {k: v for k, v in data.items() if k != key}, path)


def read_part(cls: type[Part], data: Mapping[str, Any], path: str) -> Part:
    """Build a part of the class from plain data; error messages begin with ``path``."""
    declared = fields(cls)  # type: ignore[arg-type]
    allowed = {field.name: field for field in declared if field.name not in _WITHHELD}
    for key in data:
        if key not in allowed:
            raise InvalidField(_join(path, str(key)), _unknown(key, allowed))
    for name, field in allowed.items():
        if name not in data and field.default is MISSING and field.default_factory is MISSING:
            raise InvalidField(_join(path, name), "is missing")
    values = {key: _value(cls, key, value, _join(path, key)) for key, value in data.items()}
    try:
        return cls(**values)
    except InvalidField as error:
        raise type(error)(_join(path, error.field), error.problem, error.source) from error
    except TypeError as error:
        raise WrongType(_join(path, str(error))) from error


def _value(cls: type[Part], key: str, value: Any, path: str) -> Any:
    if key in _AS_THEY_ARE:
        return value
    inside = cls.inside.get(key) or _EVERYWHERE.get(key)
    if inside is not None and isinstance(value, (list, tuple)):
        return tuple(_inside(inside, item, f"{path}[{index}]") for index, item in enumerate(value))
    if inside is not None:
        return _inside(inside, value, path)
    if isinstance(value, (list, tuple)):
        return tuple(_text(item, f"{path}[{index}]") for index, item in enumerate(value))
    if isinstance(value, Mapping) and value and not value.keys() <= _LOCALIZED:
        return {str(name): _text(item, _join(path, str(name))) for name, item in value.items()}
    return _text(value, path)


def _inside(kind: Inside, value: Any, path: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    if isinstance(kind, tuple):
        return read_chosen(value, *kind, path)
    return read_part(kind, value, path)


def _text(value: Any, path: str) -> Any:
    if not isinstance(value, Mapping) or not value or not value.keys() <= _LOCALIZED:
        return value
    base, translations = value.get("base_string"), value.get("translations") or {}
    if not isinstance(base, str):
        raise InvalidField(_join(path, "base_string"), "is missing" if base is None else "is not a text")
    if not isinstance(translations, Mapping) or not all(isinstance(t, str) for t in translations.values()):
        raise InvalidField(_join(path, "translations"), "is a dict of locale to text")
    return LocalizedString(base, {str(locale): text for locale, text in translations.items()})


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _unknown(name: Any, known: Iterable[str]) -> str:
    names = list(known)
    for family in ("template", "quick_reply", "button"):
        row = rulebook.table.get(f"{family}.{name}")
        if row is not None and row.until is not None:
            return f"{row.what} ended on {row.until}; use {row.instead} ({row.source})"
    near = difflib.get_close_matches(str(name), names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(names)}"
    return f"{name!r:.100} is not known{hint}"
