"""Payloads of buttons and quick replies: JSON text that names its own class.

Meta returns the payload when a person taps the button::

    class MyProductPayload(Payload):
        def __init__(self, name, price):
            super().__init__()
            self.name = name
            self.price = price

The class name in a payload comes from the network, so no module is imported because of it. The name is looked up
among the ``Payload`` subclasses that are already loaded. A module with payload classes must therefore be loaded
at start, as every ``messenger.py`` is.
"""

from __future__ import annotations

import json
import sys
from abc import ABC
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from djmessenger.utils.serializable import Serializable
from djmessenger.utils.utils import get_class_name

MAX_LENGTH = 1000
"""Largest length in characters: Messenger Platform, "Quick Replies" and "Postback", April 2026."""


class Payload(Serializable, ABC):
    """Parent of custom payloads; the constructor of a subclass calls this one."""

    PAYLOAD_CLASS_ATTRIBUTE: ClassVar[str] = "payload_class"
    """Key of the class name in the JSON."""

    def __init__(self) -> None:
        setattr(self, self.PAYLOAD_CLASS_ATTRIBUTE, get_class_name(type(self)))

    def json_unordered(self) -> dict[str, Any]:
        """Return the JSON-ready dict; it names the class even if a subclass did not call this constructor."""
        return {**super().json_unordered(), self.PAYLOAD_CLASS_ATTRIBUTE: get_class_name(type(self))}

    def get_class(self) -> type[Payload]:
        """Return the concrete class."""
        return type(self)

    def is_valid(self) -> bool:
        """Return whether the serialized form fits into Meta's limit of 1000 characters."""
        return len(self.serialize()) <= MAX_LENGTH

    @classmethod
    def get_instance(cls, json_data: str | dict[str, Any]) -> Payload:
        """Build an instance of the class that the JSON names.

        Raise ``ValueError`` if the argument is empty, is neither text nor a dict, or is no JSON object. Raise it also
        if the JSON names no class or cannot become an instance of the class. Raise ``ImportError`` if the module of the
        class is not loaded, and ``AttributeError`` if the module lacks the class.
        """
        data = _as_dict(json_data)
        payload_class = _named_class(data.get(Payload.PAYLOAD_CLASS_ATTRIBUTE))
        try:
            return payload_class.deserialize(data)
        except Exception as error:
            raise ValueError(
                f"the payload cannot become a {get_class_name(payload_class)}: {error}"
            ) from error

    @classmethod
    def _is_settable(cls, key: str) -> bool:
        return not hasattr(Payload, key) and super()._is_settable(key)


class GetStartedPayload(Payload):
    """Payload of the get-started button."""


class PersistentMenuOnePayload(Payload):
    """Payload of entry 1 of the persistent menu."""


class PersistentMenuTwoPayload(Payload):
    """Payload of entry 2 of the persistent menu."""


class PersistentMenuThreePayload(Payload):
    """Payload of entry 3 of the persistent menu."""


class PersistentMenuFourPayload(Payload):
    """Payload of entry 4 of the persistent menu."""


class PersistentMenuFivePayload(Payload):
    """Payload of entry 5 of the persistent menu."""


def find_payload_class(text: str) -> type[Payload] | None:
    """Return the loaded ``Payload`` subclass that a payload text names, or ``None`` for any other text."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        return _named_class(_as_dict(text).get(Payload.PAYLOAD_CLASS_ATTRIBUTE))
    except (ValueError, ImportError, AttributeError):
        return None


def _as_dict(json_data: object) -> dict[str, Any]:
    if not json_data:
        raise ValueError("the payload is empty")
    if isinstance(json_data, str):
        try:
            json_data = json.loads(json_data)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the payload is no JSON: {error}") from error
    elif not isinstance(json_data, Mapping):
        raise ValueError(f"a payload is read from text or a dict, not from {type(json_data).__name__}")
    if not isinstance(json_data, Mapping):
        raise ValueError(f"the payload is {type(json_data).__name__}, not a JSON object")
    return dict(json_data)


def _named_class(name: object) -> type[Payload]:
    if not name or not isinstance(name, str):
        raise ValueError(f"the payload has no class name under {Payload.PAYLOAD_CLASS_ATTRIBUTE!r}")
    newest: type[Payload] | None = None
    for candidate in _loaded(Payload):
        if name in (get_class_name(candidate), f"{candidate.__module__}.{candidate.__name__}"):
            # A module that was loaded twice leaves two classes with one name; the later one is in the module now.
            newest = candidate
    if newest is not None:
        return newest
    module_name, _, class_name = name.rpartition(".")
    if not module_name:
        raise ValueError(f"{name!r} is not the dotted name of a class")
    module = sys.modules.get(module_name)
    if module is None:
        raise ImportError(f"no loaded module is named {module_name!r}; payload classes are never imported")
    if class_name not in getattr(module, "__dict__", ()):
        raise AttributeError(f"module {module_name!r} has no class {class_name!r}")
    raise ValueError(f"{name!r} is no subclass of Payload")


def _loaded(cls: type[Payload]) -> Iterator[type[Payload]]:
    for child in cls.__subclasses__():
        yield child
        yield from _loaded(child)
