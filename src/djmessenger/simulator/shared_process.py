"""One session for all processes of a site on one machine.

The session is in memory of one process, the shared process: the first web process that needs the session. It listens
on a port of the loopback interface; the number is derived from the site's secret and database. Other processes forward
their requests to it. The port is the lock: while the shared process lives, no second process can listen there. After
its end, the next process that needs a session becomes the shared process.
"""

from __future__ import annotations

import http.client
import logging
import os
import secrets
import threading
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare, salted_hmac

from djmessenger import sql

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
_FIRST_PORT, _PORTS = 10_240, 22_000
"""Range of ports below the ephemeral ports, so that an outgoing connection rarely takes the port."""
_TIMEOUT = 60.0
"""Seconds until an answer; long, because both processes read the body of an upload."""
_CONNECTION_HEADERS = frozenset(
    {"connection", "content-length", "date", "host", "keep-alive", "server", "transfer-encoding"}
)
"""Headers that belong to one connection and are not forwarded."""
_NONCE, _PASS, _SCHEME, _ROOT = "X-Djm-Nonce", "X-Djm-Pass", "X-Djm-Scheme", "X-Djm-Root"
_PORT = "X-Djm-Port"

SharedAnswer = tuple[int, list[tuple[str, str]], bytes]

_server: ThreadedWSGIServer | None = None
_server_lock = threading.Lock()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class has it
        """Log nothing, because the process that forwarded the request logs it."""


def forward(request: HttpRequest) -> HttpResponse | None:
    """Return the answer of the shared process to a request, or None if this process is the shared process.

    If no shared process answers, this process becomes it and returns None.
    """
    headers = {
        name: value for name, value in request.headers.items() if name.lower() not in _CONNECTION_HEADERS
    }
    headers["Host"] = request.META.get("HTTP_HOST", "")
    headers[_PORT] = request.META["SERVER_PORT"]
    headers[_SCHEME], headers[_ROOT] = request.scheme or "http", request.META.get("SCRIPT_NAME", "")
    query = request.META.get("QUERY_STRING", "")
    target = quote(request.path_info) + (f"?{query}" if query else "")
    for _ in range(2):
        if _is_shared_process():
            return None
        connection = _connect()
        if connection is not None:
            return _response(_request(connection, request.method or "GET", target, headers, request.read()))
        _open_server()
    return None


def call_shared_process(
    method: str, target: str, headers: Mapping[str, str], body: bytes
) -> SharedAnswer | None:
    """Send a request to the shared process; return None if this process is it, or if none is running."""
    connection = None if _is_shared_process() else _connect()
    return None if connection is None else _request(connection, method, target, headers, body)


def _is_shared_process() -> bool:
    # Other processes do not see a database in memory, so each process has a session of its own.
    return _server is not None or getattr(sql.connection(), "is_in_memory_db", bool)()


def _sign(text: str) -> str:
    database = sql.connection().settings_dict
    site = {key: str(database.get(key, "")) for key in ("ENGINE", "NAME", "HOST", "PORT")}
    return salted_hmac(
        "djmessenger.simulator.shared_process", f"{site}{text}", algorithm="sha256"
    ).hexdigest()


def _port() -> int:
    return _FIRST_PORT + int(_sign("port"), 16) % _PORTS


def _open_server() -> None:
    """Listen on the shared port, if no other process or thread listens there already."""
    global _server  # noqa: PLW0603 - the one fact about this process
    with _server_lock:
        if _server is not None:
            return
        try:
            # On Windows, reuse of the address would allow two listeners at once.
            server = ThreadedWSGIServer((HOST, _port()), _QuietHandler, allow_reuse_address=os.name != "nt")
        except OSError:
            return
        server.set_app(_application(WSGIHandler()))
        threading.Thread(
            target=server.serve_forever, name="djmessenger-simulator-shared", daemon=True
        ).start()
        _server = server


def _application(site: WSGIHandler) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        nonce = environ.get("HTTP_X_DJM_NONCE")
        has_password = constant_time_compare(environ.get("HTTP_X_DJM_PASS", ""), _sign("pass"))
        if nonce is None and has_password:
            environ["wsgi.url_scheme"] = environ.get("HTTP_X_DJM_SCHEME", "http")
            environ["SERVER_PORT"] = environ.get("HTTP_X_DJM_PORT", environ["SERVER_PORT"])
            environ["SCRIPT_NAME"] = environ.get("HTTP_X_DJM_ROOT", "")
            return site(environ, start_response)
        content = b"" if nonce is None else _sign(f"nonce {nonce}").encode()
        status = "403 Forbidden" if nonce is None else "200 OK"
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(content)))])
        return [content]

    return application


def _connect() -> http.client.HTTPConnection | None:
    """Connect to the shared process; return None if the port is closed or another program listens there.

    The listener has to sign a fresh nonce with the site's secret before it receives the password or a request.
    """
    connection = http.client.HTTPConnection(HOST, _port(), timeout=_TIMEOUT)
    try:
        nonce = secrets.token_hex(16)
        connection.request("GET", "/", headers={_NONCE: nonce})
        content = connection.getresponse().read().decode("latin-1")
        if constant_time_compare(content, _sign(f"nonce {nonce}")):
            return connection
        logger.warning(
            "Another program listens on port %s; each process of the site keeps a simulator session of its own",
            _port(),
        )
    except (OSError, http.client.HTTPException):
        pass
    connection.close()
    return None


def _request(
    connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: bytes
) -> SharedAnswer:
    try:
        connection.request(method, target, body or None, {**headers, _PASS: _sign("pass")})
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read()
    except (OSError, http.client.HTTPException):
        text = b'{"error": "The process with the conversations has ended. Try again."}'
        return 503, [("Content-Type", "application/json")], text
    finally:
        connection.close()


def _response(answer: SharedAnswer) -> HttpResponse:
    status, headers, content = answer
    response = HttpResponse(content, status=status)
    for name, value in headers:
        if name.lower() == "set-cookie":
            response.cookies.load(value)
        elif name.lower() not in _CONNECTION_HEADERS:
            response[name] = value
    return response
