"""The side that posts: bytes, signatures, retries, the end of a subscription, the faults."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messenger_emulator import Emulator, VirtualClock
from messenger_emulator.encoding import encode_like_meta
from messenger_emulator.faults import WEBHOOK_FAULTS
from messenger_emulator.webhook import items_in
from tests.test_emulator import SECRET, Bench

VECTORS = json.loads((Path(__file__).parent / "wire" / "signature_vectors.json").read_text(encoding="utf-8"))
"""Bodies as Meta would post them, with the signatures of a made-up secret."""


class Bot:
    """Receives posts and answers with a status, 200 unless told otherwise."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.posts: list[tuple[bytes, dict[str, str]]] = []

    def __call__(self, body: bytes, headers: dict[str, str]) -> int:
        self.posts.append((body, headers))
        return self.statuses.pop(0) if self.statuses else 200

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(body) for body, _ in self.posts]

    @property
    def items(self) -> list[Any]:
        return [item for body in self.bodies for item in items_in(body)]


@pytest.fixture
def bench():
    return Bench()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["sample"])
def test_bytes_and_signatures_of_the_vectors(bench, vector):
    wanted = vector["body_bytes_ascii"].encode("ascii")
    body = encode_like_meta(json.loads(wanted))
    assert body == wanted
    bench.page.app_secret = vector["app_secret"]
    bench.emulator.emit_raw(bench.page, body)
    bot = Bot()
    with bench.emulator.faults.active("sha1_signature"):
        bench.emulator.deliver(bot)
    posted, headers = bot.posts[0]
    assert posted == wanted
    assert headers["X-Hub-Signature-256"] == vector["x_hub_signature_256"]
    assert headers["X-Hub-Signature"] == vector["x_hub_signature_sha1"]
    assert headers["Content-Type"] == "application/json"
    assert headers["Facebook-API-Version"] == "v26.0"


def test_the_spelling_of_the_unicode_vector_is_typed_here_too():
    text = "Gr\u00fc\u00dfe \U0001f44d 50% a@b.ee </x>"
    assert encode_like_meta({"text": text}) == (
        b'{"text":"Gr\\u00fc\\u00dfe \\ud83d\\udc4d 50\\u0025 a\\u0040b.ee \\u003C\\/x>"}'
    )


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(ANY_JSON)
def test_the_spelling_loses_nothing(data):
    body = encode_like_meta(data)
    assert json.loads(body) == data
    assert body.isascii()
    assert not set(body) & set(b"%@<")
    assert body.count(b"/") == body.count(b"\\/")


def test_a_message_comes_in_the_documented_envelope(bench):
    act = bench.ana.says("Gr\u00fc\u00dfe")
    bot = Bot()
    (delivery,) = bench.emulator.deliver(bot)
    assert bot.bodies == [
        {
            "object": "page",
            "entry": [
                {
                    "id": "104233987650012",
                    "time": 1795425304000,
                    "messaging": [
                        {
                            "sender": {"id": bench.ana.id},
                            "recipient": {"id": "104233987650012"},
                            "timestamp": 1795425304000,
                            "message": {"mid": act.mid, "text": "Gr\u00fc\u00dfe"},
                        }
                    ],
                }
            ],
        }
    ]
    assert (delivery.accepted, delivery.status, delivery.attempt) == (True, 200, 1)
    assert act.mid.startswith("m_")
    assert bench.ana.id.isdigit()


def test_echo_delivery_and_read_follow_a_send(bench):
    bench.send({"text": "Hello", "metadata": "order:1"})
    bot = Bot()
    bench.emulator.deliver(bot)
    echo, delivered, read = bot.items
    mid = bench.ana.thread[0].mid
    assert echo["sender"] == {"id": bench.page.id}
    assert echo["message"] == {
        "is_echo": True,
        "app_id": 883041772661055,
        "mid": mid,
        "metadata": "order:1",
        "text": "Hello",
    }
    assert delivered["delivery"] == {"mids": [mid], "watermark": 1795425304000}
    assert read["read"] == {"watermark": 1795425304000}
    assert bench.ana.thread[0].delivered
    assert bench.ana.thread[0].read


def test_each_of_them_can_be_switched_off():
    for switch, left in (("echoes", 2), ("delivery_receipts", 2), ("read_receipts", 2)):
        bench = Bench(**{switch: False})
        bench.send({"text": "Hello"})
        bot = Bot()
        bench.emulator.deliver(bot)
        assert len(bot.items) == left


def test_only_subscribed_fields_are_posted(bench):
    bench.page.subscribed_fields = {"messages"}
    bench.ana.says("hi")
    bench.ana.reads()
    bench.ana.postback("x", "X")
    bench.page.app_fields = {"messaging_postbacks"}
    bench.ana.says("not at the app's level")
    bot = Bot()
    bench.emulator.deliver(bot)
    assert [item["message"]["text"] for item in bot.items] == ["hi"]


def test_only_200_counts_and_three_tries_come_at_once(bench):
    bench.ana.says("hi")
    bot = Bot(204, 500, 200)
    deliveries = bench.emulator.deliver(bot)
    assert [d.attempt for d in deliveries] == [1, 2, 3]
    assert [d.accepted for d in deliveries] == [False, False, True]
    assert len({item["message"]["mid"] for item in bot.items}) == 1
    assert bench.page.failing_since is None


def test_later_tries_have_gaps_and_a_new_time(bench):
    bench.ana.says("hi")
    bot = Bot(*[500] * 4)
    assert len(bench.emulator.deliver(bot)) == 3
    assert bench.emulator.deliver(bot) == []
    assert bench.emulator.next_due() == bench.clock() + 10
    bench.clock.advance(seconds=10)
    assert len(bench.emulator.deliver(bot)) == 1
    bench.clock.advance(seconds=30)
    assert [d.accepted for d in bench.emulator.deliver(bot)] == [True]
    assert bot.bodies[-1]["entry"][0]["time"] == bot.bodies[0]["entry"][0]["time"] + 40_000
    assert bot.items[-1] == bot.items[0]


def test_more_than_five_seconds_is_no_answer(bench):
    bench.ana.says("hi")

    def slow(body, headers):
        bench.clock.advance(seconds=6)
        return 200

    first = bench.emulator.deliver(slow, most=10)[0]
    assert not first.accepted
    assert "5 seconds" in first.error


def test_a_receiver_that_breaks_is_a_failure(bench):
    bench.ana.says("hi")

    def broken(body, headers):
        raise ConnectionResetError("gone")

    assert [d.error for d in bench.emulator.deliver(broken)] == ["ConnectionResetError: gone"] * 3


def test_an_hour_of_failing_ends_the_subscription(bench):
    bench.ana.says("hi")
    bot = Bot(*[503] * 100)
    alerts = []
    for _ in range(30):
        bench.emulator.deliver(bot)
        alerts.append(list(bench.page.alerts))
        bench.clock.advance(minutes=5)
    assert any(len(found) == 1 for found in alerts)
    assert "unsubscribed" in bench.page.alerts[-1]
    assert bench.page.subscribed_fields == set()
    assert bench.emulator.next_due() is None
    bench.ana.says("anybody there?")
    assert bench.emulator.deliver(bot) == []
    assert bench.call("POST", "me/subscribed_apps", {"subscribed_fields": "messages"}) == (
        200,
        {"success": True},
    )
    bench.ana.says("and now?")
    assert len(bench.emulator.deliver(Bot())) == 1


def test_items_that_the_bot_causes_meanwhile_are_posted_too(bench):
    def echoing(body, headers):
        for item in items_in(json.loads(body)):
            if "message" in item and not item["message"].get("is_echo"):
                bench.send({"text": "re: " + item["message"]["text"]})
        return 200

    bench.ana.says("hi")
    assert len(bench.emulator.deliver(echoing)) == 4
    assert bench.ana.texts == ["re: hi"]


def test_a_bot_that_answers_its_echoes_is_stopped(bench):
    def mad(body, headers):
        bench.clock.advance(seconds=1)
        bench.send({"text": "again"})
        return 200

    bench.ana.says("hi")
    with pytest.raises(RuntimeError, match="still busy after 50 posts"):
        bench.emulator.deliver(mad, most=50)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda q: (200, q["hub.challenge"].encode()), ""),
        (lambda q: (200, q["hub.challenge"].encode() + b"\n"), "not the challenge"),
        (lambda q: (403, b""), "status 403"),
        (lambda q: (201, q["hub.challenge"].encode()), "status 201"),
        (lambda q: 1 / 0, "no answer"),
    ],
)
def test_verification_of_the_endpoint(bench, answer, reason):
    asked = []

    def get(query):
        asked.append(query)
        return answer(query)

    verdict = bench.emulator.verify(get, "made-up-verify-token")
    assert verdict.accepted == (not reason)
    assert reason in verdict.reason
    assert asked[0]["hub.mode"] == "subscribe"
    assert asked[0]["hub.verify_token"] == "made-up-verify-token"
    assert asked[0]["hub.challenge"].isdigit()


# Faults


def post_with(bench, fault, **options):
    """Return the bot after a text of the person was posted under a fault."""
    bot = Bot()
    with bench.emulator.faults.active(fault, **options):
        bench.ana.says("one")
        bench.ana.says("two")
        bench.emulator.deliver(bot)
    return bot


def test_fault_duplicate(bench):
    bot = post_with(bench, "duplicate", copies=3)
    assert sorted(item["message"]["text"] for item in bot.items) == ["one"] * 3 + ["two"] * 3


def test_fault_delay(bench):
    bot = post_with(bench, "delay", seconds=7)
    assert bot.posts == []
    bench.clock.advance(seconds=7)
    bench.emulator.deliver(bot)
    assert len(bot.items) == 2


def test_fault_reorder(bench):
    assert [item["message"]["text"] for item in post_with(bench, "reorder").items] == ["two", "one"]


@pytest.mark.parametrize(("shape", "entries"), [("entries", 2), ("messaging", 1)])
def test_fault_batch(bench, shape, entries):
    bot = post_with(bench, "batch", shape=shape)
    assert len(bot.posts) == 1
    assert len(bot.bodies[0]["entry"]) == entries
    assert [item["message"]["text"] for item in bot.items] == ["one", "two"]


def test_fault_standby(bench):
    bot = post_with(bench, "standby")
    assert all("standby" in body["entry"][0] for body in bot.bodies)


def test_a_thread_of_another_app_comes_in_standby_without_payloads(bench):
    bench.emulator.give_control(bench.ana, "263902037430900")
    bench.ana.postback("Title", "PAYLOAD")
    bot = Bot()
    bench.emulator.deliver(bot)
    assert list(bot.bodies[0]["entry"][0]) == ["id", "time", "standby"]
    assert "payload" not in bot.items[0]["postback"]


def test_fault_echo_late(bench):
    with bench.emulator.faults.active("echo_late", seconds=20):
        bench.send({"text": "Hello"})
    bot = Bot()
    bench.emulator.deliver(bot)
    assert not any("message" in item for item in bot.items)
    bench.clock.advance(seconds=20)
    bench.emulator.deliver(bot)
    assert bot.items[-1]["message"]["is_echo"] is True


def test_fault_echo_lost(bench):
    with bench.emulator.faults.active("echo_lost"):
        bench.send({"text": "Hello"})
    bench.clock.advance(days=1)
    bot = Bot()
    bench.emulator.deliver(bot)
    assert not any("message" in item for item in bot.items)


def test_fault_wrong_signature(bench):
    body, headers = post_with(bench, "wrong_signature").posts[0]
    right = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert headers["X-Hub-Signature-256"] != f"sha256={right}"


def test_fault_no_signature(bench):
    assert "X-Hub-Signature-256" not in post_with(bench, "no_signature").posts[0][1]


def test_fault_unknown_event(bench):
    strange, known = post_with(bench, "unknown_event").items[:2]
    assert "hologram" in strange
    assert "message" in known


def test_fault_no_timestamp(bench):
    assert "timestamp" not in post_with(bench, "no_timestamp").items[0]


def test_fault_seconds(bench):
    assert post_with(bench, "seconds").items[0]["timestamp"] == 1795425304


def test_fault_hop_context(bench):
    assert post_with(bench, "hop_context", value=None).bodies[0]["entry"][0]["hop_context"] is None


def test_fault_numeric_ids(bench):
    assert post_with(bench, "numeric_ids").items[0]["sender"]["id"] == int(bench.ana.id)


def test_fault_old_mids_and_seq(bench):
    with bench.emulator.faults.active("seq"):
        bot = post_with(bench, "old_mids")
    assert bot.items[0]["message"]["mid"].startswith("mid.1795425304000:")
    assert [item["message"]["seq"] for item in bot.items] == [1, 2]


def test_fault_text_app_id(bench):
    bench.send({"text": "x"})
    bot = Bot()
    with bench.emulator.faults.active("text_app_id"):
        bench.emulator.deliver(bot)
    assert bot.items[0]["message"]["app_id"] == "883041772661055"


@pytest.mark.parametrize(
    ("fault", "types", "own"),
    [
        (None, ["sticker"], False),
        ("stickers_transition", ["image", "sticker"], False),
        ("stickers_v6", ["image"], False),
        ("stickers_2016", ["image"], True),
    ],
)
def test_the_sticker_of_each_era(bench, fault, types, own):
    if fault:
        bench.emulator.faults.on(fault)
    bench.ana.sends_sticker()
    bot = Bot()
    bench.emulator.deliver(bot)
    message = bot.items[0]["message"]
    assert [part["type"] for part in message["attachments"]] == types
    assert {part["payload"]["sticker_id"] for part in message["attachments"]} == {369239263222822}
    assert (message.get("sticker_id") == 369239263222822) is own


@pytest.mark.parametrize("fault", sorted(WEBHOOK_FAULTS))
def test_no_fault_breaks_the_sender(bench, fault):
    bench.emulator.faults.on(fault)
    bench.ana.says("hi")
    bench.ana.sends_sticker()
    bench.ana.postback("x", "X")
    bench.send({"text": "hello"})
    bench.emulator.emit_change(bench.page, "feed", {"item": "comment"})
    bench.emulator.deliver(Bot())
    bench.clock.advance(minutes=1)
    bench.emulator.deliver(Bot())
    assert bench.emulator.next_due() is None


def test_a_fault_goes_off_after_so_many_times(bench):
    bench.emulator.faults.on("duplicate", times=1)
    bench.ana.says("one")
    bench.ana.says("two")
    bot = Bot()
    bench.emulator.deliver(bot)
    assert len(bot.items) == 3
    assert bench.emulator.faults.names() == ()
    with pytest.raises(KeyError, match="there is no fault 'sabotage'"):
        bench.emulator.faults.on("sabotage")


def test_instagram_has_shapes_of_its_own():
    clock = VirtualClock(1795425304)
    emulator = Emulator(clock)
    page = emulator.add_page("17", "other-token", app_secret=SECRET, channel="instagram", account_id="178")
    person = emulator.add_person(page)
    person.says("hi")
    headers = {"content-type": "application/json", "authorization": "Bearer other-token"}
    body = {"recipient": {"id": person.id}, "message": {"text": "yo"}}
    assert emulator.handle("POST", "/17/messages", "", headers, json.dumps(body).encode())[0] == 200
    bot = Bot()
    emulator.deliver(bot)
    assert {body["object"] for body in bot.bodies} == {"instagram"}
    assert {body["entry"][0]["id"] for body in bot.bodies} == {"178"}
    message, echo, seen = bot.items
    assert message["recipient"] == {"id": "178"}
    assert echo["message"] == {"is_echo": True, "mid": person.thread[1].mid, "text": "yo"}
    assert seen["read"] == {"mid": person.thread[1].mid}
