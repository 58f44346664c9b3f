"""Base of all parts of a callback: tolerant reading and lossless writing."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Self

from djmessenger.utils.serializable import Serializable, to_json

Reader = Callable[[Any], Any]
"""Function that turns the JSON value into the value of the attribute; it never raises."""

MILLISECONDS_FROM = 10**12
LAST_MILLISECOND = 253_370_764_799_999
"""End of the year 9998. In the last year of ``datetime`` a change of the time zone may overflow."""
LONGEST_ID = 255
LARGEST_BITS = 64
MOST_DIGITS = 19
LONGEST_ISO_TIME = 40


class Field(NamedTuple):
    """Declaration of one JSON key and its attribute: reader and default."""

    read: Reader
    default: Any = None
    part_class: tuple[type[Part], type] | None = None
    """Entry of ``custom_obj_map``: the class of the parts, and ``list`` or ``object``."""


def wire(read: Reader, default: Any = None) -> Any:
    """Declare an attribute of a ``Part`` for the JSON key of the same name.

    Annotation, reader and default of an attribute are in the class body only. With the default ``list``, each
    object that is read from JSON gets a new list.
    """
    return Field(read, default)


def wire_part(cls: type[Part]) -> Any:
    """Declare an attribute whose value is one part, or ``None``."""
    return Field(part(cls), None, (cls, object))


def wire_parts(cls: type[Part]) -> Any:
    """Declare an attribute whose value is a list of parts."""
    return Field(parts(cls), list, (cls, list))


class Part(Serializable):
    """A piece of a callback that keeps the dict from which it was read.

    Reading never fails: a value of a wrong type becomes the default, and unknown keys stay in ``raw``. Writing
    returns the original JSON in its original spelling, except for attributes that were changed. An absent key stays
    absent.
    """

    fields: ClassVar[dict[str, Field]] = {}
    """Declarations by JSON key, which is also the name of the attribute."""
    _readers: ClassVar[dict[str, Reader]] = {}
    _defaults: ClassVar[dict[str, Any]] = {}
    _fresh: ClassVar[tuple[str, ...]] = ()
    _foreign_init: ClassVar[bool] = False
    """True for a subclass of a project with a constructor of its own, which reading has to call."""

    _raw: dict[str, Any] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._declare({name: item for name, item in vars(cls).items() if isinstance(item, Field)})
        cls._readers = {key: field.read for key, field in cls.fields.items()}
        cls._defaults = {key: field.default for key, field in cls.fields.items() if field.default is not list}
        cls._fresh = tuple(key for key, field in cls.fields.items() if field.default is list)
        if "fields" in vars(cls):
            cls._foreign_init = False
        elif "_foreign_init" in vars(cls):
            return
        elif "__init__" in vars(cls):
            cls._foreign_init = True

    @classmethod
    def _declare(cls, declared: dict[str, Field]) -> None:
        """Move the declarations of the class body into ``fields``; leave their defaults in place."""
        if not declared:
            return
        cls.fields = {**cls.fields, **declared}
        part_classes = {
            name: list(field.part_class) for name, field in declared.items() if field.part_class is not None
        }
        cls.custom_obj_map = {**cls.custom_obj_map, **part_classes}
        for name, field in declared.items():
            if field.default is list:
                delattr(cls, name)
            else:
                setattr(cls, name, field.default)

    @classmethod
    def _from_json(cls, data: Mapping[str, Any]) -> Self:
        if cls._foreign_init:
            # The constructor of a subclass of a project sets attributes that are not declared here.
            instance = super()._from_json(data)
            instance._raw = dict(data)
            return instance
        instance = cls.__new__(cls)
        attributes = instance.__dict__
        attributes["_raw"] = data
        attributes.update(cls._defaults)
        for key in cls._fresh:
            attributes[key] = []
        readers = cls._readers
        for key, value in data.items():
            read = readers.get(key)
            if read is not None:
                attributes[key] = read(value)
        return instance

    @classmethod
    def _value_from_json(cls, key: str, value: Any) -> Any:
        read = cls._readers.get(key)
        return value if read is None else read(value)

    @property
    def raw(self) -> dict[str, Any]:
        """Dict from which the part was read, unknown keys included; for a part built in code, its JSON."""
        return self._raw if self._raw is not None else self.json()

    def __repr__(self) -> str:
        # Keys only, because texts of people must not appear in logs and tracebacks.
        return f"<{type(self).__name__} with {', '.join(map(repr, self.raw)) or 'nothing'}>"

    def json_unordered(self) -> dict[str, Any]:
        """Return the JSON-ready dict."""
        result: dict[str, Any] = {}
        raw = self._raw or {}
        for key, value in raw.items():
            if key in self._readers:
                result[key] = self._written(key, value, getattr(self, key, None))
            else:
                result[key] = to_json(value)
        for key, field in self.fields.items():
            if key in result:
                continue
            value = getattr(self, key, None)
            if value is None or value in (() if field.default is list else field.default, []):
                continue
            if not self._is_assumed(key, value):
                result[key] = to_json(value)
        if self._foreign_init:
            for key, value in vars(self).items():
                if not key.startswith("_") and key not in self.fields:
                    result[key] = to_json(value)
        return result

    def _written(self, key: str, original: Any, current: Any) -> Any:
        """Return the JSON of an attribute: the original value unless the attribute was changed."""
        if isinstance(current, Part):
            return current.json()
        if (
            isinstance(current, list)
            and isinstance(original, list)
            and any(isinstance(item, Part) for item in current)
        ):
            # Items that are no JSON objects were skipped at reading; they are written back in their places.
            parts = iter(current)
            if len(current) == sum(isinstance(item, dict) for item in original):
                return [
                    to_json(next(parts)) if isinstance(item, dict) else to_json(item) for item in original
                ]
            return to_json(current)
        if self._readers[key](original) == current or self._is_assumed(key, current):
            return to_json(original)
        return to_json(current)

    def _is_assumed(self, key: str, value: Any) -> bool:
        """Return whether the value was assumed because the callback had none."""
        return False


def read_id(value: Any) -> str:
    """Return an id as text; Meta sends it as text or number. ``""`` for a value that cannot be an id."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_ID else ""
    if isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return str(value) if value.bit_length() <= LARGEST_BITS else ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return ""


def read_optional_id(value: Any) -> str | None:
    return read_id(value) or None


def read_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return ""


def read_optional_text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def read_milliseconds(value: Any) -> int | None:
    """Return a time in milliseconds, or ``None`` if the value is no time.

    A number or text from 10**12 on is taken as milliseconds, a smaller one as seconds. Meta sends seconds for "Lead
    Ads" (Messenger Platform, May 2026). A text may also be an ISO 8601 time with a zone.
    """
    if isinstance(value, str):
        value = value.strip()
        if not (value.isascii() and value.isdigit() and len(value) <= MOST_DIGITS):
            return _read_iso_milliseconds(value)
        value = int(value)
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not 0 < value <= LAST_MILLISECOND:
        return None
    return int(value if value >= MILLISECONDS_FROM else value * 1000) or None


def _read_iso_milliseconds(text: str) -> int | None:
    if not (text.isascii() and len(text) <= LONGEST_ISO_TIME):
        return None
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    if time.tzinfo is None:
        return None
    milliseconds = int(time.timestamp() * 1000)
    return milliseconds if 0 < milliseconds <= LAST_MILLISECOND else None


def read_int(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MOST_DIGITS:
        return int(value)
    return None


def read_number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def read_flag(value: Any) -> bool:
    """Return a flag in any spelling; an unknown spelling is true."""
    if isinstance(value, str):
        return value.strip().lower() not in {"", "false", "0", "no", "null", "none"}
    return value is not None and value is not False and value != 0


def read_texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def read_data(value: Any) -> Any:
    return value


def part(cls: type[Part]) -> Reader:
    """Return a reader of one part; it returns ``None`` for a value that is no JSON object."""

    def read(value: Any) -> Any:
        if isinstance(value, cls):
            return value
        return cls._from_json(value) if isinstance(value, dict) else None

    return read


def parts(cls: type[Part]) -> Reader:
    """Return a reader of a list of parts; it skips items that are no JSON objects."""

    def read(value: Any) -> list[Any]:
        if not isinstance(value, (list, tuple)):
            return []
        read_one = part(cls)
        return [item for item in map(read_one, value) if item is not None]

    return read
