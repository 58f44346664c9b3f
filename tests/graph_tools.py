"""Tools of the tests of ``djmessenger.graph``: a raw server, a recording transport, a spy on frames."""

from __future__ import annotations

import contextlib
import json
import pprint
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hypothesis import strategies as st

from djmessenger.graph.client import Client
from djmessenger.graph.wire import Request, Response
from djmessenger.signatures import appsecret_proof

TOKEN = "canary-token-of-the-page"
APP_SECRET = "canary-secret-of-the-app"
PSID = "7012345678901234"
PROOF = appsecret_proof(TOKEN, APP_SECRET)


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Connection:
    """One accepted connection, as a test's script sees it."""

    def __init__(self, sock: socket.socket, server: Server) -> None:
        self.sock = sock
        self.server = server
        self.file = sock.makefile("rb")

    def request(self) -> tuple[str, dict[str, str], bytes] | None:
        """Read one request: its first line, headers in lower case, body; None when the other end is gone."""
        first = self.file.readline().decode().strip()
        if not first:
            return None
        headers: dict[str, str] = {}
        while line := self.file.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = self.file.read(int(headers.get("content-length", 0)))
        self.server.requests.append((first, headers, body))
        return first, headers, body

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reset(self) -> None:
        """Close with a reset instead of an orderly end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def drip(self, data: bytes) -> None:
        """Send byte by byte, for ever, until the other end gives up or the test is over.

        The deadline passes after the first byte.
        """
        with contextlib.suppress(OSError):
            self.send(data[:1])
            self.server.expire()
            while not self.server.over.wait(0.005):
                data = data[1:] or b"x"
                self.send(data[:1])


class Server:
    """Listens on loopback; each connection runs ``script`` in a thread of its own."""

    def __init__(self, script: Callable[[Connection], None], tls: Any = None) -> None:
        self.script, self.tls = script, tls
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        self.over = threading.Event()
        self.expire: Callable[[], None] = lambda: None
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self.over.is_set():
                sock.close()
                return
            self.connections += 1
            self._sockets.append(sock)
            self._start(self._run, sock)

    def _run(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), contextlib.ExitStack() as stack:
            if self.tls is not None:
                try:
                    sock = self.tls.wrap_socket(sock, server_side=True)
                finally:
                    stack.callback(sock.close)
            else:
                stack.callback(sock.close)
            connection = Connection(sock, self)
            stack.callback(connection.file.close)
            self.script(connection)

    def close(self) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)


@contextlib.contextmanager
def serving(script: Callable[[Connection], None], tls: Any = None) -> Iterator[Server]:
    server = Server(script, tls)
    try:
        yield server
    finally:
        server.close()


class Recorder:
    """A transport that notes requests and gives what it was told: JSON, responses, errors to raise."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []

    def send(self, request: Request) -> Response:
        self.requests.append(request)
        given = self.answers.pop(0) if self.answers else {}
        if isinstance(given, Exception):
            raise given
        return given if isinstance(given, Response) else Response(200, {}, json.dumps(given).encode())

    @property
    def last(self) -> Request:
        return self.requests[-1]

    @property
    def body(self) -> Any:
        return json.loads(self.last.body or b"null")


def refusal(code: int, subcode: int | None = None, status: int = 400, **more: Any) -> Response:
    error = {
        "message": f"(#{code}) No",
        "type": "OAuthException",
        "code": code,
        "fbtrace_id": "Trace",
        **more,
    }
    if subcode is not None:
        error["error_subcode"] = subcode
    return Response(status, {}, json.dumps({"error": error}).encode())


def frames_of(error: BaseException, *, but: str) -> str:
    """Everything an error tracker would collect of an exception: its texts and the locals of its frames.

    ``but`` is the test's own file, whose locals hold what is searched for.
    """
    found: list[str] = []
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        found += [repr(current), str(current), pprint.pformat(vars(current))]
        waiting += [current.__cause__, current.__context__]
        step = current.__traceback__
        while step is not None:
            if step.tb_frame.f_code.co_filename not in (but, __file__):
                found += [f"{name}={shown(value)}" for name, value in step.tb_frame.f_locals.items()]
            step = step.tb_next
    return "\n".join(found)


def shown(value: Any) -> str:
    """Return the repr, also inside of containers; for a half-built object, the repr of its parts."""
    try:
        return pprint.pformat(value)
    except Exception:  # noqa: BLE001
        return " ".join(map(shown, getattr(value, "__dict__", {}).values()))


def client_of(*answers: Any, **options: Any) -> tuple[Client, Recorder]:
    recorder = Recorder(*answers)
    options.setdefault("page_id", "100200")
    return Client(TOKEN, transport=recorder, **options), recorder


def query_of(url: str) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(st.characters())),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)
