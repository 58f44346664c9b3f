"""The emulator as a transport of the Graph client, without a socket."""

from __future__ import annotations

from urllib.parse import urlsplit

from djmessenger.graph.errors import NotSent, UnknownFate
from djmessenger.graph.wire import Request, Response
from messenger_emulator.core import Emulator, NoAnswer


class EmulatorTransport:
    """Transport that passes each request to an emulator in the same process."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator

    def send(self, request: Request, /) -> Response:
        """Return the answer of the emulator; raise ``NotSent`` or ``UnknownFate`` for a fault without an answer."""
        parts = urlsplit(request.url)
        try:
            status, headers, body = self.emulator.handle(
                request.method, parts.path, parts.query, request.headers, request.body or b""
            )
        except NoAnswer as error:
            kind = UnknownFate if error.sent else NotSent
            raise kind(str(error)) from None
        return Response(status, headers, body)
