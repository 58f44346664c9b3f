"""HTTP server of the emulator, for bots in any language."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
from collections.abc import Callable, Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlencode, urlsplit

from messenger_emulator.core import Emulator, NoAnswer
from messenger_emulator.webhook import TIME_LIMIT, Verification

logger = logging.getLogger(__name__)

MAX_BODY = 32 * 1024 * 1024
"""Maximum bytes of a request; attachments may have 25 MB."""

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names by which the clients of this machine reach a server."""

Control = Callable[[str, str, bytes], tuple[int, bytes]]


class GraphServer(ThreadingHTTPServer):
    """HTTP server of an emulator. A client uses ``url`` in place of https://graph.facebook.com."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        emulator: Emulator,
        port: int = 0,
        host: str = "127.0.0.1",
        names: Collection[str] = (),
    ) -> None:
        self.emulator = emulator
        self.names = LOCAL_NAMES | {host.lower(), *(name.lower() for name in names)}
        """Names that the Host header of a request may have."""
        self.control: Control | None = None
        """Function that answers the paths under ``/_emulator/``: acts of persons, clock, switches."""
        super().__init__((host, port), _Handler)

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> threading.Thread:
        """Serve in a thread of its own; ``stop`` ends it."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("A client of the emulator closed its connection early")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: GraphServer
    timeout = 60
    disable_nagle_algorithm = True
    wbufsize = -1

    def _answer(self) -> None:
        if not self._is_named():
            self._write(421, {"Content-Type": "text/plain"}, b"Start the emulator with --allowed-host NAME.")
            self.close_connection = True
            return
        body = self._body()
        if body is None:
            return
        target = urlsplit(self.path)
        control = self.server.control
        if control is not None and target.path.startswith("/_emulator/"):
            kind = self.headers.get("Content-Type", "").partition(";")[0]
            if body and kind != "application/json":
                # A page in a browser can post other content types across origins without a preflight request.
                self._write(415, {}, b"")
                return
            status, text = control(self.command, target.path.removeprefix("/_emulator/"), body)
            self._write(status, {"Content-Type": "application/json"}, text)
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            answer = self.server.emulator.handle(self.command, target.path, target.query, headers, body)
        except NoAnswer:
            self._hang_up()
            return
        self._write(*answer)

    def _is_named(self) -> bool:
        """Return whether the Host header has a name of this server.

        A web page that lets its own name point to 127.0.0.1 could otherwise read from and write to the emulator.
        """
        try:
            return urlsplit(f"//{self.headers.get('Host', '')}").hostname in self.server.names
        except ValueError:
            return False

    def _body(self) -> bytes | None:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._chunks()
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > MAX_BODY:
            self._write(413 if length.isdigit() else 400, {}, b"")
            self.close_connection = True
            return None
        return self.rfile.read(int(length))

    def _chunks(self) -> bytes | None:
        parts = []
        size = 0
        try:
            while length := int(self.rfile.readline(100).partition(b";")[0], 16):
                size += length
                if length < 0 or size > MAX_BODY:
                    raise ValueError("too large")
                parts.append(self.rfile.read(length))
                self.rfile.readline(10)
            while self.rfile.readline(1000).strip():
                pass
        except ValueError:
            self._write(400, {}, b"")
            self.close_connection = True
            return None
        return b"".join(parts)

    def _hang_up(self) -> None:
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            logger.debug("The client had closed the connection already")

    def _write(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Server", self.version_string())
        if "Date" not in headers:
            self.send_header("Date", self.date_time_string())
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = _answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing, because the request line may contain a token."""


def serve(
    emulator: Emulator, port: int = 0, host: str = "127.0.0.1", names: Collection[str] = ()
) -> GraphServer:
    """Start a server in the background and return it; port 0 takes a free port. Its ``stop()`` ends it.

    ``names`` are host names that clients use beside those of this machine and ``host``.
    """
    server = GraphServer(emulator, port, host, names)
    server.start()
    return server


class Callback:
    """Client of the bot's webhook, for ``Emulator.deliver`` and ``Emulator.verify``."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no address of a webhook: it needs http or https and a host")
        self._parts = parts

    def post(self, body: bytes, headers: dict[str, str]) -> int:
        return self._request("POST", "", body, headers)[0]

    def get(self, query: dict[str, str]) -> tuple[int, bytes]:
        return self._request("GET", urlencode(query), b"", {})

    def _request(self, method: str, query: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        parts = self._parts
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=TIME_LIMIT)
        target = "?".join(filter(None, [parts.path or "/", "&".join(filter(None, [parts.query, query]))]))
        try:
            connection.request(method, target, body=body or None, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


class Courier:
    """Thread that posts due callbacks to the bot until it is stopped."""

    def __init__(self, emulator: Emulator, callback: Callback, *, every: float = 0.1) -> None:
        self._emulator = emulator
        self._callback = callback
        self._every = every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=TIME_LIMIT + 1)

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            try:
                self._emulator.deliver(self._callback.post)
            except RuntimeError:
                logger.exception(
                    "The bot answers its own echoes without end; the remaining callbacks are posted later"
                )

    def verify(self, verify_token: str) -> Verification:
        return self._emulator.verify(self._callback.get, verify_token)
