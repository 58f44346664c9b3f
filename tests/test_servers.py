"""Embedded dispatcher and webhook in real web servers: how a process stops, and how a body arrives."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db.models import Count

from djmessenger import models
from messenger_emulator.server import Callback, serve
from tests import pipeline_tools as tools
from tests.pipeline_tools import LONG, until
from tests.web_servers import SERVERS, Server, missing

pytestmark = [
    pytest.mark.sqlite("the servers are what differs"),
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc: NO TEST OF REAL SERVERS"),
]

PERSONS = 8
HELD = 3.0
"""Seconds for which Graph holds its answers after the signal, unless the process ends before."""


class Gate:
    """Graph that holds each answer until ``open`` is set."""

    def __init__(self, emulator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.came = 0
        self.open = threading.Event()
        lock = threading.Lock()
        handle = emulator.handle

        def slowly(method: str, path: str, *rest: Any) -> Any:
            if path.endswith("/messages"):
                with lock:
                    self.came += 1
                assert self.open.wait(2 * LONG)
            return handle(method, path, *rest)

        monkeypatch.setattr(emulator, "handle", slowly)


@pytest.fixture
def start(file_database, emulator, tmp_path) -> Iterator[Any]:
    """Start the server of this name, with ``intake`` in front of the project's application."""
    emulator.enforce_window = False
    graph = serve(emulator)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(["src", ".", "tests/project"]),
        "DJANGO_SETTINGS_MODULE": "tests.celery_settings",
        "DJM_TEST_DISPATCHER": "embedded",
        "HOME": str(tmp_path),  # gunicorn has a socket there
        "DJM_TEST_GRAPH": graph.url,
        "DJM_TEST_DATABASE_NAME": str(file_database["NAME"]),
    }
    if "sqlite" in file_database["ENGINE"]:
        environment["DJM_TEST_SQLITE"] = str(file_database["NAME"])
    servers: list[Server] = []

    def start(name: str, *, intake: bool = False) -> Server:
        if module := missing(SERVERS[name]):
            pytest.skip(f"{module} is not installed: NO TEST OF {name}")
        arguments = [
            re.sub("served:", "served:intake_" if intake else "served:", one) for one in SERVERS[name]
        ]
        servers.append(Server(arguments, environment, tmp_path / "server.log"))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
    graph.stop()


def states() -> dict[str, int]:
    rows = models.Reply.objects.values_list("state").annotate(Count("pk"))
    return dict(rows.order_by())


def is_settled() -> bool:
    """Return whether all replies are sent and no queue is leased."""
    leased = models.ConversationQueue.objects.exclude(leased_until=None)
    return states() == {"sent": PERSONS} and not leased.exists()


@pytest.fixture
def gate(emulator, monkeypatch) -> Gate:
    return Gate(emulator, monkeypatch)


@pytest.fixture
def at_work(start, emulator, gate) -> Any:
    """Start the server of this name, with a reply of each person in a call that Graph does not answer yet."""

    def start_at_work(name: str) -> Server:
        persons = [emulator.add_person(tools.PAGE, person_id=f"{tools.PSID}{n}") for n in range(PERSONS)]
        server: Server = start(name)
        for person in persons:
            content = tools.body(tools.text(f"m_{person.id}", psid=person.id))
            assert server.post(content) == 200
        until(lambda: gate.came == PERSONS, "calls under way", server.log.read_text)
        return server

    return start_at_work


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "number"),
    [
        *((name, signal.SIGTERM) for name in SERVERS),
        *(
            (name, signal.SIGINT)
            for name in ("gunicorn-sync", "uvicorn-workers", "granian-wsgi", "granian-asgi")
        ),
    ],
)
def test_replies_under_way_are_settled_before_the_process_ends(name, number, at_work, gate):
    server = at_work(name)
    server.process.send_signal(number)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.process.wait(HELD)
    gate.open.set()
    server.process.wait(LONG)
    assert is_settled(), f"{states()}\n{server.log.read_text()}"


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["gunicorn-gthread", "gunicorn-uvicorn"])
def test_replies_under_way_are_settled_before_a_reload_ends_their_process(name, at_work, gate):
    server = at_work(name)
    before = server.children()
    server.process.send_signal(signal.SIGHUP)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.process.wait(HELD)
    gate.open.set()
    until(lambda: not before & server.children(), "a reload", server.log.read_text)
    assert is_settled(), f"{states()}\n{server.log.read_text()}"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gunicorn-gthread", 200),
        ("granian-wsgi", 200),
        ("granian-asgi", 200),
        ("uvicorn", 200),
        ("daphne", 200),
        ("uwsgi", 411),
        ("wsgiref", 411),
    ],
)
def test_a_body_in_chunks_is_read_or_refused_with_the_reason(name, expected, start, gate):
    server = start(name)
    gate.open.set()
    content = tools.body(tools.text("m_1"))
    assert server.post(content, chunked=True) == expected, server.log.read_text()
    assert models.Callback.objects.count() == (expected == 200)
    assert ("came in chunks" in server.log.read_text()) == (expected == 411)
    assert "signature" not in server.log.read_text()


@pytest.mark.django_db
@pytest.mark.parametrize("intake", [False, True], ids=["view", "intake"])
@pytest.mark.parametrize("name", ["gunicorn-sync", "gunicorn-gthread"])
def test_chunks_that_the_server_cannot_read_are_no_error_of_the_site(name, intake, start, gate):
    """Anybody can send them, with a header that has the form of a signature."""
    server = start(name, intake=intake)
    head = (
        b"POST /messenger HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Transfer-Encoding: chunked\r\nX-Hub-Signature-256: sha256=" + b"0" * 64 + b"\r\n\r\n"
    )
    end = b"0\r\n\r\n"
    for chunks, expected in [
        (b"zz\r\nabc\r\n" + end, 400),
        (b"-5\r\nabc\r\n" + end, 400),
        (b"0x3\r\nabc\r\n" + end, 400),
        (b"3\r\nabcXX" + end, 400),
        (b"3;" + b"a" * 70_000 + b"\r\nabc\r\n" + end, 400),
        (b"3\r\nabc\r\n0\r\nno header\r\n\r\n", 400),
        (b"3\r\nabc\r\n" + end, 403),
    ]:
        with socket.create_connection(("127.0.0.1", server.port), timeout=LONG) as connection:
            connection.sendall(head + chunks)
            answer = connection.recv(65536)
        assert answer.split(b" ")[1] == b"%d" % expected, (chunks[:20], server.log.read_text())
    assert "Traceback" not in server.log.read_text()
    assert server.log.read_text().count("could not read its body") == 6
    assert not models.Callback.objects.exists()


WITH_INTAKE = sorted({*SERVERS} - {"wsgiref"})


def post_until_the_end(server: Server, name: str, answered: list[bytes]) -> None:
    """Post one callback after another until the server ends, and add each that is answered 200."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        for number in itertools.count():
            content = tools.body(tools.text(f"m_{name}_{number}"))
            assert server.post(content) == 200
            answered.append(content)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "number"),
    [
        *((name, signal.SIGTERM) for name in WITH_INTAKE),
        ("gunicorn-gthread", signal.SIGKILL),
        ("uvicorn", signal.SIGKILL),
    ],
)
def test_the_intake_stores_what_it_answers_until_the_server_ends(name, number, start, gate):
    server = start(name, intake=True)
    gate.open.set()
    assert server.post(b"{}", signature="sha256=" + "0" * 64) == 403
    token = {"hub.mode": "subscribe", "hub.verify_token": "made-up-verify-token", "hub.challenge": "1"}
    assert Callback(f"http://127.0.0.1:{server.port}/messenger").get(token) == (200, b"1")
    for method in ("HEAD", "OPTIONS", "GET"):
        # uWSGI closes a connection after one answer, without a header "Connection: close".
        monitor = http.client.HTTPConnection("127.0.0.1", server.port, timeout=LONG)
        with contextlib.closing(monitor):
            monitor.request(method, "/messenger")
            response = monitor.getresponse()
            assert (response.status, bool(response.read())) == (200, method == "GET")
    if not name.startswith("uwsgi"):
        assert server.post(tools.body(tools.text("m_chunks")), chunked=True) == 200
        assert models.Callback.objects.count() == 1
    answered: list[bytes] = []
    posts = [
        threading.Thread(target=post_until_the_end, args=(server, str(one), answered)) for one in range(4)
    ]
    for thread in posts:
        thread.start()
    until(lambda: len(answered) > 20, "answers", server.log.read_text)
    if number == signal.SIGKILL:
        server.kill()
    else:
        server.process.send_signal(number)
    server.process.wait(LONG)
    for thread in posts:
        thread.join(LONG)
        assert not thread.is_alive()
    stored = {bytes(body) for body in models.Callback.objects.values_list("body", flat=True)}
    assert not {*answered} - stored
    assert "Traceback" not in server.log.read_text()
