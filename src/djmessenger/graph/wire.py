"""The values of the client and its transport: a call, the request it becomes, the response."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from djmessenger.exceptions import DJMInvalidValueException


class Secret:
    """A token or secret that no repr, log line or pickle shows; ``reveal()`` gives it where it is used."""

    __slots__ = ("_value",)

    def __init__(self, value: str | Secret = "") -> None:
        value = value.reveal() if isinstance(value, Secret) else value.strip()
        if not value.isascii() or any(char.isspace() or not char.isprintable() for char in value):
            value = "***"
            raise DJMInvalidValueException(
                "A token or secret holds a space, a line break or a letter outside ASCII"
            )
        self._value = value

    def reveal(self) -> str:
        return self._value

    def hide_in(self, body: bytes) -> bytes:
        """Give the bytes with stars where the secret stood."""
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
        raise TypeError("A secret is not pickled")


@dataclass(frozen=True)
class Upload:
    """A local file for one call: bytes, or a path that is read when the call is made."""

    name: str
    content: bytes | Path = field(repr=False)
    content_type: str = ""
    """Guessed from the name when empty; Meta refuses an audio file without an ``audio/*`` type."""

    @classmethod
    def from_path(cls, path: str | Path, content_type: str = "") -> Self:
        path = Path(path)
        return cls(path.name, path, content_type)

    def read(self) -> bytes:
        """Give the bytes; ``OSError`` when the file cannot be read."""
        return self.content.read_bytes() if isinstance(self.content, Path) else self.content

    @property
    def media_type(self) -> str:
        return self.content_type or mimetypes.guess_type(self.name)[0] or "application/octet-stream"


_PATH = re.compile(r"/?(?:[A-Za-z0-9_.~%:|=@!$,;+-]+/)*[A-Za-z0-9_.~%:|=@!$,;+-]*")


@dataclass(frozen=True)
class Call:
    """One call to Graph as a value: no host, no version, no token.

    ``json`` is the body, ``params`` go to the query (values that are no text are written as JSON), ``files``
    makes the body multipart with the keys of ``json`` as fields. The repr leaves out what people wrote.
    ``DJMInvalidValueException`` when the path is no plain path below the version.
    """

    method: str
    path: str
    json: Mapping[str, Any] | None = field(default=None, repr=False)
    params: Mapping[str, Any] | None = field(default=None, repr=False)
    files: Mapping[str, Upload] | None = None
    timeout: float | None = None
    """Seconds for this call, where it is not the client's usual time."""

    def __post_init__(self) -> None:
        if self.method not in {"GET", "POST", "DELETE"}:
            raise DJMInvalidValueException(f"Graph knows GET, POST and DELETE, not {self.method!r}")
        if not _PATH.fullmatch(self.path) or ".." in self.path:
            raise DJMInvalidValueException(f"Not a path below the Graph version: {self.path!r}")
        object.__setattr__(self, "path", self.path.strip("/"))


@dataclass(frozen=True, repr=False)
class Request:
    """What a transport sends. Header and body hold secrets, so the repr shows neither, nor the query."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout: float
    """Seconds from connecting to the last byte of the answer."""

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.url.partition('?')[0]}>"


@dataclass(frozen=True, repr=False)
class Response:
    """What came back, whole and decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        return find_header(self.headers, name)

    def __repr__(self) -> str:
        return f"<Response {self.status}, {len(self.body)} bytes>"


class Transport(Protocol):
    """Sends one request and gives the response.

    Raises ``NotSent`` when nothing left this machine and ``UnknownFate`` when something did and no whole
    answer came; follows no redirect, repeats nothing, keeps the total time of the request. Threads share
    one.
    """

    def send(self, request: Request, /) -> Response: ...


def find_header(headers: Mapping[str, str], name: str) -> str:
    """Give a header whatever its case, or an empty text."""
    value = headers.get(name)
    if value is None:
        wanted = name.lower()
        value = next((value for key, value in headers.items() if key.lower() == wanted), "")
    return value
