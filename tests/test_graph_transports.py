from __future__ import annotations

import contextlib
import datetime
import gzip
import ipaddress
import logging
import pickle
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from djmessenger import clock as clock_module
from djmessenger.graph import transports
from djmessenger.graph.client import Client
from djmessenger.graph.errors import NotSent, UnknownFate
from djmessenger.graph.transports import PooledTransport
from djmessenger.graph.wire import Call, Request
from djmessenger.pipeline.dispatch import WORKER_SENDERS
from tests.graph_tools import APP_SECRET, TOKEN, Connection, answer, frames_of, serving

SHORT, LONG = 0.5, 60.0
"""Seconds: a deadline that is to pass, and one that is not."""


class Clock:
    """The transport's clock, which a server may push past a deadline."""

    def __init__(self) -> None:
        self.shift = 0.0
        self.real = clock_module.seconds

    def __call__(self) -> float:
        return self.real() + self.shift

    def expire(self) -> None:
        self.shift += 10 * LONG


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(clock_module, "seconds", made)
    return made


@pytest.fixture
def transport() -> Iterator[PooledTransport]:
    made = PooledTransport(max_answer=10_000)
    yield made
    made.close()


def request(url: str, *, timeout: float = LONG, body: bytes | None = b"{}", method: str = "POST") -> Request:
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept-Encoding": "gzip"}
    return Request(method, f"{url}/v26.0/me/messages", headers, body, timeout)


def repeat(data: bytes) -> Callable[[Connection], None]:
    """A script that answers each request of a connection with the same bytes."""

    def script(connection: Connection) -> None:
        while connection.request():
            connection.send(data)

    return script


def once(data: bytes) -> Callable[[Connection], None]:
    """A script that answers one request and closes."""

    def script(connection: Connection) -> None:
        connection.request()
        connection.send(data)

    return script


def test_an_answer_comes_whole_and_the_connection_is_used_again(transport: PooledTransport) -> None:
    with serving(repeat(answer(b'{"a": 1}', "X-App-Usage: {}"))) as server:
        for _ in range(3):
            response = transport.send(request(server.url))
            assert (response.status, response.body) == (200, b'{"a": 1}')
            assert response.header("x-app-usage") == "{}"
        assert len(server.requests) == 3
        assert server.connections == 1
        first, headers, body = server.requests[0]
        assert first == "POST /v26.0/me/messages HTTP/1.1"
        assert headers["authorization"] == f"Bearer {TOKEN}"
        assert body == b"{}"


def test_an_idle_connection_is_not_trusted_for_long(
    transport: PooledTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports, "IDLE", 0)
    with serving(repeat(answer(b"{}"))) as server:
        transport.send(request(server.url))
        transport.send(request(server.url))
        assert server.connections == 2


def test_a_connection_closed_meanwhile_is_replaced(transport: PooledTransport) -> None:
    with serving(once(answer(b"{}", "Connection: close"))) as server:
        for _ in range(3):
            assert transport.send(request(server.url)).status == 200


def test_a_forked_child_does_not_share_connections(transport: PooledTransport) -> None:
    with serving(repeat(answer(b"{}"))) as server:
        transport.send(request(server.url))
        transport._pid = -1
        transport.send(request(server.url))
        assert server.connections == 2


def test_no_thread_of_a_forked_child_uses_the_pool_of_its_parent(
    transport: PooledTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second thread of the child sends while the first replaces the pool. It waits for the new pool."""
    with serving(repeat(answer(b"{}"))) as server:
        transport.send(request(server.url))
        (parents,), moved = transport._pools.values(), threading.Event()
        used: list[Any] = []
        send_by_parents = parents.urlopen
        monkeypatch.setattr(
            parents, "urlopen", lambda *args, **options: used.append(1) or send_by_parents(*args, **options)
        )

        class SeenLock:
            """Lock that tells when a second thread waits for it."""

            def __init__(self) -> None:
                self.lock = threading.Lock()

            def __enter__(self) -> None:
                if self.lock.locked():
                    moved.set()
                self.lock.acquire()

            def __exit__(self, *error: object) -> None:
                self.lock.release()

        def second() -> None:
            transport.send(request(server.url))
            moved.set()

        threads: list[threading.Thread] = []

        class Slow(PooledTransport):
            """Transport in which the second thread sends before the pool is replaced."""

            def __setattr__(self, name: str, value: object) -> None:
                if name == "_pools" and not threads:
                    threads.append(threading.Thread(target=second))
                    threads[0].start()
                    assert moved.wait(LONG)
                super().__setattr__(name, value)

        transport.__class__ = Slow
        transport._lock = SeenLock()  # type: ignore[assignment]
        transport._pid = -1
        transport.send(request(server.url))
        threads[0].join()
        assert used == []


def test_threads_get_their_own_answers(transport: PooledTransport) -> None:
    def echo(connection: Connection) -> None:
        while got := connection.request():
            connection.send(answer(got[2]))

    with serving(echo) as server, ThreadPoolExecutor(8) as pool:
        bodies = [str(number).encode() for number in range(100)]
        answers = pool.map(lambda body: transport.send(request(server.url, body=body)).body, bodies)
        assert list(answers) == bodies
        assert server.connections <= 8


class Busy:
    """Server script that answers ``peak`` requests together, each later request at once.

    It closes a connection that had none of the latest ``idle`` requests, as servers close idle connections.
    """

    def __init__(self, peak: int, idle: int) -> None:
        self.idle = idle
        self.together = threading.Barrier(peak)
        self.is_peak = True
        self.order: list[Connection] = []
        """The connection of each request."""

    def __call__(self, connection: Connection) -> None:
        while connection.request():
            self.order.append(connection)
            if self.is_peak:
                self.together.wait(LONG)
            elif len(self.order) > self.idle:
                for other in {*self.order} - {*self.order[-self.idle :]}:
                    with contextlib.suppress(OSError):
                        other.sock.shutdown(socket.SHUT_RDWR)
            connection.send(answer(b"{}"))

    def send_together(self, transport: PooledTransport, url: str) -> None:
        count = self.together.parties
        self.is_peak = True
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda _: transport.send(request(url)), range(count)))
        self.is_peak = False


def test_a_quiet_time_between_two_peaks_opens_no_connection(transport: PooledTransport) -> None:
    busy = Busy(peak=8, idle=20)
    with serving(busy) as server:
        busy.send_together(transport, server.url)
        for _ in range(50):
            transport.send(request(server.url))
        busy.send_together(transport, server.url)
        assert server.connections == 8


def test_the_transport_lets_all_threads_call_at_once(transport: PooledTransport) -> None:
    busy = Busy(peak=WORKER_SENDERS, idle=0)
    with serving(busy) as server:
        busy.send_together(transport, server.url)
        assert server.connections == WORKER_SENDERS


def test_without_a_warm_connection_the_last_used_one_serves(transport: PooledTransport, clock: Clock) -> None:
    busy = Busy(peak=3, idle=100)
    with serving(busy) as server:
        busy.send_together(transport, server.url)
        transport.send(request(server.url))
        for _ in range(3):
            clock.shift += transports.WARM
            transport.send(request(server.url))
        assert len({*busy.order[3:]}) == 1
        assert server.connections == 3


def test_gzip_is_undone(transport: PooledTransport) -> None:
    with serving(repeat(answer(gzip.compress(b'{"a": 1}'), "Content-Encoding: gzip"))) as server:
        assert transport.send(request(server.url)).body == b'{"a": 1}'


def test_a_redirect_is_given_back_and_never_followed(transport: PooledTransport) -> None:
    with serving(repeat(answer(b"{}"))) as elsewhere:
        moved = answer(b"", f"Location: {elsewhere.url}/", status="302 Found")
        with serving(repeat(moved)) as server:
            assert transport.send(request(server.url)).status == 302
            with pytest.raises(UnknownFate, match="redirect"):
                Client(TOKEN, base_url=server.url, transport=transport).execute(Call("GET", "me"))
        assert elsewhere.connections == 0


def refused() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_refused_never_left(transport: PooledTransport) -> None:
    with pytest.raises(NotSent, match="refused"):
        transport.send(request(refused()))


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), BrokenPipeError(32, "broken")])
def test_a_reset_while_connecting_never_left(
    transport: PooledTransport, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def reset(*args: Any) -> None:
        raise error

    monkeypatch.setattr(socket.socket, "connect", reset)
    with pytest.raises(NotSent, match="no connection"):
        transport.send(request("http://127.0.0.1:1"))


def test_a_name_without_address_never_left(
    transport: PooledTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    with pytest.raises(NotSent, match="no address"):
        transport.send(request("http://nowhere.invalid"))


def test_the_second_address_is_tried(transport: PooledTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(repeat(answer(b"{}"))) as server:
        dead = int(refused().rpartition(":")[2])
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (dead, server.port)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
        assert transport.send(request("http://two.test")).status == 200


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_a_deadline_over_before_the_first_byte_never_left(transport: PooledTransport, timeout: float) -> None:
    with serving(repeat(answer(b"{}"))) as server:
        with pytest.raises(NotSent, match="in time"):
            transport.send(request(server.url, timeout=timeout))
        assert server.requests == []


def test_a_deadline_over_while_connecting_never_left(
    transport: PooledTransport, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.socket.connect

    def slow(sock: socket.socket, address: Any) -> None:
        real(sock, address)
        clock.expire()

    monkeypatch.setattr(socket.socket, "connect", slow)
    with serving(repeat(answer(b"{}"))) as server, pytest.raises(NotSent, match="in time"):
        transport.send(request(server.url))
    assert server.requests == []


def test_no_free_connection_in_time_never_left() -> None:
    transport = PooledTransport(connections=1)
    taken, go = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        connection.request()
        taken.set()
        go.wait(LONG)
        connection.send(answer(b"{}"))

    with serving(hold) as server, ThreadPoolExecutor(1) as pool:
        first = pool.submit(transport.send, request(server.url))
        assert taken.wait(LONG)
        with pytest.raises(NotSent, match="in time"):
            transport.send(request(server.url, timeout=SHORT))
        go.set()
        assert first.result(LONG).status == 200
        assert len(server.requests) == 1
    transport.close()


def reset(connection: Connection) -> None:
    connection.request()
    connection.reset()


def silent(connection: Connection) -> None:
    connection.request()
    connection.server.over.wait(LONG)


def deaf(connection: Connection) -> None:
    connection.server.over.wait(LONG)


def dripping_headers(connection: Connection) -> None:
    connection.request()
    connection.drip(b"HTTP/1.1 200 OK\r\nX-Long: ")


def dripping_body(connection: Connection) -> None:
    connection.request()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    connection.drip(b"{")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HALF_GZIP = gzip.compress(b'{"message_id": "m_1"}')[:-6]
BOMB = gzip.compress(b"0" * 1_000_000)

UNSURE: dict[str, tuple[Callable[[Connection], None], float]] = {
    "closed without an answer": (once(b""), LONG),
    "reset": (reset, LONG),
    "silent": (silent, SHORT),
    "headers byte by byte": (dripping_headers, LONG),
    "body byte by byte": (dripping_body, LONG),
    "cut off by length": (once(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}"), LONG),
    "cut off in a chunk": (once(CHUNKED + b"ff\r\n{}"), LONG),
    "chunks without an end": (once(CHUNKED + b"2\r\n{}\r\n"), LONG),
    "chunk of nonsense": (once(CHUNKED + b"zz\r\n{}"), LONG),
    "no HTTP": (once(b"220 mail.test ESMTP\r\n\r\n"), LONG),
    "too long": (repeat(answer(b"0" * 20_000)), LONG),
    "bomb": (repeat(answer(BOMB, "Content-Encoding: gzip")), LONG),
    "half a gzip": (repeat(answer(HALF_GZIP, "Content-Encoding: gzip")), LONG),
    "bad gzip": (repeat(answer(b"{}", "Content-Encoding: gzip")), LONG),
    "other compression": (repeat(answer(zlib.compress(b"{}"), "Content-Encoding: br")), LONG),
}


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("name", UNSURE)
def test_after_the_first_byte_the_fate_is_unknown(
    transport: PooledTransport, clock: Clock, name: str, method: str
) -> None:
    script, timeout = UNSURE[name]
    with serving(script) as server:
        server.expire = clock.expire
        with pytest.raises(UnknownFate) as raised:
            transport.send(request(server.url, timeout=timeout, method=method))
    assert len(server.requests) == 1, "nothing is repeated"
    assert TOKEN not in frames_of(raised.value, but=__file__)
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)
    pickle.dumps(raised.value)


def test_a_write_that_fails_leaves_the_fate_unknown(
    transport: PooledTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, data: object) -> None:
        raise TimeoutError("some of the bytes may have left")

    monkeypatch.setattr(socket.socket, "sendall", fail)
    with serving(repeat(answer(b"{}"))) as server, pytest.raises(UnknownFate):
        transport.send(request(server.url))


def test_a_call_over_an_open_connection_sets_two_timeouts(
    transport: PooledTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for the write and one for the read, and none of urllib3."""
    given: list[float | None] = []
    settimeout = socket.socket.settimeout

    def recorded(self: socket.socket, value: float | None) -> None:
        given.append(value)
        settimeout(self, value)

    with serving(repeat(answer(b"{}"))) as server:
        transport.send(request(server.url))
        monkeypatch.setattr(socket.socket, "settimeout", recorded)
        transport.send(request(server.url))
        assert len(given) == 2
        assert all(value is not None and 0 < value <= LONG for value in given)


def test_an_answer_cut_off_in_its_headers_is_no_success(
    transport: PooledTransport, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(once(b"HTTP/1.1 200 OK\r\nContent-Le")) as server:
        client = Client(TOKEN, app_secret=APP_SECRET, base_url=server.url, transport=transport)
        with pytest.raises(UnknownFate, match="not JSON"):
            client.execute(Call("GET", "me"))
    assert client._proof.reveal() not in caplog.text
    assert all(record.exc_info is None for record in caplog.records), "frames would hold the address"


def test_an_upload_that_is_not_read_ends_in_time(transport: PooledTransport) -> None:
    with serving(deaf) as server, pytest.raises(UnknownFate):
        transport.send(request(server.url, timeout=SHORT, body=b"0" * 50_000_000))


def test_a_broken_answer_leaves_the_transport_usable(transport: PooledTransport) -> None:
    cut_off = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}"
    answers = iter([cut_off, answer(b"0" * 20_000, "Connection: close"), answer(b"{}")])

    def script(connection: Connection) -> None:
        connection.request()
        connection.send(next(answers))

    with serving(script) as server:
        for _ in range(2):
            with pytest.raises(UnknownFate):
                transport.send(request(server.url))
        assert transport.send(request(server.url)).body == b"{}"


def test_no_frame_holds_the_token_when_nothing_left(transport: PooledTransport) -> None:
    with pytest.raises(NotSent) as raised:
        transport.send(request(refused()))
    assert TOKEN not in frames_of(raised.value, but=__file__)


class Interrupted(BaseException):
    pass


def breaking_in(kind: type[BaseException]) -> Callable[..., Any]:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise kind("in the middle")

    return broken


@pytest.mark.parametrize("kind", [Interrupted, KeyboardInterrupt])
def test_an_exception_that_ends_the_process_has_no_frame_with_the_token(
    transport: PooledTransport, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    monkeypatch.setattr(transports._Timed, "getresponse", breaking_in(kind))
    with serving(repeat(answer(b"{}"))) as server, pytest.raises(kind) as raised:
        transport.send(request(server.url))
    assert TOKEN not in frames_of(raised.value, but=__file__)


def test_any_other_error_leaves_the_fate_unknown_once_a_byte_left(
    transport: PooledTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports._Timed, "getresponse", breaking_in(RuntimeError))
    with serving(repeat(answer(b"{}"))) as server, pytest.raises(UnknownFate, match="RuntimeError") as raised:
        transport.send(request(server.url))
    assert TOKEN not in frames_of(raised.value, but=__file__)


def test_any_other_error_before_the_first_byte_is_what_it_is(
    transport: PooledTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports._Timed, "connect", breaking_in(RuntimeError))
    with serving(repeat(answer(b"{}"))) as server, pytest.raises(RuntimeError) as raised:
        transport.send(request(server.url))
    assert TOKEN not in frames_of(raised.value, but=__file__)


def test_the_library_logs_neither_token_nor_proof(
    transport: PooledTransport, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(repeat(answer(b"{}"))) as server, caplog.at_level(logging.DEBUG):
        client = Client(TOKEN, app_secret=APP_SECRET, base_url=server.url, transport=transport)
        client.execute(Call("GET", "me", params={"fields": "id"}))
        client.execute(Call("POST", "me/messages", {"recipient": {"id": "1"}}))
    assert any(record.name.startswith("urllib3") for record in caplog.records)
    proof = client._proof.reveal()
    assert proof in server.requests[0][0]
    for secret in (TOKEN, APP_SECRET, proof):
        assert secret not in caplog.text


def test_plain_http_behind_an_https_address_never_left(transport: PooledTransport) -> None:
    with serving(once(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server, pytest.raises(NotSent, match="TLS"):
        transport.send(request(server.url.replace("http:", "https:")))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1 with its key, in one file."""
    pytest.importorskip("cryptography")
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_a_request_to_an_untrusted_certificate_is_not_sent(
    transport: PooledTransport, certificate: Path
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    with serving(repeat(answer(b"{}")), tls) as server:
        url = server.url.replace("http:", "https:")
        with pytest.raises(NotSent, match="not trusted"):
            transport.send(request(url))
        assert server.requests == []


def test_tls_works_with_a_trusted_certificate_and_keeps_the_deadline(certificate: Path, clock: Clock) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    transport = PooledTransport(ca_certs=str(certificate))

    def script(connection: Connection) -> None:
        for _ in range(2):
            connection.request()
            connection.send(answer(b'{"a": 1}'))
        dripping_body(connection)

    with serving(script, tls) as server:
        url = server.url.replace("http:", "https:")
        for _ in range(2):
            assert transport.send(request(url)).body == b'{"a": 1}'
        server.expire = clock.expire
        with pytest.raises(UnknownFate, match="in time"):
            transport.send(request(url))
        assert server.connections == 1
    transport.close()


def test_one_default_transport_serves_all_clients() -> None:
    assert transports.default_transport() is Client(TOKEN).transport
