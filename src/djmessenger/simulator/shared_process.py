"""One session for all processes of a site on one machine.

The session is in memory. The first web process that needs it keeps it, behind a port of the loopback interface that
follows from the site's secret and its database; the others pass their requests on. The port is the lock: nobody else
can listen there while the keeper lives, and after its end the next who needs a session takes its place.
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
from django.db import connection as database
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare, salted_hmac

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
_FIRST_PORT, _PORTS = 10_240, 22_000
"""Below those that systems give to clients, so that none is taken by chance for long."""
_TIMEOUT = 60.0
"""Seconds for an answer; an upload is read twice."""
_CONNECTION_HEADERS = frozenset(
    {"connection", "content-length", "date", "host", "keep-alive", "server", "transfer-encoding"}
)
"""Headers that each connection has for itself."""
_NONCE, _PASS, _SCHEME, _ROOT = "X-Djm-Nonce", "X-Djm-Pass", "X-Djm-Scheme", "X-Djm-Root"

SharedAnswer = tuple[int, list[tuple[str, str]], bytes]

_server: ThreadedWSGIServer | None = None
_server_lock = threading.Lock()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class has it
        """Say nothing: the process that was asked has its own log."""


def forward(request: HttpRequest) -> HttpResponse | None:
    """Give the keeper's answer to a request; None where this process is the keeper, from now on if need be."""
    headers = {
        name: value for name, value in request.headers.items() if name.lower() not in _CONNECTION_HEADERS
    }
    headers["Host"] = request.META.get("HTTP_HOST", "")
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
    """Ask the keeper on behalf of a process that is none; None where there is no other."""
    connection = None if _is_shared_process() else _connect()
    return None if connection is None else _request(connection, method, target, headers, body)


def _is_shared_process() -> bool:
    # No other process could see what happens in a database in memory.
    return _server is not None or getattr(database, "is_in_memory_db", bool)()


def _sign(text: str) -> str:
    site = {key: str(database.settings_dict.get(key, "")) for key in ("ENGINE", "NAME", "HOST", "PORT")}
    return salted_hmac(
        "djmessenger.simulator.shared_process", f"{site}{text}", algorithm="sha256"
    ).hexdigest()


def _port() -> int:
    return _FIRST_PORT + int(_sign("port"), 16) % _PORTS


def _open_server() -> None:
    """Open the server, unless another was faster."""
    global _server  # noqa: PLW0603 - the one fact about this process
    with _server_lock:
        if _server is not None:
            return
        try:
            # On Windows reuse would let two listen at once.
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
            environ["SCRIPT_NAME"] = environ.get("HTTP_X_DJM_ROOT", "")
            return site(environ, start_response)
        content = b"" if nonce is None else _sign(f"nonce {nonce}").encode()
        status = "403 Forbidden" if nonce is None else "200 OK"
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(content)))])
        return [content]

    return application


def _connect() -> http.client.HTTPConnection | None:
    """Give a connection to the keeper once it has proved to be one; None where nobody listens."""
    connection = http.client.HTTPConnection(HOST, _port(), timeout=_TIMEOUT)
    try:
        nonce = secrets.token_hex(16)
        connection.request("GET", "/", headers={_NONCE: nonce})
        content = connection.getresponse().read().decode("latin-1")
        if constant_time_compare(content, _sign(f"nonce {nonce}")):
            return connection
        logger.warning(
            "Port %s is taken by another program; the simulator's state stays in each process", _port()
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
        text = b'{"error": "The process that keeps the conversations has ended."}'
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
