"""The emulator: sending, seeing, acting, and what Graph says to a wrong call."""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djmessenger.emulator import EmulatorTransport
from djmessenger.graph.errors import NotSent, UnknownFate
from djmessenger.graph.wire import Request
from messenger_emulator import Emulator, NoAnswer, VirtualClock
from messenger_emulator.world import Fetched

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


# Authentication


def raw(bench, method, path, body=None, headers=None, query=""):
    kind = {"content-type": "application/json"}
    text = b"" if body is None else bench.json(body)
    status, _, answer = bench.emulator.handle(method, path, query, {**kind, **(headers or {})}, text)
    return status, json.loads(answer)


def test_no_token(bench):
    status, answer = raw(bench, "POST", "/me/messages", {})
    assert (status, answer["error"]["code"]) == (400, 2500)


def test_a_wrong_token(bench):
    status, answer = raw(bench, "POST", "/me/messages", {"access_token": "somebody's"})
    assert (status, answer["error"]["code"], answer["error"]["type"]) == (400, 190, "OAuthException")


@pytest.mark.parametrize("subcode", [458, 459, 460, 463, 464, 467, 492])
def test_a_dead_token(bench, subcode):
    bench.page.token_error = subcode
    error = bench.send({"text": "x"})[1]["error"]
    assert (error["code"], error["error_subcode"]) == (190, subcode)


@pytest.mark.parametrize("place", ["header", "query", "body"])
def test_the_token_may_come_in_three_places(bench, place):
    body = {"recipient": {"id": bench.ana.id}, "message": {"text": "x"}}
    headers = {"Authorization": f"Bearer {TOKEN}"} if place == "header" else {}
    query = f"access_token={TOKEN}" if place == "query" else ""
    if place == "body":
        body["access_token"] = TOKEN
    assert raw(bench, "POST", f"/v26.0/{PAGE}/messages", body, headers, query)[0] == 200


def test_the_proof_of_the_app_secret(bench):
    proof = hmac.new(SECRET.encode(), TOKEN.encode(), hashlib.sha256).hexdigest()
    assert bench.call("GET", "me", appsecret_proof=proof)[0] == 200
    status, answer = bench.call("GET", "me", appsecret_proof="0" * 64)
    assert (status, answer["error"]["code"], answer["error"]["type"]) == (400, 100, "GraphMethodException")
    assert answer["error"]["message"].startswith("Invalid appsecret_proof provided in the API argument")
    assert bench.call("GET", "me")[0] == 200
    bench.page.require_proof = True
    answer = bench.call("GET", "me")[1]
    assert answer["error"]["message"] == "API calls from the server require an appsecret_proof argument"
    assert bench.call("GET", "me", appsecret_proof=proof)[0] == 200


# Paths, bodies


@pytest.mark.parametrize("path", ["me", PAGE])
@pytest.mark.parametrize("version", ["", "/v2.6", "/v21.0", "/v26.0", "/v27.0"])
def test_paths_of_the_send_api(bench, path, version):
    body = {"recipient": {"id": bench.ana.id}, "message": {"text": "x"}, "access_token": TOKEN}
    assert raw(bench, "POST", f"{version}/{path}/messages", body)[0] == 200
    assert any("has ended" in warning for warning in bench.emulator.calls[0].warnings) == (version == "/v2.6")


def test_another_page_is_no_object_of_this_token(bench):
    status, answer = bench.call("POST", "118840276315590/messages", {"recipient": {"id": bench.ana.id}})
    assert (status, answer["error"]["code"], answer["error"]["error_subcode"]) == (400, 100, 33)
    assert answer["error"]["type"] == "GraphMethodException"


@pytest.mark.parametrize("path", ["me/thread_settings", "me/broadcast_messages", "me/messages/extra"])
def test_an_unknown_path(bench, path):
    status, answer = bench.call("POST", path, {})
    assert (status, answer["error"]["code"], answer["error"]["type"]) == (400, 2500, "OAuthException")
    assert answer["error"]["message"].startswith("Unknown path components: /")


def form(bench, content_type, body):
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": content_type}
    status, _, answer = bench.emulator.handle("POST", "/me/messages", "", headers, body)
    return status, json.loads(answer)


def test_a_form_body(bench):
    text = urlencode({"recipient": json.dumps({"id": bench.ana.id}), "message": '{"text":"a & b \u00e4"}'})
    assert form(bench, "application/x-www-form-urlencoded", text.encode())[0] == 200
    assert bench.ana.texts == ["a & b \u00e4"]


def test_a_form_with_single_quotes(bench):
    text = urlencode({"recipient": f"{{'id':'{bench.ana.id}'}}", "message": "{'text':'hi'}"})
    assert form(bench, "application/x-www-form-urlencoded", text.encode())[0] == 200


def test_objects_as_text_inside_json(bench):
    body = {"recipient": json.dumps({"id": bench.ana.id}), "message": json.dumps({"text": "hi"})}
    assert form(bench, "application/json", bench.json(body))[0] == 200


def test_json_without_its_content_type_holds_no_parameters(bench):
    body = bench.json({"recipient": {"id": bench.ana.id}, "message": {"text": "x"}})
    status, answer = form(bench, "text/plain", body)
    assert (status, answer["error"]["message"]) == (400, "(#100) The parameter recipient is required")


DEEP = b'{"a":' * 500 + b"1" + b"}" * 500


@pytest.mark.parametrize("body", [b"{", b"[1]", b'"x"', b"\xff\xfe", b"[" * 100_000, DEEP])
def test_a_body_that_is_no_object(bench, body):
    status, answer = form(bench, "application/json", body)
    assert (status, answer["error"]["code"]) == (400, 100)


def multipart(bench, message, *files, path="/me/messages"):
    lines = [
        b'--XX\r\nContent-Disposition: form-data; name="recipient"\r\n\r\n' + bench.json({"id": bench.ana.id})
    ]
    lines.append(b'--XX\r\nContent-Disposition: form-data; name="message"\r\n\r\n' + bench.json(message))
    for kind, content in files:
        head = b'--XX\r\nContent-Disposition: form-data; name="filedata"; filename="a.bin"\r\nContent-Type: '
        lines.append(head + kind.encode() + b"\r\n\r\n" + content)
    body = b"\r\n".join([*lines, b"--XX--\r\n"])
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "multipart/form-data; boundary=XX"}
    status, _, answer = bench.emulator.handle("POST", path, "", headers, body)
    return status, json.loads(answer)


IMAGE = {"attachment": {"type": "image", "payload": {"is_reusable": True}}}


def test_a_file_is_sent_and_kept(bench):
    status, answer = multipart(bench, IMAGE, ("image/png", b"\x89PNG\r\n--not the end\r\n"))
    assert status == 200
    again = {"attachment": {"type": "image", "payload": {"attachment_id": answer["attachment_id"]}}}
    status, answer = bench.send(again)
    assert status == 200
    assert "attachment_id" not in answer
    assert [bubble.kind for bubble in bench.ana.received] == ["image", "image"]
    bench.clock.advance(days=91)
    bench.ana.says("still there?")
    assert bench.send(again)[1]["error"]["error_subcode"] == 2018074


@pytest.mark.parametrize(
    ("files", "subcode"),
    [
        ([("text/plain", b"x")], 2018047),
        ([("image/png", b"x" * (8 * 1024 * 1024 + 1))], 2018109),
        ([("image/png", b"x"), ("image/png", b"x")], None),
        ([], None),
    ],
)
def test_a_file_that_graph_would_not_take(bench, files, subcode):
    status, answer = multipart(bench, IMAGE, *files)
    assert (status, answer["error"]["code"]) == (400, 100)
    assert answer["error"].get("error_subcode") == subcode


def test_an_image_of_eight_megabytes_is_not_too_large(bench):
    assert multipart(bench, IMAGE, ("image/png", b"x" * (8 * 1024 * 1024)))[0] == 200


def test_uploads_by_address_and_by_file(bench):
    body = {"message": {"attachment": {"type": "video", "payload": {"url": "https://x.example/v.mp4"}}}}
    status, answer = bench.call("POST", "me/message_attachments", body)
    assert (status, list(answer)) == (200, ["attachment_id"])
    assert multipart(bench, IMAGE, ("image/png", b"x"), path="/me/message_attachments")[0] == 200
    kept = bench.page.attachments
    assert [entry["type"] for entry in kept.values()] == ["video", "image"]
    media = {"media_type": "image", "attachment_id": list(kept)[1]}
    template = {"template_type": "media", "elements": [media]}
    assert bench.send({"attachment": {"type": "template", "payload": template}})[0] == 200


def test_the_file_behind_an_address_is_checked():
    found = {
        "https://x.example/ok": Fetched("image/png", 10),
        "https://x.example/text": Fetched("text/html", 10),
        "https://x.example/big": Fetched("image/png", 9 * 1024 * 1024),
    }
    bench = Bench(fetch=found.get)
    results = []
    for name in ("ok", "text", "big", "gone"):
        message = {"attachment": {"type": "image", "payload": {"url": f"https://x.example/{name}"}}}
        results.append(bench.send(message)[1].get("error", {}).get("error_subcode"))
    assert results == [None, 2018047, 2018109, 2018008]


# Recipients, windows, tags, control


def error_of(answer):
    status, content = answer
    assert status == 400, content
    return content["error"]["code"], content["error"].get("error_subcode")


def test_recipients_that_are_none(bench):
    message = {"text": "x"}
    for recipient, wanted in (
        ({"id": "404"}, (100, 2018001)),
        ({"id": "ana"}, (100, None)),
        ({"id": None}, (100, None)),
        ({}, (100, None)),
        ({"id": "1", "user_ref": "2"}, (100, None)),
        ("ana", (100, None)),
        ({"phone_number": "+4930123456"}, (200, 2018027)),
        ({"notification_messages_token": "1"}, (100, None)),
        ({"one_time_notif_token": "1"}, (100, None)),
        ({"comment_id": "1"}, (100, 33)),
        ({"user_ref": "1"}, (100, 2018001)),
    ):
        assert error_of(bench.send(message, recipient=recipient)) == wanted, recipient
    assert bench.send(message, recipient={"id": int(bench.ana.id)})[0] == 200


def test_a_person_of_another_page_is_unknown(bench):
    other = bench.emulator.add_person(bench.emulator.add_page("118840276315590", "other-token"))
    other.says("hi")
    assert error_of(bench.send({"text": "x"}, recipient={"id": other.id})) == (100, 2018001)


def test_the_window_is_open_for_24_hours(bench):
    bench.ana.says("hi")
    bench.clock.advance(hours=24)
    assert bench.send({"text": "x"})[0] == 200
    bench.clock.advance(seconds=1)
    assert error_of(bench.send({"text": "x"})) == (10, 2018278)
    assert error_of(bench.send({"text": "x"}, messaging_type="UPDATE")) == (10, 2018278)
    assert bench.send({"text": "x"}, messaging_type="MESSAGE_TAG", tag="HUMAN_AGENT")[0] == 200
    bench.clock.advance(days=6)
    assert error_of(bench.send({"text": "x"}, messaging_type="MESSAGE_TAG", tag="HUMAN_AGENT")) == (
        10,
        2018278,
    )


@pytest.mark.parametrize(
    "act",
    [
        lambda ana: ana.says("hi"),
        lambda ana: ana.postback("x", "X"),
        lambda ana: ana.opens_link("shop"),
        lambda ana: ana.sends_sticker(),
        lambda ana: ana.reacts(),
    ],
)
def test_an_authored_act_opens_the_window(bench, act):
    bench.send({"text": "x"})
    bench.clock.advance(hours=30)
    act(bench.ana)
    assert bench.send({"text": "x"})[0] == 200


def test_the_first_message_after_a_click_on_an_ad_opens_seven_days(bench):
    bench.send({"text": "x"})
    bench.clock.advance(hours=30)
    bench.ana.opens_link("autumn", source="ADS")
    assert error_of(bench.send({"text": "x"})) == (10, 2018278)
    bench.clock.advance(hours=2)
    assert bench.ana.says("hi").item["message"]["referral"]["ref"] == "autumn"
    assert "referral" not in bench.ana.says("more").item["message"]
    bench.clock.advance(days=7)
    assert bench.send({"text": "x"})[0] == 200
    bench.clock.advance(seconds=1)
    assert error_of(bench.send({"text": "x"})) == (10, 2018278)
    bench.ana.says("hi")
    bench.clock.advance(hours=25)
    assert error_of(bench.send({"text": "x"})) == (10, 2018278)


@pytest.mark.parametrize(
    "act",
    [
        lambda ana: ana.says("hi", referral={"source": "ADS"}),
        lambda ana: ana.postback("Go", "GO", referral={"source": "ADS"}),
    ],
)
def test_an_act_with_the_referral_of_an_ad_opens_seven_days(bench, act):
    act(bench.ana)
    bench.clock.advance(days=6)
    assert bench.send({"text": "x"})[0] == 200
    bench.emulator.limits.override("window.ad", 2)
    assert error_of(bench.send({"text": "x"})) == (10, 2018278)


def test_a_read_receipt_does_not_open_the_window(bench):
    bench.send({"text": "x"})
    bench.clock.advance(hours=30)
    bench.ana.reads()
    assert error_of(bench.send({"text": "x"})) == (10, 2018278)


def test_on_instagram_the_closed_window_has_a_code_of_its_own(bench):
    page = bench.emulator.add_page("17", "other-token", channel="instagram", account_id="178")
    person = bench.emulator.add_person(page)
    body = {"recipient": {"id": person.id}, "message": {"text": "x"}, "access_token": "other-token"}
    assert error_of(raw(bench, "POST", "/me/messages", body)) == (10, 2534022)


@pytest.mark.parametrize("tag", ["CONFIRMED_EVENT_UPDATE", "ACCOUNT_UPDATE", "POST_PURCHASE_UPDATE"])
def test_retired_tags_are_refused_inside_the_window_too(bench, tag):
    assert error_of(bench.send({"text": "x"}, messaging_type="MESSAGE_TAG", tag=tag)) == (100, 1893061)


@pytest.mark.parametrize(
    "options",
    [
        {"messaging_type": "MESSAGE_TAG"},
        {"messaging_type": "MESSAGE_TAG", "tag": "BIRTHDAY"},
        {"messaging_type": "UPDATE", "tag": "HUMAN_AGENT"},
        {"messaging_type": "MESSAGE_TAG", "tag": "CUSTOMER_FEEDBACK"},
        {"messaging_type": "SHOUT"},
        {"notification_type": "LOUD"},
        {"persona_id": "404"},
        {"reply_to": {"mid": "m_404"}},
        {"thread_control": {"control_type": "pass"}},
    ],
)
def test_options_that_are_none(bench, options):
    assert error_of(bench.send({"text": "x"}, **options)) == (100, None)


def test_utility_messages_need_an_approved_template(bench):
    bench.clock.advance(days=3)
    template = {"name": "shipped", "language": {"code": "en"}}
    assert error_of(bench.send({"template": template}, messaging_type="UTILITY")) == (100, None)
    bench.emulator.add_template(bench.page, "shipped")
    assert error_of(bench.send({"text": "x"}, messaging_type="UTILITY")) == (100, None)
    assert bench.send({"template": template}, messaging_type="UTILITY")[0] == 200
    bench.page.permissions.discard("page_utility_messaging")
    assert error_of(bench.send({"template": template}, messaging_type="UTILITY")) == (200, None)


def test_blocking_and_permissions(bench):
    bench.ana.blocked = True
    assert error_of(bench.send({"text": "x"})) == (551, 1545041)
    bench.ana.blocked = False
    bench.page.restricted = True
    assert error_of(bench.send({"text": "x"})) == (10, 1893063)
    bench.page.permissions.discard("pages_messaging")
    assert error_of(bench.send({"text": "x"})) == (200, None)


def test_a_comment_is_answered_once(bench):
    bench.clock.advance(days=2)
    comment = bench.emulator.add_comment(bench.ana)
    recipient = {"comment_id": comment.id}
    status, answer = bench.send({"text": "hello"}, recipient=recipient)
    assert (status, answer["recipient_id"]) == (200, bench.ana.id)
    assert error_of(bench.send({"text": "again"}, recipient=recipient)) == (10900, None)
    late = bench.emulator.add_comment(bench.ana, is_post=True)
    bench.clock.advance(days=8)
    assert error_of(bench.send({"text": "late"}, recipient={"post_id": late.id})) == (10903, None)


def test_tokens_and_references(bench):
    bench.clock.advance(days=2)
    bench.ana.ticks_checkbox("cart-1")
    status, answer = bench.send({"text": "x"}, recipient={"user_ref": "cart-1"})
    assert (status, list(answer)) == (200, ["message_id"])
    token = bench.ana.allows_one_time("news").item["optin"]["one_time_notif_token"]
    recipient = {"one_time_notif_token": token}
    assert bench.send({"text": "x"}, recipient=recipient)[0] == 200
    assert error_of(bench.send({"text": "x"}, recipient=recipient)) == (100, None)


def test_sender_actions(bench):
    assert bench.send(sender_action="typing_on") == (200, {"recipient_id": bench.ana.id})
    assert bench.ana.typing
    assert bench.send(sender_action="TYPING_OFF")[0] == 200
    assert not bench.ana.typing
    bench.send(sender_action="mark_seen")
    assert bench.ana.seen_by_page
    mid = bench.ana.says("hi").mid
    heart = {"message_id": mid, "reaction": "\u2764\ufe0f"}
    assert bench.send(sender_action="react", payload=heart)[0] == 200
    assert bench.ana.thread[0].reactions == {"page": "\u2764\ufe0f"}
    assert bench.send(sender_action="unreact", payload={"message_id": mid})[0] == 200
    assert bench.ana.thread[0].reactions == {}
    assert error_of(bench.send(sender_action="react")) == (100, None)
    assert error_of(bench.send(sender_action="dance")) == (100, None)
    assert error_of(bench.send({"text": "x"}, sender_action="typing_on")) == (100, 2018014)
    assert error_of(bench.send()) == (100, 2018034)


def test_control_of_the_thread(bench):
    ana = {"recipient": {"id": bench.ana.id}}
    inbox = "263902037430900"
    assert bench.call("GET", "me/thread_owner", recipient=bench.ana.id) == (200, {"data": []})
    assert error_of(bench.call("POST", "me/pass_thread_control", {**ana, "target_app_id": "1"})) == (
        100,
        2018164,
    )
    passed = {**ana, "target_app_id": inbox, "metadata": "please"}
    assert bench.call("POST", "me/pass_thread_control", passed) == (200, {"success": True})
    owner = bench.call("GET", "me/thread_owner", recipient=bench.ana.id)[1]["data"][0]["thread_owner"]
    assert owner["app_id"] == inbox
    assert error_of(bench.send({"text": "x"})) == (10, 2018300)
    assert bench.call("POST", "me/request_thread_control", ana)[0] == 200
    assert error_of(bench.call("POST", "me/take_thread_control", ana)) == (10, None)
    bench.page.default_app = bench.page.app_id
    assert bench.call("POST", "me/take_thread_control", ana)[0] == 200
    assert bench.send({"text": "x"})[0] == 200
    assert bench.call("POST", "me/extend_thread_control", {**ana, "duration": 604800})[0] == 200
    assert error_of(bench.call("POST", "me/extend_thread_control", {**ana, "duration": 604801})) == (
        100,
        None,
    )
    assert bench.call("POST", "me/release_thread_control", ana)[0] == 200
    assert bench.emulator.owner(bench.ana) == ""
    assert bench.send({"text": "x"}, thread_control={"control_type": "pass", "app_id": inbox})[0] == 200
    assert bench.emulator.owner(bench.ana) == inbox
    bench.clock.advance(hours=24)
    assert bench.emulator.owner(bench.ana) == ""


# The Messenger Profile


def test_the_menu_needs_get_started(bench):
    item = {"type": "postback", "title": "Shop", "payload": "SHOP"}
    menu = [{"locale": "default", "call_to_actions": [item]}]
    assert error_of(bench.call("POST", "me/messenger_profile", {"persistent_menu": menu})) == (100, 2018145)
    start = {"get_started": {"payload": "GO"}}
    assert bench.call("POST", "me/messenger_profile", start) == (200, {"result": "success"})
    assert bench.call("POST", "me/messenger_profile", {"persistent_menu": menu})[0] == 200
    assert error_of(bench.call("DELETE", "me/messenger_profile", {"fields": ["get_started"]})) == (
        100,
        2018145,
    )
    found = bench.call("GET", "me/messenger_profile", fields="get_started,persistent_menu,greeting")
    assert found == (200, {"data": [{**start, "persistent_menu": menu}]})
    both = {"fields": ["get_started", "persistent_menu"]}
    assert bench.call("DELETE", "me/messenger_profile", both) == (200, {"result": "success"})
    assert bench.page.platform() == {}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"home_url": {"url": "https://x.example"}},
        {"greeting": [{"locale": "de_DE", "text": "x"}]},
        {"greeting": [{"locale": "default", "text": "x"}, {"locale": "default", "text": "y"}]},
        {"greeting": "hello"},
        {"get_started": {"payload": "x", "colour": "red"}},
        {
            "get_started": {"payload": "x"},
            "persistent_menu": [{"locale": "default", "composer_input_disabled": True}],
        },
        {
            "get_started": {"payload": "x"},
            "persistent_menu": [
                {
                    "locale": "default",
                    "call_to_actions": [{"type": "nested", "title": "x", "call_to_actions": []}],
                }
            ],
        },
        {"ice_breakers": [{"question": "a", "payload": "b"}, {"locale": "default", "call_to_actions": []}]},
        {"commands": [{"locale": "default", "commands": [{"name": "/x", "description": "x"}]}]},
        {"whitelisted_domains": ["http://shop.example.com"]},
        {"whitelisted_domains": ["https://127.0.0.1"]},
        {"whitelisted_domains": ["https://localhost"]},
        {"account_linking_url": "http://shop.example.com"},
    ],
)
def test_profiles_that_graph_would_not_take(bench, body):
    assert error_of(bench.call("POST", "me/messenger_profile", body))[0] == 100
    assert bench.page.platform() == {}


def test_a_menu_for_one_person(bench):
    item = {"type": "postback", "title": "Mine", "payload": "MINE"}
    body = {"psid": bench.ana.id, "persistent_menu": [{"locale": "default", "call_to_actions": [item]}]}
    assert error_of(bench.call("POST", "me/custom_user_settings", body)) == (100, 2018145)
    bench.page.platform()["get_started"] = {"payload": "GO"}
    assert bench.call("POST", "me/custom_user_settings", body) == (200, {"result": "success"})
    assert bench.ana.taps_menu("Mine").item["postback"]["payload"] == "MINE"
    found = bench.call("GET", "me/custom_user_settings", psid=bench.ana.id)[1]
    assert found == {"data": [{"user_level_persistent_menu": body["persistent_menu"]}]}
    query = {"psid": bench.ana.id, "params": '["persistent_menu"]'}
    assert bench.call("DELETE", "me/custom_user_settings", **query) == (200, {"result": "success"})
    assert bench.ana.menu == []


# Other edges


def test_profiles_of_persons(bench):
    fields = "name,first_name,last_name,profile_pic,locale,timezone"
    assert bench.call("GET", bench.ana.id, fields=fields) == (
        200,
        {
            "name": "Ana Torres",
            "first_name": "Ana",
            "last_name": "Torres",
            "profile_pic": bench.ana.picture,
            "locale": "de_DE",
            "timezone": 1,
            "id": bench.ana.id,
        },
    )
    assert list(bench.call("GET", bench.ana.id)[1]) == [
        "name",
        "first_name",
        "last_name",
        "profile_pic",
        "id",
    ]
    assert error_of(bench.call("GET", bench.ana.id, fields="shoe_size")) == (100, None)
    bench.page.permissions.discard("pages_user_locale")
    assert bench.call("GET", bench.ana.id, fields="first_name,locale")[1] == {
        "first_name": "Ana",
        "id": bench.ana.id,
    }
    bench.ana.consented = False
    assert bench.call("GET", bench.ana.id) == (200, {})
    bench.ana.profile_error = 2018218
    assert error_of(bench.call("GET", bench.ana.id)) == (100, 2018218)
    bench.ana.profile_error = 33
    assert error_of(bench.call("GET", bench.ana.id)) == (100, 33)
    assert error_of(bench.call("GET", "404")) == (100, 33)


@pytest.mark.parametrize("login", ["facebook", "instagram"])
def test_a_person_of_instagram_has_the_fields_of_instagram(bench, login):
    page = bench.emulator.add_page("17", "other-token", channel="instagram", login=login, account_id="178")
    ana = bench.emulator.add_person(page, "Ana Torres", username="ana.t")
    fields = "id,name,username,profile_pic,follower_count,is_verified_user,is_user_follow_business"

    def get(fields=""):
        return bench.call("GET", ana.id, access_token="other-token", **({"fields": fields} if fields else {}))

    assert error_of(get(fields)) == (230, None)
    ana.says("hi")
    assert get(f"{fields},is_business_follow_user")[1] == {
        "id": ana.id,
        "name": "Ana Torres",
        "username": "ana.t",
        "profile_pic": ana.picture,
        "follower_count": 0,
        "is_verified_user": False,
        "is_user_follow_business": False,
        "is_business_follow_user": False,
    }
    assert list(get()[1]) == ["name", "profile_pic", "id"]
    for name in ("first_name", "last_name", "locale", "timezone", "gender"):
        answer = get(f"id,{name}")
        assert error_of(answer) == (100, None)
        assert "node type (IGBusinessScopedID)" in answer[1]["error"]["message"]
    ana.name = ""
    assert get("name,username")[1] == {"username": "ana.t", "id": ana.id}
    page.permissions.clear()
    assert error_of(get()) == (200, None)


def test_an_account_with_instagram_login_has_two_ids(bench):
    bench.emulator.add_page("17", "other-token", channel="instagram", login="instagram", account_id="178")
    node = bench.call("GET", "me", access_token="other-token", fields="id,user_id,username,name")[1]
    assert node == {"id": "17", "user_id": "178", "username": "page", "name": "Page"}
    assert error_of(
        bench.call("GET", "me", access_token="other-token", fields="instagram_business_account")
    ) == (
        100,
        None,
    )


def test_a_token_of_instagram_login_is_renewed_by_the_rules_of_meta(bench):
    clock = bench.emulator.clock
    page = bench.emulator.add_page("17", "first-token", channel="instagram", login="instagram")
    path, grant = "/refresh_access_token", {"grant_type": "ig_refresh_token"}

    def renew(token, method="GET", **query):
        status, _, answer = bench.emulator.handle(method, path, {**grant, "access_token": token, **query})
        return status, json.loads(answer)

    assert error_of(renew("first-token")) == (100, None)
    clock.advance(hours=24)
    assert error_of(renew("first-token", "POST")) == (100, None)
    assert error_of(renew("first-token", grant_type="fb_exchange_token")) == (100, None)
    assert error_of(renew(TOKEN)) == (100, None)
    status, _, answer = bench.emulator.handle("GET", path, grant, {"Authorization": "Bearer first-token"})
    assert "access_token is required" in json.loads(answer)["error"]["message"]
    status, renewed = renew("first-token")
    assert (status, renewed["token_type"], renewed["expires_in"]) == (200, "bearer", 60 * 24 * 3600)
    second = renewed["access_token"]
    assert second == page.token != "first-token"
    assert second not in repr(bench.emulator.calls)
    for token, days in (("first-token", 59), (second, 1)):
        assert bench.call("GET", "me", access_token=token)[0] == 200
        clock.advance(days=days)
        assert error_of(bench.call("GET", "me", access_token=token)) == (190, 463)
        assert error_of(renew(token)) == (190, 463)


def test_personas(bench):
    body = {"name": "Kim", "profile_picture_url": "https://x.example/kim.png"}
    persona = bench.call("POST", "me/personas", body)[1]["id"]
    assert bench.call("GET", persona) == (200, {**body, "id": persona})
    assert bench.call("GET", "me/personas")[1]["data"] == [{**body, "id": persona}]
    assert bench.send({"text": "x"}, persona_id=persona)[0] == 200
    assert bench.ana.received[0].persona["name"] == "Kim"
    assert bench.call("DELETE", persona) == (200, {"success": True})
    assert error_of(bench.send({"text": "x"}, persona_id=persona)) == (100, None)
    assert error_of(bench.call("GET", persona)) == (100, 33)


def test_lists_are_given_in_pages(bench):
    for number in range(30):
        bench.call(
            "POST", "me/personas", {"name": f"P{number}", "profile_picture_url": "https://x.example/p"}
        )
    first = bench.call("GET", "me/personas")[1]
    second = bench.call("GET", "me/personas", after=first["paging"]["cursors"]["after"])[1]
    third = bench.call("GET", "me/personas", after=second["paging"]["cursors"]["after"])
    names = [entry["name"] for entry in first["data"] + second["data"]]
    assert (names, len(first["data"])) == ([f"P{number}" for number in range(30)], 25)
    assert third == (200, {"data": []})
    assert len(bench.call("GET", "me/personas", limit=3)[1]["data"]) == 3
    assert error_of(bench.call("GET", "me/personas", after="404")) == (100, None)


def test_labels(bench):
    label = bench.call("POST", "me/custom_labels", {"page_label_name": "vip"})[1]["id"]
    assert bench.call("POST", f"{label}/label", {"user": bench.ana.id}) == (200, {"success": True})
    found = bench.call("GET", f"{bench.ana.id}/custom_labels", fields="page_label_name")[1]
    assert found["data"] == [{"page_label_name": "vip", "id": label}]
    assert bench.call("DELETE", f"{label}/label", user=bench.ana.id)[0] == 200
    assert bench.call("GET", f"{bench.ana.id}/custom_labels")[1] == {"data": []}
    assert bench.call("DELETE", label)[0] == 200
    assert bench.call("GET", "me/custom_labels")[1] == {"data": []}


def as_app(bench, path, **query):
    query["access_token"] = f"{bench.page.app_id}|{SECRET}"
    status, _, answer = bench.emulator.handle("GET", f"/v26.0/{path}", query)
    return status, json.loads(answer)


def test_the_app_token_reads_tokens_and_subscriptions(bench):
    told = as_app(bench, "debug_token", input_token=TOKEN)[1]["data"]
    assert (told["is_valid"], told["type"], told["profile_id"]) == (True, "PAGE", PAGE)
    assert told["app_id"] == bench.page.app_id
    bench.page.token_error = 463
    told = as_app(bench, "debug_token", input_token=TOKEN)[1]["data"]
    assert (told["is_valid"], told["error"]["subcode"]) == (False, 463)
    told = as_app(bench, "debug_token", input_token="somebody's")[1]["data"]
    assert (told["is_valid"], told["error"]["code"]) == (False, 190)
    bench.page.token_error = None
    assert error_of(bench.call("GET", "debug_token", input_token=TOKEN)) == (100, None)

    assert as_app(bench, f"{bench.page.app_id}/subscriptions") == (200, {"data": []})
    app = bench.emulator.apps[bench.page.app_id]
    app.callback_url = "https://shop.example.com/messenger"
    bench.page.app_fields = {"messages", "messaging_postbacks"}
    (page,) = as_app(bench, f"{bench.page.app_id}/subscriptions")[1]["data"]
    assert (page["object"], page["callback_url"], page["active"]) == ("page", app.callback_url, True)
    assert [field["name"] for field in page["fields"]] == ["messages", "messaging_postbacks"]


def test_the_catalogue_of_stickers(bench):
    packs = as_app(bench, "sticker_packs", locale="de_DE")[1]["data"]
    for pack in packs:
        assert pack.keys() >= {"id", "name", "preview_image_url", "sticker_count"}
        stickers = as_app(bench, f"sticker_packs/{pack['id']}/stickers")[1]["data"]
        assert len(stickers) == pack["sticker_count"]
        assert bench.send({"sticker_id": int(stickers[0]["id"])})[0] == 200
    assert [one["name"] for one in as_app(bench, "sticker_search", q="CA")[1]["data"]] == ["Cat"]
    assert as_app(bench, "sticker_search", q="zebra")[1] == {"data": []}
    assert error_of(as_app(bench, "sticker_search", q="c")) == (100, None)
    assert error_of(as_app(bench, "sticker_packs/1/stickers")) == (100, 33)
    assert error_of(bench.call("GET", "sticker_packs")) == (100, 33)


def test_subscriptions(bench):
    fields = {"subscribed_fields": "messages,messaging_postbacks"}
    assert bench.call("POST", f"{PAGE}/subscribed_apps", fields) == (200, {"success": True})
    (app,) = bench.call("GET", f"{PAGE}/subscribed_apps")[1]["data"]
    assert (app["id"], app["subscribed_fields"]) == ("883041772661055", ["messages", "messaging_postbacks"])
    assert error_of(bench.call("POST", f"{PAGE}/subscribed_apps", {"subscribed_fields": "mesages"})) == (
        100,
        None,
    )
    assert bench.call("DELETE", f"{PAGE}/subscribed_apps") == (200, {"success": True})
    assert bench.call("GET", f"{PAGE}/subscribed_apps") == (200, {"data": []})


def test_moderation_and_conversations(bench):
    body = {"user_ids": [{"id": bench.ana.id}], "actions": ["block_user"]}
    assert bench.call("POST", "me/moderate_conversations", body) == (200, {"success": "true"})
    assert bench.ana.blocked_by_page
    body["actions"] = ["block_user", "unblock_user"]
    assert error_of(bench.call("POST", "me/moderate_conversations", body)) == (100, None)
    mid = bench.ana.says("hi").mid
    (thread,) = bench.call("GET", "me/conversations")[1]["data"]
    assert bench.call("GET", f"{thread['id']}/messages")[1]["data"][0]["id"] == mid
    message = bench.call("GET", mid, fields="message,from")[1]
    assert (message["message"], message["from"]["id"]) == ("hi", bench.ana.id)
    for _ in range(20):
        bench.ana.says("more")
    assert error_of(bench.call("GET", mid)) == (9000001, None)


def test_a_batch(bench):
    message = urlencode({"recipient": json.dumps({"id": bench.ana.id}), "message": '{"text":"one"}'})
    parts = [
        {"method": "POST", "relative_url": "v26.0/me/messages", "body": message},
        {"method": "GET", "relative_url": f"{bench.ana.id}?fields=first_name"},
        {"method": "GET", "relative_url": "404"},
    ]
    status, answers = bench.call("POST", "", {"batch": parts, "include_headers": "false"})
    assert status == 200
    assert [answer["code"] for answer in answers] == [200, 200, 400]
    assert json.loads(answers[1]["body"]) == {"first_name": "Ana", "id": bench.ana.id}
    assert all("headers" not in answer for answer in answers)
    with bench.emulator.faults.active("batch_null", times=1):
        assert bench.call("POST", "", {"batch": parts})[1][0] is None
    assert bench.ana.texts == ["one", "one"]


def test_a_batch_with_dependent_operations(bench):
    send = urlencode({"recipient": json.dumps({"id": bench.ana.id}), "message": '{"text":"one"}'})
    first = {"name": "send", "method": "POST", "relative_url": "me/messages", "body": send}
    read = {"method": "GET", "relative_url": "{result=send:$.message_id}?fields=message"}
    _, answers = bench.call("POST", "", {"batch": [first, read]})
    assert answers[0] is None
    assert json.loads(answers[1]["body"])["message"] == "one"
    _, answers = bench.call("POST", "", {"batch": [{**first, "omit_response_on_success": False}, read]})
    assert answers[0]["code"] == 200
    failing = {**first, "relative_url": "404"}
    _, answers = bench.call(
        "POST", "", {"batch": [failing, {**read, "relative_url": "me", "depends_on": "send"}]}
    )
    assert (answers[0]["code"], answers[1]) == (400, None)
    many = [
        {"name": "list", "relative_url": "me/conversations"},
        {"relative_url": "?ids={result=list:$.data.*.id}"},
    ]
    assert list(json.loads(bench.call("POST", "", {"batch": many})[1][1]["body"])) == [f"t_{bench.ana.id}"]


def test_a_form_with_any_brackets_is_answered(bench):
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/x-www-form-urlencoded"}
    for text in (
        b"a[0]=1&a[0]=2&a[x]=3&a=4&a[]=5",
        b"a[" + b"9" * 60 + b"]=1",
        b"a" + b"[]" * 500 + b"=1",
        b"a[=1",
    ):
        assert bench.emulator.handle("POST", "/me/messages", "", headers, text)[0] == 400


def test_several_nodes_in_one_call(bench):
    status, answer = bench.call("GET", "", ids=f"{PAGE},{bench.ana.id}", fields="name")
    assert (status, answer[PAGE]["name"], answer[bench.ana.id]["name"]) == (200, "Page", "Ana Torres")
    assert error_of(bench.call("GET", "", ids=f"{PAGE},404")) == (100, 33)


def test_fields_with_limits_and_nested_names(bench):
    for text in ("one", "two"):
        bench.ana.says(text)
    (thread,) = bench.call("GET", "me/conversations", fields="snippet,messages.limit(1){message,from{id}}")[
        1
    ]["data"]
    (message,) = thread["messages"]["data"]
    assert (thread["snippet"], message["message"]) == ("two", "two")
    node = bench.call("GET", thread["id"], fields="message_count,participants,messages{created_time}")[1]
    assert (node["message_count"], len(node["messages"]["data"])) == (2, 2)
    assert {one["email"] for one in node["participants"]["data"]} == {
        f"{bench.ana.id}@facebook.com",
        f"{PAGE}@facebook.com",
    }
    assert set(bench.call("GET", thread["id"])[1]) == {"id", "updated_time"}
    assert bench.call("GET", "me", fields="messaging_feature_status{hop_v2}")[1] == {
        "messaging_feature_status": {"hop_v2": True},
        "id": PAGE,
    }
    assert error_of(bench.call("GET", thread["id"], fields="colour")) == (100, None)
    assert error_of(bench.call("GET", "t_404")) == (100, 33)
    for fields in ("messages{id", "id}", "a-b"):
        assert error_of(bench.call("GET", thread["id"], fields=fields)) == (2500, None)
    assert len(bench.call("GET", "me/conversations", platform="messenger")[1]["data"]) == 1
    assert bench.call("GET", "me/conversations", platform="instagram")[1] == {"data": []}
    assert error_of(bench.call("GET", "me/conversations", platform="fax")) == (100, None)


def test_a_label_names_its_type_in_a_refusal(bench):
    label = bench.call("POST", "me/custom_labels", {"page_label_name": "VIP"})[1]["id"]
    answer = bench.call("GET", label, fields="name")
    assert "(name) on node type (PageUserMessageThreadLabel)" in answer[1]["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        "recipient[id]={id}&message[text]=hi&message[quick_replies][0][title]=Yes&{more}",
        'recipient={{id:"{id}"}}&message={{text:"hi",quick_replies:[{{content_type:"text",title:"Yes",payload:"Y"}}]}}',
    ],
)
def test_forms_with_brackets_and_keys_without_quotes(bench, body):
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/x-www-form-urlencoded"}
    reply = "message[quick_replies][0]"
    more = f"{reply}[payload]=Y&{reply}[content_type]=text"
    text = body.format(id=bench.ana.id, more=more).encode()
    assert bench.emulator.handle("POST", "/me/messages", "", headers, text)[0] == 200
    assert bench.ana.texts == ["hi"]
    assert bench.ana.received[-1].quick_replies[0]["title"] == "Yes"


def test_the_app_subscribes_to_fields(bench):
    token, app = f"{bench.page.app_id}|{SECRET}", bench.page.app_id

    def ask(method, **values):
        query = {"access_token": token, **values}
        status, _, answer = bench.emulator.handle(method, f"/{app}/subscriptions", query)
        return status, json.loads(answer)

    new = {"object": "page", "callback_url": "https://bot.example.com/messenger", "verify_token": "made-up"}
    assert ask("POST", **new, fields="messages,messaging_postbacks") == (200, {"success": True})
    (found,) = ask("GET")[1]["data"]
    assert found["callback_url"] == new["callback_url"]
    assert [field["name"] for field in found["fields"]] == ["messages", "messaging_postbacks"]
    assert ask("DELETE", object="page", fields="messages") == (200, {"success": True})
    assert bench.page.app_fields == {"messaging_postbacks"}
    assert error_of(ask("POST", **new, fields="colours")) == (100, None)
    assert error_of(ask("POST", **{**new, "object": "cat"})) == (100, None)
    assert error_of(ask("POST", **{**new, "callback_url": "http://bot"})) == (100, None)
    assert ask("DELETE") == (200, {"success": True})
    assert ask("GET") == (200, {"data": []})


# Faults


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("token_dead", (190, 463)),
        ("blocked", (551, 1545041)),
        ("other_app", (10, 2018300)),
        ("window_closed", (10, 2018278)),
        ("page_restricted", (10, 1893063)),
        ("throttled", (613, None)),
        ("business_throttled", (80006, None)),
    ],
)
def test_a_fault_refuses_as_often_as_its_option_says(bench, name, wanted):
    bench.emulator.faults.on(name, times=2)
    assert error_of(bench.send({"text": "x"})) == wanted
    assert error_of(bench.send({"text": "x"})) == wanted
    assert bench.send({"text": "x"})[0] == 200
    assert bench.ana.texts == ["x"]


def test_throttling_comes_with_usage_headers(bench):
    with bench.emulator.faults.active("throttled"):
        bench.send({"text": "x"})
    headers = bench.emulator.calls[-1].headers
    assert json.loads(headers["X-App-Usage"])["call_count"] == 100
    usage = json.loads(headers["X-Business-Use-Case-Usage"])[PAGE][0]
    assert (usage["type"], usage["estimated_time_to_regain_access"]) == ("messenger", 5)
    with bench.emulator.faults.active("usage_headers", percent=95):
        assert bench.send({"text": "x"})[0] == 200
    assert json.loads(bench.emulator.calls[-1].headers["X-App-Usage"])["call_count"] == 95


def test_faults_of_the_server(bench):
    body = bench.json({"recipient": {"id": bench.ana.id}, "message": {"text": "x"}, "access_token": TOKEN})
    call = functools.partial(
        bench.emulator.handle, "POST", "/me/messages", "", {"content-type": "application/json"}, body
    )
    with bench.emulator.faults.active("server_error"):
        status, _, answer = call()
    error = json.loads(answer)["error"]
    assert (status, error["code"], error["is_transient"]) == (500, 2, True)
    with bench.emulator.faults.active("server_error_empty"):
        assert call() == (500, {}, b"")
    with bench.emulator.faults.active("refused", code=368, message="No", subcode=7):
        error = json.loads(call()[2])["error"]
    assert (error["code"], error["error_subcode"], error["message"]) == (368, 7, "(#368) No")
    assert bench.ana.texts == []


@pytest.mark.parametrize(
    ("name", "sent", "accepted"),
    [("unreachable", False, False), ("timeout_before", True, False), ("timeout_after", True, True)],
)
def test_faults_without_an_answer(bench, name, sent, accepted):
    with bench.emulator.faults.active(name), pytest.raises(NoAnswer) as caught:
        bench.send({"text": "x"})
    assert (caught.value.sent, caught.value.accepted) == (sent, accepted)
    assert bench.ana.texts == (["x"] if accepted else [])
    assert bench.emulator.calls[-1].fault == name


def test_fault_truncated(bench):
    with bench.emulator.faults.active("truncated"), pytest.raises(json.JSONDecodeError):
        bench.send({"text": "x"})
    assert bench.ana.texts == ["x"]


def test_a_fault_of_messages_leaves_other_calls_alone(bench):
    with bench.emulator.faults.active("server_error"):
        assert bench.call("GET", bench.ana.id)[0] == 200
    with bench.emulator.faults.active("server_error", where="personas"):
        assert bench.send({"text": "x"})[0] == 200


# The transport of the client


def test_as_a_transport(bench):
    transport = EmulatorTransport(bench.emulator)
    body = bench.json({"recipient": {"id": bench.ana.id}, "message": {"text": "x"}})
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    request = Request("POST", "https://graph.facebook.com/v26.0/me/messages?a=b", headers, body, 5.0)
    response = transport.send(request)
    assert response.status == 200
    assert json.loads(response.body)["recipient_id"] == bench.ana.id
    with bench.emulator.faults.active("timeout_after"), pytest.raises(UnknownFate):
        transport.send(request)
    with bench.emulator.faults.active("unreachable"), pytest.raises(NotSent):
        transport.send(request)
    assert len(bench.ana.received) == 2


# Arbitrary requests

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["text", "type", "payload", "attachment", "elements", "buttons", "title", "id", "url"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
TEMPLATES = st.sampled_from(
    ["generic", "button", "media", "receipt", "product", "coupon", "customer_feedback", "image_grid"]
)
PROPERTIES = st.sampled_from(
    [
        "get_started",
        "greeting",
        "persistent_menu",
        "ice_breakers",
        "commands",
        "whitelisted_domains",
        "fields",
    ]
)
KINDS = st.sampled_from(["application/json", "multipart/form-data; boundary=x", ""])


@given(ANYTHING, ANYTHING, TEMPLATES)
def test_no_message_breaks_it(message, payload, name):
    bench = Bench()
    assert bench.send(message)[0] in {200, 400}
    payload = payload if isinstance(payload, dict) else {"elements": payload, "buttons": payload}
    whole = {"attachment": {"type": "template", "payload": {"template_type": name, **payload}}}
    assert bench.send(whole)[0] in {200, 400}
    assert bench.send({"text": "x"}, recipient=message, tag=payload, thread_control=message)[0] in {200, 400}


@given(st.dictionaries(PROPERTIES, ANYTHING), st.sampled_from(["GET", "POST", "DELETE"]))
def test_no_profile_breaks_it(body, method):
    assert Bench().call(method, "me/messenger_profile", body)[0] in {200, 400}


@given(st.text(), st.text(), st.binary(), KINDS)
def test_no_bytes_break_it(path, query, body, kind):
    headers = {"content-type": kind, "authorization": f"Bearer {TOKEN}"}
    assert Bench().emulator.handle("POST", path, query, headers, body)[0] in {200, 400}
