"""Addresses of services that are away: nothing listens, nothing is accepted, or nothing is answered."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

AWAY = ("refuses", "black-holed", "silent")


@contextlib.contextmanager
def away(how: str) -> Iterator[int]:
    """Yield the port of a service that refuses connections, does not complete them, or never answers in them."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        address = server.getsockname()
        if how != "refuses":
            server.listen(0 if how == "black-holed" else 128)
        if how == "black-holed":
            # The kernel drops the packets of new connections while the queue of accepted ones is full.
            for _ in range(8):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(address)
        yield address[1]


class Proxy:
    """TCP in front of PostgreSQL's socket. A connection in which the client sends ``word`` is treated as ``how``."""

    def __init__(self, target: Path, how: str, word: bytes) -> None:
        self.target, self.how, self.word = target, how, word
        self.struck = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._open: list[socket.socket] = [self._server]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                database = socket.socket(socket.AF_UNIX)
                database.connect(str(self.target))
                self._open += [client, database]
                for pair in ((client, database, self.word), (database, client, b"")):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, word: bytes) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if word and word in data:
                    self.struck.set()
                    if self.how != "refuses":
                        return
                    break
                sink.sendall(data)
            for end in (source, sink):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
