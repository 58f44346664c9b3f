"""The emulator over real sockets, steered by data and from the command line."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from djmessenger.__main__ import main as djmessenger
from djmessenger.signatures import verify
from messenger_emulator.control import Control
from messenger_emulator.run import add_arguments, main, run
from messenger_emulator.server import Callback, Courier, GraphServer, serve
from messenger_emulator.webhook import items_in
from tests.test_emulator import SECRET, TOKEN, Bench


class Receiver:
    """A bot in another process's place: verifies, keeps what comes."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.arrived = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                right = query["hub.verify_token"] == ["made-up-verify-token"]
                self._write(200 if right else 403, query["hub.challenge"][0].encode() if right else b"")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if verify(body, self.headers["X-Hub-Signature-256"], {"": SECRET}) is None:
                    self._write(403, b"")
                    return
                receiver.bodies.append(json.loads(body))
                self._write(200, b"EVENT_RECEIVED")
                receiver.arrived.set()

            def _write(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                """Discard the line."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/messenger/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def server(bench) -> Iterator[GraphServer]:
    started = serve(bench.emulator)
    started.control = Control(bench.emulator)
    yield started
    started.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    started = Receiver()
    yield started
    started.stop()


def ask(server: GraphServer, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    parts = urlsplit(server.url)
    with contextlib.closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)) as connection:
        kind = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        content = None if body is None else json.dumps(body).encode()
        connection.request(method, path, content, {**kind, **headers})
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text else None


def test_a_message_over_a_socket(bench, server):
    body = {"recipient": {"id": bench.ana.id}, "message": {"text": "Gr\u00fc\u00dfe"}}
    status, answer = ask(server, "POST", "/v26.0/me/messages", body)
    assert (status, answer["recipient_id"]) == (200, bench.ana.id)
    assert bench.ana.texts == ["Gr\u00fc\u00dfe"]
    assert ask(server, "GET", f"/{bench.ana.id}?fields=first_name")[1]["first_name"] == "Ana"
    assert ask(server, "DELETE", "/me/messenger_profile", {"fields": ["greeting"]}) == (
        200,
        {"result": "success"},
    )


def test_a_chunked_body(bench, server):
    parts = urlsplit(server.url)
    body = bench.json({"recipient": {"id": bench.ana.id}, "message": {"text": "x"}})
    with contextlib.closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)) as connection:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        chunks = iter([body[:10], body[10:]])
        connection.request("POST", "/me/messages", chunks, headers, encode_chunked=True)
        assert connection.getresponse().status == 200


def test_one_connection_serves_many_calls(bench, server):
    parts = urlsplit(server.url)
    with contextlib.closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)) as connection:
        for _ in range(3):
            connection.request("GET", f"/me?access_token={TOKEN}")
            assert json.loads(connection.getresponse().read())["name"] == "Page"


def test_no_answer_is_a_hang_up(bench, server):
    body = {"recipient": {"id": bench.ana.id}, "message": {"text": "x"}}
    with bench.emulator.faults.active("timeout_after"), pytest.raises((http.client.HTTPException, OSError)):
        ask(server, "POST", "/me/messages", body)
    assert bench.ana.texts == ["x"]


@pytest.mark.parametrize(("length", "status"), [("999999999999", 413), ("-1", 400), ("many", 400)])
def test_lengths_that_are_none(server, length, status):
    parts = urlsplit(server.url)
    with contextlib.closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)) as connection:
        connection.putrequest("POST", "/me/messages")
        connection.putheader("Content-Length", length)
        connection.endheaders()
        assert connection.getresponse().status == status


def test_many_callers_at_once(bench, server):
    body = {"recipient": {"id": bench.ana.id}, "message": {"text": "x"}}
    answers: list[int] = []

    def send() -> None:
        answers.extend(ask(server, "POST", "/me/messages", body)[0] for _ in range(5))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 40
    assert len({bubble.mid for bubble in bench.ana.thread}) == 40


def test_the_whole_round(bench, server, receiver):
    courier = Courier(bench.emulator, Callback(receiver.url), every=0.01)
    assert courier.verify("made-up-verify-token").accepted
    assert not courier.verify("another").accepted
    courier.start()
    bench.ana.says("hi")
    assert receiver.arrived.wait(10)
    courier.stop()
    (item,) = items_in(receiver.bodies[0])
    assert item["message"]["text"] == "hi"


def test_a_receiver_that_is_not_there(bench):
    callback = Callback("http://127.0.0.1:9/")
    bench.ana.says("hi")
    first = bench.emulator.deliver(callback.post)[0]
    assert not first.accepted
    assert not bench.emulator.verify(callback.get, "x").accepted
    with pytest.raises(ValueError, match="no address"):
        Callback("ftp://x.example/")


def test_orders_as_data(bench, server):
    def order(name: str, /, **values: Any) -> tuple[int, Any]:
        return ask(server, "POST", f"/_emulator/{name}", values)

    status, person = order("person", name="Bo Lin", locale="zh_TW")
    assert status == 200
    bo = {"person": person["id"]}
    assert order("act", **bo, act="says", args=["ni hao"])[1]["item"]["message"]["text"] == "ni hao"
    assert order("act", **bo, act="taps", args=["Nothing"])[0] == 400
    assert order("act", **bo, act="__init__")[0] == 400
    assert order("act", person="404", act="says", args=["x"])[0] == 400
    body = {"recipient": {"id": person["id"]}, "message": {"text": "hello"}}
    assert order("set", **bo, blocked=True)[0] == 200
    assert ask(server, "POST", "/me/messages", body)[1]["error"]["code"] == 551
    assert order("set", **bo, blocked=False, owner="263902037430900")[0] == 200
    assert ask(server, "POST", "/me/messages", body)[1]["error"]["error_subcode"] == 2018300
    assert order("set", **bo, owner="")[0] == 200
    assert ask(server, "POST", "/me/messages", body)[0] == 200
    assert order("set", **bo, token="x")[0] == 400
    assert order("clock", advance={"hours": 25})[1] == {"now": 1795425304 + 25 * 3600}
    assert ask(server, "POST", "/me/messages", body)[1]["error"]["error_subcode"] == 2018278
    assert order("fault", name="throttled", times=1)[1] == {"on": ["throttled"]}
    assert order("fault", name="throttled", on=False)[1] == {"on": []}
    assert order("fault", name="sabotage")[0] == 400
    assert "throttled" in order("faults")[1]["known"]
    assert order("raw", body='{"object":"page"}')[0] == 200
    state = ask(server, "GET", "/_emulator/state")[1]
    assert [person["name"] for person in state["persons"]] == ["Ana Torres", "Bo Lin"]
    assert state["persons"][1]["thread"][-1]["text"] == "hello"
    calls = ask(server, "GET", "/_emulator/calls")[1]["calls"]
    assert [call["status"] for call in calls] == [400, 400, 200, 400]
    assert TOKEN not in json.dumps(calls)
    assert ask(server, "GET", "/_emulator/deliveries")[1] == {"deliveries": []}
    assert order("nonsense")[0] == 404
    assert ask(server, "POST", "/_emulator/clock", {}, **{"Content-Type": "text/plain"})[0] == 415


def test_the_command_line(receiver):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    lines = [
        "--port=0",
        f"--callback={receiver.url}",
        "--verify-token=made-up-verify-token",
        f"--app-secret={SECRET}",
    ]
    typed = io.StringIO(
        "hello\n/sticker\n/image https://x.example/1\n/location 1 2\n/travel 25\n/fault throttled\n/clear\n"
        "/faults\n/start\n/fault sabotage\n\n/tap Shop\n/quit\nnever\n"
    )
    said: list[str] = []
    servers: list[GraphServer] = []
    assert run(parser.parse_args(lines), typed=typed, say=said.append, started=servers.append) == 0
    person = next(iter(servers[0].emulator.persons.values()))
    assert [bubble.kind for bubble in person.thread] == ["text", "sticker", "image", "location"]
    assert any("sees no Get Started" in line for line in said)
    assert any("no fault 'sabotage'" in line for line in said)
    assert any("is verified" in line for line in said)


def test_the_command_line_says_what_is_wrong_with_the_webhook(receiver):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    said: list[str] = []
    options = parser.parse_args(["--port=0", f"--callback={receiver.url}", "--verify-token=wrong"])
    assert run(options, typed=io.StringIO(""), say=said.append) == 1
    assert said[-1] == "The webhook was not verified: status 403 instead of 200"


@pytest.mark.parametrize(("command", "arguments"), [(main, []), (djmessenger, ["emulator"])])
def test_the_command_line_has_help(capsys, command, arguments):
    with pytest.raises(SystemExit):
        command([*arguments, "--help"])
    assert "--callback" in capsys.readouterr().out
