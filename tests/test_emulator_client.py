"""The Graph client of this project and the emulator understand each other, edge by edge."""

from __future__ import annotations

import datetime

import pytest

from djmessenger.emulator import EmulatorTransport
from djmessenger.graph.client import Client
from djmessenger.graph.errors import (
    GraphError,
    MessageRejected,
    NotSent,
    PageRestricted,
    PersonUnreachable,
    RetryLater,
    ThreadTaken,
    TokenError,
    UnknownFate,
    WindowClosed,
)
from djmessenger.graph.wire import Call, Upload
from tests.test_emulator import PAGE, SECRET, TOKEN, Bench


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.page.require_proof = True
    return bench


@pytest.fixture
def client(bench) -> Client:
    return Client(TOKEN, app_secret=SECRET, page_id=PAGE, transport=EmulatorTransport(bench.emulator))


def test_sending(bench, client):
    sent = client.send({"id": bench.ana.id}, {"message": {"text": "Gr\u00fc\u00dfe"}})
    assert (sent.recipient_id, sent.message_id) == (bench.ana.id, bench.ana.thread[0].mid)
    upload = client.upload("image", Upload("a.png", b"\x89PNG"))
    message = {"attachment": {"type": "image", "payload": {"attachment_id": upload}}}
    assert client.send({"id": bench.ana.id}, {"message": message}).message_id
    comment = bench.emulator.add_comment(bench.ana)
    assert client.private_reply({"message": {"text": "hi"}}, comment_id=comment.id).message_id


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("token_dead", TokenError),
        ("blocked", PersonUnreachable),
        ("other_app", ThreadTaken),
        ("window_closed", WindowClosed),
        ("page_restricted", PageRestricted),
        ("throttled", RetryLater),
        ("business_throttled", RetryLater),
        ("server_error", GraphError),
        ("server_error_empty", GraphError),
        ("timeout_before", UnknownFate),
        ("timeout_after", UnknownFate),
        ("truncated", UnknownFate),
        ("unreachable", NotSent),
    ],
)
def test_each_fault_is_the_error_it_should_be(bench, client, fault, error):
    with bench.emulator.faults.active(fault), pytest.raises(error):
        client.send({"id": bench.ana.id}, {"message": {"text": "x"}})


def test_the_profile(bench, client):
    menu = {"type": "postback", "title": "Shop", "payload": "SHOP"}
    client.set_messenger_profile({"get_started": {"payload": "GO"}})
    client.set_messenger_profile({"persistent_menu": [{"locale": "default", "call_to_actions": [menu]}]})
    assert client.get_messenger_profile(["get_started"]).get_started == {"payload": "GO"}
    client.delete_messenger_profile(["persistent_menu", "get_started"])
    with pytest.raises(MessageRejected):
        client.set_user_settings(bench.ana.id, [{"locale": "default", "call_to_actions": [menu]}])


def test_persons_and_threads(bench, client):
    assert client.profile(bench.ana.id).first_name == "Ana"
    client.request_thread(bench.ana.id)
    client.pass_thread(bench.ana.id, "263902037430900")
    assert client.thread_owner(bench.ana.id).app_id == "263902037430900"
    label = client.create_label("vip")
    client.put_label(label, bench.ana.id)
    client.take_label(label, bench.ana.id)
    client.delete_label(label)
    client.moderate([bench.ana.id], ["block_user"])


def test_the_page(bench, client):
    persona = client.create_persona("Kim", "https://x.example/kim.png")
    assert client.persona(persona).name == "Kim"
    client.delete_persona(persona)
    client.subscribe(["messages", "messaging_postbacks"])
    (subscription,) = client.subscriptions()
    assert set(subscription.subscribed_fields) == {"messages", "messaging_postbacks"}
    client.unsubscribe()
    assert client.page_fields()["name"] == "Page"
    assert client.insights(["page_messages_total_messaging_connections"])
    template = client.create_message_template({"name": "shipped", "language": "en", "category": "UTILITY"})
    assert template.status == "APPROVED"
    client.delete_message_template("shipped")


def test_a_batch(bench, client):
    body = {"recipient": {"id": bench.ana.id}, "message": {"text": "one & two"}}
    calls = [Call("POST", "me/messages", body), Call("GET", "404")]
    first, second = client.batch(calls)
    assert bench.ana.texts == ["one & two"]
    assert first.error is None
    assert second.error is not None


def test_a_call_of_an_ended_version_has_a_warning(bench, client):
    bench.clock.advance(days=(datetime.date(2027, 1, 22) - bench.emulator.today()).days)
    old = Client(TOKEN, app_secret=SECRET, version="v21.0", transport=EmulatorTransport(bench.emulator))
    old.page_fields()
    assert "v21.0 has ended" in bench.emulator.calls[-1].warnings[0]
