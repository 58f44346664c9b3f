"""Server of Graph that breaks off, drips and resets its answers, and can be unavailable."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import Any

from chaos.storm import Storm
from messenger_emulator.server import GraphServer, _Handler

_DROP = 0.05
"""Seconds between two bytes."""


class _Wire(_Handler):
    server: StormyServer

    def setup(self) -> None:
        super().setup()
        self.server.emulator.caller.connection = self.connection

    def _write(self, status: int, headers: dict[str, str], body: bytes) -> None:
        way = headers.pop("Storm", "")
        if way not in {"drip", "break off"}:
            self.server.emulator.end_call()
        if not way:
            super()._write(status, headers, body)
        elif way == "reset":
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif way == "hang up":
            self._hang_up()
        else:
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            for number in range(len(body) // 2):
                self.wfile.write(body[number : number + 1])
                if way == "drip":
                    self.wfile.flush()
                    time.sleep(_DROP)
            self.wfile.flush()
            self.server.emulator.end_call()
            self._hang_up()


class StormyServer(GraphServer):
    emulator: Storm

    def __init__(self, emulator: Storm, port: int = 0) -> None:
        super().__init__(emulator, port)
        self.RequestHandlerClass = _Wire
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def stop(self) -> None:
        super().stop()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Graph:
    """Server of a pass, at one address for the whole pass."""

    def __init__(self, emulator: Storm) -> None:
        self._emulator = emulator
        self._server = StormyServer(emulator)
        self.url = self._server.url
        self._server.start()

    @contextlib.contextmanager
    def away(self, *, silent: bool) -> Any:
        """Refuse connections inside the block; with ``silent``, ignore them without an answer."""
        port = self._server.server_address[1]
        self._server.stop()
        with contextlib.ExitStack() as stack:
            if silent:
                stack.enter_context(_full(int(port)))
            try:
                yield
            finally:
                stack.close()
                self._server = StormyServer(self._emulator, int(port))
                self._server.start()

    def stop(self) -> None:
        self._server.stop()


@contextlib.contextmanager
def _full(port: int) -> Any:
    """Listen with a full backlog, so that the next connection gets no answer to its first packet."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        yield
