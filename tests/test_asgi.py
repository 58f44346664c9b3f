"""Limit of bodies under ASGI: nothing over it reaches Django, and everything else reaches Django unchanged."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import select
import subprocess
import sys
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.urls import path

from djmessenger import intake_app, models
from djmessenger.asgi import limit
from djmessenger.views import DJMBotView
from tests import pipeline_tools as tools
from tests.doors import URL, Request, ask_asgi, scope_of
from tests.pipeline_tools import LONG
from tests.test_servers import start  # noqa: F401
from tests.web_servers import SERVERS, Server

LIMIT = 40 * 1024


class OwnView(DJMBotView):
    """View of a project with rules of its own."""


urlpatterns = [path("own", OwnView.as_view()), path("messenger", DJMBotView.as_view())]


class Client:
    """Client that sends ``parts`` parts without an end, and the application that should not read them."""

    def __init__(self, part: bytes = b"x" * 1024) -> None:
        self.part = part
        self.taken = 0
        self.calls = 0
        self.sent: list[Any] = []

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1

    async def receive(self) -> Any:
        self.taken += len(self.part)
        assert self.taken < 10 * LIMIT, "no limit"
        return {"type": "http.request", "body": self.part, "more_body": True}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def ask(self, wrap: Any, request: Request) -> int:
        asyncio.run(wrap(self.application)(scope_of(request), self.receive, self.send))
        status: int = self.sent[0]["status"]
        return status


@pytest.fixture(autouse=True)
def limited(settings):
    settings.DJM_MAX_BODY = LIMIT


@pytest.mark.parametrize("wrap", [limit, intake_app.asgi], ids=["limit", "intake"])
@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("url", ["/messenger", "/own"])
def test_an_endless_body_is_read_up_to_the_limit_and_reaches_no_handler(wrap, method, url, settings):
    settings.ROOT_URLCONF = "tests.test_asgi"
    client = Client()
    assert client.ask(wrap, Request(method=method, path=url, length=None)) == 413
    assert (client.calls, client.taken) == (0, LIMIT + 1024)


def test_a_body_that_is_announced_as_too_large_is_not_read():
    client = Client()
    assert client.ask(limit, Request(length=str(LIMIT + 1))) == 413
    assert (client.calls, client.taken) == (0, 0)


@pytest.mark.parametrize("length", ["true", None], ids=["length", "chunks"])
@pytest.mark.parametrize(("size", "expected"), [(LIMIT, 200), (LIMIT + 1, 413)])
def test_a_body_up_to_the_limit_reaches_the_view_whole(size, expected, length, file_database):
    request = Request(b"x" * size, length=length, pieces=3)
    answer = asyncio.run(ask_asgi(limit(ASGIHandler()), request))
    assert answer.status == expected
    assert [bytes(row.body) for row in models.Callback.objects.all()] == [request.body] * (expected == 200)


@pytest.mark.parametrize(
    "scope",
    [{"type": "lifespan"}, {"type": "websocket", "path": URL}, scope_of(Request(path="/admin/"))],
    ids=["lifespan", "websocket", "another path"],
)
def test_all_other_requests_pass_through_unchanged(scope):
    passed = []

    async def application(*given: Any) -> None:
        passed.append(given)

    given = (scope, object(), object())
    asyncio.run(limit(application)(*given))
    assert passed == [given]


def test_a_client_that_goes_away_reaches_no_handler():
    client = Client()
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    asyncio.run(limit(client.application)(scope_of(Request()), receive, client.send))
    assert (client.calls, client.sent) == (0, [])


def test_a_project_may_import_it_before_django_is_set_up():
    code = (
        "from djmessenger.asgi import limit\n"
        "from django.core.asgi import get_asgi_application\n"
        "application = limit(get_asgi_application())\n"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr


MOST = 64 * 1024 * 1024
"""Bytes after which an endless body is given up: far more than ``DJM_MAX_BODY`` and all buffers on the way."""


def post_without_end(server: Server) -> int:
    """Send a body in chunks until the server answers, and return the status."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=LONG)
    with contextlib.closing(connection):
        connection.putrequest("POST", URL)
        connection.putheader("Transfer-Encoding", "chunked")
        connection.putheader("X-Hub-Signature-256", "sha256=" + "0" * 64)
        connection.endheaders()
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        sent = 0
        # A server that closes the connection after its answer refuses the chunk that is under way.
        with contextlib.suppress(ConnectionError):
            while not select.select([connection.sock], [], [], 0)[0]:
                assert sent < MOST, "no answer"
                connection.sock.sendall(chunk)
                sent += len(chunk)
        return connection.getresponse().status


@pytest.mark.sqlite("the servers are what differs")
@pytest.mark.parametrize("name", ["uvicorn", "granian-asgi", "gunicorn-uvicorn"])
def test_a_server_answers_an_endless_body_at_the_limit(name, start, monkeypatch):  # noqa: F811
    limited = [one.replace("served:asgi", "served:limited_asgi") for one in SERVERS[name]]
    monkeypatch.setitem(SERVERS, name, limited)
    server = start(name)
    assert post_without_end(server) == 413
    assert server.post(tools.body(tools.text("m_1"))) == 200
