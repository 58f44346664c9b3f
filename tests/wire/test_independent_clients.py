"""The emulator as a server, driven by clients that others wrote for Graph: pymessenger and fbmessenger.

Both are older than today's Graph; what they send unasked (a version that has ended, no ``messaging_type``) Graph takes
still. They are pointed at the server by the one attribute each has for it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from fbmessenger import MessengerClient
from fbmessenger import thread_settings as profile
from pymessenger.bot import Bot

from messenger_emulator.server import GraphServer, serve
from tests.test_emulator import SECRET, TOKEN, Bench

POSTBACK = {"type": "postback", "title": "Go", "payload": "GO"}
RECEIPT = {
    "template_type": "receipt",
    "recipient_name": "Ana Torres",
    "order_number": "1",
    "currency": "EUR",
    "payment_method": "Cash",
    "summary": {"total_cost": 2.4},
}


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.page.require_proof = True
    return bench


@pytest.fixture
def server(bench: Bench) -> Iterator[GraphServer]:
    server = serve(bench.emulator)
    yield server
    server.stop()


@pytest.fixture
def bot(server: GraphServer) -> Bot:
    client = Bot(TOKEN, app_secret=SECRET)
    client.graph_url = f"{server.url}/v2.6"
    return client


@pytest.fixture
def client(server: GraphServer) -> Iterator[MessengerClient]:
    with requests.Session() as session:
        client = MessengerClient(TOKEN, app_secret=SECRET, session=session)
        client.graph_url = f"{server.url}/v26.0"
        yield client


def test_texts_quick_replies_templates_and_files(bench, bot):
    ana = bench.ana.id
    replies = [{"content_type": "text", "title": "Yes", "payload": "YES"}]
    receipt = {"attachment": {"type": "template", "payload": RECEIPT}}
    answers = [
        bot.send_text_message(ana, "Gr\u00fc\u00dfe"),
        bot.send_message(ana, {"text": "?", "quick_replies": replies}),
        bot.send_generic_message(ana, [{"title": "Card", "subtitle": "sub", "buttons": [POSTBACK]}]),
        bot.send_button_message(ana, "Pick", [POSTBACK]),
        bot.send_message(ana, receipt),
        bot.send_image_url(ana, "https://x.example/a.png"),
        bot.send_file_url(ana, "https://x.example/a.pdf"),
    ]
    assert [answer["message_id"] for answer in answers] == [bubble.mid for bubble in bench.ana.received]
    assert {answer["recipient_id"] for answer in answers} == {ana}
    assert [bubble.template or bubble.kind for bubble in bench.ana.received] == [
        "text", "text", "generic", "button", "receipt", "image", "file",
    ]  # fmt: skip
    assert bench.ana.texts[0] == "Gr\u00fc\u00dfe"
    assert bench.ana.received[1].quick_replies == replies
    assert bench.ana.taps("Go").item["postback"]["payload"] == "GO"


def test_sender_actions_and_refusals(bench, bot):
    ana = bench.ana.id
    assert bot.send_action(ana, "typing_on") == {"recipient_id": ana}
    assert bench.ana.typing
    assert bot.send_text_message(ana, "x" * 2001)["error"]["code"] == 100
    assert bot.send_button_message(ana, "Pick", [POSTBACK] * 4)["error"]["code"] == 105
    assert bot.send_text_message("999", "hi")["error"]["error_subcode"] == 2018001
    assert not bench.ana.received


def test_a_wrong_token(bench, bot):
    bot.access_token = "somebody's"
    assert bot.send_text_message(bench.ana.id, "hi")["error"]["code"] == 190


def test_the_profile(bench, client):
    items = [
        profile.PersistentMenuItem("postback", "Help", payload="HELP"),
        profile.PersistentMenuItem("web_url", "Shop", url="https://shop.example.com/"),
    ]
    menu = profile.PersistentMenu(items)
    refused = client.set_messenger_profile(profile.MessengerProfile(persistent_menus=[menu]).to_dict())
    assert refused["error"]["error_subcode"] == 2018145
    wanted = profile.MessengerProfile(
        greetings=[
            profile.GreetingText("Hello, {{user_first_name}}!"),
            profile.GreetingText("Hallo!", "fr_FR"),
        ],
        get_started=profile.GetStartedButton("START"),
        persistent_menus=[menu],
    )
    assert client.set_messenger_profile(wanted.to_dict()) == {"result": "success"}
    assert bench.ana.greeting == "Hello, Ana!"
    assert [item["title"] for item in bench.ana.menu] == ["Help", "Shop"]
    assert bench.ana.gets_started().item["postback"]["payload"] == "START"
    assert client.delete_persistent_menu() == {"result": "success"}
    assert client.delete_get_started() == {"result": "success"}
    assert not bench.ana.menu
    assert client.update_whitelisted_domains("https://shop.example.com") == {"result": "success"}
    assert client.remove_whitelisted_domains() == {"result": "success"}


def test_a_person_and_the_linking_of_an_account(bench, client):
    ana = bench.ana
    assert client.get_user_data(ana.id, ["first_name", "locale"]) == {
        "first_name": "Ana",
        "locale": "de_DE",
        "id": ana.id,
    }
    ana.links_account("code")
    assert client.unlink_account(ana.id) == {"result": "unlink account success"}
    assert not ana.linked
