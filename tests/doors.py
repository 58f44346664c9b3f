"""Requests to applications of WSGI and ASGI, as a web server makes them."""

from __future__ import annotations

import asyncio
import io
from typing import Any, NamedTuple

from django.test import RequestFactory

from djmessenger.signatures import sign

URL = "/messenger"
FIRST = "0123456789abcdef0123456789abcdef"


class Request(NamedTuple):
    body: bytes = b"{}"
    signatures: tuple[str, ...] | None = None
    """Values of the header; by default the right one."""
    method: str = "POST"
    path: str = URL
    length: str | None = "true"
    """Header ``Content-Length``; ``true`` stands for the size of the body, None for chunks."""
    has_end: bool = True
    """The server marks the end of a body in chunks. Only WSGI servers differ in that."""
    pieces: int = 1
    is_broken: bool = False
    """The server fails while the body is read, with an error of its own."""

    def announced(self) -> int:
        """Return the size in the header ``Content-Length`` that was given, or 0."""
        return int(self.length) if self.length and self.length.isdigit() else 0

    def headers(self) -> list[tuple[str, str]]:
        found = [(sign(FIRST, self.body),) if self.signatures is None else self.signatures][0]
        length = str(len(self.body)) if self.length == "true" else self.length
        framing = ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", length)
        return [framing, *(("X-Hub-Signature-256", value) for value in found)]


class MalformedChunk(Exception):
    """Error of a server. Those of gunicorn have no other parent either."""


class BrokenStream(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise MalformedChunk("text of a stranger")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def ask_wsgi(application: Any, request: Request) -> Answer:
    environ = RequestFactory().generic(request.method, request.path, request.body).environ
    for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        environ.pop(key, None)
    for name, value in request.headers():
        key = "CONTENT_LENGTH" if name == "Content-Length" else f"HTTP_{name.upper().replace('-', '_')}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    environ["wsgi.input"] = (BrokenStream if request.is_broken else io.BytesIO)(request.body)
    if request.has_end:
        environ["wsgi.input_terminated"] = True
    found: list[tuple[str, list[tuple[str, str]]]] = []
    parts = application(environ, lambda status, headers, exc_info=None: found.append((status, headers)))
    content = b"".join(parts)
    getattr(parts, "close", lambda: None)()
    ((status, headers),) = found
    return Answer(int(status[:3]), {name.lower(): value for name, value in headers}, content)


async def ask_asgi(application: Any, request: Request) -> Answer:
    size = -(-len(request.body) // request.pieces) or 1
    pieces = [request.body[at : at + size] for at in range(0, len(request.body), size)] or [b""]
    messages = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, 1)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        if request.is_broken and len(messages) < request.pieces:
            raise MalformedChunk("text of a stranger")
        return messages.pop(0) if messages else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    await application(scope_of(request), receive, send)
    headers = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))


def scope_of(request: Request) -> dict[str, Any]:
    return {
        "type": "http",
        "method": request.method,
        "path": request.path,
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode("latin1")) for name, value in request.headers()],
    }
