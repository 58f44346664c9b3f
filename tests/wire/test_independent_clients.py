"""The emulator driven by a client that others wrote; skipped where it is not installed.

``pip install pymessenger`` (0.0.7.0) is enough; the test needs no network but loopback.
"""

from __future__ import annotations

import pytest

from djmessenger.emulator.server import serve
from tests.test_emulator import SECRET, TOKEN, Bench

pymessenger = pytest.importorskip("pymessenger.bot", reason="pymessenger is not installed")


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.page.require_proof = True
    return bench


@pytest.fixture
def bot(bench):
    server = serve(bench.emulator)
    client = pymessenger.Bot(TOKEN, app_secret=SECRET)
    client.graph_url = f"{server.url}/v2.6"
    yield client
    server.stop()


def test_pymessenger(bench, bot):
    ana = bench.ana.id
    button = {"type": "postback", "title": "Go", "payload": "GO"}
    replies = [{"content_type": "text", "title": "Yes", "payload": "YES"}]
    answers = [
        bot.send_text_message(ana, "Gr\u00fc\u00dfe"),
        bot.send_message(ana, {"text": "?", "quick_replies": replies}),
        bot.send_generic_message(ana, [{"title": "Card", "subtitle": "sub", "buttons": [button]}]),
        bot.send_button_message(ana, "Pick", [button]),
        bot.send_image_url(ana, "https://x.example/a.png"),
    ]
    assert [answer["message_id"] for answer in answers] == [bubble.mid for bubble in bench.ana.received]
    assert [bubble.kind for bubble in bench.ana.received] == ["text", "text", "template", "template", "image"]
    assert bot.send_action(ana, "typing_on") == {"recipient_id": ana}
    assert bot.send_text_message(ana, "x" * 2001)["error"]["code"] == 100
