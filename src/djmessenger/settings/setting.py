"""One declaration of a setting: name, type, default, choices, bounds, secrecy and meaning. Internal."""

from __future__ import annotations

import datetime
import functools
import math
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar, overload

from django.utils.functional import Promise

from djmessenger.exceptions import DJMInvalidConfigException, DJMInvalidValueException
from djmessenger.secret import Secret

T = TypeVar("T")

_WORDS: Mapping[Any, str] = {float: "number", Promise: "lazy text", os.PathLike: "path", type(None): "None"}
"""Names of types for people who do not read Python annotations."""


class Form(NamedTuple):
    """The form that each text of a setting must have: a pattern of the whole text, and the pattern in words."""

    pattern: str
    words: str


class Reader(Protocol):
    """Source of the current value of a setting."""

    def read(self, name: str) -> Any: ...


class Setting(Generic[T]):
    """Typed descriptor of one setting; its type is the annotation ``Setting[...]`` of the attribute.

    A class of settings declares ``DJM_POLL: Setting[float] = Setting(1.0, "...", above=0)``. An instance of that class
    reads the value from its method ``read``, which may keep it in ``__dict__``: the attribute is then that value. The
    class itself returns the declaration.
    """

    name = ""

    def __init__(
        self,
        default: T,
        meaning: str,
        *,
        choices: tuple[T, ...] = (),
        minimum: T | None = None,
        above: T | None = None,
        maximum: T | None = None,
        form: Form | None = None,
        form_of_keys: Form | None = None,
        documented: bool = False,
        secret: bool = False,
    ) -> None:
        self.default = default
        self.meaning = meaning
        self.choices = choices
        self.minimum = minimum
        self.above = above
        self.maximum = maximum
        self.form = form
        self.form_of_keys = form_of_keys
        self.documented = documented
        self.secret = secret

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self.name = owner, name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Reader, owner: type) -> T: ...
    def __get__(self, instance: Reader | None, owner: type) -> Self | T:
        if instance is None:
            return self
        value: T = instance.read(self.name)
        return value

    @functools.cached_property
    def type(self) -> Any:
        """The argument of the annotation: ``float`` of ``Setting[float]``."""
        (argument,) = typing.get_args(typing.get_type_hints(self._owner)[self.name])
        return argument

    @property
    def type_text(self) -> str:
        """The accepted types in words, such as ``str or list of str``."""
        # None first: the bounds stand behind the last type.
        members = sorted(_members(self.type), key=lambda member: member is not type(None))
        return _joined(dict.fromkeys(map(_type_text, members)))

    @property
    def bounds_text(self) -> str:
        """The choices or the bounds in words, or an empty text."""
        if self.choices:
            return _joined(f"{choice!r}" for choice in self.choices)
        bounds = (("above", self.above), ("at least", self.minimum), ("at most", self.maximum))
        parts = [f"{word} {_amount(bound)}" for word, bound in bounds if bound is not None]
        parts += [f"with {self.form_of_keys.words} as keys"] if self.form_of_keys else []
        return " and ".join([*parts, *([f"with {self.form.words}"] if self.form else [])])

    @property
    def accepted(self) -> str:
        """Types and bounds in words, such as ``number above 0``."""
        return self.bounds_text if self.choices else f"{self.type_text} {self.bounds_text}".strip()

    def normalised(self, read: Callable[[], Any], place: str = "") -> Any:
        """Return the value for the code of this package: the value that ``read`` returns, as it is."""
        return read()

    def problem(self, value: Any) -> str:
        """Return the reason why the value is refused, or an empty text; never raises, never shows a secret."""
        try:
            if _fits(value, self.type) and self._is_within(value):
                return ""
            shown = f"of type {type_name(value)}" if self.secret else _shown(value)
        except Exception as error:  # noqa: BLE001 - the methods of the value are code of the project
            shown = f"of type {type_name(value)} and raises {type_name(error)} when it is read"
        return f"is {shown}; it must be {self.accepted}"

    def _is_within(self, value: Any) -> bool:
        if value == self.default:
            return True
        if self.choices:
            return value in self.choices
        if value is None:
            return True
        texts = (text.strip() if self.secret else text for text in texts_in(value))
        if self.form and not all(re.fullmatch(self.form.pattern, text) for text in texts):
            return False
        if self.form_of_keys and isinstance(value, dict):
            return all(re.fullmatch(self.form_of_keys.pattern, key) for key in value)
        return not (
            (self.above is not None and not value > self.above)
            or (self.minimum is not None and value < self.minimum)
            or (self.maximum is not None and value > self.maximum)
        )


class SecretSetting(Setting[T]):
    """Setting of one secret. The project sets a ``str``; code of this package reads it as a ``Secret``."""

    def __init__(self, *args: Any, wrapper: type[Secret] = Secret, **options: Any) -> None:
        super().__init__(*args, secret=True, **options)
        self.wrapper = wrapper

    if typing.TYPE_CHECKING:

        @overload  # type: ignore[override]
        def __get__(self, instance: None, owner: type) -> Self: ...
        @overload
        def __get__(self, instance: Reader, owner: type) -> Secret: ...
        def __get__(self, instance: Reader | None, owner: type) -> Self | Secret: ...

    def normalised(self, read: Callable[[], Any], place: str = "") -> Any:
        """Return the secret. Raises ``DJMInvalidConfigException``, which shows no part of it, if it cannot be used.

        ``place`` is the place of the value in the settings, for that error.
        """
        return self._wrapped(place or self.name, read)

    def _wrapped(self, place: str, read: Callable[[], Any]) -> Secret:
        # Raised outside of ``except``: a tracker would find the value in the frames of the first exception.
        try:
            return self.wrapper(read())
        except DJMInvalidValueException as error:
            problem = str(error)
        raise DJMInvalidConfigException(f"{place}: {problem}. manage.py check lists all mistakes.")


class SecretsSetting(SecretSetting[T]):
    """Setting of one secret or several. Code of this package reads a dict of ``Secret`` by name.

    The name of a secret is its key in a dict. In a list it is ``#1``, ``#2``. The name of a single ``str`` is empty.
    Secrets that are empty are left out.
    """

    if typing.TYPE_CHECKING:

        @overload  # type: ignore[override]
        def __get__(self, instance: None, owner: type) -> Self: ...
        @overload
        def __get__(self, instance: Reader, owner: type) -> dict[str, Secret]: ...
        def __get__(self, instance: Reader | None, owner: type) -> Self | dict[str, Secret]: ...

    def normalised(self, read: Callable[[], Any], place: str = "") -> Any:
        """Return the secrets by name. Raises as ``SecretSetting`` does."""
        found = {
            name: self._wrapped(f"{place or self.name}, secret {number}", functools.partial(_part, read, key))
            for number, (name, key) in enumerate(_parts(read), 1)
        }
        return {name: secret for name, secret in found.items() if secret}


def _parts(read: Callable[[], Any]) -> list[tuple[str, Any]]:
    """Return name and key of each secret in the value of a setting. The key of a value that is one secret is None."""
    if isinstance(read(), dict):
        return [(str(key), key) for key in read()]
    if isinstance(read(), (list, tuple)):
        return [(f"#{number}", number - 1) for number in range(1, len(read()) + 1)]
    return [("", None)]


def _part(read: Callable[[], Any], key: Any) -> Any:
    return read() if key is None else read()[key]


def declared_in(owner: type) -> Mapping[str, Setting[Any]]:
    """Return the settings of a class by name, in the order of the source; those of its parents come last."""
    return types.MappingProxyType(
        {name: row for each in owner.__mro__ for name, row in vars(each).items() if isinstance(row, Setting)}
    )


def type_name(value: Any) -> str:
    """Return the name of the type of a value. Unlike ``type(value).__name__`` it asks no metaclass of the project."""
    return str(type.__dict__["__name__"].__get__(type(value)))


def texts_in(value: Any) -> Iterator[str]:
    """Yield each text of the value of a setting, which is one text, a list or a dict."""
    items = (
        value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
    )
    return (item for item in items if isinstance(item, str))


def _members(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in {typing.Union, types.UnionType}
    return typing.get_args(annotation) if is_union else (annotation,)


def _fits(value: Any, annotation: Any) -> bool:
    """Compare a value with an annotation, items included; a bool is no number, and neither is NaN or infinity."""
    return any(_fits_one(value, member) for member in _members(annotation))


def _fits_one(value: Any, annotation: Any) -> bool:
    if annotation is Any:
        return True
    if annotation is float:
        return _is_number(value)
    if annotation is int:
        return issubclass(type(value), int) and type(value) is not bool
    kind = typing.get_origin(annotation) or annotation
    # Not isinstance: an object may claim another class than its own.
    if not issubclass(type(value), kind):
        return False
    arguments = [one for one in typing.get_args(annotation) if one is not Ellipsis]
    if isinstance(value, dict):
        key, item = arguments
        return all(_fits(name, key) and _fits(inner, item) for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return all(_fits(inner, arguments[0]) for inner in value)
    # Methods of a subclass or of a lazy text may raise. The code that reads a text calls these two.
    return not issubclass(kind, (str, Promise)) or bool(value) is bool(str(value))


def _is_number(value: Any) -> bool:
    if issubclass(type(value), float):
        return math.isfinite(value)
    return _fits_one(value, int)


def _type_text(annotation: Any) -> str:
    kind = typing.get_origin(annotation) or annotation
    word = _WORDS.get(kind, kind.__name__)
    item = [one for one in typing.get_args(annotation) if one is not Ellipsis][-1:]
    is_plain = not item or item[0] is Any or kind is os.PathLike
    return word if is_plain else f"{word} of {_joined(map(_type_text, _members(item[0])))}"


def _amount(bound: Any) -> str:
    if not isinstance(bound, datetime.timedelta):
        return f"{bound}"
    seconds = bound.total_seconds()
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        if seconds >= length and seconds % length == 0:
            number = int(seconds // length)
            return f"{number} {unit}{'' if number == 1 else 's'}"
    return f"{seconds:g} seconds"


def _shown(value: Any) -> str:
    if value is None or isinstance(value, (bool, float, str, datetime.timedelta)):
        return _shortened(repr(value))
    # The text of a very long integer raises ValueError.
    if isinstance(value, int) and value.bit_length() < 200:
        return repr(value)
    return f"of type {type_name(value)}"


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."


def _joined(words: Iterable[str]) -> str:
    return " or ".join(words)
