from __future__ import annotations

import copy
import datetime
import json
import logging
import pickle
import pprint
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djmessenger import graph
from djmessenger.exceptions import DJMInvalidConfigException, DJMInvalidValueException, LimitExceeded
from djmessenger.graph import (
    Call,
    Client,
    MessageRejected,
    NotSent,
    ProfileRefused,
    Response,
    Secret,
    Throttled,
    TokenError,
    UnknownFate,
    Upload,
)
from djmessenger.graph.results import MessageInfo, Profile, time_of
from djmessenger.signatures import appsecret_proof
from tests.graph_tools import APP_SECRET, TOKEN, Recorder, frames_of, refusal

PSID = "7012345678901234"
PROOF = appsecret_proof(TOKEN, APP_SECRET)


def client_of(*answers: Any, **options: Any) -> tuple[Client, Recorder]:
    recorder = Recorder(*answers)
    options.setdefault("page_id", "100200")
    return Client(TOKEN, transport=recorder, **options), recorder


def query_of(url: str) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}


def test_a_message_goes_out_and_its_ids_come_back() -> None:
    client, recorder = client_of({"recipient_id": PSID, "message_id": "m_1", "attachment_id": "55"})
    sent = client.send({"id": PSID}, {"message": {"text": "Hé"}, "messaging_type": "RESPONSE"})
    assert (sent.recipient_id, sent.message_id, sent.attachment_id) == (PSID, "m_1", "55")
    assert (sent.status_code, sent.data["message_id"]) == (200, "m_1")
    assert recorder.last.method == "POST"
    assert recorder.last.url == "https://graph.facebook.com/v26.0/100200/messages"
    assert recorder.last.headers["Authorization"] == f"Bearer {TOKEN}"
    assert recorder.last.timeout == 10.0
    assert recorder.body == {
        "recipient": {"id": PSID},
        "message": {"text": "Hé"},
        "messaging_type": "RESPONSE",
    }


def test_a_sender_action_needs_no_message_id() -> None:
    client, _ = client_of({"recipient_id": PSID})
    assert client.send({"id": PSID}, {"sender_action": "typing_on"}).message_id == ""


@pytest.mark.parametrize(
    "answered",
    [
        {"recipient_id": PSID},
        {"message_id": ""},
        {"message_id": None},
        [],
        "ok",
        Response(200, {}, b""),
        Response(200, {}, b"<html>"),
        Response(200, {}, b"[" * 100_000),
        Response(200, {}, b'{"message_id": "m_1"'),
        Response(302, {"Location": "https://elsewhere.test"}, b"{}"),
        Response(500, {}, b'{"message_id": "m_1"}'),
        Response(503, {}, b"busy"),
        Response(400, {}, b"no JSON"),
        refusal(1),
        refusal(2, status=500),
        refusal(1200),
        refusal(987654),
    ],
)
def test_an_answer_that_proves_nothing_is_of_unknown_fate(answered: Any) -> None:
    client, _ = client_of(answered)
    with pytest.raises(UnknownFate):
        client.send({"id": PSID}, {"message": {"text": "x"}})


def test_a_refusal_is_an_error_even_under_status_200() -> None:
    client, _ = client_of(refusal(190, 463, status=200))
    with pytest.raises(TokenError):
        client.send({"id": PSID}, {"message": {"text": "x"}})


def test_the_proof_goes_with_every_call_once_the_secret_is_known() -> None:
    client, recorder = client_of(app_secret=APP_SECRET)
    client.execute(Call("GET", "me", params={"fields": "id"}))
    assert query_of(recorder.last.url) == {"fields": "id", "appsecret_proof": PROOF}
    client.execute(Call("GET", "me"))
    assert query_of(recorder.last.url) == {"appsecret_proof": PROOF}
    client.execute(Call("POST", "me/x", {"a": 1}))
    assert recorder.body == {"a": 1, "appsecret_proof": PROOF}
    assert "?" not in recorder.last.url
    client.execute(Call("POST", "me/x", {}, params={"b": "c"}))
    assert recorder.body == {"appsecret_proof": PROOF}
    assert query_of(recorder.last.url) == {"b": "c"}
    client.execute(Call("DELETE", "me/x"))
    assert query_of(recorder.last.url) == {"appsecret_proof": PROOF}
    client.execute(Call("POST", "me/x", {"a": {}}, files={"filedata": Upload("a.png", b"1")}))
    assert PROOF.encode() in (recorder.last.body or b"")
    assert all(TOKEN not in request.url for request in recorder.requests)


def test_without_a_secret_there_is_no_proof() -> None:
    client, recorder = client_of()
    client.execute(Call("GET", "me"))
    client.execute(Call("POST", "me/x", {}))
    assert not any(
        "appsecret_proof" in request.url or b"appsecret" in (request.body or b"")
        for request in recorder.requests
    )


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(st.characters())),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_any_body_arrives_with_its_proof(body: dict[str, Any]) -> None:
    client, recorder = client_of(app_secret=APP_SECRET)
    client.execute(Call("POST", "me/x", body))
    expected = json.loads(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))
    assert recorder.body == {**expected, "appsecret_proof": PROOF}


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_any_query_can_be_written(params: dict[str, Any]) -> None:
    client, recorder = client_of(app_secret=APP_SECRET)
    client.execute(Call("GET", "me", params=params))
    assert recorder.last.url.isascii()


def test_a_local_file_makes_the_body_multipart(tmp_path: Any) -> None:
    path = tmp_path / "cat é.png"
    path.write_bytes(b"\x89PNG\x00\xff")
    client, recorder = client_of({"recipient_id": PSID, "message_id": "m_1"})
    body = {"message": {"attachment": {"type": "image", "payload": {}}}}
    client.send({"id": PSID}, body, file=Upload.from_path(path))
    content = recorder.last.body or b""
    assert recorder.last.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert b'name="recipient"\r\n\r\n{"id": "7012345678901234"}\r\n' in content
    assert b'name="message"\r\n\r\n{"attachment": {"type": "image", "payload": {}}}\r\n' in content
    assert b'name="filedata"; filename="cat ' in content
    assert b"Content-Type: image/png\r\n\r\n\x89PNG\x00\xff\r\n" in content


def test_a_file_that_is_not_there_is_an_error_before_the_call(tmp_path: Any) -> None:
    client, recorder = client_of()
    with pytest.raises(FileNotFoundError):
        client.upload("image", Upload.from_path(tmp_path / "none.png"))
    assert recorder.requests == []


def test_a_file_of_unknown_kind() -> None:
    assert Upload("x", b"").media_type == "application/octet-stream"
    assert Upload("x.png", b"", "audio/mpeg").media_type == "audio/mpeg"


@pytest.mark.parametrize(
    "path",
    [
        "https://elsewhere.test/x",
        "//elsewhere.test/x",
        "me/../../x",
        "me?access_token=1",
        "me#x",
        "a b",
        "me\r\n",
    ],
)
def test_a_call_cannot_leave_its_host_or_version(path: str) -> None:
    with pytest.raises(DJMInvalidValueException):
        Call("GET", path)


def test_a_long_hostile_path_is_refused_at_once() -> None:
    with pytest.raises(DJMInvalidValueException):
        Call("GET", "a" * 50_000 + "?")


def test_a_call_of_another_method_is_refused() -> None:
    with pytest.raises(DJMInvalidValueException):
        Call("PATCH", "me")


def test_an_id_stays_one_segment() -> None:
    client, recorder = client_of({"id": "1", "name": "A"})
    client.profile("me/accounts?x=1#y")
    assert urlsplit(recorder.last.url).path == "/v26.0/me%2Faccounts%3Fx%3D1%23y"
    for missing in ("", ".", "..", "../me"):
        with pytest.raises(DJMInvalidValueException):
            client.profile(missing)


OK, RESULT = {"success": True}, {"result": "success"}

CALLS: dict[str, tuple[Callable[[Client], Any], Any, str, str, Any]] = {
    # name: what is called, Graph's answer, method, path, query or body
    "upload": (
        lambda c: c.upload("image", "https://x.test/a.png", platform="MESSENGER"),
        {"attachment_id": "5"},
        "POST",
        "100200/message_attachments",
        {
            "message": {
                "attachment": {
                    "type": "image",
                    "payload": {"is_reusable": True, "url": "https://x.test/a.png"},
                }
            },
            "platform": "MESSENGER",
        },
    ),
    "private_reply": (
        lambda c: c.private_reply({"message": {"text": "Hi"}}, comment_id="9_8"),
        {"message_id": "m_1"},
        "POST",
        "100200/messages",
        {"recipient": {"comment_id": "9_8"}, "message": {"text": "Hi"}},
    ),
    "get_messenger_profile": (
        lambda c: c.get_messenger_profile(["greeting", "commands"], platform="INSTAGRAM"),
        {"data": []},
        "GET",
        "100200/messenger_profile",
        {"fields": "greeting,commands", "platform": "INSTAGRAM"},
    ),
    "set_messenger_profile": (
        lambda c: c.set_messenger_profile({"get_started": {"payload": "GO"}}),
        RESULT,
        "POST",
        "100200/messenger_profile",
        {"get_started": {"payload": "GO"}},
    ),
    "delete_messenger_profile": (
        lambda c: c.delete_messenger_profile(["greeting"]),
        RESULT,
        "DELETE",
        "100200/messenger_profile",
        {"fields": ["greeting"]},
    ),
    "get_user_settings": (
        lambda c: c.get_user_settings(PSID),
        {"data": []},
        "GET",
        "100200/custom_user_settings",
        {"psid": PSID},
    ),
    "set_user_settings": (
        lambda c: c.set_user_settings(PSID, [{"locale": "default"}]),
        RESULT,
        "POST",
        "100200/custom_user_settings",
        {"psid": PSID, "persistent_menu": [{"locale": "default"}]},
    ),
    "delete_user_settings": (
        lambda c: c.delete_user_settings(PSID),
        RESULT,
        "DELETE",
        "100200/custom_user_settings",
        {"psid": PSID, "params": '["persistent_menu"]'},
    ),
    "create_persona": (
        lambda c: c.create_persona("Ana", "https://x.test/a.png"),
        {"id": "3"},
        "POST",
        "100200/personas",
        {"name": "Ana", "profile_picture_url": "https://x.test/a.png"},
    ),
    "personas": (lambda c: c.personas(after="QW"), {"data": []}, "GET", "100200/personas", {"after": "QW"}),
    "persona": (
        lambda c: c.persona("3"),
        {"id": "3"},
        "GET",
        "3",
        {"fields": "id,name,profile_picture_url"},
    ),
    "delete_persona": (lambda c: c.delete_persona("3"), OK, "DELETE", "3", {}),
    "pass_thread": (
        lambda c: c.pass_thread(PSID, "263902037430900", "note"),
        OK,
        "POST",
        "100200/pass_thread_control",
        {"recipient": {"id": PSID}, "target_app_id": "263902037430900", "metadata": "note"},
    ),
    "take_thread": (
        lambda c: c.take_thread(PSID),
        OK,
        "POST",
        "100200/take_thread_control",
        {"recipient": {"id": PSID}},
    ),
    "request_thread": (
        lambda c: c.request_thread(PSID, "why"),
        OK,
        "POST",
        "100200/request_thread_control",
        {"recipient": {"id": PSID}, "metadata": "why"},
    ),
    "release_thread": (
        lambda c: c.release_thread(PSID),
        OK,
        "POST",
        "100200/release_thread_control",
        {"recipient": {"id": PSID}},
    ),
    "extend_thread": (
        lambda c: c.extend_thread(PSID, 3600),
        OK,
        "POST",
        "100200/extend_thread_control",
        {"recipient": {"id": PSID}, "duration": 3600},
    ),
    "thread_owner": (
        lambda c: c.thread_owner(PSID),
        {"data": []},
        "GET",
        "100200/thread_owner",
        {"recipient": PSID},
    ),
    "create_label": (
        lambda c: c.create_label("vip"),
        {"id": "4"},
        "POST",
        "100200/custom_labels",
        {"page_label_name": "vip"},
    ),
    "labels": (
        lambda c: c.labels(),
        {"data": []},
        "GET",
        "100200/custom_labels",
        {"fields": "id,page_label_name"},
    ),
    "labels of a person": (
        lambda c: c.labels(psid=PSID),
        {"data": []},
        "GET",
        f"{PSID}/custom_labels",
        {"fields": "id,page_label_name"},
    ),
    "put_label": (lambda c: c.put_label("4", PSID), OK, "POST", "4/label", {"user": PSID}),
    "take_label": (lambda c: c.take_label("4", PSID), OK, "DELETE", "4/label", {"user": PSID}),
    "delete_label": (lambda c: c.delete_label("4"), OK, "DELETE", "4", {}),
    "subscriptions": (lambda c: c.subscriptions(), {"data": []}, "GET", "100200/subscribed_apps", {}),
    "subscribe": (
        lambda c: c.subscribe(["messages", "message_echoes"]),
        OK,
        "POST",
        "100200/subscribed_apps",
        {"subscribed_fields": "messages,message_echoes"},
    ),
    "unsubscribe": (lambda c: c.unsubscribe(), OK, "DELETE", "100200/subscribed_apps", {}),
    "insights": (
        lambda c: c.insights(["a", "b"], period="day"),
        {"data": []},
        "GET",
        "100200/insights",
        {"metric": "a,b", "period": "day"},
    ),
    "moderate": (
        lambda c: c.moderate([PSID], ["block_user"]),
        {"success": "true"},
        "POST",
        "100200/moderate_conversations",
        {"user_ids": [{"id": PSID}], "actions": ["block_user"]},
    ),
    "linked_person": (
        lambda c: c.linked_person("ALT"),
        {"id": "1", "recipient": PSID},
        "GET",
        "me",
        {"fields": "recipient", "account_linking_token": "ALT"},
    ),
    "unlink_account": (
        lambda c: c.unlink_account(PSID),
        {"result": "unlink account success"},
        "POST",
        "me/unlink_accounts",
        {"psid": PSID},
    ),
    "create_message_template": (
        lambda c: c.create_message_template({"name": "order", "language": "en", "category": "UTILITY"}),
        {"id": "6", "status": "APPROVED"},
        "POST",
        "100200/message_templates",
        {"name": "order", "language": "en", "category": "UTILITY"},
    ),
    "message_templates": (
        lambda c: c.message_templates(status="APPROVED"),
        {"data": []},
        "GET",
        "100200/message_templates",
        {"status": "APPROVED"},
    ),
    "delete_message_template": (
        lambda c: c.delete_message_template("order"),
        OK,
        "DELETE",
        "100200/message_templates",
        {"name": "order"},
    ),
    "page_fields": (
        lambda c: c.page_fields(["messaging_feature_status"]),
        {"id": "1"},
        "GET",
        "100200",
        {"fields": "messaging_feature_status"},
    ),
    "message": (
        lambda c: c.message("m_a-b=="),
        {"id": "m_1"},
        "GET",
        "m_a-b%3D%3D",
        {"fields": "id,created_time,from,to,message,attachments"},
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_each_call_is_written_as_documented(name: str) -> None:
    call, answered, method, path, expected = CALLS[name]
    client, recorder = client_of(answered)
    call(client)
    parts = urlsplit(recorder.last.url)
    assert (recorder.last.method, parts.path) == (method, f"/v26.0/{path}")
    assert (recorder.body or query_of(recorder.last.url)) == expected


@pytest.mark.parametrize("name", CALLS)
def test_each_call_raises_what_graph_refuses(name: str) -> None:
    client, _ = client_of(refusal(190))
    with pytest.raises(TokenError):
        CALLS[name][0](client)


@pytest.mark.parametrize(
    "name",
    ["upload", "private_reply", "create_persona", "create_label", "linked_person", "create_message_template"],
)
def test_a_call_that_makes_something_needs_its_id(name: str) -> None:
    client, _ = client_of({}, log_size=1)
    with pytest.raises(UnknownFate):
        CALLS[name][0](client)
    assert client.log[0].outcome == "UnknownFate"


@pytest.mark.parametrize(
    ("answered", "success"),
    [
        ({"success": True}, True),
        ({"success": "true"}, True),
        (True, True),
        ({"result": "success"}, True),
        ({"success": False}, False),
        ({}, False),
        ([], False),
    ],
)
def test_the_spellings_of_success(answered: Any, success: bool) -> None:
    client, _ = client_of(answered)
    assert bool(client.unsubscribe()) is success


def test_a_private_reply_answers_one_thing() -> None:
    client, _ = client_of()
    with pytest.raises(DJMInvalidValueException):
        client.private_reply({"message": {}})
    with pytest.raises(DJMInvalidValueException):
        client.private_reply({"message": {}}, comment_id="1", post_id="2")


def test_a_profile_with_known_fields_and_the_rest() -> None:
    client, recorder = client_of(
        {
            "id": PSID,
            "first_name": "Ana",
            "timezone": 5.5,
            "locale": "de_DE",
            "gender": None,
            "profile_pic": 7,
            "new_field": [1],
        }
    )
    profile = client.profile(PSID)
    assert (profile.first_name, profile.timezone, profile.locale, profile.gender) == ("Ana", 5.5, "de_DE", "")
    assert profile.profile_pic == ""
    assert profile.extra == {"new_field": [1]}
    assert query_of(recorder.last.url)["fields"].startswith("id,name,first_name")
    assert "Ana" not in repr(profile)


@pytest.mark.parametrize(
    ("sent", "hours"),
    [(-3.5, -3.5), ("5.75", 5.75), (0, 0.0), (99, None), (None, None), ("x", None), (True, None), ([], None)],
)
def test_timezones_of_profiles(sent: Any, hours: float | None) -> None:
    assert Profile.read({"id": "1", "timezone": sent}).timezone == hours


@given(st.dictionaries(st.text(), json_values, max_size=4), json_values)
def test_results_read_whatever_comes(data: dict[str, Any], value: Any) -> None:
    odd = {**data, "id": value, "timezone": value, "from": value, "to": value, "created_time": value}
    Profile.read(odd)
    MessageInfo.read(odd)
    Profile.read(value)
    MessageInfo.read(value)
    graph.Done.read(value)
    graph.MessengerProfile.read(data)


@pytest.mark.parametrize(
    "answered",
    [
        {},
        {"id": PSID},
        [],
        refusal(100, 33, type="GraphMethodException"),
        refusal(100, 2018218),
        refusal(2018218),
        refusal(10),
        refusal(10, 2018336),
        refusal(200),
        refusal(100, 2018001),
    ],
)
def test_a_profile_that_graph_does_not_tell_is_refused(answered: Any) -> None:
    client, recorder = client_of(answered)
    with pytest.raises(ProfileRefused) as raised:
        client.profile(PSID)
    assert raised.value.fate == "refused"
    assert len(recorder.requests) == 1


@pytest.mark.parametrize("refused", [refusal(100, 2018247), refusal(100), refusal(2018247)])
def test_a_field_that_may_not_be_seen_does_not_cost_the_name(refused: Response) -> None:
    client, recorder = client_of(refused, {"id": PSID, "name": "Ana"})
    assert client.profile(PSID).name == "Ana"
    assert query_of(recorder.last.url)["fields"] == "id,name,first_name,last_name,profile_pic"
    client, recorder = client_of(refused, refused)
    with pytest.raises(ProfileRefused):
        client.profile(PSID)
    assert len(recorder.requests) == 2


@pytest.mark.parametrize(
    ("answered", "expected"), [(refusal(190), TokenError), (refusal(4), Throttled), (refusal(2), UnknownFate)]
)
def test_a_failure_of_another_kind_is_no_refusal_of_the_profile(
    answered: Response, expected: type[Exception]
) -> None:
    client, _ = client_of(answered)
    with pytest.raises(expected):
        client.profile(PSID)


def test_the_messenger_profile_as_a_value() -> None:
    client, _ = client_of(
        {"data": [{"greeting": [{"locale": "default", "text": "Hi"}]}, {"get_started": {}, "new": 1}]}
    )
    profile = client.get_messenger_profile()
    assert profile.get_started == {}
    assert profile.persistent_menu is None
    assert profile.json() == {
        "greeting": [{"locale": "default", "text": "Hi"}],
        "get_started": {},
        "new": 1,
    }


def test_lists_come_page_by_page() -> None:
    client, recorder = client_of(
        {
            "data": [{"id": "1", "name": "Ana", "profile_picture_url": "u", "x": 1}, "junk"],
            "paging": {"cursors": {"after": "QW"}, "next": "https://graph.facebook.com/…"},
        },
        {"data": [{"id": "2"}], "paging": {"cursors": {"after": "ER"}}},
    )
    first = client.personas()
    assert ([persona.name for persona in first], first.after, len(first)) == (["Ana"], "QW", 1)
    second = client.personas(after=first.after)
    assert (second.items[0].id, second.after) == ("2", "")
    assert query_of(recorder.last.url) == {"after": "QW"}


def test_the_newest_messages_with_a_person() -> None:
    message = {
        "id": "m_1",
        "created_time": "2026-06-01T12:00:00+0000",
        "from": {"id": "100200"},
        "to": {"data": [{"id": PSID}]},
        "message": "Hi",
        "attachments": {"data": [{"id": "9"}]},
    }
    client, recorder = client_of({"data": [{"id": "t_1", "messages": {"data": [message]}}]}, {"data": []})
    (found,) = client.recent_messages(PSID)
    assert (found.id, found.from_id, found.to_ids, found.message) == ("m_1", "100200", (PSID,), "Hi")
    assert found.created_time == datetime.datetime(2026, 6, 1, 12, tzinfo=datetime.UTC)
    assert found.attachments == ({"id": "9"},)
    assert "Hi" not in repr(found)
    query = query_of(recorder.last.url)
    assert query["user_id"] == PSID
    assert query["fields"].startswith("messages.limit(20){id,")
    assert client.recent_messages(PSID) == ()


def test_conversations_and_other_values() -> None:
    client, _ = client_of(
        {"data": [{"id": "t_1", "updated_time": "2026-06-01T12:00:00+0000", "snippet": "x"}]},
        {"data": [{"thread_owner": {"app_id": 263902037430900, "expiration": 1780315200}}]},
        {"data": [{"id": "1", "name": "App", "subscribed_fields": ["messages"]}]},
        {"data": [{"name": "m", "period": "day", "values": [{"value": 1}]}]},
        {"data": [{"user_level_persistent_menu": [1]}]},
    )
    (conversation,) = client.conversations(user_id=PSID)
    assert conversation.updated_time is not None
    assert conversation.extra == {"snippet": "x"}
    owner = client.thread_owner(PSID)
    assert owner.app_id == "263902037430900"
    assert owner.expiration == time_of(1780315200)
    assert client.subscriptions()[0].subscribed_fields == ["messages"]
    assert client.insights(["m"])[0].values == [{"value": 1}]
    assert client.get_user_settings(PSID).user_level_persistent_menu == [1]


def slot(code: int, body: Any) -> dict[str, Any]:
    return {"code": code, "body": json.dumps(body)}


def test_a_batch_gives_each_call_its_answer_or_error() -> None:
    client, recorder = client_of(
        [
            slot(200, {"message_id": "m_1"}),
            slot(400, {"error": {"code": 551, "message": "No"}}),
            None,
            {"code": 200, "body": "<html>"},
        ],
        app_secret=APP_SECRET,
    )
    call = Call("POST", "/me/messages", {"recipient": {"id": "1"}, "message": {"text": "a&b=é"}})
    answers = client.batch([call, call, call, call, Call("GET", "1", params={"fields": "id,name"})])
    assert answers[0].get() == {"message_id": "m_1"}
    assert isinstance(answers[1].error, graph.PersonUnreachable)
    with pytest.raises(graph.PersonUnreachable):
        answers[1].get()
    assert [type(answer.error) for answer in answers[2:]] == [UnknownFate] * 3
    assert urlsplit(recorder.last.url).path == "/v26.0"
    body = recorder.body
    assert body["appsecret_proof"] == PROOF
    assert body["include_headers"] is False
    assert body["batch"][0]["relative_url"] == "me/messages"
    assert parse_qs(body["batch"][0]["body"]) == {
        "recipient": ['{"id": "1"}'],
        "message": ['{"text": "a&b=é"}'],
    }
    assert body["batch"][4] == {"method": "GET", "relative_url": "1?fields=id%2Cname"}


def test_a_batch_holds_fifty_calls_and_no_files() -> None:
    client, recorder = client_of([slot(200, {})] * 50)
    assert len(client.batch([Call("GET", "me")] * 50)) == 50
    with pytest.raises(LimitExceeded):
        client.batch([Call("GET", "me")] * 51)
    with pytest.raises(DJMInvalidValueException):
        client.batch([Call("POST", "me/x", files={"filedata": Upload("a", b"")})])
    assert client.batch([]) == ()
    assert len(recorder.requests) == 1


def test_usage_is_kept_by_counter() -> None:
    business = {"100200": [{"type": "messenger", "call_count": 80, "estimated_time_to_regain_access": 3}]}
    client, _ = client_of(
        Response(200, {"X-App-Usage": '{"call_count": 10, "total_time": 25, "total_cputime": 5}'}, b"{}"),
        Response(200, {"x-business-use-case-usage": json.dumps(business)}, b"{}"),
        Response(400, {"X-Page-Usage": '{"call_count": 99}', "X-App-Usage": "junk"}, b"{}"),
        Response(200, {}, b"{}"),
    )
    assert client.usage.peak == 0
    client.execute(Call("GET", "me"))
    assert client.usage.app is not None
    assert client.usage.peak == 25
    client.execute(Call("GET", "me"))
    assert client.usage.peak == 80
    assert client.usage.regain_after == 180
    with pytest.raises(UnknownFate):
        client.execute(Call("GET", "me"))
    client.execute(Call("GET", "me"))
    assert client.usage.page is not None
    assert client.usage.peak == 99
    assert client.usage.app.total_time == 25


@given(st.text(), st.text())
def test_usage_headers_of_any_kind_are_survived(app: str, business: str) -> None:
    client, _ = client_of(Response(200, {"X-App-Usage": app, "X-Business-Use-Case-Usage": business}, b"{}"))
    client.execute(Call("GET", "me"))


def test_the_request_log_is_bounded_and_holds_neither_ids_nor_texts() -> None:
    client, _ = client_of(
        {"recipient_id": PSID, "message_id": "m_1"},
        refusal(551, fbtrace_id="Trace9"),
        Response(200, {"x-fb-trace-id": "Trace8"}, b'{"id": "1", "name": "Ana"}'),
        NotSent(meaning="the connection was refused"),
        log_size=3,
    )
    client.send({"id": PSID}, {"message": {"text": "hello there"}})
    with pytest.raises(graph.PersonUnreachable):
        client.send({"id": PSID}, {"message": {"text": "hello there"}})
    client.profile(PSID)
    with pytest.raises(NotSent):
        client.profile(PSID)
    lines = list(client.log)
    assert [line.outcome for line in lines] == ["PersonUnreachable", "ok", "NotSent"]
    assert (lines[0].method, lines[0].status, lines[0].code) == ("POST", 400, 551)
    assert [line.fbtrace_id for line in lines] == ["Trace9", "Trace8", ""]
    assert lines[0].path.endswith("/messages")
    assert lines[1].path == lines[2].path
    for told in (PSID, "hello", "Ana", TOKEN):
        assert told not in repr(lines)


def test_without_a_size_nothing_is_logged_in_memory() -> None:
    client, _ = client_of()
    client.execute(Call("GET", "me"))
    assert list(client.log) == []


def test_one_line_of_log_for_each_call(caplog: pytest.LogCaptureFixture) -> None:
    client, _ = client_of(
        {"recipient_id": PSID, "message_id": "m_1"},
        refusal(10, 2018278, message=f"outside, {TOKEN}"),
        app_secret=APP_SECRET,
    )
    with caplog.at_level(logging.INFO, "djmessenger.graph"):
        client.send({"id": PSID}, {"message": {"text": "hello there"}})
        with pytest.raises(graph.WindowClosed):
            client.execute(Call("GET", PSID, params={"x": "hello there"}))
    good, bad = caplog.records
    assert (good.levelname, bad.levelname) == ("INFO", "WARNING")
    assert vars(good).items() >= {"action": "graph_call", "method": "POST", "status": 200}.items()
    assert vars(bad).items() >= {"outcome": "WindowClosed", "code": 10, "subcode": 2018278}.items()
    everything = "\n".join(pprint.pformat(vars(record)) for record in caplog.records)
    for told in (PSID, "hello", TOKEN, APP_SECRET, PROOF, "100200"):
        assert told not in everything


def test_ids_hash_alike_under_one_token_and_otherwise_not() -> None:
    first, second = client_of()[0], client_of()[0]
    other = Client("another", transport=Recorder())
    assert first._hidden(PSID) == second._hidden(PSID) != other._hidden(PSID)
    assert first._hidden("me/messages") == "me/messages"


def test_meta_quoting_the_token_is_not_repeated() -> None:
    client, _ = client_of(refusal(190, message=f"Malformed access token {TOKEN}"))
    with pytest.raises(TokenError) as raised:
        client.execute(Call("GET", "me"))
    assert TOKEN not in frames_of(raised.value, but=__file__)
    assert "Malformed" in str(raised.value)


@pytest.mark.parametrize(
    "answered",
    [refusal(190), refusal(100), Response(500, {}, b"x"), NotSent(meaning="refused"), RuntimeError("broken")],
)
def test_no_frame_of_a_failed_call_holds_a_secret(answered: Any) -> None:
    client, _ = client_of(answered, app_secret=APP_SECRET)
    with pytest.raises(Exception, match=r".*") as raised:
        client.send({"id": PSID}, {"message": {"text": "x"}}, file=Upload("a.png", b"1"))
    collected = frames_of(raised.value, but=__file__)
    assert "call=" in collected
    for secret in (TOKEN, APP_SECRET, PROOF):
        assert secret not in collected


@pytest.mark.parametrize("body", [{"a": float("nan")}, {"a": object()}, {"a": {1, 2}}])
def test_no_frame_of_a_call_that_cannot_be_written_holds_a_secret(body: dict[str, Any]) -> None:
    client, recorder = client_of(app_secret=APP_SECRET)
    for call in (
        Call("POST", "me/x", body),
        Call("GET", "me", params=body),
        Call("POST", "me/x", body, files={"f": Upload("a", b"")}),
    ):
        with pytest.raises((ValueError, TypeError)) as raised:
            client.execute(call)
        collected = frames_of(raised.value, but=__file__)
        assert not any(secret in collected for secret in (TOKEN, APP_SECRET, PROOF))
    assert recorder.requests == []


@pytest.mark.parametrize("bad", ["to ken", "to\nken", "to\x00ken", "tökén"])
def test_a_token_that_cannot_be_one_is_refused_without_showing_it(bad: str) -> None:
    with pytest.raises(DJMInvalidValueException) as raised:
        Client(bad)
    assert bad not in str(raised.value)


def test_a_line_break_at_the_end_of_a_token_is_forgiven() -> None:
    recorder = Recorder()
    Client(f"{TOKEN}\n", transport=recorder).execute(Call("GET", "me"))
    assert recorder.last.headers["Authorization"] == f"Bearer {TOKEN}"


def test_nothing_shows_a_secret() -> None:
    client, recorder = client_of(app_secret=APP_SECRET)
    client.execute(Call("GET", "me"))
    secret = Secret(TOKEN)
    shown = [
        client,
        recorder.last,
        secret,
        {"token": secret},
        vars(client),
        Call("POST", "me", {"a": "hello"}),
    ]
    for value in shown:
        for text in (repr(value), str(value), pprint.pformat(value)):
            assert not any(hidden in text for hidden in (TOKEN, APP_SECRET, PROOF, "hello"))
    assert f"{secret}" == "***"
    assert secret == Secret(secret)
    assert len({secret, Secret(TOKEN)}) == 1
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.deepcopy(client)


@pytest.mark.parametrize(
    "url",
    [
        "graph.facebook.com",
        "ftp://graph.facebook.com",
        "http://graph.facebook.com",
        "http://8.8.8.8",
        "https://user:pass@graph.facebook.com",
        "https://graph.facebook.com?x=1",
        "https://graph.facebook.com#x",
        "https://",
        "",
    ],
)
def test_an_address_that_would_leak_the_token_is_refused(url: str) -> None:
    with pytest.raises(DJMInvalidConfigException):
        Client(TOKEN, base_url=url)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8000/emulator/", "http://localhost:8000", "http://[::1]:1", "http://emulator:80"],
)
def test_an_emulator_nearby_may_speak_plain_http(url: str) -> None:
    recorder = Recorder()
    Client(TOKEN, base_url=url, transport=recorder).execute(Call("GET", "me"))
    assert recorder.last.url == f"{url.rstrip('/')}/v26.0/me"


@pytest.mark.parametrize("version", ["26.0", "v26", "v26.0/..", "latest", "v26.0\n"])
def test_a_version_is_checked_by_its_shape_only(version: str) -> None:
    with pytest.raises(DJMInvalidConfigException):
        Client(TOKEN, version=version)
    assert Client(TOKEN, version="v99.1").version == "v99.1"


def test_the_current_client_is_the_bound_one_else_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, default = (client_of()[0] for _ in range(3))
    monkeypatch.setattr("djmessenger.graph.context._default", None)
    with pytest.raises(DJMInvalidConfigException):
        graph.current()
    graph.set_default(lambda: default)
    assert graph.current() is default
    with graph.bound(first):
        with graph.bound(second) as inner:
            assert graph.current() is inner is second
        assert graph.current() is first
    assert graph.current() is default
    with pytest.raises(MessageRejected), graph.bound(first):
        raise MessageRejected
    assert graph.current() is default
