from __future__ import annotations

import datetime
import json
import tracemalloc
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djmessenger.exceptions import DJMInvalidValueException, LimitExceeded
from djmessenger.graph.client import Client
from djmessenger.graph.decoding import MAX_VALUES
from djmessenger.graph.errors import (
    GraphError,
    PersonUnreachable,
    ProfileRefused,
    Throttled,
    TokenError,
    UnknownFate,
)
from djmessenger.graph.results import Done, MessageInfo, MessengerProfile, Profile, time_of
from djmessenger.graph.wire import Call, Response, Upload
from tests.graph_tools import APP_SECRET, PROOF, PSID, client_of, json_values, query_of, refusal

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
    Done.read(value)
    MessengerProfile.read(data)


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


def test_the_fields_of_a_person_are_those_of_the_channel() -> None:
    client, recorder = client_of({"id": PSID, "username": "ana"}, channel="instagram")
    profile = client.profile(PSID)
    assert (profile.username, profile.name) == ("ana", "")
    assert query_of(recorder.last.url)["fields"] == "id,name,username,profile_pic"
    assert "ana" not in repr(profile)
    client, recorder = client_of(refusal(100), {"id": PSID, "name": "Ana"}, channel="instagram")
    assert client.profile(PSID).name == "Ana"
    assert query_of(recorder.last.url)["fields"] == "id,name,profile_pic"


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
    assert isinstance(answers[1].error, PersonUnreachable)
    with pytest.raises(PersonUnreachable):
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


MANY = "[" + "{}," * 700_000 + "{}]"
"""Two megabytes of small values."""
FULL = {
    "answer": Response(200, {}, MANY.encode()),
    "error": Response(400, {}, f'{{"error": {{"code": 190, "more": {MANY}}}}}'.encode()),
    "error in a text": Response(
        400, {}, json.dumps(f'{{"error": {{"code": 190, "more": {MANY}}}}}').encode()
    ),
    # The second byte of this character is a quotation mark.
    "UTF-16": Response(200, {}, f'["\u2200", {MANY}]'.encode("utf-16")),
    "slot": Response(200, {}, json.dumps([{"code": 200, "body": MANY}]).encode()),
    "slots": Response(
        200, {}, json.dumps([{"code": 200, "body": "[" + "{}," * 14_000 + "{}]"}] * 50).encode()
    ),
}


@pytest.mark.parametrize("name", FULL)
def test_an_answer_takes_memory_in_proportion_to_its_size(name: str) -> None:
    client, _ = client_of(FULL[name])
    calls = [Call("GET", "me")] * (50 if name == "slots" else 1)
    tracemalloc.start()
    try:
        if name.startswith("slot"):
            errors: list[Any] = [answer.error for answer in client.batch(calls)]
        else:
            with pytest.raises(GraphError) as raised:
                client.execute(*calls)
            errors = [raised.value]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {type(error) for error in errors} == {UnknownFate}
    assert peak < 8 * len(FULL[name].body)
    if name in {"answer", "slot"}:
        assert "values" in errors[0].meaning


def test_an_answer_of_the_most_values_is_read() -> None:
    most = [0] * (MAX_VALUES - 1)
    client, _ = client_of(most, [*most, 0], [slot(200, [0] * (MAX_VALUES // 50 - 1))] * 50)
    assert client.execute(Call("GET", "me")) == most
    with pytest.raises(UnknownFate, match="values"):
        client.execute(Call("GET", "me"))
    assert {answer.error for answer in client.batch([Call("GET", "me")] * 50)} == {None}
