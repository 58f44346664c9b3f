"""The emulator: sending, seeing, acting, and what Graph says to a wrong call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from djmessenger.emulator import Emulator, VirtualClock

PAGE = "104233987650012"
TOKEN = "made-up-page-token"
SECRET = "0123456789abcdef0123456789abcdef"


class Bench:
    """An emulator with a Page and a person, and short ways to call it."""

    def __init__(self, **options: Any) -> None:
        self.clock = VirtualClock(1795425304)
        self.emulator = Emulator(self.clock, seed="test", **options)
        self.page = self.emulator.add_page(PAGE, TOKEN, "883041772661055", SECRET)
        self.ana = self.emulator.add_person(self.page, "Ana Torres", "de_DE", 1)
        self.ana.last_seen = self.clock()
        self.ana.consented = True

    @staticmethod
    def json(body: Any) -> bytes:
        return json.dumps(body).encode()

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        text = b"" if body is None else json.dumps(body).encode()
        status, _, answer = self.emulator.handle(method, f"/v26.0/{path}", query, headers, text)
        return status, json.loads(answer)

    def send(self, message: Any = None, **more: Any) -> tuple[int, Any]:
        body = {"recipient": {"id": self.ana.id}, "messaging_type": "RESPONSE", **more}
        if message is not None:
            body["message"] = message
        return self.call("POST", "me/messages", body)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_text_is_accepted_and_seen(bench):
    status, answer = bench.send({"text": "Hello"})
    assert status == 200
    assert answer == {"recipient_id": bench.ana.id, "message_id": bench.ana.thread[0].mid}
    assert bench.ana.texts == ["Hello"]
    assert not bench.emulator.calls[0].error


def test_the_log_holds_no_token(bench):
    body = json.dumps({"recipient": {"id": bench.ana.id}, "message": {"text": "x"}, "access_token": TOKEN})
    headers = {"content-type": "application/json"}
    assert bench.emulator.handle("POST", "/me/messages", "", headers, body.encode())[0] == 200
    assert TOKEN not in repr(bench.emulator.calls)
    assert TOKEN not in repr(bench.page)
    assert SECRET not in repr(bench.page)
