"""The HTTP transport of the Graph client: a connection pool of urllib3 with one deadline for the whole call.

urllib3 provides pooling, TLS verification and parsing. Its timeout starts again at each read, so an answer of
one byte a second would never time out. Here each socket operation gets the rest of the call's time.
"""

from __future__ import annotations

import functools
import http.client
import io
import logging
import os
import queue
import re
import socket
import ssl
import threading
import zlib
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import EmptyPoolError, HTTPError, NameResolutionError, SSLError
from urllib3.exceptions import TimeoutError as PoolTimeoutError

from djmessenger import clock
from djmessenger.graph.errors import GraphError, NotSent, UnknownFate
from djmessenger.graph.wire import Request, Response

MAX_ANSWER = 8 * 1024 * 1024
"""Largest size of an answer in bytes, before and after decompression; a larger one is not read further."""

IDLE = 30.0
"""Seconds after which an idle connection is not used again.

The other end may close an older connection at that moment. A request written then has an unknown fate
(test_an_idle_connection_is_not_trusted_for_long).
"""

WARM = 2.0
"""Seconds within which all connections take turns. Servers close an idle one after 5 seconds or more."""

CHUNK = 64 * 1024
"""Bytes of one read."""


class _CallDeadline:
    """Deadline of the call that this thread makes, and whether its first byte was written."""

    __slots__ = ("ends_at", "started")

    def __init__(self, timeout: float) -> None:
        self.ends_at = clock.seconds() + timeout
        self.started = False

    def seconds_left(self) -> float:
        """Return the seconds until the deadline; raise ``TimeoutError`` after it."""
        seconds = self.ends_at - clock.seconds()
        if seconds <= 0:
            raise TimeoutError("the call's time is over")
        return seconds


_call_deadline: ContextVar[_CallDeadline] = ContextVar("djmessenger_graph_call_deadline")


class _TimedReader(io.RawIOBase):
    """Reader of a socket that sets the rest of the call's time as timeout before each read."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_call_deadline.get().seconds_left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedSocket:
    """Socket of a connection, for ``http.client``; the deadline of the call limits each operation.

    urllib3 sets a timeout before each request and each response. Each of these is a system call, in which another
    thread takes the interpreter, and none is needed here. So ``settimeout`` has no effect.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.fileno, self.close, self.shutdown = sock.fileno, sock.close, sock.shutdown

    def settimeout(self, value: float | None) -> None:
        """Do nothing."""

    def sendall(self, data: bytes) -> None:
        deadline = _call_deadline.get()
        self._sock.settimeout(deadline.seconds_left())
        # Before the write: a send that fails halfway may have delivered the request, so its fate is unknown.
        # Test: tests/test_graph_transports.py, test_a_write_that_fails_leaves_the_fate_unknown.
        deadline.started = True
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._sock))


class _Timed(HTTPConnection):
    """Connection that keeps the deadline of its current call and records that the first byte was written."""

    last_used = 0.0
    _head: bytes | None = None
    """Head of a request, until its body is there too."""
    _has_body = False

    def request(self, method: str, url: str, body: Any = None, *args: Any, **options: Any) -> None:
        self._head, self._has_body = None, bool(body)
        super().request(method, url, body, *args, **options)

    @property
    def is_connected(self) -> bool:
        return super().is_connected and clock.seconds() - self.last_used < IDLE

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that accepts; all attempts share the time of the call."""
        deadline = _call_deadline.get()
        try:
            addresses = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(self.host, self, socket.gaierror(str(error))) from error
        failure: OSError = OSError("no address")
        for family, kind, protocol, _, address in addresses:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(deadline.seconds_left())
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.connect(address)
                sock.settimeout(deadline.seconds_left())
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        if isinstance(failure, (BrokenPipeError, ConnectionResetError)):
            # urllib3 takes these two errors for an early answer and would read from a socket that does not exist.
            raise ConnectionAbortedError("reset while connecting") from failure
        raise failure

    def connect(self) -> None:
        super().connect()
        self.sock = _TimedSocket(self.sock)

    def send(self, data: Any) -> None:
        # ``http.client`` sends head and body of a request apart: two packets, and two records of TLS.
        if self._has_body:
            self._head, self._has_body = data, False
            return
        if self._head is not None:
            data, self._head = self._head + data, None
        self.last_used = clock.seconds()
        super().send(data)


class _TimedHTTPS(_Timed, HTTPSConnection):
    pass


class _IdleConnections(queue.LifoQueue[_Timed | None]):
    """Idle connections of a pool, the last used at the end; None stands for one that is not made yet.

    The last used few alone would serve a quiet time, and the server would close all others. The next peak would open
    them again, each with a TLS handshake. So the connections that were used within ``WARM`` seconds take turns. Without
    any, the last used one serves, as the server has least likely closed it.
    """

    def _get(self) -> _Timed | None:
        earliest = clock.seconds() - WARM
        last = -1
        for position, connection in enumerate(self.queue):
            if connection is not None:
                if connection.last_used > earliest:
                    return self.queue.pop(position)
                last = position
        return self.queue.pop(last)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Timed
    QueueCls = _IdleConnections  # type: ignore[assignment]


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _TimedHTTPS
    QueueCls = _IdleConnections  # type: ignore[assignment]


class PooledTransport:
    """The default transport: keep-alive connections that all threads share; a forked child opens its own.

    Each thread that calls has a connection, so the numbers of threads are the only limit. With ``connections`` at most
    that many calls to one host run at once. Further calls then wait for a free connection, within their own time.
    ``ca_certs`` is a file of certificates that are trusted in addition to the system's. TLS certificates are always
    verified.
    """

    def __init__(
        self,
        *,
        connections: int | None = None,
        max_answer: int = MAX_ANSWER,
        ca_certs: str | None = None,
    ) -> None:
        self._connections = connections
        self._max_answer = max_answer
        self._tls = ssl.create_default_context()
        if ca_certs is not None:
            self._tls.load_verify_locations(ca_certs)
        self._lock = threading.Lock()
        self._open()

    def _open(self) -> None:
        self._pools: dict[str, HTTPConnectionPool] = {}
        # Guard: set before the pools, the id would let a second thread of a forked child use the parent's pool.
        # Test: tests/test_graph_transports.py, test_no_thread_of_a_forked_child_uses_the_pool_of_its_parent.
        self._pid = os.getpid()

    def close(self) -> None:
        """Close the idle connections; the transport can still be used."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    def send(self, request: Request) -> Response:
        """Send the request and return the response.

        Raise ``NotSent`` or ``UnknownFate`` if no complete answer came.
        """
        # After a fork, parent and child would write to the same sockets and read each other's answers.
        # Threads of the child can arrive here together; the second check lets one of them alone replace the pool.
        # Test: tests/test_graph_transports.py, test_a_forked_child_does_not_share_connections.
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._open()
        deadline = _CallDeadline(request.timeout)
        answer: Response | None = None
        failure: BaseException
        token = _call_deadline.set(deadline)
        try:
            answer = self._exchange(request, deadline)
        except BaseException as error:  # noqa: BLE001
            failure = error
        finally:
            _call_deadline.reset(token)
        if answer is not None:
            return answer
        # Raised outside of ``except``: frame, cause and context of urllib3 would show headers and token in a traceback.
        # Test: tests/test_graph_transports.py, test_no_frame_holds_the_token_when_nothing_left.
        raise _translated(failure, started=deadline.started)

    def _pool_of(self, origin: str) -> HTTPConnectionPool:
        """Return the pool of connections to one host. The first call for a host creates it."""
        # `urllib3.PoolManager` would parse the address at each call, which takes a sixth of the CPU of a call.
        pool = self._pools.get(origin)
        if pool is None:
            parts = urlsplit(origin)
            # A pool of size 0 keeps all connections that were ever in use at once.
            limit = self._connections
            options: dict[str, Any] = {
                "port": parts.port,
                "maxsize": limit or 0,
                "block": limit is not None,
            }
            made = (
                _SecurePool(parts.hostname or "", ssl_context=self._tls, **options)
                if parts.scheme == "https"
                else _Pool(parts.hostname or "", **options)
            )
            pool = self._pools.setdefault(origin, made)
        return pool

    def _exchange(self, request: Request, deadline: _CallDeadline) -> Response:
        scheme, _, host, *path = request.url.split("/", 3)
        response = self._pool_of(f"{scheme}//{host}").urlopen(
            request.method,
            f"/{''.join(path)}",
            headers=request.headers,
            body=request.body,
            redirect=False,
            assert_same_host=False,
            retries=False,
            timeout=urllib3.Timeout(total=deadline.seconds_left()),
            pool_timeout=deadline.seconds_left(),  # type: ignore[arg-type] # the pool takes parts of seconds
            preload_content=False,
            decode_content=False,
        )
        try:
            body = bytearray()
            for chunk in response.stream(CHUNK, decode_content=False):
                body += chunk
                if len(body) > self._max_answer:
                    raise UnknownFate("the answer is too long", status=response.status)
            content = _decompressed(
                bytes(body), response.headers.get("Content-Encoding", ""), self._max_answer
            )
        except BaseException:
            response.close()
            raise
        finally:
            response.release_conn()
        return Response(response.status, dict(response.headers.items()), content)


def _decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """Return the body without gzip, at most ``limit`` bytes: kilobytes of gzip may contain gigabytes."""
    if encoding.lower() in {"", "identity"} or not body:
        return body
    if encoding.lower() != "gzip":
        raise UnknownFate("the answer has a compression that the request did not offer")
    stream = zlib.decompressobj(wbits=31)
    try:
        content = stream.decompress(body, limit + 1)
    except zlib.error:
        raise UnknownFate("the answer's compression is damaged") from None
    if len(content) > limit:
        raise UnknownFate("the answer is too long")
    if not stream.eof:
        raise UnknownFate("the answer is cut off")
    return content


def _translated(failure: BaseException, *, started: bool) -> BaseException:
    """Return the error to raise in place of ``failure``, without frames, cause and context.

    Each failure after the first byte is ``UnknownFate``, the time limit of a task included. A failure before the
    first byte is ``NotSent`` if it comes from the network. ``KeyboardInterrupt``, ``SystemExit`` and errors of
    this program stay as they are.
    """
    if isinstance(failure, GraphError):
        return _bare(failure)
    if not isinstance(failure, Exception):
        return _bare(failure)
    if not started and not isinstance(failure, (HTTPError, http.client.HTTPException, OSError, ValueError)):
        return _bare(failure)
    cls = UnknownFate if started else NotSent
    return cls(meaning=_words(failure, started=started))


def _bare(error: BaseException) -> BaseException:
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


_REASONS: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    ((EmptyPoolError,), "no connection became free in time", ""),
    ((NameResolutionError,), "the host's name has no address", ""),
    ((ssl.SSLCertVerificationError,), "the host's certificate is not trusted", ""),
    ((TimeoutError, PoolTimeoutError), "no connection in time", "no whole answer in time"),
    ((ssl.SSLError, SSLError), "TLS failed", "TLS broke before the whole answer came"),
    ((ConnectionRefusedError,), "the connection was refused", ""),
)
"""Kinds of failure with their text before the first byte, and after it if that text differs."""


def _words(failure: BaseException, *, started: bool) -> str:
    """Return a text for the failure without the text of urllib3, which may quote the request."""
    seen: list[BaseException] = []
    cause: BaseException | None = failure
    while cause is not None and cause not in seen:
        seen.append(cause)
        inner = [argument for argument in cause.args if isinstance(argument, BaseException)]
        cause = cause.__cause__ or (inner[-1] if inner else cause.__context__)
    for kinds, before, after in _REASONS:
        if any(isinstance(error, kinds) for error in seen):
            return (after or before) if started else before
    name = type(seen[-1]).__name__
    return (
        f"the connection broke before the whole answer came ({name})"
        if started
        else f"no connection ({name})"
    )


_PROOF = re.compile(r"((?:appsecret_proof|access_token)=)[^&\s\"']+")


class _Scrub(logging.Filter):
    """Filter that removes proof and token from the log of urllib3, which contains the query of each GET."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                _PROOF.sub(r"\1***", value) if isinstance(value, str) else value for value in record.args
            )
        record.exc_info = None
        return True


for _name in ("urllib3.connectionpool", "urllib3.connection"):
    logging.getLogger(_name).addFilter(_Scrub())


@functools.cache
def default_transport() -> PooledTransport:
    """Return the transport that clients share unless they name another."""
    return PooledTransport()
