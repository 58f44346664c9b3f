"""Values that client and transport exchange: a call, the request made from it, the response."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from djmessenger.exceptions import DJMInvalidValueException
from djmessenger.outgoing.local_files import read_file
from djmessenger.receiving.decoding import cleaned


@dataclass(frozen=True)
class Upload:
    """A local file for one call: bytes, or a path that is read when the call is made."""

    name: str
    content: bytes | Path = field(repr=False)
    content_type: str = ""
    """Media type; guessed from the name if empty. Meta refuses an audio file without an ``audio/*`` type."""

    @classmethod
    def from_path(cls, path: str | Path, content_type: str = "") -> Self:
        path = Path(path)
        return cls(path.name, path, content_type)

    def read(self) -> bytes:
        """Return the bytes; raise ``OSError`` if the file cannot be read."""
        return read_file(self.content) if isinstance(self.content, Path) else self.content

    @property
    def media_type(self) -> str:
        return self.content_type or mimetypes.guess_type(self.name)[0] or "application/octet-stream"


_PATH = re.compile(r"/?(?:[A-Za-z0-9_.~%:|=@!$,;+-]+/)*[A-Za-z0-9_.~%:|=@!$,;+-]*")


@dataclass(frozen=True)
class Call:
    """One call to Graph as a value, without host, version and token.

    ``json`` is the body. ``params`` form the query; a value that is no text is written as JSON. ``files`` makes the
    body multipart with the keys of ``json`` as fields. The repr omits the texts of people.
    Raise ``DJMInvalidValueException`` for an unknown method or a path that is not a plain path below the version.
    """

    method: str
    path: str
    json: Mapping[str, Any] | None = field(default=None, repr=False)
    params: Mapping[str, Any] | None = field(default=None, repr=False)
    files: Mapping[str, Upload] | None = None
    timeout: float | None = None
    """Seconds for this call; ``None`` stands for the time of the client."""
    token_in_query: bool = False
    """True if Graph reads the token in the query only."""

    def __post_init__(self) -> None:
        if self.method not in {"GET", "POST", "DELETE"}:
            raise DJMInvalidValueException(
                f"{self.method!r} is not a method of Graph; use GET, POST or DELETE"
            )
        if not _PATH.fullmatch(self.path) or ".." in self.path:
            raise DJMInvalidValueException(
                f"{self.path!r} is not a path below the Graph version; write it like me/messages"
            )
        object.__setattr__(self, "path", self.path.strip("/"))


@dataclass(frozen=True, repr=False)
class Request:
    """One HTTP request. Headers, body and query contain secrets, so the repr shows none of them."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout: float
    """Seconds from the start of the connection to the last byte of the answer."""

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.url.partition('?')[0]}>"


@dataclass(frozen=True, repr=False)
class Response:
    """One HTTP response, complete and decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        return find_header(self.headers, name)

    def __repr__(self) -> str:
        return f"<Response {self.status}, {len(self.body)} bytes>"


class Transport(Protocol):
    """An object that sends one request and returns the response; threads may share it.

    ``send`` raises ``NotSent`` if no byte left this machine, and ``UnknownFate`` if bytes left and no complete
    answer came. It follows no redirect, repeats no request and ends within the time of the request.
    """

    def send(self, request: Request, /) -> Response: ...


def find_header(headers: Mapping[str, str], name: str) -> str:
    """Return a header regardless of the case of its name, or an empty text.

    Characters that no database stores are replaced.
    """
    value = headers.get(name)
    if value is None:
        lower = name.lower()
        value = next((value for key, value in headers.items() if key.lower() == lower), "")
    return str(cleaned(value))
