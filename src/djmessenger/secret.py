"""Internal: secrets, and bodies of callbacks, in objects whose representation shows nothing of them.

An error tracker collects the representation of each local variable of each frame. So no variable holds a secret or a
body, except as one of these objects. ``reveal()`` stands inside the expression that needs the content.
"""

from __future__ import annotations

import functools
import hmac
import re
import traceback
from collections.abc import Callable
from typing import Any, ClassVar, ParamSpec, TypeVar

from djmessenger.exceptions import DJMInvalidValueException


class Secret:
    """A token or secret, without blanks at its ends. No representation, log line or pickle shows it.

    ``reveal()`` returns the text. An empty secret is false. Raises ``DJMInvalidValueException``, which shows no part of
    the value, unless the value is a ``str`` of visible ASCII characters.
    """

    __slots__ = ("_value",)

    _allowed: ClassVar[re.Pattern[str]] = re.compile(r"[!-~]*")
    _problem: ClassVar[str] = (
        "A token or secret contains a space, a line break or a character outside ASCII: copy it again"
    )

    def __init__(self, value: str | Secret = "") -> None:
        self._value = ""
        if isinstance(value, Secret):
            value = value.reveal()
        problem = self._problem
        if not isinstance(value, str):
            problem = f"A token or secret is of type {type(value).__name__}; it must be a text (str)"
        elif self._allowed.fullmatch(value.strip()):
            self._value = value.strip()
            return
        value = "***"
        raise DJMInvalidValueException(problem)

    def reveal(self) -> str:
        return self._value

    def matches(self, text: str) -> bool:
        """Compare with a text in constant time. An empty secret matches nothing."""
        sent, own = text.encode("utf-8", "surrogatepass"), self._value.encode()
        return bool(self) and hmac.compare_digest(sent, own)

    def hide_in(self, body: bytes) -> bytes:
        """Return ``body`` with ``***`` in place of the secret."""
        return body.replace(self._value.encode(), b"***") if self._value else body

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("A Secret cannot be pickled; pass the text of it and build a new Secret")


class TypedSecret(Secret):
    """A secret that staff type into a field of Meta. It may contain spaces and characters outside ASCII."""

    __slots__ = ()

    _allowed = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*")
    _problem = "A secret contains a line break or another character that cannot be typed"


class Body:
    """The bytes of a callback or of a call. The representation is their number."""

    __slots__ = ("_content",)

    def __init__(self, content: bytes | Body = b"") -> None:
        self._content: bytes = content.reveal() if isinstance(content, Body) else content

    def reveal(self) -> bytes:
        return self._content

    def __len__(self) -> int:
        return len(self._content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Body) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    def __repr__(self) -> str:
        return f"<body of {len(self._content)} bytes>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("A Body cannot be pickled, because the text of a person would be in the pickle")


def without_frames(error: Exception) -> Exception:
    """Return an exception without its frames, which hold texts of persons, and with a note of their places.

    Raise it outside of ``except``, so that it gets no context.
    """
    frames = traceback.extract_tb(error.__traceback__)
    error.__cause__ = error.__context__ = None
    error.add_note(
        "\n".join(f'File "{frame.filename}", line {frame.lineno}, in {frame.name}' for frame in frames)
    )
    return error.with_traceback(None)


_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def without_texts_in_frames(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Decorate a function that gets texts of persons: no frame of an exception that it raises holds them."""

    @functools.wraps(function)
    def call(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - raised again below, without the frames that hold texts
            problem = without_frames(error)
        # This frame is in the traceback too.
        del args, kwargs
        raise problem

    return call
